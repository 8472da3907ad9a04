"""The scheduler over made-up hosts: what it writes down of a choice, in full and in safe words, within limits, on both engines."""

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import MetaData
from tests.engines.test_compute_store import server

from cumulet.compute.records import FlavorSnapshot, Server
from cumulet.compute.scheduler.decision import ALL_NAMED, MEANS, NAMED_OF_MANY, Decision, words
from cumulet.compute.scheduler.filters import FILTERS
from cumulet.compute.scheduler.messages import FitRequest, NoValidHostError, RefitRequest, SelectRequest
from cumulet.compute.scheduler.service import Scheduler
from cumulet.compute.store import decisions, hosts
from cumulet.compute.store.decisions import KeptDecision
from cumulet.compute.tables import METADATA, SAGAS
from cumulet.core.clock import SystemClock
from cumulet.core.context import Context
from cumulet.core.db import Database
from cumulet.core.errors import Conflict
from cumulet.core.ids import SeededIds
from cumulet.core.saga import Order, Saga, StepRunner
from cumulet.core.saga.journal import Journal
from cumulet.core.web.client import Credentials
from cumulet.placement.door import PlacementDoor, ProviderState, ProviderStates

FLAVOR = FlavorSnapshot(id="f1", name="small", vcpus=2, ram_mb=512, disk_gb=1)
FREE = {"VCPU": 8, "MEMORY_MB": 4096, "DISK_GB": 100}


class PaperPlacement:
    """What each host has free, who was refused, and what was claimed."""

    def __init__(self) -> None:
        self.free: dict[str, dict[str, int]] = {}
        self.held: dict[str, dict[str, dict[str, int]]] = {}
        self.taken: set[str] = set()

    def all_providers(self, credentials: Credentials) -> ProviderStates:
        return ProviderStates(
            0,
            [
                ProviderState(
                    host, {name: (FREE[name], FREE[name] - left, FREE[name]) for name, left in free.items()}, []
                )
                for host, free in self.free.items()
            ],
        )

    def changed_providers(self, credentials: Credentials, since: int) -> ProviderStates:
        return self.all_providers(credentials)

    def claim(self, consumer: str, wanted: dict[str, dict[str, int]], **_: Any) -> int:
        if self.taken & set(wanted):
            raise Conflict("Unable to allocate inventory.")
        self.held[consumer] = wanted
        return len(self.held)

    def allocations(self, consumer: str, credentials: Credentials) -> dict[str, dict[str, int]]:
        return self.held.get(consumer, {})


class World:
    """A scheduler, its database, placement on paper, and a host that takes every order."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.clock = SystemClock()
        self.placement = PaperPlacement()
        self.journal = Journal(SAGAS)
        self.ordered: list[Order] = []
        self.scheduler = Scheduler(
            db,
            self.journal,
            placement=cast("PlacementDoor", self.placement),
            credentials=lambda _: Credentials(token="t"),
            host=lambda _: cast("StepRunner", self),
            clock=self.clock,
            ids=SeededIds(1),
        )

    def run(self, order: Order) -> None:
        self.ordered.append(order)

    def host(self, name: str, free: dict[str, int] | None = None, **fields: Any) -> None:
        """A host in service."""
        facts: dict[str, Any] = dict.fromkeys(hosts.Host.__struct_fields__)
        facts |= {"host": name, "service_id": name, "hypervisor_id": name, "hypervisor_type": "QEMU", "zone": "nova"}
        facts |= {"hypervisor_version": 1, "vcpus": 8, "memory_mb": 4096, "local_gb": 100, "cpu_info": {}}
        facts |= {"host_ip": "127.0.0.1", "disabled": False, "forced_down": False, "traits": []}
        facts |= {"seen_at": self.clock.now(), "created_at": self.clock.now()}
        with self.db.write() as tx:
            hosts.put(tx, hosts.Host(**(facts | fields)))
        self.placement.free[name] = free or dict(FREE)

    def saga(self, subject: str) -> Order:
        """A launch under way, and the order that goes with it."""
        now = self.clock.now()
        saga = Saga(
            id=f"saga-{subject}", flow="launch", subject_id=subject, project_id="p", request_id="req-1", context=Context(user_id="u"),
            input={}, state="running", generation=1, owner="conductor", host=None, attempts=0, deadline=None, failure=None,
            requested_at=now, started_at=now, finished_at=None,
        )  # fmt: skip
        with self.db.write() as tx:
            self.journal.add(tx, saga)
        return Order(saga_id=saga.id, generation=1, flow="launch", subject_id=subject, request_id="req-1")

    def select(self, wanted: Server) -> str:
        """The chosen host."""
        request = SelectRequest(order=self.saga(wanted.id), server=wanted, asked_at=self.clock.now())
        return self.scheduler.select(request).host

    def kept(self, server_id: str) -> list[KeptDecision]:
        with self.db.read() as tx:
            return decisions.of_server(tx, server_id)

    def decision(self, server_id: str) -> Decision:
        (kept,) = self.kept(server_id)
        return kept.decision


@pytest.fixture
def world(database: Callable[[MetaData], Database]) -> World:
    """A scheduler without hosts."""
    return World(database(METADATA))


def wanted(id: str = "s1", **fields: Any) -> Server:
    """A server that is to be launched."""
    return server(id, flavor=FLAVOR, **fields)


def test_a_choice_is_written_down_with_its_reasons(world: World) -> None:
    """Who was refused by what and why, the weights of the others by weigher, who was chosen; the order has gone to that host."""
    world.host("node-1")
    world.host("node-2", {"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 100})
    world.host("node-3", disabled=True)
    world.host("node-4", {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 100})
    world.host("node-5", {"VCPU": 0, "MEMORY_MB": 4096, "DISK_GB": 100})
    assert world.select(wanted()) == "node-1"
    (kept,) = world.kept("s1")
    assert (kept.action, kept.saga_id, kept.request_id) == ("create", "saga-s1", "req-1")
    decision = kept.decision
    assert (decision.host, decision.considered, decision.fitting) == ("node-1", 5, 2)
    assert decision.resources == {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 1}
    assert decision.reasons == {"VCPU": 2, "ComputeFilter": 1, "MEMORY_MB": 1}
    assert [(refusal.host, refusal.by, refusal.reason) for refusal in decision.refused] == [
        ("node-3", "ComputeFilter", "the compute service is disabled"),
        ("node-4", "VCPU", "2 asked for, 1 of 8 free"),
        ("node-4", "MEMORY_MB", "512 asked for, 256 of 4096 free"),
        ("node-5", "VCPU", "2 asked for, 0 of 8 free"),
    ]
    best, second = decision.weighed
    assert (best.host, second.host) == ("node-1", "node-2")
    assert best.by == {"RAMWeigher": 0.0, "CPUWeigher": 1.0, "DiskWeigher": 0.0}
    assert (best.weight, second.weight) == (1.0, 0.0)
    assert [order.saga_id for order in world.ordered] == ["saga-s1"]


def test_the_owners_words_name_no_host(world: World) -> None:
    """Counts per filter and resource, and what each filter means; the log of the launch has the same words."""
    world.host("secret-1")
    world.host("secret-2", forced_down=True)
    world.host("secret-3", {"VCPU": 1, "MEMORY_MB": 4096, "DISK_GB": 100})
    world.select(wanted())
    said = words(world.decision("s1"))
    assert said == (
        "3 hosts looked at, 1 fit; ComputeFilter: 1 of 3 hosts refused (out of service); VCPU: not enough on 1 of 3 hosts"
    )
    with world.db.read() as tx:
        steps = world.journal.log(tx, "saga-s1")
    assert next(step.detail for step in steps if step.name == "claim_host") == said
    assert "secret" not in str([step.detail for step in steps])


def test_a_launch_without_a_host_is_written_down_too(world: World) -> None:
    """The failure has the owner's words and the admin's detail, and the decision stays."""
    world.host("secret-1", {"VCPU": 1, "MEMORY_MB": 100, "DISK_GB": 100})
    world.host("secret-2", zone="other")
    with pytest.raises(NoValidHostError) as caught:
        world.select(wanted(requested_zone="nova"))
    assert caught.value.message.startswith("No valid host was found. There are not enough hosts available. ")
    assert "AvailabilityZoneFilter: 1 of 2 hosts refused (in another availability zone)" in caught.value.message
    assert "secret" not in caught.value.message
    assert "secret-2: AvailabilityZoneFilter: the host is in zone other, nova was asked for" in str(caught.value.detail)
    decision = world.decision("s1")
    assert (decision.host, decision.considered, decision.fitting, decision.zone) == (None, 2, 0, "nova")
    assert decision.reasons == {"VCPU": 1, "MEMORY_MB": 1, "AvailabilityZoneFilter": 1}
    assert words(decision) == caught.value.message


def test_without_hosts_there_is_a_reason_as_well(world: World) -> None:
    """None in service."""
    with pytest.raises(NoValidHostError, match="There are no compute hosts in service"):
        world.select(wanted())
    assert world.decision("s1").considered == 0


def test_a_host_that_others_took_meanwhile_is_named_as_such(world: World) -> None:
    """Placement's refusal is one of the reasons, and the next host is chosen."""
    world.host("node-1")
    world.host("node-2", {"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 100})
    world.placement.taken = {"node-1"}
    assert world.select(wanted()) == "node-2"
    decision = world.decision("s1")
    assert decision.reasons == {"Placement": 1}
    assert decision.fitting == 1
    assert "taken by others at the same moment" in words(decision)


def test_a_decision_is_bounded(world: World) -> None:
    """Of many hosts each reason is counted and the first are named; a reason is cut."""
    for number in range(ALL_NAMED * 2):
        world.host(f"full-{number:03}", {"VCPU": 1, "MEMORY_MB": 4096, "DISK_GB": 100})
        world.host(f"good-{number:03}")
        world.host(f"else-{number:03}", zone="z" * 250)
    world.select(wanted(requested_zone="nova"))
    decision = world.decision("s1")
    assert decision.reasons == {"VCPU": ALL_NAMED * 2, "AvailabilityZoneFilter": ALL_NAMED * 2}
    assert (decision.considered, decision.fitting) == (ALL_NAMED * 6, ALL_NAMED * 2)
    assert (len(decision.refused), len(decision.weighed)) == (NAMED_OF_MANY, NAMED_OF_MANY)
    assert len(msgspec.json.encode(decision)) < 8 << 10
    assert len(words(decision)) < 250


def test_asking_again_keeps_one_decision_for_a_saga(world: World) -> None:
    """The newer one; a request that finds its host written down leaves it alone."""
    world.host("node-1", {"VCPU": 1, "MEMORY_MB": 4096, "DISK_GB": 100})
    order = world.saga("s1")
    request = SelectRequest(order=order, server=wanted(), asked_at=world.clock.now())
    with pytest.raises(NoValidHostError):
        world.scheduler.select(request)
    world.placement.free["node-1"] = dict(FREE)
    assert world.scheduler.select(request).host == "node-1"
    assert world.decision("s1").host == "node-1"
    again = msgspec.structs.replace(request, server=wanted(host="node-1", node="node-1"))
    assert world.scheduler.select(again).host == "node-1"
    assert world.decision("s1").weighed != ()
    assert len(world.ordered) == 2


def test_a_claim_that_was_not_written_down_is_found_again(world: World) -> None:
    """A scheduler that was killed between the two has filled the host with the server itself: the next try takes that host."""
    world.host("node-1", {"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0})
    world.placement.held["s1"] = {"node-1": {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 1}}
    assert world.select(wanted()) == "node-1"
    assert world.decision("s1").refused == ()


def resize(world: World, new: FlavorSnapshot) -> str:
    """Refit server s1, which is on node-1."""
    there = wanted(host="node-1", node="node-1")
    order = Order(saga_id="saga-resize", generation=1, flow="resize", subject_id="s1", request_id="req-2")
    return world.scheduler.refit(RefitRequest(order=order, server=there, flavors=[FLAVOR, new], action="resize"))


def test_a_resize_is_explained_as_well(world: World) -> None:
    """It looks at the server's own host only, where what the server has counts as free; the larger of both flavors is claimed."""
    world.host("node-1", {"VCPU": 1, "MEMORY_MB": 100, "DISK_GB": 50}, disabled=True)
    world.host("node-2")
    world.placement.held["s1"] = {"node-1": {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 1}}
    larger = FlavorSnapshot(id="f2", name="large", vcpus=3, ram_mb=256, disk_gb=20)
    for _ in range(2):  # a step may run twice
        assert resize(world, larger) == "1 host looked at, it fits"
        assert world.placement.held["s1"] == {"node-1": {"VCPU": 3, "MEMORY_MB": 512, "DISK_GB": 20}}
        world.placement.free["node-1"] = {"VCPU": 0, "MEMORY_MB": 100, "DISK_GB": 31}
    (kept,) = world.kept("s1")
    assert (kept.action, kept.decision.host, kept.decision.flavor) == ("resize", "node-1", "large")
    held = world.placement.held["s1"]
    with pytest.raises(NoValidHostError) as caught:
        resize(world, FlavorSnapshot(id="f3", name="huge", vcpus=4, ram_mb=512, disk_gb=20))
    assert "VCPU: not enough on 1 of 1 hosts" in caught.value.message
    assert caught.value.detail == "node-1: VCPU: 4 asked for, 3 of 8 free"
    assert world.placement.held["s1"] == held
    assert world.decision("s1").host is None


def test_what_would_fit_claims_and_writes_nothing(world: World) -> None:
    """By host and in all; who would be next; why not the others."""
    world.host("node-1")
    world.host("node-2", {"VCPU": 8, "MEMORY_MB": 1100, "DISK_GB": 100})
    world.host("node-3", zone="other")
    fit = world.scheduler.fit(FitRequest(flavor=FLAVOR, zone="nova"))
    assert fit.rooms == {"node-1": 4, "node-2": 2}
    assert fit.fits == 6
    assert (fit.decision.host, fit.decision.reasons) == ("node-1", {"AvailabilityZoneFilter": 1})
    assert world.placement.held == {}
    assert world.kept("s1") == []
    nowhere = world.scheduler.fit(FitRequest(flavor=FLAVOR, image_properties={"hw_architecture": "aarch64"}))
    assert (nowhere.fits, nowhere.decision.host, nowhere.decision.reasons) == (0, None, {"ImagePropertiesFilter": 3})


def test_every_filter_has_words_for_owners() -> None:
    """One added later must have them too."""
    assert {one.name for one in FILTERS} <= set(MEANS)


def test_a_tie_is_broken_by_the_dice_of_the_ids(world: World) -> None:
    """So that a seed can own it: like hosts come in the order of the dice."""
    for name in ("a", "b", "c"):
        world.host(name)
    order = [one.host for one in world.scheduler.fit(FitRequest(flavor=FLAVOR)).decision.weighed]
    world.scheduler._ids = SeededIds(1)
    assert [one.host for one in world.scheduler.fit(FitRequest(flavor=FLAVOR)).decision.weighed] == order
