"""Filters and weights on columns: what they refuse is what their words say, and the plan counts and names it."""

import random
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cumulet.compute.scheduler.columns import Columns, HostFacts
from cumulet.compute.scheduler.decision import ALL_NAMED, NAMED_OF_MANY
from cumulet.compute.scheduler.filters import FILTERS
from cumulet.compute.scheduler.plan import NEAR, choose
from cumulet.compute.scheduler.snapshot import DOWN_AFTER_S, HostState, Wanted
from cumulet.core.ids import SeededIds

NOW_S = 1_000_000.0
TRAITS = ("CUSTOM_A", "CUSTOM_B")
SERVERS = ("s1", "s2", "s3")


def host(name: str, **fields: Any) -> HostFacts:
    """In service, of zone "nova", with 8 processors."""
    facts: dict[str, Any] = {"zone": "nova", "hypervisor_type": "QEMU", "disabled": False, "forced_down": False}
    facts |= {"seen_s": NOW_S, "largest": {"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100}}
    return HostFacts(host=name, provider_id=f"p-{name}", **(facts | fields))


def columns(
    *facts: HostFacts, free: dict[str, int] | None = None, traits: dict[str, list[str]] | None = None
) -> Columns:
    """free: VCPUs by host, else 8."""
    made = Columns()
    made.now_s = NOW_S
    for one in facts:
        made.put_host(one)
        used = 8 - (free or {}).get(one.host, 8)
        room = {"VCPU": (8, used, 8), "MEMORY_MB": (8192, 0, 8192), "DISK_GB": (100, 0, 100)}
        made.put_room(one.provider_id, room, (traits or {}).get(one.host, ()))
    return made


def refused_by_words(name: str, one: HostState, wanted: Wanted) -> bool:
    """Each filter's meaning, of one host, said without columns."""
    specs, image = wanted.extra_specs, wanted.image_properties
    if name == "ComputeFilter":
        return not one.enabled or not one.up or one.host in wanted.exclude
    if name == "AvailabilityZoneFilter":
        return wanted.zone is not None and one.zone != wanted.zone
    if name == "RequestedHostFilter":
        return wanted.host is not None and one.host != wanted.host
    if name == "ComputeCapabilitiesFilter":
        lacks = [t for t in TRAITS if specs.get(f"trait:{t}") == "required" and t not in one.traits]
        has = [t for t in TRAITS if specs.get(f"trait:{t}") == "forbidden" and t in one.traits]
        kind = specs.get("capabilities:hypervisor_type", one.hypervisor_type)
        return bool(lacks or has or kind.lower() != one.hypervisor_type.lower())
    if name == "ImagePropertiesFilter":
        foreign = image.get("hw_architecture", "x86_64") != "x86_64"
        kinds = {one.hypervisor_type.lower(), "kvm" if one.hypervisor_type == "QEMU" else ""}
        return foreign or image.get("img_hv_type", one.hypervisor_type).lower() not in kinds
    if name == "SameHostFilter":
        return bool(wanted.same_host) and not one.servers & set(wanted.same_host)
    if name == "DifferentHostFilter":
        return bool(one.servers & set(wanted.different_host))
    members = one.servers & wanted.group_members
    if name == "ServerGroupAffinityFilter":
        return wanted.group_policy == "affinity" and bool(wanted.group_members) and not members
    assert name == "ServerGroupAntiAffinityFilter"
    return wanted.group_policy == "anti-affinity" and len(members) >= wanted.max_server_per_host


NAMES = st.sampled_from([f"h{n}" for n in range(6)])
FACTS = st.lists(
    st.builds(
        host,
        NAMES,
        zone=st.sampled_from(["nova", "other"]),
        hypervisor_type=st.sampled_from(["QEMU", "sim"]),
        disabled=st.booleans(),
        forced_down=st.booleans(),
        seen_s=st.sampled_from([NOW_S, NOW_S - DOWN_AFTER_S + 1, NOW_S - DOWN_AFTER_S]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda facts: facts.host,
)
DEMANDS = st.dictionaries(st.sampled_from([f"trait:{t}" for t in TRAITS]), st.sampled_from(["required", "forbidden"]))
KINDS = st.sampled_from([{}, {"capabilities:hypervisor_type": "qemu"}])
IMAGES = st.sampled_from([{}, {"img_hv_type": "kvm"}, {"img_hv_type": "sim"}, {"hw_architecture": "aarch64"}])
SOME = st.lists(st.sampled_from(SERVERS), unique=True, max_size=2).map(tuple)
WANTED = st.builds(
    Wanted,
    resources=st.just({"VCPU": 1}),
    zone=st.sampled_from([None, "nova", "other", "nowhere"]),
    host=st.sampled_from([None, None, "h1", "unknown"]),
    exclude=st.sampled_from([(), ("h0", "gone")]),
    extra_specs=st.builds(lambda a, b: a | b, DEMANDS, KINDS),
    image_properties=IMAGES,
    same_host=SOME,
    different_host=SOME,
    group_policy=st.sampled_from([None, "affinity", "anti-affinity"]),
    group_members=SOME.map(frozenset),
    max_server_per_host=st.sampled_from([1, 2]),
    placed=st.dictionaries(st.sampled_from(SERVERS), NAMES | st.none()),
)


@settings(max_examples=300)
@given(FACTS, WANTED, st.dictionaries(NAMES, st.lists(st.sampled_from(TRAITS))))
def test_a_filter_refuses_what_it_says(facts: list[HostFacts], wanted: Wanted, traits: dict[str, list[str]]) -> None:
    """On columns as of each host for itself; and it has words for each host that it refuses."""
    hosts = columns(*facts, traits=traits)
    for one in FILTERS:
        mask = one.refused(hosts, wanted)
        for place, facts_of in enumerate(facts):
            state = hosts.state(place, wanted)
            refused = mask is not None and bool(mask[place])
            assert refused == refused_by_words(one.name, state, wanted), (one.name, facts_of)
            if refused:
                assert one.why(state, wanted)


@settings(max_examples=200)
@given(FACTS, WANTED, st.dictionaries(NAMES, st.integers(0, 8)), st.integers(1, 9), st.randoms())
def test_every_host_is_chosen_from_or_has_its_reason(
    facts: list[HostFacts], wanted: Wanted, free: dict[str, int], vcpus: int, rng: random.Random
) -> None:
    """None is forgotten, none is both, and the counts are those of the hosts named."""
    wanted = Wanted(
        **{name: getattr(wanted, name) for name in wanted.__struct_fields__} | {"resources": {"VCPU": vcpus}}
    )
    hosts = columns(*facts, free=free)
    plan = choose(hosts, wanted, rng)
    refused = {refusal.host for refusal in plan.refused}
    weighed = [one.host for one in plan.weighed]
    assert refused | set(weighed) == set(hosts.names)
    assert not refused & set(weighed)
    assert plan.fitting == len(weighed)
    assert sum(plan.reasons.values()) == len(plan.refused)
    assert (plan.chosen is None) == (not weighed)
    weights = [one.weight for one in plan.weighed]
    assert weights == sorted(weights, reverse=True)
    if plan.chosen is not None:
        chosen = plan.weighed[weighed.index(hosts.names[plan.chosen])]
        assert chosen.weight >= weights[0] - NEAR * 3 - 1e-9
        assert all(free.get(name, 8) >= vcpus for name in weighed)


def test_many_hosts_are_counted_and_some_are_named() -> None:
    """Of each reason some, of the best some, and the chosen one among them; near ones are chosen at random."""
    facts = [host(f"h{n}", zone="other" if n % 3 == 0 else "nova") for n in range(3000)]
    hosts = columns(*facts, free={f"h{n}": n % 9 for n in range(3000)})
    wanted = Wanted(resources={"VCPU": 2}, zone="nova")
    seen = set()
    for seed in range(20):
        plan = choose(hosts, wanted, SeededIds(seed).rng)
        assert plan.reasons == {"AvailabilityZoneFilter": 1000, "VCPU": 334}
        assert plan.fitting == 3000 - 1000 - 334
        assert len(plan.weighed) == len(plan.refused) == NAMED_OF_MANY
        assert {refusal.by for refusal in plan.refused} == {"AvailabilityZoneFilter", "VCPU"}
        assert plan.chosen is not None
        name = hosts.names[plan.chosen]
        assert name in {one.host for one in plan.weighed}
        assert plan.weighed[0].weight == 1.0
        seen.add(name)
    assert plan.near > NAMED_OF_MANY
    assert len(seen) > 10


def test_the_best_of_few_is_chosen() -> None:
    """What is near is not far: of hosts that differ it is the best, whatever the dice say."""
    hosts = columns(
        *(host(name) for name in string.ascii_lowercase[:8]), free={n: 8 - i for i, n in enumerate("abcdefgh")}
    )
    for seed in range(10):
        plan = choose(hosts, Wanted(resources={"VCPU": 1}), SeededIds(seed).rng)
        assert (plan.chosen, plan.near) == (0, 1)
        assert [one.host for one in plan.weighed] == list("abcdefgh")


def test_the_top_is_the_top_however_many_are_near() -> None:
    """Also when more hosts are about equal than are put in order."""
    facts = [host(f"h{n}", largest={"VCPU": 10**6}) for n in range(2000)]
    hosts = columns(*facts)
    for n in range(2000):
        hosts.put_room(f"p-h{n}", {"VCPU": (10**6, n, 10**6)}, ())
    hosts.put_room("p-h7", {"VCPU": (10**6, 10**6 - 5, 10**6)}, ())
    plan = choose(hosts, Wanted(resources={"VCPU": 1}), SeededIds(1).rng)
    assert plan.near > 1000
    assert {one.host for one in plan.weighed[:-1]} <= {f"h{n}" for n in range(11)} - {"h7"}


def test_hosts_that_others_took_are_left_out() -> None:
    """And count neither as refused nor as fitting."""
    hosts = columns(host("a"), host("b"))
    plan = choose(hosts, Wanted(resources={"VCPU": 1}), SeededIds(1).rng, without=[0])
    assert (plan.chosen, plan.fitting, plan.reasons) == (1, 1, {})
    assert choose(hosts, Wanted(resources={"VCPU": 1}), SeededIds(1).rng, without=[0, 1]).chosen is None


def test_columns_grow_and_are_copied() -> None:
    """A host keeps its place; a copy with what a server holds leaves the columns as they are."""
    hosts = columns(*(host(f"h{n}") for n in range(300)), free={"h299": 1}, traits={"h299": ["CUSTOM_A"]})
    assert (hosts.size, hosts.names[299]) == (300, "h299")
    copy = hosts.with_held({"p-h299": {"VCPU": 2}}, only=["h299", "unknown"], enabled=True)
    assert (copy.size, copy.free("VCPU")[0], hosts.free("VCPU")[299]) == (1, 3, 1)
    assert copy.with_trait("CUSTOM_A")[0]
    hosts.put_room("p-h299", {}, ())
    assert hosts.state(299, Wanted(resources={})).free == {"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0}


@pytest.mark.parametrize("early", [True, False])
def test_room_may_be_known_before_its_host(early: bool) -> None:
    """Placement and compute tell of a new host at their own times."""
    made = Columns()
    made.now_s = NOW_S
    room = {"VCPU": (8, 2, 8)}
    if early:
        made.put_room("p-a", room, ["CUSTOM_A"])
    made.put_host(host("a"))
    if not early:
        made.put_room("p-a", room, ["CUSTOM_A"])
    assert (made.free("VCPU")[0], made.with_trait("CUSTOM_A")[0]) == (6, True)


def test_said_to_be_down_stays_down() -> None:
    """A report does not raise a host that its operator has forced down."""
    hosts = columns(host("a", forced_down=True), host("b", seen_s=NOW_S - 100))
    hosts.heard_of("a", NOW_S)
    hosts.heard_of("b", NOW_S)
    hosts.heard_of("unknown", NOW_S)
    assert list(hosts.silent) == [True, False]


def test_a_few_hosts_are_all_named() -> None:
    """Up to the limit no host goes without its reason."""
    hosts = columns(*(host(f"h{n}", disabled=n % 2 == 0) for n in range(ALL_NAMED)))
    plan = choose(hosts, Wanted(resources={"VCPU": 1}), SeededIds(1).rng)
    assert len(plan.refused) + len(plan.weighed) == ALL_NAMED
