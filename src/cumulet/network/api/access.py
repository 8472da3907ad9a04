"""What a caller may: the eyes the store looks with, and the policy's word on an object and on single attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cumulet.core.web import Call
from cumulet.network import errors
from cumulet.network.attributes import NetworkResource
from cumulet.network.records import Viewer

__all__ = ["hidden", "may_set", "owned_by", "require", "viewer"]


def viewer(call: Call) -> Viewer:
    """Everybody's eyes for admins and services, else the caller's project's."""
    context = call.context
    everything = call.allowed("context_is_admin") or call.allowed("service_api")
    return Viewer(project_id=context.project_id, sees_all=everything)


def require(call: Call, rule: str, target: Mapping[str, Any]) -> None:
    if not call.allowed(rule, **target):
        raise errors.PolicyNotAuthorized(rule=rule)


def owned_by(call: Call, who: Viewer, wanted: dict[str, Any]) -> None:
    """Fill in the project of a new thing; only admins and services make things for others."""
    own = call.context.project_id
    given = wanted.setdefault("project_id", own or "")
    if given != own and not who.sees_all:
        msg = "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges"
        raise errors.HTTPBadRequest(msg)


#: attributes whose parts have rules of their own: `create_port:fixed_ips:ip_address`
_PARTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("port", "fixed_ips"): ("ip_address", "subnet_id"),
    ("port", "allowed_address_pairs"): ("ip_address", "mac_address"),
    ("router", "external_gateway_info"): ("network_id", "enable_snat", "external_fixed_ips"),
}


def may_set(
    call: Call,
    verb: str,
    resource: NetworkResource,
    keys: Iterable[str],
    values: Mapping[str, Any],
    target: Mapping[str, Any],
) -> None:
    """Judge single attributes of a request."""
    for key in keys:
        rule = f"{verb}_{resource.name}:{key}"
        if key == "id" and not call.allowed(rule, **target):
            # to whom it is not given to choose ids there is no such attribute, as in the reference
            msg = "Attribute 'id' not allowed in POST"
            raise errors.HTTPBadRequest(msg)
        require(call, rule, target)
        parts = _PARTS.get((resource.name, key))
        if parts:
            _may_set_parts(call, rule, parts, values[key], target)


def _may_set_parts(call: Call, rule: str, parts: tuple[str, ...], value: Any, target: Mapping[str, Any]) -> None:
    items = value if isinstance(value, list) else [value]
    for part in parts:
        if any(isinstance(item, dict) and part in item for item in items):
            require(call, f"{rule}:{part}", target)


def hidden(call: Call, resource: NetworkResource) -> frozenset[str]:
    """The attributes that a caller is not shown."""
    return frozenset(key for key, rule in resource.veiled.items() if not call.allowed(rule))
