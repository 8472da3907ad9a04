"""The application: every row, identity's error envelope, its policy."""

from pathlib import Path

from cumulet.core.clock import Clock
from cumulet.core.ids import Ids
from cumulet.core.web import App, Route
from cumulet.core.web.app import Authenticate
from cumulet.core.web.envelope import identity_error
from cumulet.identity.api import (
    application_credentials,
    assignments,
    auth,
    catalog,
    credentials,
    discovery,
    documents,
    domains,
    endpoint_filter,
    grants,
    limits,
    projects,
    roles,
    trusts,
    users,
)
from cumulet.identity.policy import IdentityPolicy
from cumulet.identity.service import IdentityService

__all__ = ["ROUTES", "application"]

#: identity's documents are small
BODY_MAX = 114_688

ROUTES: list[Route] = [
    *discovery.ROUTES,
    *auth.ROUTES,
    *domains.ROUTES,
    *projects.ROUTES,
    *users.ROUTES,
    *roles.ROUTES,
    *grants.ROUTES,
    *assignments.ROUTES,
    *catalog.ROUTES,
    *endpoint_filter.ROUTES,
    *application_credentials.ROUTES,
    *trusts.ROUTES,
    *credentials.ROUTES,
    *limits.ROUTES,
    *documents.ROUTES,
]


def application(
    service: IdentityService,
    *,
    authenticate: Authenticate,
    clock: Clock,
    ids: Ids,
    policy_overrides: Path | None = None,
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
    )
