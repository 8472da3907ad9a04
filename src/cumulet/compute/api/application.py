"""The compute application: every row, the compute error envelope, microversions 2.1 to 2.96, and the two old forms of its URLs."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from cumulet.compute.api import (
    aggregates,
    consoles,
    flavors,
    hypervisors,
    instance_actions,
    interfaces,
    keypairs,
    migrations,
    operations,
    quotas,
    scheduling,
    server_actions,
    server_facts,
    server_groups,
    server_metadata,
    servers,
    services,
    usage,
    versions,
    volume_attachments,
    volume_copies,
)
from cumulet.compute.policy import RULES
from cumulet.compute.service.compute import ComputeService
from cumulet.compute.tables import KEYS
from cumulet.core.clock import Clock
from cumulet.core.errors import BadRequest
from cumulet.core.ids import Ids
from cumulet.core.keys import Keys
from cumulet.core.policy import Policy
from cumulet.core.web import App, Call, Request, Response, Route
from cumulet.core.web.app import Authenticate
from cumulet.core.web.envelope import compute_error
from cumulet.core.web.versions import Version

__all__ = ["ROUTES", "ComputeApp", "application"]

ROUTES: list[Route] = [
    *versions.ROUTES,
    *servers.ROUTES,
    *server_actions.ROUTES,
    *consoles.ROUTES,
    *server_metadata.ROUTES,
    *instance_actions.ROUTES,
    *scheduling.ROUTES,
    *interfaces.ROUTES,
    *volume_attachments.ROUTES,
    *volume_copies.ROUTES,
    *server_facts.ROUTES,
    *flavors.ROUTES,
    *keypairs.ROUTES,
    *server_groups.ROUTES,
    *quotas.ROUTES,
    *services.ROUTES,
    *hypervisors.ROUTES,
    *aggregates.ROUTES,
    *usage.ROUTES,
    *migrations.ROUTES,
    *operations.ROUTES,
]

#: /v2.1/<project id>/…: the older form, still in many catalogues
_WITH_PROJECT = re.compile(r"^/v2(\.1)?/([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=/|$)")
_OLD = re.compile(r"^/v2/(?=.)")


class ComputeApp(App):
    """An application that also takes the project's id in the path, and the path /v2, which knows no microversions."""

    def _call(self, request: Request, version: Version) -> tuple[Call, dict[str, str]]:
        found = _WITH_PROJECT.match(request.path)
        if found:
            request.path = f"/v2{found[1] or ''}{request.path[found.end() :] or '/'}"
        if _OLD.match(request.path):
            request.path = _OLD.sub("/v2.1/", request.path)
            version = (2, 1)
        call, values = super()._call(request, version)
        if found and call.context.project_id != found[2]:
            raise BadRequest(
                f"Malformed request URL: URL's project_id '{found[2]}' doesn't match Context's project_id '{call.context.project_id}'"
            )
        return call, values


def application(
    service: ComputeService,
    *,
    authenticate: Authenticate,
    clock: Clock,
    ids: Ids,
    policy_overrides: Path | None = None,
    checks: Iterable[Callable[[Call, Response], None]] = (),
) -> App:
    """The compute API, to be mounted at /compute."""
    return ComputeApp(
        "compute",
        ROUTES,
        service=service,
        policy=Policy(RULES, overrides=policy_overrides),
        authenticate=authenticate,
        clock=clock,
        ids=ids,
        error=compute_error,
        versions=versions.MICROVERSIONS,
        keys=Keys(service.db, KEYS, clock),
        checks=checks,
    )
