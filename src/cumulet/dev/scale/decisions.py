"""Decisions alone: what is asked of the scheduler, answered with a host whose resources are claimed, without the launch around it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cumulet.compute import tables as compute_tables
from cumulet.compute.records import FlavorSnapshot, Server
from cumulet.compute.scheduler.messages import SelectRequest
from cumulet.compute.scheduler.service import Scheduler
from cumulet.core.clock import add_seconds
from cumulet.core.db import Database
from cumulet.core.errors import CloudError
from cumulet.core.ids import SystemIds
from cumulet.core.saga import Order
from cumulet.core.saga.journal import Journal
from cumulet.core.web.client import Credentials
from cumulet.dev.bench.load import summary
from cumulet.dev.scale.cloud import DISK_GIB, MEMORY_MIB, VCPUS, ManyHosts
from cumulet.placement.tables import INVENTORIES, PROVIDERS

__all__ = ["Decided", "run"]

FLAVOR = FlavorSnapshot(id="scale", name="scale", vcpus=2, ram_mb=2048, disk_gb=20)
WARM_UP = 200
PIECE = 1000
LASTS_S = 3600.0


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """So many schedulers at once, each with a thread of its own.

    decision: times of one, its claim included; rps: of all together; cpu_us: CPU of a decision, everything in it; retried: claims that were
    lost to another scheduler, by decision.
    """

    schedulers: int
    decisions: int
    decision: dict[str, Any]
    rps: float
    cpu_us: float
    retried: float
    refused: int


class DecidedAt(msgspec.Struct, frozen=True, kw_only=True):
    """load_s: a new scheduler's first look at all hosts."""

    hosts: int
    load_s: float
    runs: list[Decided]


def run(
    folder: Path, *, hosts: int, decisions: int, schedulers: tuple[int, ...], say: Callable[[str], None]
) -> DecidedAt:
    """Measure with one scheduler, then with several."""
    with ManyHosts(folder, hosts=0) as cloud:
        cloud.stop_workers()  # nothing else is at work; a leak check would find claims of servers that there are not
        _write_hosts(cloud, hosts)
        began = time.monotonic()
        _decide(cloud, [_scheduler(cloud)], 1)
        load_s = time.monotonic() - began
        say(f"{hosts:,} hosts, read by a new scheduler in {load_s:.1f} s")
        runs = []
        for count in schedulers:
            made = [_scheduler(cloud) for _ in range(count)]
            _decide(cloud, made, WARM_UP)
            runs.append(_decide(cloud, made, decisions))
        return DecidedAt(hosts=hosts, load_s=round(load_s, 2), runs=runs)


def _scheduler(cloud: ManyHosts) -> Scheduler:
    services = cloud.services
    return Scheduler(
        services.compute_db,
        Journal(compute_tables.SAGAS),
        placement=services.placement_door,
        credentials=lambda request_id: Credentials(token=services.nova.token(), request_id=request_id),
        host=lambda _: None,  # type: ignore[arg-type,return-value]  # nothing is handed over
        clock=cloud.clock,
        ids=SystemIds(),
    )


def _write_hosts(cloud: ManyHosts, count: int) -> None:
    """Hosts' rows, as a hundred thousand reports would take a while.  They have been heard of as late as the run will last."""
    now = cloud.clock.now()
    names = {f"host-{number}": cloud.ids.uuid() for number in range(count)}
    amounts = {"VCPU": VCPUS, "MEMORY_MB": MEMORY_MIB, "DISK_GB": DISK_GIB}
    facts: dict[str, Any] = {
        "hypervisor_type": "sim", "hypervisor_version": 1, "vcpus": VCPUS, "memory_mb": MEMORY_MIB, "local_gb": DISK_GIB,
        "cpu_info": {}, "host_ip": "127.0.0.1", "zone": "nova", "disabled": False, "disabled_reason": None,
        "forced_down": False, "traits": [], "seen_at": add_seconds(now, LASTS_S), "created_at": now, "updated_at": None,
    }  # fmt: skip
    _insert(
        cloud.services.compute_db,
        compute_tables.HOSTS,
        [facts | {"host": name, "service_id": id_, "hypervisor_id": id_} for name, id_ in names.items()],
    )
    placement = cloud.services.placement.db
    provider = {"generation": 0, "parent_id": None, "traits": ["COMPUTE_NODE"], "aggregates": [], "created_at": now}
    _insert(placement, PROVIDERS, [provider | {"id": id_, "root_id": id_, "name": name} for name, id_ in names.items()])
    fields = {"reserved": 0, "min_unit": 1, "step_size": 1, "used": 0}
    sizes = {"VCPU": 16.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
    _insert(
        placement,
        INVENTORIES,
        [
            fields
            | {"provider_id": id_, "resource_class": name, "total": total, "max_unit": total}
            | {"allocation_ratio": sizes[name], "capacity": int(total * sizes[name])}
            for id_ in names.values()
            for name, total in amounts.items()
        ],
    )


def _insert(db: Database, table: Any, rows: list[dict[str, Any]]) -> None:
    for first in range(0, len(rows), PIECE):
        with db.write() as tx:
            tx.insert_many(table, rows[first : first + PIECE])


def _decide(cloud: ManyHosts, schedulers: list[Scheduler], count: int) -> Decided:
    """So many decisions, shared among them, each asked again when it has answered."""
    wanted = _server(cloud)
    times: list[float] = []
    refused: list[str] = []

    def request() -> SelectRequest:
        server = msgspec.structs.replace(wanted, id=cloud.ids.uuid())
        order = Order(
            saga_id=server.id, generation=1, flow="launch", subject_id=server.id, request_id=cloud.ids.request_id()
        )
        return SelectRequest(order=order, server=server, asked_at="", hand_over=False)

    def work(scheduler: Scheduler, requests: list[SelectRequest]) -> None:
        mine: list[float] = []
        for request in requests:
            began = time.monotonic()
            try:
                scheduler.select(request)
            except CloudError as error:
                refused.append(error.message)
            mine.append(time.monotonic() - began)
        times.extend(mine)

    lost = sum(one.claims_lost for one in schedulers)
    # made ahead: to ask is not the scheduler's work
    asked = [[request() for _ in range(count // len(schedulers))] for _ in schedulers]
    threads = [threading.Thread(target=work, args=both) for both in zip(schedulers, asked, strict=True)]
    wall, cpu = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return Decided(
        schedulers=len(schedulers),
        decisions=len(times),
        decision=dict(summary(times)),
        rps=round(len(times) / wall, 0),
        cpu_us=round(cpu / len(times) * 1e6, 0),
        retried=round((sum(one.claims_lost for one in schedulers) - lost) / len(times), 5),
        refused=len(refused),
    )


def _server(cloud: ManyHosts) -> Server:
    """What is asked for: a server of FLAVOR, with nothing else said."""
    now = cloud.clock.now()
    facts: dict[str, Any] = dict.fromkeys(Server.__struct_fields__)
    facts |= {"id": "", "name": "scale", "project_id": cloud.member.project_id, "user_id": "scale", "flavor": FLAVOR}
    facts |= {"hints": {}, "block_devices": [], "image_properties": {}, "created_at": now, "updated_at": now}
    return Server(**facts)
