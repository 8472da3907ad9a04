"""Many launches on many hosts: how fast at the beginning, in the middle and at the end, what each costs, and what is read at the end."""

import gc
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select

from cumulet.compute.tables import SAGAS
from cumulet.core.clock import seconds_between
from cumulet.dev.bench.load import summary
from cumulet.dev.bench.machine import pss_mib
from cumulet.dev.scale.cloud import ManyHosts, Refused

__all__ = ["Launched", "run"]

#: launches under way at once
AT_ONCE = 16
#: before anything is counted: what is compiled, imported and remembered once
WARM_UP = 100
WINDOW = 1000
SERVERS_PER_NETWORK = 1000
LOOK_S = 0.0005
READS = 30
UNLIMITED = {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}


class Moment(msgspec.Struct, frozen=True):
    """How many launches had ended when, and what CPU this process had used."""

    ended: int
    wall_s: float
    cpu_s: float


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.  rates: launches per second; cpu_ms: CPU of a launch, everything in it; by part of the run."""

    hosts: int
    servers: int
    failed: int
    rates: dict[str, float]
    cpu_ms: dict[str, float]
    #: the end's against the beginning's
    flat: float
    flat_cpu: float
    decision: dict[str, Any]
    memory: dict[str, float]
    reads: dict[str, dict[str, Any]]
    databases_kib_per_server: float
    rows: dict[str, int]
    add_host_ms: float
    #: the last look of the leak check, which goes over everything
    leak_check_s: float


def run(folder: Path, *, hosts: int, servers: int, say: Callable[[str], None]) -> Launched:
    """Fill a cloud."""
    window = min(WINDOW, max(1, servers // 4))
    with ManyHosts(folder, hosts=hosts) as cloud:
        cloud.add_hosts(1)  # what the first one loads is no other's
        before = _memory()
        began = time.monotonic()
        cloud.add_hosts(hosts - 1)
        add_host_ms = (time.monotonic() - began) / hosts * 1000
        with_hosts = _memory()
        say(f"{hosts:,} hosts: {add_host_ms:.2f} ms and {(with_hosts - before) / hosts * 1024:.1f} KiB each")
        launch = _prepare(cloud, servers + WARM_UP)
        _launch(cloud, launch, 0, min(WARM_UP, servers), [])
        warm, files = _memory(), _size(folder)
        moments: list[Moment] = []
        failed = _launch(cloud, launch, WARM_UP, servers, moments, say)
        after = _memory()
        parts = {
            "beginning": (0, window),
            "middle": ((servers - window) // 2, (servers + window) // 2),
            "end": (servers - window, servers),
        }
        rates, cpu_ms = dict[str, float](), dict[str, float]()
        for name, (first, last) in parts.items():
            a, b = _at(moments, first), _at(moments, last)
            rates[name] = round((b.ended - a.ended) / (b.wall_s - a.wall_s), 1)
            cpu_ms[name] = round((b.cpu_s - a.cpu_s) / (b.ended - a.ended) * 1000, 2)
        return Launched(
            hosts=hosts,
            servers=servers,
            failed=failed,
            rates=rates,
            cpu_ms=cpu_ms,
            flat=round(rates["end"] / rates["beginning"], 3),
            flat_cpu=round(cpu_ms["beginning"] / cpu_ms["end"], 3),
            decision=_decisions(cloud),
            memory={
                "empty_mib": round(before, 1),
                "kib_per_host": round((with_hosts - before) / hosts * 1024, 1),
                "kib_per_server": round((after - warm) / servers * 1024, 1),
                "end_mib": round(after, 1),
            },
            reads=_reads(cloud),
            databases_kib_per_server=round((_size(folder) - files) / servers / 1024, 1),
            rows=_rows(cloud),
            add_host_ms=round(add_host_ms, 2),
            leak_check_s=round(cloud.services.leak_watch.seconds, 2),
        )


def _prepare(cloud: ManyHosts, servers: int) -> Callable[[int], str]:
    """Quotas out of the way, networks; gives what posts launch number n."""
    member, project = cloud.member, cloud.member.project_id
    cloud.admin("PUT", "compute", f"/v2.1/os-quota-sets/{project}", UNLIMITED)
    cloud.admin("PUT", "network", f"/v2.0/quotas/{project}", {"quota": {"port": -1, "network": -1, "subnet": -1}})
    networks = []
    for number in range(-(-servers // SERVERS_PER_NETWORK)):
        made = member("POST", "network", "/v2.0/networks", {"network": {"name": f"net-{number}"}})["network"]["id"]
        subnet = {"network_id": made, "ip_version": 4, "cidr": f"10.{number % 250}.{number // 250 * 8}.0/21"}
        member("POST", "network", "/v2.0/subnets", {"subnet": subnet})
        networks.append(made)
    image = member("GET", "image", "/v2/images")["images"][0]["id"]
    flavors = member("GET", "compute", "/v2.1/flavors")["flavors"]
    nano = next(flavor["id"] for flavor in flavors if flavor["name"] == "m1.nano")

    def launch(number: int) -> str:
        server = {"name": f"server-{number}", "imageRef": image, "flavorRef": nano}
        server["networks"] = [{"uuid": networks[number // SERVERS_PER_NETWORK]}]
        return str(member("POST", "compute", "/v2.1/servers", {"server": server})["server"]["id"])

    return launch


def _launch(
    cloud: ManyHosts,
    launch: Callable[[int], str],
    first: int,
    count: int,
    moments: list[Moment],
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """So many, AT_ONCE under way at once; how many failed."""
    meters = cloud.services.meters.launches
    failed_before = meters["failed"]
    ended_before = sum(meters.values())
    posted, waiting, told = 0, threading.Event(), time.monotonic()
    while True:
        ended = sum(meters.values()) - ended_before
        if not moments or moments[-1].ended != ended:
            moments.append(Moment(ended, time.monotonic(), time.process_time()))
        if ended >= count:
            return meters["failed"] - failed_before
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"{ended:,} of {count:,}")
        if posted < count and posted - ended < AT_ONCE:
            with cloud.request():
                launch(first + posted)
            posted += 1
        else:
            waiting.wait(LOOK_S)


def _at(moments: list[Moment], ended: int) -> Moment:
    """The first moment at which so many had ended."""
    return next(moment for moment in moments if moment.ended >= ended)


def _decisions(cloud: ManyHosts) -> dict[str, Any]:
    """Row 8 of every launch's log: from the scheduler's receiving it until it writes the choice down."""
    steps = SAGAS.steps
    chosen = select(steps.c.started_at, steps.c.finished_at).where(steps.c.name == "claim_host")
    with cloud.services.compute_db.read() as tx:
        times = [seconds_between(row["started_at"], row["finished_at"]) for row in tx.all(chosen)]
    return dict(summary(times))


def _reads(cloud: ManyHosts) -> dict[str, dict[str, Any]]:
    """What a user and an operator read of a cloud that is full."""
    page = cloud.member("GET", "compute", "/v2.1/servers?limit=1000")["servers"]
    marker = page[-1]["id"]
    asked: dict[str, tuple[Any, str, str]] = {
        "servers/detail, first 100": (cloud.member, "compute", "/v2.1/servers/detail?limit=100"),
        "servers/detail, 100 after 1,000": (cloud.member, "compute", f"/v2.1/servers/detail?limit=100&marker={marker}"),
        "servers/detail, 100, all projects": (cloud.admin, "compute", "/v2.1/servers/detail?limit=100&all_tenants=1"),
        "servers by name": (cloud.member, "compute", f"/v2.1/servers?name={page[0]['name']}&limit=100"),
        "one server": (cloud.member, "compute", f"/v2.1/servers/{marker}"),
        "hypervisors/detail, first 100": (cloud.admin, "compute", "/v2.1/os-hypervisors/detail?limit=100"),
        "services": (cloud.admin, "compute", "/v2.1/os-services"),
        "ports, first 100": (cloud.member, "network", "/v2.0/ports?limit=100"),
    }
    found = {}
    for name, (user, service, path) in asked.items():
        times = []
        for _ in range(READS):
            began = time.monotonic()
            with suppress(Refused):
                user("GET", service, path)
            times.append(time.monotonic() - began)
            if sum(times) > 20:  # it is slow enough to be seen without more
                break
        found[name] = dict(summary(times))
    return found


def _rows(cloud: ManyHosts) -> dict[str, int]:
    """Tables by their rows, those with the most first."""
    found: dict[str, int] = {}
    for db in cloud.services.databases:
        with db.read() as tx:
            for table in db.metadata.sorted_tables:
                found[f"{db.name}.{table.name}"] = int(tx.value(select(func.count()).select_from(table)))
    return dict(sorted(found.items(), key=lambda item: -item[1])[:20])


def _memory() -> float:
    """MiB of this process, garbage taken out."""
    import os

    gc.collect()
    return pss_mib([os.getpid()])


def _size(folder: Path) -> int:
    """Bytes of all databases, with what their logs have not handed over."""
    return sum(file.stat().st_size for file in folder.rglob("*.sqlite"))
