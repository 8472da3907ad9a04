"""The volume service's application."""

from pathlib import Path

from cumulet.core.clock import Clock
from cumulet.core.ids import Ids
from cumulet.core.keys import Keys
from cumulet.core.policy import Policy
from cumulet.core.web import App, Route
from cumulet.core.web.app import Authenticate
from cumulet.core.web.envelope import compute_error
from cumulet.volume.api import (
    accounts,
    actions,
    attachments,
    discovery,
    infrastructure,
    qos,
    snapshots,
    transfers,
    types,
    volumes,
)
from cumulet.volume.api.caller import in_project, path_rewriter
from cumulet.volume.policy import RULES
from cumulet.volume.service.service import VolumeService
from cumulet.volume.tables import KEYS

__all__ = ["ROUTES", "application"]

_PARTS = (discovery, volumes, actions, snapshots, attachments, types, qos, accounts, transfers, infrastructure)
ROUTES: list[Route] = [in_project(route) for part in _PARTS for route in part.ROUTES]


def application(
    service: VolumeService,
    *,
    authenticate: Authenticate,
    clock: Clock,
    ids: Ids,
    policy_overrides: Path | None = None,
) -> App:
    """Volumes on the web."""
    return App(
        "volume",
        ROUTES,
        service=service,
        policy=Policy(RULES, overrides=policy_overrides),
        authenticate=authenticate,
        clock=clock,
        ids=ids,
        error=compute_error,
        versions=discovery.VERSIONS,
        rewrite=path_rewriter(ROUTES),
        keys=Keys(service.db, KEYS, clock),
    )
