"""/v3/OS-EP-FILTER: groups of endpoints, and which projects see which endpoints."""

from typing import Any

from cumulet.core.web import Call, Delete, Get, Head, Patch, Post, Put
from cumulet.identity.api.catalog import endpoint_view
from cumulet.identity.api.collection import collected, links, page, where
from cumulet.identity.api.judge import changes
from cumulet.identity.api.projects import project_view
from cumulet.identity.records import EndpointGroup
from cumulet.identity.resources import ENDPOINT_GROUP, show

__all__ = ["ROUTES"]

_BASE = "/v3/OS-EP-FILTER"


def group_view(call: Call, group: EndpointGroup) -> dict[str, Any]:
    return show(call, ENDPOINT_GROUP, group, links=links(call, f"{_BASE}/endpoint_groups/{group.id}"))


def list_groups(call: Call) -> dict[str, Any]:
    return page(
        call, "endpoint_groups", EndpointGroup, group_view, path=f"{_BASE}/endpoint_groups", **where(call, "name")
    )


def create_group(call: Call) -> dict[str, Any]:
    return {"endpoint_group": group_view(call, call.service.endpoints.create_group(call.body))}


def show_group(call: Call, group_id: str) -> dict[str, Any]:
    return {"endpoint_group": group_view(call, call.service.realm.get(EndpointGroup, group_id))}


def check_group(call: Call, group_id: str) -> None:
    call.service.realm.get(EndpointGroup, group_id)


def update_group(call: Call, group_id: str) -> dict[str, Any]:
    return {"endpoint_group": group_view(call, call.service.endpoints.update_group(group_id, changes(call, group_id)))}


def delete_group(call: Call, group_id: str) -> None:
    call.service.endpoints.delete_group(group_id)


def list_group_endpoints(call: Call, group_id: str) -> dict[str, Any]:
    return collected(call, "endpoints", call.service.endpoints.in_group(group_id), endpoint_view)


def list_group_projects(call: Call, group_id: str) -> dict[str, Any]:
    return collected(call, "projects", call.service.endpoints.projects_of("group", group_id), project_view)


def list_endpoint_projects(call: Call, endpoint_id: str) -> dict[str, Any]:
    return collected(call, "projects", call.service.endpoints.projects_of("endpoint", endpoint_id), project_view)


def list_project_endpoints(call: Call, project_id: str) -> dict[str, Any]:
    return collected(call, "endpoints", call.service.endpoints.of_project(project_id), endpoint_view)


def list_project_groups(call: Call, project_id: str) -> dict[str, Any]:
    return collected(call, "endpoint_groups", call.service.endpoints.groups_of_project(project_id), group_view)


def add_endpoint(call: Call, project_id: str, endpoint_id: str) -> None:
    call.service.endpoints.associate(project_id, "endpoint", endpoint_id)


def check_endpoint(call: Call, project_id: str, endpoint_id: str) -> None:
    call.service.endpoints.check_associated(project_id, "endpoint", endpoint_id)


def remove_endpoint(call: Call, project_id: str, endpoint_id: str) -> None:
    call.service.endpoints.dissociate(project_id, "endpoint", endpoint_id)


def add_group(call: Call, project_id: str, group_id: str) -> None:
    call.service.endpoints.associate(project_id, "group", group_id)


def show_group_of_project(call: Call, project_id: str, group_id: str) -> dict[str, Any]:
    call.service.endpoints.check_associated(project_id, "group", group_id)
    pair = {"endpoint_group_id": group_id, "project_id": project_id}
    return {"project_endpoint_group": {**pair, "links": links(call, call.request.path)}}


def remove_group(call: Call, project_id: str, group_id: str) -> None:
    call.service.endpoints.dissociate(project_id, "group", group_id)


_GROUP = f"{_BASE}/endpoint_groups/{{group_id}}"
_PROJECT = f"{_BASE}/projects/{{project_id}}"
_ENDPOINT_OF = f"{_PROJECT}/endpoints/{{endpoint_id}}"
_GROUP_OF = f"{_GROUP}/projects/{{project_id}}"

ROUTES = [
    Get(f"{_BASE}/endpoint_groups", list_groups, may="identity:list_endpoint_groups"),
    Post(f"{_BASE}/endpoint_groups", create_group, may="identity:create_endpoint_group", takes=ENDPOINT_GROUP),
    Get(_GROUP, show_group, may="identity:get_endpoint_group"),
    Head(_GROUP, check_group, may="identity:get_endpoint_group"),
    Patch(_GROUP, update_group, may="identity:update_endpoint_group", takes=ENDPOINT_GROUP),
    Delete(_GROUP, delete_group, may="identity:delete_endpoint_group"),
    Get(f"{_GROUP}/endpoints", list_group_endpoints, may="identity:list_endpoints_associated_with_endpoint_group"),
    Get(f"{_GROUP}/projects", list_group_projects, may="identity:list_projects_associated_with_endpoint_group"),
    Put(_GROUP_OF, add_group, may="identity:add_endpoint_group_to_project", body="none", status=204),
    Get(_GROUP_OF, show_group_of_project, may="identity:get_endpoint_group_in_project"),
    Delete(_GROUP_OF, remove_group, may="identity:remove_endpoint_group_from_project"),
    Get(
        f"{_BASE}/endpoints/{{endpoint_id}}/projects",
        list_endpoint_projects,
        may="identity:list_projects_for_endpoint",
    ),
    Get(f"{_PROJECT}/endpoints", list_project_endpoints, may="identity:list_endpoints_for_project"),
    Get(f"{_PROJECT}/endpoint_groups", list_project_groups, may="identity:list_endpoint_groups_for_project"),
    Put(_ENDPOINT_OF, add_endpoint, may="identity:add_endpoint_to_project", body="none", status=204),
    Get(_ENDPOINT_OF, check_endpoint, may="identity:check_endpoint_in_project", status=204),
    Delete(_ENDPOINT_OF, remove_endpoint, may="identity:remove_endpoint_from_project"),
]
