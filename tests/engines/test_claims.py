"""Claims of several schedulers at once: never more than there is, whatever is asked, on both engines; and hardly ever two for one place."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData
from tests.engines.test_compute_store import server
from tests.http.harness import authenticate

from cumulet.compute.records import FlavorSnapshot
from cumulet.compute.scheduler.messages import NoValidHostError, SelectRequest
from cumulet.compute.scheduler.mirror import Mirror
from cumulet.compute.scheduler.service import Scheduler
from cumulet.compute.store import hosts
from cumulet.compute.tables import METADATA as COMPUTE
from cumulet.compute.tables import SAGAS
from cumulet.core.clock import SystemClock
from cumulet.core.context import Context
from cumulet.core.db import Database
from cumulet.core.errors import Conflict
from cumulet.core.ids import SystemIds
from cumulet.core.saga import Order, Saga
from cumulet.core.saga.journal import Journal
from cumulet.core.web.client import Client, Credentials, LocalTransport
from cumulet.placement import store
from cumulet.placement.api import application
from cumulet.placement.door import Inventory, PlacementDoor, PlacementRest, ProviderStates
from cumulet.placement.service import PlacementService
from cumulet.placement.tables import METADATA as PLACEMENT

SCHEDULERS = 4
CREDENTIALS = Credentials(token="service")


class Cloud:
    """Placement with its API, compute's database, and schedulers that share nothing else."""

    def __init__(self, placement: Database, compute: Database) -> None:
        self.clock, self.ids = SystemClock(), SystemIds()
        self.placement, self.compute = placement, compute
        service = PlacementService(placement, clock=self.clock, ids=self.ids)
        app = application(service, authenticate=authenticate, clock=self.clock, ids=self.ids)
        self.door = PlacementRest(Client("placement", LocalTransport(app), self.clock))
        self.journal = Journal(SAGAS)
        self.ordered: list[Order] = []
        self.hosts: list[str] = []

    def run(self, order: Order) -> None:
        self.ordered.append(order)

    def host(self, **total: int) -> str:
        """A host with this much, and no more than that."""
        host_id = self.ids.uuid()
        now = self.clock.now()
        facts: dict[str, Any] = dict.fromkeys(hosts.Host.__struct_fields__)
        facts |= {"host": host_id, "service_id": host_id, "hypervisor_id": host_id, "hypervisor_type": "QEMU"}
        facts |= {"hypervisor_version": 1, "cpu_info": {}, "host_ip": "127.0.0.1", "zone": "nova", "traits": []}
        facts |= {"vcpus": total["VCPU"], "memory_mb": total["MEMORY_MB"], "local_gb": total["DISK_GB"]}
        facts |= {"disabled": False, "forced_down": False, "seen_at": now, "created_at": now}
        with self.compute.write() as tx:
            hosts.put(tx, hosts.Host(**facts))
        inventories = {name: Inventory(total=amount) for name, amount in total.items()}
        self.door.ensure_provider(host_id, host_id, inventories=inventories, traits=[], credentials=CREDENTIALS)
        self.hosts.append(host_id)
        return host_id

    def scheduler(self) -> Scheduler:
        return Scheduler(
            self.compute,
            self.journal,
            placement=self.door,
            credentials=lambda _: CREDENTIALS,
            host=lambda _: self,
            clock=self.clock,
            ids=SystemIds(),
        )

    def launch(self, scheduler: Scheduler, flavor: FlavorSnapshot) -> str | None:
        """The chosen host, if there is one."""
        wanted, now = server(self.ids.uuid(), flavor=flavor), self.clock.now()
        saga = Saga(
            id=self.ids.uuid(), flow="launch", subject_id=wanted.id, project_id="p", request_id="req-1",
            context=Context(user_id="u"), input={}, state="running", generation=1, owner="conductor", host=None, attempts=0,
            deadline=None, failure=None, requested_at=now, started_at=now, finished_at=None,
        )  # fmt: skip
        with self.compute.write() as tx:
            self.journal.add(tx, saga)
        order = Order(saga_id=saga.id, generation=1, flow="launch", subject_id=wanted.id, request_id="req-1")
        try:
            return scheduler.select(SelectRequest(order=order, server=wanted, asked_at=now)).host
        except NoValidHostError:
            return None

    def check(self) -> dict[str, int]:
        """What is used of each class in all; raises when a host has more than fits, or books that differ from its allocations."""
        used: dict[str, int] = {}
        with self.placement.read() as tx:
            for provider_id, rows in store.inventories(tx, self.hosts).items():
                held: dict[str, int] = {}
                for allocation in store.allocations_on(tx, provider_id):
                    held[allocation.resource_class] = held.get(allocation.resource_class, 0) + allocation.used
                for row in rows:
                    assert row.used <= row.capacity
                    assert row.used == held.get(row.resource_class, 0)
                    used[row.resource_class] = used.get(row.resource_class, 0) + row.used
        return used


@pytest.fixture
def cloud(database: Callable[[MetaData], Database]) -> Cloud:
    """Without hosts."""
    return Cloud(database(PLACEMENT), database(COMPUTE))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(st.integers(1, 3), min_size=4, max_size=24),
)
def test_schedulers_at_once_never_overcommit(cloud: Cloud, sizes: list[int], flavors: list[int]) -> None:
    """However large hosts and servers are: no host gives more than it has, and nobody goes away while there is room for him."""
    cloud.hosts = []
    with cloud.compute.write() as tx:
        tx.run(COMPUTE.tables["hosts"].delete())
    for size in sizes:
        cloud.host(VCPU=size, MEMORY_MB=size * 1000, DISK_GB=size * 10)
    schedulers = [cloud.scheduler() for _ in range(SCHEDULERS)]

    def launch(number: int, vcpus: int) -> tuple[int, str | None]:
        flavor = FlavorSnapshot(id="f", name="f", vcpus=vcpus, ram_mb=vcpus * 500, disk_gb=1)
        return vcpus, cloud.launch(schedulers[number % SCHEDULERS], flavor)

    with ThreadPoolExecutor(SCHEDULERS) as pool:
        found = list(pool.map(launch, range(len(flavors)), flavors))
    used = cloud.check()
    assert used["VCPU"] == sum(vcpus for vcpus, host in found if host is not None)
    refused = [vcpus for vcpus, host in found if host is None]
    with cloud.placement.read() as tx:
        room = max(row.capacity - row.used for rows in store.inventories(tx, cloud.hosts).values() for row in rows
                   if row.resource_class == "VCPU")  # fmt: skip
    # nothing is given back, so whoever was refused would be refused now
    assert not [vcpus for vcpus in refused if vcpus <= room]


def test_schedulers_at_once_fill_a_cloud_to_the_last_place(cloud: Cloud) -> None:
    """As many servers as fit find a host, one more does not; hardly a decision meets another one."""
    for _ in range(40):
        cloud.host(VCPU=10, MEMORY_MB=64_000, DISK_GB=1000)
    schedulers = [cloud.scheduler() for _ in range(SCHEDULERS)]
    flavor = FlavorSnapshot(id="f", name="f", vcpus=1, ram_mb=512, disk_gb=1)
    with ThreadPoolExecutor(SCHEDULERS) as pool:
        found = list(pool.map(lambda number: cloud.launch(schedulers[number % SCHEDULERS], flavor), range(401)))
    assert found.count(None) == 1
    assert cloud.check()["VCPU"] == 400
    assert {found.count(host) for host in cloud.hosts} == {10}
    with cloud.compute.read() as tx:
        kept = [msgspec.convert(row["decision"], dict) for row in tx.all(COMPUTE.tables["decisions"].select())]
    assert sum(decision["reasons"].get("Placement", 0) for decision in kept) < 40


def test_a_claim_takes_of_all_classes_or_of_none(cloud: Cloud) -> None:
    """One statement for all classes: what does not fit in one is taken back in the others; the words name that class."""
    host = cloud.host(VCPU=4, MEMORY_MB=1000, DISK_GB=10)

    def claim(**resources: int) -> None:
        cloud.door.claim(cloud.ids.uuid(), {host: resources}, project_id="p", user_id="u", credentials=CREDENTIALS)

    claim(VCPU=1, MEMORY_MB=600, DISK_GB=1)
    with pytest.raises(Conflict, match=r"for 'MEMORY_MB' on .* exceed the capacity"):
        claim(VCPU=1, MEMORY_MB=600, DISK_GB=1)
    with pytest.raises(Conflict, match=r"for 'VCPU' on .* violate inventory constraints"):
        claim(VCPU=5, MEMORY_MB=1)
    with pytest.raises(Conflict, match=r"Inventory for 'VGPU' on .* invalid"):
        claim(VCPU=1, VGPU=1)
    assert cloud.check() == {"VCPU": 1, "MEMORY_MB": 600, "DISK_GB": 1}


def test_a_copy_of_the_providers_is_kept_by_changes(cloud: Cloud) -> None:
    """All of them first; then those alone that a claim, a release or new books changed, and one that is gone has nothing."""
    first, second = cloud.host(VCPU=4, MEMORY_MB=1000, DISK_GB=10), cloud.host(VCPU=4, MEMORY_MB=1000, DISK_GB=10)
    states = cloud.door.all_providers(CREDENTIALS)
    assert {one.uuid for one in states.providers} == {first, second}
    assert cloud.door.changed_providers(CREDENTIALS, states.number).providers == []
    consumer = cloud.ids.uuid()
    cloud.door.claim(consumer, {first: {"VCPU": 3}}, project_id="p", user_id="u", credentials=CREDENTIALS)
    changed = cloud.door.changed_providers(CREDENTIALS, states.number)
    assert [(one.uuid, one.resources["VCPU"]) for one in changed.providers] == [(first, (4, 3, 4))]
    cloud.door.release(consumer, CREDENTIALS)
    with cloud.placement.write() as tx:
        store.remove_provider(tx, second)
        store.note(tx, [second])
    changed = cloud.door.changed_providers(CREDENTIALS, changed.number)
    assert {one.uuid: one.resources.get("VCPU") for one in changed.providers} == {first: (4, 0, 4), second: None}


def test_a_claim_of_our_own_is_not_read_again(cloud: Cloud) -> None:
    """A claim answers with the number of its change: a copy that has all before it has it too; after somebody else's both are read."""
    host = cloud.host(VCPU=8, MEMORY_MB=8000, DISK_GB=80)
    mirror = Mirror(cloud.compute, cloud.door, cloud.clock)
    asked: list[int] = []

    class Door:
        all_providers = cloud.door.all_providers

        def changed_providers(self, credentials: Credentials, since: int) -> ProviderStates:
            asked.append(since)
            return cloud.door.changed_providers(credentials, since)

    def claim(amount: int) -> int:
        wanted = {host: {"VCPU": amount}}
        return cloud.door.claim(cloud.ids.uuid(), wanted, project_id="p", user_id="u", credentials=CREDENTIALS)

    def free() -> float:
        columns = mirror.columns(CREDENTIALS, to_the_moment=True)
        return float(columns.free("VCPU")[columns.places[host]])

    mirror._placement = cast("PlacementDoor", Door())
    assert free() == 8
    first, second = claim(1), claim(2)
    assert second == first + 1
    mirror.took(host, {"VCPU": 1}, number=first)
    mirror.took(host, {"VCPU": 2}, number=second)
    assert free() == 5
    assert asked == [second]
    others, mine = claim(1), claim(1)
    mirror.took(host, {"VCPU": 1}, number=mine)
    assert free() == 3
    assert asked == [second, second]
    late = claim(1)
    assert free() == 2
    mirror.took(host, {"VCPU": 1}, number=late)  # read before it was told
    assert free() == 2
    assert others < mine < late
