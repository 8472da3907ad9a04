"""The hypervisor driver for QEMU under libvirt.

A domain is defined anew from its record at every start and undefined by `destroy`; between the two it stays defined
even when it is off, so that `list` can tell a stopped guest from one that never was.  A new guest that is started
paused is only then defined: somebody waits for it to run.  It is when nothing else happens, when it goes off by itself,
and when a verb needs it; when this process dies before, then by the next one.  Devices are plugged into the
running guest only: the definition would be stale anyway by the next start.

Written against libvirt 9.0 and QEMU 7.2.  What lies elsewhere: `domain_xml` (the definition), `events` (connection
and waiting), `devices` (plugging, growing, copying disks), `host_facts` (numbers), `faults` (errors).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import libvirt
import structlog

from cumulet.compute.agent.hypervisor import console, devices, host_facts
from cumulet.compute.agent.hypervisor.domain_xml import (
    METADATA_URI,
    Owner,
    alias_of,
    disk_xml,
    domain_xml,
    nic_xml,
    owner_from_xml,
    parse,
)
from cumulet.compute.agent.hypervisor.driver import (
    STARTING,
    ConsoleUnavailable,
    Diagnostics,
    Disk,
    Domain,
    DomainBusy,
    DomainGone,
    DomainNotRunning,
    DomainRefused,
    DomainState,
    HostStats,
    HypervisorDown,
    Nic,
    NoSavedState,
    PowerState,
    StateCallback,
    Unsubscribe,
    VncAddress,
)
from cumulet.compute.agent.hypervisor.events import Link
from cumulet.compute.agent.hypervisor.faults import named, translated

__all__ = ["LibvirtHypervisor"]

log = structlog.get_logger(__name__)

#: a guest that is still booting overlooks the button, so it is pressed again
BUTTON_INTERVAL_S: Final = 3.0
#: libvirt itself waits for the process to end; when it gives up, the process may be in a long write
DESTROY_ATTEMPTS: Final = 3
#: two libvirt daemons of one machine may choose the same free port for a screen
START_ATTEMPTS: Final = 3
PORT_TAKEN: Final = "Address already in use"
#: more than are likely to change at one time
LEVELS: Final = 64

_FORGET: Final = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)

#: what libvirt tells while a guest is started paused
_OF_A_START: Final = frozenset(
    {libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED}
)

_POWER_STATES: Final = {
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
}

_REASONS: Final = {
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED): "booted",
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED): "migrated",
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED): "restored",
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_UNPAUSED): "unpaused",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER): "paused",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE): "saving",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR): "io error",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP): STARTING,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN): "shutdown",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED): "destroyed",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED): "crashed",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED): "migrated",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED): "saved",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED): "failed",
}


class LibvirtHypervisor:
    """`Hypervisor` by a libvirt daemon on this machine."""

    def __init__(self, uri: str, *, cloud_id: str, virt_type: str, hostname: str, disk_directory: Path) -> None:
        """`uri` as `qemu:///system?socket=PATH`; `virt_type` "kvm" or "qemu"; `disk_directory` is where disk space is
        counted.

        Does not wait for the daemon: verbs raise HypervisorDown until it answers.
        """
        self._cloud_id = cloud_id
        self._virt_type = virt_type
        self._hostname = hostname
        self._disk_directory = disk_directory
        self._subscribers: tuple[StateCallback, ...] = ()
        #: server id → owner, of every domain seen to be ours: one that is gone cannot be asked any more
        self._ours: dict[str, Owner] = {}
        #: guests that were started paused and wait to be let run: they are "starting", whatever libvirt calls it
        self._starting: set[str] = set()
        #: a guest's level is read and told, or changed, one at a time: what was read before a change is told before it
        self._levels = tuple(threading.Lock() for _ in range(LEVELS))
        #: server id → definition, of guests that run and are yet to be defined
        self._undefined: dict[str, str] = {}
        self._link = Link(
            uri,
            on_domain=self._happened,
            on_reconnect=self._report_all,
            owes=lambda: bool(self._undefined),
            on_quiet=self._define_all,
        )

    # ── life ──────────────────────────────────────────────────────────────────────────────────────

    def start(self, domain: Domain, paused: bool = False) -> None:
        connection = self._link.connection()
        with translated(DomainRefused):
            if paused and self._start_new(connection, domain):
                return
            existing = _find(connection, domain.server_id)
            if existing is not None:
                if existing.isActive():
                    state, reason = _state_of(existing)
                    # another call of this kind is at it, and lets the guest run itself
                    if not paused and state is PowerState.PAUSED and reason != STARTING:
                        self._let_run(domain.server_id, existing)
                    return
                _clear_way(existing, domain.domain_name)
            self._ours[domain.server_id] = Owner(
                cloud_id=self._cloud_id, server_id=domain.server_id, generation=domain.generation
            )
            if paused:
                self._starting.add(domain.server_id)
            else:  # an earlier start that was never let run
                self._starting.discard(domain.server_id)
            defined = None
            try:
                defined = connection.defineXML(domain_xml(domain, cloud_id=self._cloud_id, virt_type=self._virt_type))
                _create(defined, libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)
            except libvirt.libvirtError:
                self._starting.discard(domain.server_id)
                # nothing was here before the call: nothing is to be here after it
                if existing is None and defined is not None:
                    with suppress(libvirt.libvirtError):
                        _forget(defined)
                raise

    def _start_new(self, connection: Any, domain: Domain) -> bool:
        """Start a guest paused, without asking first whether there is one; False when there is."""
        server_id = domain.server_id
        known = server_id in self._starting
        self._starting.add(server_id)
        xml = domain_xml(domain, cloud_id=self._cloud_id, virt_type=self._virt_type)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
            except libvirt.libvirtError as error:
                there = _find(connection, server_id) is not None
                if there or attempt == START_ATTEMPTS or PORT_TAKEN not in str(error):
                    if not known:
                        self._starting.discard(server_id)
                    if there:
                        return False
                    raise
            else:
                break
        self._undefined[server_id] = xml
        self._ours[server_id] = Owner(cloud_id=self._cloud_id, server_id=server_id, generation=domain.generation)
        return True

    def _define(self, server_id: str) -> None:
        """Let a new guest be known also when it is off.  On any thread; is it known already: nothing."""
        connection = self._link.connection()
        with self._level(server_id):
            xml = self._undefined.pop(server_id, None)
            if xml is not None:
                try:
                    with translated():
                        connection.defineXML(xml)
                except HypervisorDown:
                    self._undefined[server_id] = xml
                    raise

    def _define_all(self) -> None:
        for server_id in [each for each in self._undefined if each not in self._starting]:
            self._define(server_id)

    def destroy(self, server_id: str) -> None:
        connection = self._link.connection()
        with self._level(server_id):  # who is at it has defined it before it is forgotten, and nobody does after
            self._undefined.pop(server_id, None)
        with translated():
            domain = _find(connection, server_id)
            if domain is None:
                return
            _pull_plug(domain)
            _forget(domain)
        self._starting.discard(server_id)

    def shutdown(self, server_id: str, *, timeout_s: float) -> bool:
        self._define(server_id)
        with translated(), self._link.expect(server_id, "lifecycle") as waiter:
            domain = self._get(server_id)
            deadline = time.monotonic() + timeout_s
            presses = 0
            while domain.isActive():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    _pull_plug(domain)
                    return False
                if presses * BUTTON_INTERVAL_S <= timeout_s - remaining:
                    presses += 1
                    _press_button(domain)
                waiter.wait(min(remaining, BUTTON_INTERVAL_S))
            return True

    def reboot(self, domain: Domain, *, hard: bool, timeout_s: float = 60.0) -> None:
        with suppress(DomainGone):
            self.shutdown(domain.server_id, timeout_s=0.0 if hard else timeout_s)
        self.start(domain)

    def pause(self, server_id: str) -> None:
        domain = self._get_active(server_id)
        with self._level(server_id), translated():
            self._starting.discard(server_id)
            if _state_of(domain)[0] is not PowerState.PAUSED:
                domain.suspend()

    def unpause(self, server_id: str) -> None:
        domain = self._get(server_id)
        with translated():
            try:
                self._let_run(server_id, domain)
            except libvirt.libvirtError:
                if not domain.isActive():
                    raise DomainNotRunning(detail=f"domain {server_id} is off") from None
                if _state_of(domain)[0] is not PowerState.RUNNING:
                    raise

    def suspend(self, server_id: str) -> None:
        self._define(server_id)
        domain = self._get(server_id)
        with translated():
            if domain.isActive():
                domain.managedSave(0)
            elif not domain.hasManagedSaveImage():
                raise DomainNotRunning(detail="neither running nor saved")

    def resume(self, server_id: str) -> None:
        domain = self._get(server_id)
        with translated(DomainRefused):
            if domain.isActive():
                return
            if not domain.hasManagedSaveImage():
                raise NoSavedState(detail="off, and no saved memory")
            _create(domain)

    # ── devices and disks ─────────────────────────────────────────────────────────────────────────

    def attach_disk(self, server_id: str, disk: Disk) -> None:
        devices.attach(self._get(server_id), disk_xml(disk), alias_of("disk", disk.key))

    def detach_disk(self, server_id: str, key: str, *, timeout_s: float = 60.0) -> None:
        self._detach(server_id, alias_of("disk", key), timeout_s)

    def attach_nic(self, server_id: str, nic: Nic) -> None:
        devices.attach(self._get(server_id), nic_xml(nic), alias_of("nic", nic.port_id))

    def detach_nic(self, server_id: str, port_id: str, *, timeout_s: float = 60.0) -> None:
        self._detach(server_id, alias_of("nic", port_id), timeout_s)

    def snapshot(
        self, server_id: str, target: Path, *, disk_format: str, key: str = "", timeout_s: float = 3600.0
    ) -> None:
        alias = alias_of("disk", key) if key else None
        domain = self._get(server_id)
        devices.copy(self._link, domain, alias, target, disk_format=disk_format, timeout_s=timeout_s)

    def stop_copying(self, server_id: str, key: str = "") -> None:
        connection = self._link.connection()
        with translated():
            domain = _find(connection, server_id)
        if domain is not None:
            devices.stop_copying(domain, alias_of("disk", key) if key else None)

    def resize_disk(self, server_id: str, key: str, size: int) -> None:
        devices.grow(self._get(server_id), alias_of("disk", key), size)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────

    def console_output(self, server_id: str, lines: int | None) -> str:
        domain = self._get(server_id)
        with translated():
            log_file = parse(domain.XMLDesc()).find("devices/serial/log")
        return "" if log_file is None else console.tail(Path(log_file.get("file", "")), lines)

    def vnc_address(self, server_id: str) -> VncAddress:
        domain = self._get_active(server_id)
        with translated():
            graphics = parse(domain.XMLDesc()).find("devices/graphics[@type='vnc']")
        port = int(graphics.get("port", "-1")) if graphics is not None else -1
        if port < 0:
            raise ConsoleUnavailable(detail=f"no port of a screen in the XML of {server_id}")
        return VncAddress(host="127.0.0.1", port=port)

    def wait_begun(self, server_id: str) -> None:
        # libvirt keeps the guest to itself until its process has begun, lets go for this moment, and mostly keeps it again
        # until it answers: a second question would wait for that
        connection = self._link.connection()
        with translated():
            _find(connection, server_id)

    def power_state(self, server_id: str) -> DomainState:
        connection = self._link.connection()
        with translated():
            domain = _find(connection, server_id)
        return self._state(server_id, domain)

    def list(self) -> tuple[DomainState, ...]:
        connection = self._link.connection()
        with translated():
            domains = connection.listAllDomains()
        states = []
        for domain in domains:
            owner = _owner(domain)
            if owner is None or owner.cloud_id != self._cloud_id:
                continue
            self._ours[owner.server_id] = owner
            state = self._state(owner.server_id, domain)
            if state.power_state is not PowerState.NOSTATE:  # it went while it was looked at
                states.append(state)
        return tuple(states)

    def host_stats(self) -> HostStats:
        connection = self._link.connection()
        with translated():
            return host_facts.host_stats(
                connection, hostname=self._hostname, virt_type=self._virt_type, disk_directory=self._disk_directory
            )

    def diagnostics(self, server_id: str) -> Diagnostics:
        connection = self._link.connection()
        domain = self._get_active(server_id)
        with translated():
            return host_facts.diagnostics(connection, domain, _state_of(domain)[0])

    # ── being told ────────────────────────────────────────────────────────────────────────────────

    def subscribe(self, callback: StateCallback) -> Unsubscribe:
        self._subscribers = (*self._subscribers, callback)

        def unsubscribe() -> None:
            self._subscribers = tuple(each for each in self._subscribers if each is not callback)

        return unsubscribe

    def daemon_started(self) -> None:
        """For whoever has just started libvirt's daemon: the connection is opened now rather than after a pause."""
        self._link.poke()

    def close(self) -> None:
        self._link.close()

    def _report_all(self) -> None:
        """After a connection: what went while nobody looked, and what is there."""
        missed = set(self._ours)
        self._define_left_over()
        states = self.list()
        for state in states:
            missed.discard(state.server_id)
            self._publish(state)
        for server_id in sorted(missed):
            self._report(server_id)

    def _define_left_over(self) -> None:
        """What a process before this one started and did not live to define."""
        connection = self._link.connection()
        with translated():
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT):
                owner = _owner(domain)
                if owner is None or owner.cloud_id != self._cloud_id or owner.server_id in self._starting:
                    continue
                with self._level(owner.server_id), _unless_gone():
                    connection.defineXML(
                        domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
                    )

    def _happened(self, server_id: str, event: int) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._define(server_id)
        # on its way to run: how it stands is news when it runs, ends, or is stopped on its way; reading it now would only
        # keep libvirt and the level from who starts it
        if event not in _OF_A_START or server_id not in self._starting:
            self._report(server_id)

    def _report(self, server_id: str) -> None:
        if not self._subscribers:
            return
        connection = self._link.connection()
        with translated():
            domain = _find(connection, server_id)
        if domain is not None and server_id not in self._ours:
            owner = _owner(domain)
            if owner is None or owner.cloud_id != self._cloud_id:
                return
            self._ours[server_id] = owner
        if server_id in self._ours:
            with self._level(server_id):
                self._publish(self._state(server_id, domain))

    def _let_run(self, server_id: str, domain: Any) -> None:
        with self._level(server_id):
            domain.resume()
            self._starting.discard(server_id)

    def _level(self, server_id: str) -> threading.Lock:
        return self._levels[hash(server_id) % LEVELS]

    def _publish(self, state: DomainState) -> None:
        if state.power_state is PowerState.NOSTATE:
            self._ours.pop(state.server_id, None)
        for subscriber in self._subscribers:
            try:
                subscriber(state)
            except Exception:  # one subscriber's fault must not keep the state from the others
                log.exception("state_subscriber_failed", server=state.server_id)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _get(self, server_id: str) -> Any:
        connection = self._link.connection()
        with translated():
            domain = _find(connection, server_id)
        if domain is None:
            raise DomainGone(detail=f"libvirt knows no domain {server_id}")
        return domain

    def _get_active(self, server_id: str) -> Any:
        domain = self._get(server_id)
        with translated():
            if not domain.isActive():
                raise DomainNotRunning(detail=f"domain {server_id} is off")
        return domain

    def _detach(self, server_id: str, alias: str, timeout_s: float) -> None:
        connection = self._link.connection()
        with translated():
            domain = _find(connection, server_id)
        if domain is not None:
            devices.detach(self._link, domain, alias, timeout_s=timeout_s)

    def _state(self, server_id: str, domain: Any) -> DomainState:
        owner = self._ours.get(server_id)
        generation = owner.generation if owner is not None else 0
        if domain is not None:
            try:
                power_state, reason = _state_of(domain)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise named(error) from error
            else:
                if power_state is PowerState.PAUSED and server_id in self._starting:
                    reason = STARTING
                return DomainState(
                    server_id=server_id,
                    power_state=power_state,
                    reason=reason,
                    instance_name=domain.name(),
                    generation=generation,
                )
        return DomainState(server_id=server_id, power_state=PowerState.NOSTATE, reason="gone", generation=generation)


def _find(connection: Any, server_id: str) -> Any:
    try:
        return connection.lookupByUUIDString(server_id)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _clear_way(existing: Any, name: str) -> None:
    """Let a stopped guest be defined anew: in place, so that nobody is told it had gone."""
    if existing.name() != name:
        _forget(existing)
    elif existing.hasManagedSaveImage():
        existing.managedSaveRemove()


def _create(domain: Any, flags: int = 0) -> None:
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            domain.createWithFlags(flags)
        except libvirt.libvirtError as error:
            if domain.isActive():  # another start of the same guest was first
                return
            if attempt == START_ATTEMPTS or PORT_TAKEN not in str(error):
                raise
        else:
            return


def _press_button(domain: Any) -> None:
    try:
        if _state_of(domain)[0] is PowerState.PAUSED:  # it could not react
            domain.resume()
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):  # it has gone
            raise


def _pull_plug(domain: Any) -> None:
    for attempt in range(1, DESTROY_ATTEMPTS + 1):
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            code = error.get_error_code()
            if code == libvirt.VIR_ERR_NO_DOMAIN or (
                code == libvirt.VIR_ERR_OPERATION_INVALID and not domain.isActive()
            ):
                return
            if "Failed to terminate process" not in str(error):
                raise
            if attempt == DESTROY_ATTEMPTS:
                raise DomainBusy(detail=str(error)) from error
        else:
            return


def _forget(domain: Any) -> None:
    with _unless_gone():  # somebody else was first, or it was never defined
        domain.undefineFlags(_FORGET)


@contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def _state_of(domain: Any) -> tuple[PowerState, str]:
    state, reason = domain.state()
    return _POWER_STATES.get(state, PowerState.NOSTATE), _REASONS.get((state, reason), "")


def _owner(domain: Any) -> Owner | None:
    try:
        return owner_from_xml(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA_URI))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
            return None
        raise
