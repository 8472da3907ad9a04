"""A hypervisor that runs nothing, for clouds without a machine to spare and for tests of everything above it.

What it does not have it does not fake: its console says that it is simulated, and there is no screen.  Everything
else is honest. States move as a real guest's would, and refuse to where a real one's would; events reach subscribers
after the change; a verb takes the time it is told to take, on the clock it is given; a failure may be set to strike
before a verb's effect or after it (the answer that got lost), because an undo must cope with both.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from cumulet.compute.agent.hypervisor.driver import (
    STARTING,
    ConsoleUnavailable,
    CpuInfo,
    DeviceBusy,
    DeviceRefused,
    Diagnostics,
    Disk,
    DiskUsage,
    Domain,
    DomainGone,
    DomainNotRunning,
    DomainState,
    HostStats,
    HypervisorDown,
    Nic,
    NicUsage,
    NoFreeSlot,
    NoSavedState,
    PowerState,
    StateCallback,
    Unsubscribe,
    VncAddress,
)
from cumulet.core.book import Book
from cumulet.core.disk import qcow2
from cumulet.core.disk.files import appearing
from cumulet.core.errors import CloudError

__all__ = ["Failure", "SimHypervisor"]

#: as many devices as a real guest's spare ports take
DEVICES_MAX: Final = 26
#: the size of what a snapshot of nothing looks like
SNAPSHOT_BYTES: Final = 1 << 20

#: the host has no machine that could be up
UPTIME: Final = " 00:00:00 up 0 days,  0:00,  0 users,  load average: 0.00, 0.00, 0.00 (simulated)"

Wait = Callable[[float], None]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The next `times` calls of `verb` (for `server_id`, if given) raise `error`, before their effect or after it."""

    verb: str
    error: CloudError
    times: int = 1
    server_id: str | None = None
    after_effect: bool = False


class _Guest(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulated host remembers of a guest, in memory and in its book."""

    domain: Domain
    power_state: PowerState
    reason: str
    saved: bool = False
    boots: int = 0

    @property
    def active(self) -> bool:
        return self.power_state in (PowerState.RUNNING, PowerState.PAUSED)


def _no_wait(_seconds: float) -> None:
    """The default: simulated verbs take no time."""


class SimHypervisor:
    """`Hypervisor` without machines."""

    def __init__(
        self,
        *,
        hostname: str,
        vcpus: int = 10_000,
        memory_mib: int = 16 << 20,
        disk_gib: int = 1 << 20,
        delays: Mapping[str, float] | None = None,
        wait: Wait = _no_wait,
        book: Path | None = None,
    ) -> None:
        """`delays` are seconds by verb, spent by `wait` (the caller's clock), as are the waits that end in a timeout.

        With a `book` guests survive this process, as real ones do.
        """
        self._hostname = hostname
        self._size = (vcpus, memory_mib, disk_gib)
        self._delays = dict(delays or {})
        self._wait = wait
        self._lock = threading.RLock()
        self._subscribers: tuple[StateCallback, ...] = ()
        self._failures: tuple[Failure, ...] = ()
        self._reachable = True
        #: guests that do not react to the power button, nor let go of devices
        self.deaf: set[str] = set()
        self._guests = Book(_Guest, book)

    # ── what only a simulation has ────────────────────────────────────────────────────────────────

    def fail(self, failure: Failure) -> None:
        """Let a verb fail."""
        with self._lock:
            self._failures = (*self._failures, failure)

    def crash(self, server_id: str) -> None:
        """The guest's process dies by itself."""
        self._set(server_id, PowerState.SHUTDOWN, "crashed")
        self._publish(self._state(server_id))

    def set_reachable(self, reachable: bool) -> None:
        """The daemon dies, or is back; on its return every guest is reported, as after any reconnection."""
        with self._lock:
            came_back = reachable and not self._reachable
            self._reachable = reachable
        if came_back:
            for state in self.list():
                self._publish(state)

    def record(self, server_id: str) -> Domain | None:
        """The guest as it is plugged together now."""
        with self._lock:
            guest = self._guests.get(server_id)
        return guest.domain if guest is not None else None

    # ── life ──────────────────────────────────────────────────────────────────────────────────────

    def start(self, domain: Domain, paused: bool = False) -> None:
        with self._verb("start", domain.server_id), self._lock:
            guest = self._guests.get(domain.server_id)
            if guest is not None and guest.active:
                if guest.power_state is PowerState.PAUSED and not paused:
                    self._put(msgspec.structs.replace(guest, power_state=PowerState.RUNNING, reason="unpaused"))
                return
            boots = guest.boots + 1 if guest is not None else 1
            state, reason = (PowerState.PAUSED, STARTING) if paused else (PowerState.RUNNING, "booted")
            self._put(_Guest(domain=domain, power_state=state, reason=reason, boots=boots))

    def destroy(self, server_id: str) -> None:
        with self._verb("destroy", server_id), self._lock:
            self._guests.drop(server_id)

    def shutdown(self, server_id: str, *, timeout_s: float) -> bool:
        with self._verb("shutdown", server_id):
            if not self._get(server_id).active:
                return True
            clean = timeout_s > 0 and server_id not in self.deaf
            if timeout_s > 0 and not clean:
                self._wait(timeout_s)
            self._set(server_id, PowerState.SHUTDOWN, "shutdown" if clean else "destroyed")
            return clean

    def reboot(self, domain: Domain, *, hard: bool, timeout_s: float = 60.0) -> None:
        with self._verb("reboot", domain.server_id):
            pass
        with suppress(DomainGone):
            self.shutdown(domain.server_id, timeout_s=0.0 if hard else timeout_s)
        self.start(domain)

    def pause(self, server_id: str) -> None:
        with self._verb("pause", server_id):
            if self._get_active(server_id).power_state is PowerState.PAUSED:
                return
            self._set(server_id, PowerState.PAUSED, "paused")

    def unpause(self, server_id: str) -> None:
        with self._verb("unpause", server_id):
            if self._get_active(server_id).power_state is PowerState.RUNNING:
                return
            self._set(server_id, PowerState.RUNNING, "unpaused")

    def suspend(self, server_id: str) -> None:
        with self._verb("suspend", server_id):
            guest = self._get(server_id)
            if guest.saved:
                return
            if not guest.active:
                raise DomainNotRunning
            self._set(server_id, PowerState.SHUTDOWN, "saved", saved=True)

    def resume(self, server_id: str) -> None:
        with self._verb("resume", server_id):
            guest = self._get(server_id)
            if guest.active:
                return
            if not guest.saved:
                raise NoSavedState
            self._set(server_id, PowerState.RUNNING, "restored")

    # ── devices and disks ─────────────────────────────────────────────────────────────────────────

    def attach_disk(self, server_id: str, disk: Disk) -> None:
        with self._verb("attach_disk", server_id), self._lock:
            guest = self._get(server_id)
            disks = guest.domain.disks
            if not guest.active or any(each.key == disk.key for each in disks):
                return
            if any(each.target == disk.target for each in disks):
                raise DeviceRefused(detail=f"target {disk.target} is taken")
            self._plug(guest, msgspec.structs.replace(guest.domain, disks=(*disks, disk)))

    def detach_disk(self, server_id: str, key: str, *, timeout_s: float = 60.0) -> None:
        with self._verb("detach_disk", server_id), self._lock:
            guest = self._guests.get(server_id)
            if guest is not None and any(each.key == key for each in guest.domain.disks):
                self._let_go(guest, timeout_s)
                rest = tuple(each for each in guest.domain.disks if each.key != key)
                self._plug(guest, msgspec.structs.replace(guest.domain, disks=rest))

    def attach_nic(self, server_id: str, nic: Nic) -> None:
        with self._verb("attach_nic", server_id), self._lock:
            guest = self._get(server_id)
            nics = guest.domain.nics
            if guest.active and not any(each.port_id == nic.port_id for each in nics):
                self._plug(guest, msgspec.structs.replace(guest.domain, nics=(*nics, nic)))

    def detach_nic(self, server_id: str, port_id: str, *, timeout_s: float = 60.0) -> None:
        with self._verb("detach_nic", server_id), self._lock:
            guest = self._guests.get(server_id)
            if guest is not None and any(each.port_id == port_id for each in guest.domain.nics):
                self._let_go(guest, timeout_s)
                rest = tuple(each for each in guest.domain.nics if each.port_id != port_id)
                self._plug(guest, msgspec.structs.replace(guest.domain, nics=rest))

    def snapshot(
        self,
        server_id: str,
        target: Path,
        *,
        disk_format: str,
        key: str = "",
        timeout_s: float = 3600.0,
    ) -> None:
        with self._verb("snapshot", server_id):
            disks = self._get(server_id).domain.disks
            if not any(key in ("", disk.key) for disk in disks):
                raise DeviceRefused("The server has no such disk.", detail=key)
            if disk_format == "qcow2":
                qcow2.write_empty(target, size=SNAPSHOT_BYTES)
                return
            text = b"This is a snapshot of a simulated server. There was no disk to copy.\n"
            with appearing(target, durable=False) as part:
                part.touch(mode=0o600)
                part.write_bytes(text.ljust(SNAPSHOT_BYTES, b"\0"))

    def stop_copying(self, server_id: str, key: str = "") -> None:
        with self._verb("stop_copying", server_id):
            pass

    def resize_disk(self, server_id: str, key: str, size: int) -> None:
        with self._verb("resize_disk", server_id):
            guest = self._get(server_id)
            if guest.active and not any(each.key == key for each in guest.domain.disks):
                raise DeviceRefused("The server has no such disk.", detail=f"{key}, {size} bytes")

    # ── looking ───────────────────────────────────────────────────────────────────────────────────

    def console_output(self, server_id: str, lines: int | None) -> str:
        with self._verb("console_output", server_id):
            guest = self._get(server_id)
        text = [
            f"This server is simulated: nothing boots on {self._hostname}.",
            f"server {guest.domain.server_id}, {guest.domain.vcpus} vCPU, {guest.domain.memory_mib} MiB",
            *(f"simulated boot {number}" for number in range(1, guest.boots + 1)),
        ]
        return "".join(f"{line}\n" for line in (text if lines is None else text[max(0, len(text) - lines) :]))

    def vnc_address(self, server_id: str) -> VncAddress:
        with self._verb("vnc_address", server_id):
            self._get_active(server_id)
        raise ConsoleUnavailable(detail="a simulated server has no screen")

    def wait_begun(self, server_id: str) -> None:
        with self._verb("wait_begun", server_id):
            return

    def power_state(self, server_id: str) -> DomainState:
        with self._verb("power_state", server_id):
            return self._state(server_id)

    def list(self) -> tuple[DomainState, ...]:
        with self._verb("list", None), self._lock:
            return tuple(self._state(server_id) for server_id in self._guests)

    def host_stats(self) -> HostStats:
        with self._verb("host_stats", None), self._lock:
            active = [guest.domain for guest in self._guests.things() if guest.active]
        vcpus, memory_mib, disk_gib = self._size
        return HostStats(
            vcpus=vcpus,
            vcpus_used=sum(domain.vcpus for domain in active),
            memory_mib=memory_mib,
            memory_mib_used=sum(domain.memory_mib for domain in active),
            disk_gib=disk_gib,
            disk_gib_used=0,
            disk_gib_available_least=disk_gib,
            running=len(active),
            hypervisor_type="sim",
            hypervisor_version=1,
            hypervisor_hostname=self._hostname,
            virt_type="sim",
            cpu_info=CpuInfo(
                arch="x86_64",
                model="simulated",
                vendor="cumulet",
                topology={"cells": 1, "sockets": vcpus, "cores": 1, "threads": 1},
                features=[],
            ),
            uptime=UPTIME,
        )

    def diagnostics(self, server_id: str) -> Diagnostics:
        with self._verb("diagnostics", server_id):
            guest = self._get_active(server_id)
        domain = guest.domain
        return Diagnostics(
            power_state=guest.power_state,
            cpu_time_ns=(0,) * domain.vcpus,
            memory_mib=domain.memory_mib,
            memory_used_mib=None,
            disks=tuple(
                DiskUsage(target=disk.target, read_bytes=0, read_requests=0, write_bytes=0, write_requests=0)
                for disk in domain.disks
            ),
            nics=tuple(
                NicUsage(
                    mac=nic.mac,
                    rx_bytes=0,
                    rx_packets=0,
                    rx_errors=0,
                    rx_drop=0,
                    tx_bytes=0,
                    tx_packets=0,
                    tx_errors=0,
                    tx_drop=0,
                )
                for nic in domain.nics
            ),
        )

    def subscribe(self, callback: StateCallback) -> Unsubscribe:
        self._subscribers = (*self._subscribers, callback)

        def unsubscribe() -> None:
            self._subscribers = tuple(each for each in self._subscribers if each is not callback)

        return unsubscribe

    def close(self) -> None:
        self._subscribers = ()

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _verb(self, verb: str, server_id: str | None) -> Iterator[None]:
        """Around every verb: its delay, its failures, and word of what it changed, also where the answer gets lost."""
        if not self._reachable:
            raise HypervisorDown(detail="simulated")
        if verb in self._delays:
            self._wait(self._delays[verb])
        failure = self._take_failure(verb, server_id)
        if failure is not None and not failure.after_effect:
            raise failure.error
        before = None if server_id is None else self._state(server_id)
        yield
        if before is not None and self._state(before.server_id) != before:
            self._publish(self._state(before.server_id))
        if failure is not None:
            raise failure.error

    def _take_failure(self, verb: str, server_id: str | None) -> Failure | None:
        with self._lock:
            for index, failure in enumerate(self._failures):
                if failure.verb == verb and failure.server_id in (None, server_id):
                    left = (msgspec.structs.replace(failure, times=failure.times - 1),) if failure.times > 1 else ()
                    self._failures = (*self._failures[:index], *left, *self._failures[index + 1 :])
                    return failure
        return None

    def _get(self, server_id: str) -> _Guest:
        with self._lock:
            guest = self._guests.get(server_id)
        if guest is None:
            raise DomainGone
        return guest

    def _get_active(self, server_id: str) -> _Guest:
        guest = self._get(server_id)
        if not guest.active:
            raise DomainNotRunning
        return guest

    def _put(self, guest: _Guest) -> None:
        with self._lock:
            self._guests.put(guest.domain.server_id, guest)

    def _set(self, server_id: str, power_state: PowerState, reason: str, *, saved: bool = False) -> None:
        with self._lock:
            guest = self._get(server_id)
            self._put(msgspec.structs.replace(guest, power_state=power_state, reason=reason, saved=saved))

    def _plug(self, guest: _Guest, domain: Domain) -> None:
        if len(domain.disks) + len(domain.nics) > DEVICES_MAX:
            raise NoFreeSlot
        self._put(msgspec.structs.replace(guest, domain=domain))

    def _let_go(self, guest: _Guest, timeout_s: float) -> None:
        if guest.active and guest.domain.server_id in self.deaf:
            self._wait(timeout_s)
            raise DeviceBusy

    def _state(self, server_id: str) -> DomainState:
        with self._lock:
            guest = self._guests.get(server_id)
        if guest is None:
            return DomainState(server_id=server_id, power_state=PowerState.NOSTATE, reason="gone")
        return DomainState(
            server_id=server_id,
            power_state=guest.power_state,
            reason=guest.reason,
            instance_name=guest.domain.domain_name,
            generation=guest.domain.generation,
        )

    def _publish(self, state: DomainState) -> None:
        for subscriber in self._subscribers:
            subscriber(state)
