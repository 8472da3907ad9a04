"""Unified limits: what a service registers as its default, and what a project or a domain has instead (the flat
model).
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from cumulet.core.db import Duplicate, Tx
from cumulet.core.errors import BadRequest, Conflict, Forbidden
from cumulet.identity.records import Limit, Project, Region, RegisteredLimit, Service
from cumulet.identity.service.projects import need_domain
from cumulet.identity.service.realm import Realm, missing
from cumulet.identity.store import rows

__all__ = ["Limits"]


class Limits:
    """Part of the identity service."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def register(self, given: Sequence[dict[str, Any]]) -> list[RegisteredLimit]:
        """All of them or none."""
        made = [
            RegisteredLimit(
                id=self._realm.ids.hex(),
                service_id=item["service_id"],
                region_id=item.get("region_id") or "",
                resource_name=item["resource_name"],
                default_limit=item["default_limit"],
                description=item.get("description"),
            )
            for item in given
        ]
        try:
            with self._realm.write() as tx:
                for limit in made:
                    self._check_place(tx, limit.service_id, limit.region_id)
                    rows.add(tx, limit)
        except Duplicate:
            msg = "Conflict occurred attempting to store registered_limit - Duplicate entry."
            raise Conflict(msg) from None
        return made

    @staticmethod
    def _check_place(tx: Tx, service_id: str, region_id: str) -> None:
        if rows.get(tx, Service, service_id) is None:
            raise BadRequest(missing("service", service_id).message)
        if region_id and rows.get(tx, Region, region_id) is None:
            raise BadRequest(missing("region", region_id).message)

    def update_registered(self, limit_id: str, given: dict[str, Any]) -> RegisteredLimit:
        try:
            with self._realm.write() as tx:
                old = self._realm.need(tx, RegisteredLimit, limit_id)
                changes = {
                    key: value
                    for key, value in given.items()
                    if key in RegisteredLimit.__struct_fields__ and key != "id"
                }
                if "region_id" in changes:
                    changes["region_id"] = changes["region_id"] or ""
                new = msgspec.structs.replace(old, **changes)
                if {"service_id", "region_id", "resource_name"} & set(changes):
                    self._check_unused(tx, limit_id, "update")
                self._check_place(tx, new.service_id, new.region_id)
                rows.change(tx, RegisteredLimit, limit_id, **changes)
        except Duplicate:
            msg = "Conflict occurred attempting to store registered_limit - Duplicate entry."
            raise Conflict(msg) from None
        return new

    def unregister(self, limit_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, RegisteredLimit, limit_id)
            self._check_unused(tx, limit_id, "delete")
            rows.remove(tx, RegisteredLimit, id=limit_id)

    @staticmethod
    def _check_unused(tx: Tx, limit_id: str, act: str) -> None:
        if rows.count(tx, Limit, registered_limit_id=limit_id):
            msg = f"Unable to {act} registered limit {limit_id} because there are project limits associated with it."
            raise Forbidden(msg)

    def create(self, given: Sequence[dict[str, Any]]) -> list[tuple[Limit, RegisteredLimit]]:
        """All of them or none.  Raises BadRequest where nothing is registered to limit."""
        try:
            with self._realm.write() as tx:
                return [self._create(tx, item) for item in given]
        except Duplicate:
            msg = "Conflict occurred attempting to store limit - Duplicate entry."
            raise Conflict(msg) from None

    def _create(self, tx: Tx, item: dict[str, Any]) -> tuple[Limit, RegisteredLimit]:
        place = {"service_id": item["service_id"], "resource_name": item["resource_name"]}
        registered = rows.find(tx, RegisteredLimit, **place, region_id=item.get("region_id") or "")
        if not registered:
            msg = (
                f"Unable to create a limit that has no corresponding registered limit: {item['resource_name']} of "
                f"service {item['service_id']}."
            )
            raise BadRequest(msg)
        project_id, domain_id = item.get("project_id") or "", item.get("domain_id") or ""
        if bool(project_id) == bool(domain_id):
            msg = "Specify either a project or a domain."
            raise BadRequest(msg)
        if project_id and rows.get(tx, Project, project_id) is None:
            raise BadRequest(missing("project", project_id).message)
        if domain_id:
            need_domain(tx, domain_id)
        limit = Limit(
            id=self._realm.ids.hex(),
            registered_limit_id=registered[0].id,
            project_id=project_id,
            domain_id=domain_id,
            resource_limit=item["resource_limit"],
            description=item.get("description"),
        )
        rows.add(tx, limit)
        return limit, registered[0]

    def limit(self, limit_id: str) -> tuple[Limit, RegisteredLimit]:
        with self._realm.db.read() as tx:
            limit = self._realm.need(tx, Limit, limit_id)
            return limit, self._realm.need(tx, RegisteredLimit, limit.registered_limit_id)

    def find(self, registered: dict[str, Any], **where: Any) -> list[tuple[Limit, RegisteredLimit]]:
        """Limits by what they limit (`registered`: service, region, resource) and whom (`where`)."""
        with self._realm.db.read() as tx:
            kinds = {limit.id: limit for limit in rows.find(tx, RegisteredLimit, **registered)}
            found = rows.find(tx, Limit, **where)
        return [(limit, kinds[limit.registered_limit_id]) for limit in found if limit.registered_limit_id in kinds]

    def update(self, limit_id: str, given: dict[str, Any]) -> tuple[Limit, RegisteredLimit]:
        with self._realm.write() as tx:
            old = self._realm.need(tx, Limit, limit_id)
            changes = {key: given[key] for key in ("resource_limit", "description") if key in given}
            rows.change(tx, Limit, limit_id, **changes)
            registered = self._realm.need(tx, RegisteredLimit, old.registered_limit_id)
        return msgspec.structs.replace(old, **changes), registered

    def delete(self, limit_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, Limit, limit_id)
            rows.remove(tx, Limit, id=limit_id)
