"""The catalogue that goes with a token.

An endpoint's URL is a template: `$(public_url)s` is where the cloud is reached now, so that another public address
needs no rewrite; `$(project_id)s` (and its old names) is the token's project.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.core.db import Tx
from cumulet.identity.records import Endpoint, EndpointGroup, Service
from cumulet.identity.service.realm import Realm
from cumulet.identity.store import filters, rows

__all__ = ["Catalog", "fill", "grouped"]

#: catalogues kept as documents: a cloud's users at one time
DOCUMENTS_MAX = 1024

_PLACEHOLDER = re.compile(r"[$%]\((\w+)\)s")


def fill(url: str, values: Mapping[str, str | None]) -> str | None:
    """The URL with its placeholders filled; None when a value is missing.  Unknown placeholders stay."""
    names = _PLACEHOLDER.findall(url)
    if any(name in values and values[name] is None for name in names):
        return None
    return _PLACEHOLDER.sub(lambda match: values.get(match[1]) or match[0], url)


def grouped(group: EndpointGroup, endpoints: list[Endpoint]) -> list[Endpoint]:
    """The endpoints that a group's filters choose."""
    return [
        e
        for e in endpoints
        if all(getattr(e, name, e.extra.get(name)) == value for name, value in group.filters.items())
    ]


class _Kept(msgspec.Struct, frozen=True):
    revision: object
    services: list[Service]
    endpoints: dict[str, list[Endpoint]]
    #: endpoint ids by project, for projects that are limited
    limited: dict[str, set[str]]
    #: documents by address, project and user
    documents: dict[tuple[str, str | None, str], list[dict[str, Any]]] = msgspec.field(default_factory=dict)


class Catalog:
    """Part of the identity service."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._kept: _Kept | None = None

    def document(self, base: str, project_id: str | None, user_id: str) -> list[dict[str, Any]]:
        """The catalogue as the API shows it.  base: scheme, host and port at which the cloud is reached."""
        revision = self._realm.revision()
        kept = self._kept
        if kept is None or kept.revision != revision:
            with self._realm.db.read() as tx:
                kept = self._kept = self._read(tx, revision)
        key = (base, project_id, user_id)
        document = kept.documents.get(key)
        if document is None:
            if len(kept.documents) >= DOCUMENTS_MAX:
                kept.documents.clear()
            document = kept.documents[key] = self._document(kept, base, project_id, user_id)
        return document

    @staticmethod
    def _document(kept: _Kept, base: str, project_id: str | None, user_id: str) -> list[dict[str, Any]]:
        values = {"public_url": base, "project_id": project_id, "tenant_id": project_id, "user_id": user_id}
        limited = kept.limited.get(project_id or "")
        document = []
        for service in kept.services:
            entries = []
            for endpoint in kept.endpoints.get(service.id, ()):
                url = fill(endpoint.url, values)
                if url is None or (limited is not None and endpoint.id not in limited):
                    continue
                entries.append(
                    {
                        "id": endpoint.id,
                        "interface": endpoint.interface,
                        "region": endpoint.region_id,
                        "region_id": endpoint.region_id,
                        "url": url,
                    }
                )
            document.append({"id": service.id, "type": service.type, "name": service.name, "endpoints": entries})
        return document

    @staticmethod
    def _read(tx: Tx, revision: object) -> _Kept:
        endpoints = rows.find(tx, Endpoint, enabled=True)
        by_service: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            by_service.setdefault(endpoint.service_id, []).append(endpoint)
        groups = {group.id: group for group in rows.find(tx, EndpointGroup)}
        limited: dict[str, set[str]] = {}
        for project_id, kind, thing_id in filters.associations(tx):
            chosen = limited.setdefault(project_id, set())
            if kind == "endpoint":
                chosen.add(thing_id)
            elif thing_id in groups:
                chosen |= {endpoint.id for endpoint in grouped(groups[thing_id], endpoints)}
        return _Kept(revision, rows.find(tx, Service, enabled=True), by_service, limited)
