"""The application: every row, identity's error envelope, its policy."""

from collections.abc import Callable, Iterable
from pathlib import Path

from cumulet.core.clock import Clock
from cumulet.core.ids import Ids
from cumulet.core.web import App, Call, Response, Route
from cumulet.core.web.app import Authenticate
from cumulet.core.web.envelope import identity_error
from cumulet.identity.api import auth, discovery
from cumulet.identity.policy import IdentityPolicy
from cumulet.identity.service import IdentityService

__all__ = ["ROUTES", "application"]

#: identity's documents are small
BODY_MAX = 114_688

ROUTES: list[Route] = [
    *discovery.ROUTES,
    *auth.ROUTES,
]


def application(
    service: IdentityService,
    *,
    authenticate: Authenticate,
    clock: Clock,
    ids: Ids,
    policy_overrides: Path | None = None,
    checks: Iterable[Callable[[Call, Response], None]] = (),
) -> App:
    """The identity API, to be mounted at /identity."""
    return App(
        "identity",
        ROUTES,
        service=service,
        policy=IdentityPolicy(overrides=policy_overrides),
        authenticate=authenticate,
        clock=clock,
        ids=ids,
        error=identity_error,
        body_max=BODY_MAX,
        checks=checks,
    )
