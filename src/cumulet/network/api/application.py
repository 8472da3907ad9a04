"""The network service on the web: its routes, and its errors in the reference's envelope."""

from __future__ import annotations

from pathlib import Path

from cumulet.core import errors as core_errors
from cumulet.core.clock import Clock
from cumulet.core.errors import CloudError
from cumulet.core.ids import Ids
from cumulet.core.keys import Keys
from cumulet.core.policy import Policy
from cumulet.core.web import App, Request, Response, Route
from cumulet.core.web.app import Authenticate
from cumulet.core.web.envelope import network_error
from cumulet.network import projection, resources, tables
from cumulet.network.api import accounts, discovery, routers
from cumulet.network.api.collections import Collection
from cumulet.network.config import NetworkConfig
from cumulet.network.policy import RULES
from cumulet.network.service import NetworkService

__all__ = ["ROUTES", "application"]

BODY_MAX = 1 << 20

#: what the reference calls errors that any API may have
_KINDS: dict[type[CloudError], str] = {
    core_errors.BadRequest: "HTTPBadRequest",
    core_errors.Forbidden: "PolicyNotAuthorized",
    core_errors.NotFound: "HTTPNotFound",
    core_errors.MethodNotAllowed: "HTTPMethodNotAllowed",
    core_errors.UnsupportedMediaType: "HTTPUnsupportedMediaType",
    core_errors.ServerFault: "HTTPInternalServerError",
    core_errors.Unavailable: "ServiceUnavailable",
}
#: errors of the data plane: their names are nobody's business
_HIDDEN = (core_errors.ServerFault, core_errors.Unavailable)


def _error(error: CloudError, request: Request) -> Response:
    response = network_error(error, request)
    kind = _KINDS.get(type(error))
    if kind is None and type(error).__module__.startswith("cumulet.network.drivers"):
        kind = next(_KINDS[base] for base in _HIDDEN if isinstance(error, base))
    if kind is not None:
        response.body["NeutronError"]["type"] = kind
    return response


def _rewrite(request: Request) -> None:
    """Old clients ask for `networks.json`."""
    request.path = request.path.removesuffix(".json")


def _routes(config: NetworkConfig) -> list[Route]:
    domain = config.dns_domain
    details = {
        "port_filter": True,
        "connectivity": "l2",
        "bridge_name": config.bridge,
        "datapath_type": config.datapath_type,
        "bound_drivers": {"0": "ovn"},
    }
    port = resources.port_resource(lambda row: projection.dns_assignment(row, domain), details)
    collections = [
        Collection(resources.NETWORK, "networks", keyed=True),
        # who may is judged by the owner of the network or the group, which the route does not know
        Collection(resources.SUBNET, "subnets", opened=frozenset({"create"})),
        Collection(port, "ports", opened=frozenset({"create", "delete"}), keyed=True),
        Collection(resources.ROUTER, "routers"),
        Collection(resources.FLOATING_IP, "floating_ips"),
        Collection(resources.SECURITY_GROUP, "security_groups"),
        Collection(
            resources.SECURITY_GROUP_RULE,
            "security_group_rules",
            opened=frozenset({"get", "create", "delete"}),
            verbs="lscd",
        ),
        Collection(resources.SUBNETPOOL, "subnetpools"),
        Collection(resources.ADDRESS_SCOPE, "address_scopes"),
        Collection(resources.RBAC_POLICY, "rbac_policies"),
    ]
    return [
        *discovery.ROUTES,
        *accounts.ROUTES,
        *routers.ROUTES,
        *(route for collection in collections for route in collection.routes()),
    ]


ROUTES: list[Route] = _routes(NetworkConfig())


def application(
    service: NetworkService,
    *,
    authenticate: Authenticate,
    clock: Clock,
    ids: Ids,
    policy_overrides: Path | None = None,
) -> App:
    """The service's application."""
    return App(
        "network",
        _routes(service.config),
        service=service,
        policy=Policy(RULES, overrides=policy_overrides),
        authenticate=authenticate,
        clock=clock,
        ids=ids,
        error=_error,
        body_max=BODY_MAX,
        rewrite=_rewrite,
        keys=Keys(service.db, tables.keys, clock),
    )
