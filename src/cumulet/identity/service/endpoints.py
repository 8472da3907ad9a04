"""Regions, services, endpoints and groups of endpoints: what the catalogue is made of."""

from typing import Any

import msgspec

from cumulet.core.db import Duplicate, Tx
from cumulet.core.errors import BadRequest, Forbidden
from cumulet.identity.records import Endpoint, EndpointGroup, Limit, Project, Region, RegisteredLimit, Service
from cumulet.identity.service.catalog import grouped
from cumulet.identity.service.realm import Realm, missing, split_extra, taken
from cumulet.identity.store import filters, rows

__all__ = ["Endpoints"]

_REGION = frozenset({"description", "parent_region_id"})
_SERVICE = frozenset({"type", "name", "enabled"})
_ENDPOINT = frozenset({"service_id", "region_id", "region", "interface", "url", "enabled"})
_GROUP = frozenset({"name", "description", "filters"})
REGION_DEPTH_MAX = 16


class Endpoints:
    """Part of the identity service."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def create_region(self, given: dict[str, Any], region_id: str | None = None) -> Region:
        ours, extra = split_extra(given, _REGION)
        region = Region(
            id=region_id or given.get("id") or self._realm.ids.hex(),
            description=ours.get("description") or "",
            parent_region_id=ours.get("parent_region_id"),
            extra=extra,
        )
        try:
            with self._realm.write() as tx:
                if region.parent_region_id is not None:
                    self._realm.need(tx, Region, region.parent_region_id)
                rows.add(tx, region)
        except Duplicate:
            raise taken("region", region.id) from None
        return region

    def update_region(self, region_id: str, given: dict[str, Any]) -> Region:
        ours, extra = split_extra(given, _REGION)
        with self._realm.write() as tx:
            old = self._realm.need(tx, Region, region_id)
            changes: dict[str, Any] = {"extra": {**old.extra, **extra}}
            if "description" in ours:
                changes["description"] = ours["description"] or ""
            if "parent_region_id" in ours:
                self._check_parent(tx, region_id, ours["parent_region_id"])
                changes["parent_region_id"] = ours["parent_region_id"]
            rows.change(tx, Region, region_id, **changes)
        return msgspec.structs.replace(old, **changes)

    def _check_parent(self, tx: Tx, region_id: str, parent_id: str | None) -> None:
        for _ in range(REGION_DEPTH_MAX):
            if parent_id is None:
                return
            if parent_id == region_id:
                break
            parent_id = self._realm.need(tx, Region, parent_id).parent_region_id
        msg = "Regions cannot be below themselves."
        raise BadRequest(msg)

    def delete_region(self, region_id: str) -> None:
        """Raises Forbidden while something is in it."""
        with self._realm.write() as tx:
            self._realm.need(tx, Region, region_id)
            if rows.count(tx, Region, parent_region_id=region_id) or rows.count(tx, Endpoint, region_id=region_id):
                msg = f"Unable to delete region {region_id} because it or its child regions have associated endpoints."
                raise Forbidden(msg)
            rows.remove(tx, Region, id=region_id)

    def create_service(self, given: dict[str, Any]) -> Service:
        ours, extra = split_extra(given, _SERVICE)
        service = Service(
            id=self._realm.ids.hex(),
            type=ours["type"],
            name=ours.get("name") or "",
            enabled=ours.get("enabled", True),
            extra=extra,
        )
        with self._realm.write() as tx:
            rows.add(tx, service)
        return service

    def update_service(self, service_id: str, given: dict[str, Any]) -> Service:
        ours, extra = split_extra(given, _SERVICE)
        with self._realm.write() as tx:
            old = self._realm.need(tx, Service, service_id)
            changes = {**ours, "extra": {**old.extra, **extra}}
            rows.change(tx, Service, service_id, **changes)
        return msgspec.structs.replace(old, **changes)

    def delete_service(self, service_id: str) -> None:
        """With its endpoints and limits."""
        with self._realm.write() as tx:
            self._realm.need(tx, Service, service_id)
            for endpoint in rows.find(tx, Endpoint, service_id=service_id):
                filters.remove(tx, kind="endpoint", thing_id=endpoint.id)
            rows.remove(tx, Endpoint, service_id=service_id)
            registered = [limit.id for limit in rows.find(tx, RegisteredLimit, service_id=service_id)]
            rows.remove(tx, Limit, registered_limit_id=registered)
            rows.remove(tx, RegisteredLimit, service_id=service_id)
            rows.remove(tx, Service, id=service_id)

    def create_endpoint(self, given: dict[str, Any]) -> Endpoint:
        ours, extra = split_extra(given, _ENDPOINT)
        with self._realm.write() as tx:
            self._check_service(tx, ours["service_id"])
            endpoint = Endpoint(
                id=self._realm.ids.hex(),
                service_id=ours["service_id"],
                region_id=self._region(tx, ours),
                interface=ours["interface"],
                url=ours["url"],
                enabled=ours.get("enabled", True),
                extra=extra,
            )
            rows.add(tx, endpoint)
        return endpoint

    def update_endpoint(self, endpoint_id: str, given: dict[str, Any]) -> Endpoint:
        ours, extra = split_extra(given, _ENDPOINT)
        with self._realm.write() as tx:
            old = self._realm.need(tx, Endpoint, endpoint_id)
            changes: dict[str, Any] = {
                name: ours[name] for name in ("service_id", "interface", "url", "enabled") if name in ours
            }
            if "service_id" in ours:
                self._check_service(tx, ours["service_id"])
            if "region_id" in ours or "region" in ours:
                changes["region_id"] = self._region(tx, ours)
            changes["extra"] = {**old.extra, **extra}
            rows.change(tx, Endpoint, endpoint_id, **changes)
        return msgspec.structs.replace(old, **changes)

    @staticmethod
    def _check_service(tx: Tx, service_id: str) -> None:
        if rows.get(tx, Service, service_id) is None:
            raise BadRequest(missing("service", service_id).message)

    @staticmethod
    def _region(tx: Tx, ours: dict[str, Any]) -> str | None:
        """The region of an endpoint; one named by the old attribute `region` is made when it is not there."""
        region_id: str | None = ours.get("region_id")
        if region_id is not None:
            if rows.get(tx, Region, region_id) is None:
                raise BadRequest(missing("region", region_id).message)
            return region_id
        region_id = ours.get("region")
        if region_id is not None and rows.get(tx, Region, region_id) is None:
            rows.add(tx, Region(id=region_id, description="", parent_region_id=None, extra={}))
        return region_id

    def delete_endpoint(self, endpoint_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, Endpoint, endpoint_id)
            filters.remove(tx, kind="endpoint", thing_id=endpoint_id)
            rows.remove(tx, Endpoint, id=endpoint_id)

    def create_group(self, given: dict[str, Any]) -> EndpointGroup:
        group = EndpointGroup(
            id=self._realm.ids.hex(), name=given["name"], description=given.get("description"), filters=given["filters"]
        )
        with self._realm.write() as tx:
            rows.add(tx, group)
        return group

    def update_group(self, group_id: str, given: dict[str, Any]) -> EndpointGroup:
        ours, _ = split_extra(given, _GROUP)
        with self._realm.write() as tx:
            old = self._realm.need(tx, EndpointGroup, group_id)
            rows.change(tx, EndpointGroup, group_id, **ours)
        return msgspec.structs.replace(old, **ours)

    def delete_group(self, group_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, EndpointGroup, group_id)
            filters.remove(tx, kind="group", thing_id=group_id)
            rows.remove(tx, EndpointGroup, id=group_id)

    def in_group(self, group_id: str) -> list[Endpoint]:
        with self._realm.db.read() as tx:
            return grouped(self._realm.need(tx, EndpointGroup, group_id), rows.find(tx, Endpoint))

    def of_project(self, project_id: str) -> list[Endpoint]:
        """The endpoints that a project is associated with, one by one or by groups."""
        with self._realm.db.read() as tx:
            self._realm.need(tx, Project, project_id)
            everything = rows.find(tx, Endpoint)
            chosen: set[str] = set()
            for _, kind, thing_id in filters.associations(tx, project_id=project_id):
                if kind == "endpoint":
                    chosen.add(thing_id)
                else:
                    chosen |= {e.id for e in grouped(self._realm.need(tx, EndpointGroup, thing_id), everything)}
        return [endpoint for endpoint in everything if endpoint.id in chosen]

    def groups_of_project(self, project_id: str) -> list[EndpointGroup]:
        with self._realm.db.read() as tx:
            self._realm.need(tx, Project, project_id)
            ids = [thing_id for _, _, thing_id in filters.associations(tx, project_id=project_id, kind="group")]
            return rows.find(tx, EndpointGroup, id=ids)

    def projects_of(self, kind: str, thing_id: str) -> list[Project]:
        with self._realm.db.read() as tx:
            self._need_thing(tx, kind, thing_id)
            ids = [project_id for project_id, _, _ in filters.associations(tx, kind=kind, thing_id=thing_id)]
            return rows.find(tx, Project, id=ids)

    def associate(self, project_id: str, kind: str, thing_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, Project, project_id)
            self._need_thing(tx, kind, thing_id)
            filters.add(tx, project_id, kind, thing_id)

    def check_associated(self, project_id: str, kind: str, thing_id: str) -> None:
        with self._realm.db.read() as tx:
            self._realm.need(tx, Project, project_id)
            self._need_thing(tx, kind, thing_id)
            if not filters.associations(tx, project_id=project_id, kind=kind, thing_id=thing_id):
                raise missing(f"{kind} in project", f"{thing_id} in {project_id}")

    def dissociate(self, project_id: str, kind: str, thing_id: str) -> None:
        with self._realm.write() as tx:
            if not filters.remove(tx, project_id=project_id, kind=kind, thing_id=thing_id):
                raise missing(f"{kind} in project", f"{thing_id} in {project_id}")

    def _need_thing(self, tx: Tx, kind: str, thing_id: str) -> None:
        if kind == "endpoint":
            self._realm.need(tx, Endpoint, thing_id)
        else:
            self._realm.need(tx, EndpointGroup, thing_id)
