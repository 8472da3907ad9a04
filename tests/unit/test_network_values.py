"""Values of requests, and the declaration of attributes that takes them."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cumulet.core.errors import CloudError
from cumulet.network import errors, values
from cumulet.network.policy import RULES
from cumulet.network.resources import NETWORK, PORT, RESOURCES
from cumulet.network.service.rule_checks import check_rule
from cumulet.network.values import Unfit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)

TAKERS: dict[str, Callable[[Any], Any]] = {
    name: getattr(values, name)
    for name in (
        "address",
        "address_pairs",
        "boolean",
        "cidr",
        "dhcp_options",
        "dictionary",
        "dns_domain",
        "dns_name",
        "ethertype",
        "external_gateway",
        "family",
        "fixed_ips",
        "host_routes",
        "mac",
        "network",
        "pools",
        "port_number",
        "prefix",
        "project",
        "protocol",
        "uuid",
    )
}


@pytest.mark.parametrize("name", TAKERS)
@given(value=JSON)
def test_anything_is_taken_or_refused_with_a_reason(name: str, value: Any) -> None:
    """Whatever JSON comes, the answer is a value or a refusal that can be shown, never a crash; taking it again changes nothing."""
    try:
        taken = TAKERS[name](value)
    except (Unfit, CloudError) as refusal:
        assert str(refusal)  # noqa: PT017 - either outcome is fine, but not without a reason
        return
    if name != "external_gateway":
        assert TAKERS[name](taken) == taken or taken in (None, [], {}, "")


@given(body=JSON)
def test_any_body_is_taken_or_is_a_bad_request(body: Any) -> None:
    """Bodies of every shape end in checked attributes or in 400."""
    for resource in RESOURCES:
        for wrapped in (body, {resource.name: body}, {resource.collection: body}, {resource.collection: [body]}):
            for read in (resource.bodies, resource.changes):
                try:
                    read(wrapped)
                except CloudError as refusal:
                    assert refusal.status == 400  # noqa: PT017 - either outcome is fine, but only with this status


RULE: dict[str, Any] = {
    "direction": "ingress",
    "ethertype": "IPv4",
    "protocol": None,
    "port_range_min": None,
    "port_range_max": None,
    "remote_ip_prefix": None,
    "remote_group_id": None,
}


@given(
    protocol=st.sampled_from([None, *values.PROTOCOLS, *map(str, range(256))]),
    low=st.none() | st.integers(0, 65535),
    high=st.none() | st.integers(0, 65535),
    ethertype=st.sampled_from(["IPv4", "IPv6"]),
    prefix=st.sampled_from([None, "10.0.0.0/8", "2001:db8::/32"]),
)
def test_a_rule_that_passes_is_one_the_data_plane_can_hold(
    protocol: str | None, low: int | None, high: int | None, ethertype: str, prefix: str | None
) -> None:
    """Ports only where there are ports and in order, ICMP types of a byte, families that agree; and checking is stable."""
    rule = {
        **RULE,
        "protocol": protocol,
        "port_range_min": low,
        "port_range_max": high,
        "ethertype": ethertype,
        "remote_ip_prefix": prefix,
    }
    try:
        kept = check_rule(rule)
    except CloudError as refusal:
        assert refusal.status == 400  # noqa: PT017 - either outcome is fine, but only with this status
        return
    assert check_rule(kept) == kept
    assert prefix is None or (":" in prefix) == (ethertype == "IPv6")
    low, high = kept["port_range_min"], kept["port_range_max"]
    if low is not None or high is not None:
        if kept["protocol"] in {"icmp", "1", "ipv6-icmp", "icmpv6", "58"}:
            assert low is not None
            assert low <= 255
            assert high is None or high <= 255
        else:
            assert low is not None
            assert high is not None
            assert 1 <= low <= high


def test_every_guarded_and_veiled_attribute_has_its_rule() -> None:
    """What the declarations say has a policy rule has one: a rule that is missing would deny everybody."""
    known = {rule.name for rule in RULES}
    wanted: set[str] = set()
    for resource in RESOURCES:
        for key in resource.guarded:
            if resource.attributes[key].on & 1:
                wanted.add(f"create_{resource.name}:{key}")
            if resource.attributes[key].on & 2:
                wanted.add(f"update_{resource.name}:{key}")
        wanted |= set(resource.veiled.values())
    assert wanted - known == set()


def test_defaults_are_not_shared_between_requests() -> None:
    """A list that a request did not give is its own, so that nobody adds to everybody's."""
    (first,), _ = PORT.bodies({"port": {"network_id": "00000000-0000-4000-8000-000000000000"}})
    first["allowed_address_pairs"].append("mine")
    (second,), _ = PORT.bodies({"port": {"network_id": "00000000-0000-4000-8000-000000000000"}})
    assert second["allowed_address_pairs"] == []


def test_project_and_tenant_are_one() -> None:
    """Either name is taken; both, when they agree."""
    assert NETWORK.bodies({"network": {"tenant_id": "a"}})[0][0]["project_id"] == "a"
    assert NETWORK.bodies({"network": {"tenant_id": "a", "project_id": "a"}})[0][0]["project_id"] == "a"
    with pytest.raises(errors.HTTPBadRequest):
        NETWORK.bodies({"network": {"tenant_id": "a", "project_id": "b"}})
