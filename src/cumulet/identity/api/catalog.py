"""Regions, services and endpoints."""

from typing import Any

from cumulet.core.web import Call, Delete, Get, Patch, Post, Put, Response
from cumulet.identity.api.collection import links, page, where
from cumulet.identity.api.judge import changes
from cumulet.identity.api.token_document import public_url
from cumulet.identity.records import Endpoint, Region, Service
from cumulet.identity.resources import ENDPOINT, REGION, SERVICE, show
from cumulet.identity.service.catalog import fill

__all__ = ["ROUTES", "endpoint_view"]


def region_view(call: Call, region: Region) -> dict[str, Any]:
    return show(call, REGION, region, links=links(call, f"/v3/regions/{region.id}"))


def service_view(call: Call, service: Service) -> dict[str, Any]:
    return show(call, SERVICE, service, links=links(call, f"/v3/services/{service.id}"))


def endpoint_view(call: Call, endpoint: Endpoint) -> dict[str, Any]:
    """With the cloud's own address filled in; what depends on the project stays a placeholder."""
    url = fill(endpoint.url, {"public_url": public_url(call)})
    return show(call, ENDPOINT, endpoint, url=url, links=links(call, f"/v3/endpoints/{endpoint.id}"))


def list_regions(call: Call) -> dict[str, Any]:
    return page(call, "regions", Region, region_view, path="/v3/regions", **where(call, "parent_region_id"))


def create_region(call: Call) -> dict[str, Any]:
    return {"region": region_view(call, call.service.endpoints.create_region(call.body))}


def put_region(call: Call, region_id: str) -> Response:
    """A region under a chosen id."""
    changes(call, region_id)
    return Response(201, {"region": region_view(call, call.service.endpoints.create_region(call.body, region_id))})


def show_region(call: Call, region_id: str) -> dict[str, Any]:
    return {"region": region_view(call, call.service.realm.get(Region, region_id))}


def update_region(call: Call, region_id: str) -> dict[str, Any]:
    return {"region": region_view(call, call.service.endpoints.update_region(region_id, changes(call, region_id)))}


def delete_region(call: Call, region_id: str) -> None:
    call.service.endpoints.delete_region(region_id)


def list_services(call: Call) -> dict[str, Any]:
    return page(call, "services", Service, service_view, path="/v3/services", **where(call, "type", "name"))


def create_service(call: Call) -> dict[str, Any]:
    return {"service": service_view(call, call.service.endpoints.create_service(call.body))}


def show_service(call: Call, service_id: str) -> dict[str, Any]:
    return {"service": service_view(call, call.service.realm.get(Service, service_id))}


def update_service(call: Call, service_id: str) -> dict[str, Any]:
    return {"service": service_view(call, call.service.endpoints.update_service(service_id, changes(call, service_id)))}


def delete_service(call: Call, service_id: str) -> None:
    call.service.endpoints.delete_service(service_id)


def list_endpoints(call: Call) -> dict[str, Any]:
    chosen = where(call, "interface", "service_id", "region_id")
    return page(call, "endpoints", Endpoint, endpoint_view, path="/v3/endpoints", **chosen)


def create_endpoint(call: Call) -> dict[str, Any]:
    return {"endpoint": endpoint_view(call, call.service.endpoints.create_endpoint(call.body))}


def show_endpoint(call: Call, endpoint_id: str) -> dict[str, Any]:
    return {"endpoint": endpoint_view(call, call.service.realm.get(Endpoint, endpoint_id))}


def update_endpoint(call: Call, endpoint_id: str) -> dict[str, Any]:
    return {
        "endpoint": endpoint_view(call, call.service.endpoints.update_endpoint(endpoint_id, changes(call, endpoint_id)))
    }


def delete_endpoint(call: Call, endpoint_id: str) -> None:
    call.service.endpoints.delete_endpoint(endpoint_id)


ROUTES = [
    Get("/v3/regions", list_regions, may="identity:list_regions"),
    Post("/v3/regions", create_region, may="identity:create_region", takes=REGION),
    Put("/v3/regions/{region_id}", put_region, may="identity:create_region", takes=REGION),
    Get("/v3/regions/{region_id}", show_region, may="identity:get_region"),
    Patch("/v3/regions/{region_id}", update_region, may="identity:update_region", takes=REGION),
    Delete("/v3/regions/{region_id}", delete_region, may="identity:delete_region"),
    Get("/v3/services", list_services, may="identity:list_services"),
    Post("/v3/services", create_service, may="identity:create_service", takes=SERVICE),
    Get("/v3/services/{service_id}", show_service, may="identity:get_service"),
    Patch("/v3/services/{service_id}", update_service, may="identity:update_service", takes=SERVICE),
    Delete("/v3/services/{service_id}", delete_service, may="identity:delete_service"),
    Get("/v3/endpoints", list_endpoints, may="identity:list_endpoints"),
    Post("/v3/endpoints", create_endpoint, may="identity:create_endpoint", takes=ENDPOINT),
    Get("/v3/endpoints/{endpoint_id}", show_endpoint, may="identity:get_endpoint"),
    Patch("/v3/endpoints/{endpoint_id}", update_endpoint, may="identity:update_endpoint", takes=ENDPOINT),
    Delete("/v3/endpoints/{endpoint_id}", delete_endpoint, may="identity:delete_endpoint"),
]
