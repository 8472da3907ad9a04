"""What the agent asks of a machine that runs machines: one Protocol, the records it takes, the answers and errors it
gives.

Two drivers speak it: `libvirt_driver` (QEMU under libvirt) and `sim` (nothing runs, everything else is honest).  One
contract test runs on both.  Three decisions shape it:

- A guest is a *record* (`Domain`), regenerated from the database at every start.  What a hypervisor remembers of a
  guest is never read back as truth, so stale devices of another tenant cannot come back with an old definition.
- Verbs are idempotent and block; the agent calls them from a pool of threads.  An undo may find nothing, an action
  may find its work done: both return quietly.
- Events are levels: a subscriber is told the state a guest is in now, possibly twice, never an edge it could miss.
"""

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from cumulet.core.errors import CloudError, Conflict, NotFound, Unavailable

__all__ = [
    "STARTING",
    "Backing",
    "ConsoleUnavailable",
    "CpuInfo",
    "DeviceBusy",
    "DeviceRefused",
    "Diagnostics",
    "Disk",
    "DiskSource",
    "DiskUsage",
    "Domain",
    "DomainBusy",
    "DomainGone",
    "DomainNotRunning",
    "DomainRefused",
    "DomainState",
    "FileSource",
    "HostFull",
    "HostStats",
    "Hypervisor",
    "HypervisorDown",
    "HypervisorFault",
    "HypervisorTimeout",
    "NetworkAuth",
    "NetworkHost",
    "NetworkSource",
    "Nic",
    "NicUsage",
    "NoFreeSlot",
    "NoSavedState",
    "PowerState",
    "StateCallback",
    "Unsubscribe",
    "VncAddress",
]


class PowerState(enum.IntEnum):
    """The reference's numbers (`OS-EXT-STS:power_state`)."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7


# ── disks and network interfaces ──────────────────────────────────────────────────────────────────


class Backing(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a disk is copied from on write.  Never re-owned, never written, never committed into."""

    path: str
    format: str = "raw"


class FileSource(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A disk in a file of this host.  `format` is a stored fact: nothing probes the file for it."""

    path: str
    #: "raw" or "qcow2"
    format: str
    #: the whole chain below `path`, nearest first; a root disk has one raw base
    backing: tuple[Backing, ...] = ()


class NetworkHost(msgspec.Struct, frozen=True, kw_only=True):
    """Where a network disk is served: an address and port, or a unix socket."""

    name: str = ""
    port: str = ""
    socket: str = ""


class NetworkAuth(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a network disk; the secret itself stays in libvirt under `secret_uuid`."""

    username: str
    secret_type: str
    secret_uuid: str


class NetworkSource(msgspec.Struct, frozen=True, kw_only=True, tag="network"):
    """A disk that QEMU itself reaches over the network, always raw."""

    #: "rbd", "nbd" or "iscsi"
    protocol: str
    #: rbd: POOL/IMAGE; nbd: export; iscsi: IQN/LUN
    name: str
    hosts: tuple[NetworkHost, ...]
    auth: NetworkAuth | None = None
    tls: bool = False
    format: str = "raw"


DiskSource = FileSource | NetworkSource


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of a guest.  `serial` is the volume's id; the root disk of an image has none."""

    #: the device name asked for ("vda"); a guest may number its disks otherwise
    target: str
    source: DiskSource
    serial: str = ""
    bus: str = "virtio"
    read_only: bool = False
    #: "writeback" suits files on this host, "none" whatever is shared
    cache: str = "writeback"
    discard: bool = True

    @property
    def key(self) -> str:
        """What a disk is found by: its volume's id, or its target."""
        return self.serial or self.target


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface of a guest: a tap that the agent has made and plugged before."""

    port_id: str
    mac: str
    tap: str
    mtu: int | None = None
    #: a userspace datapath forwards what the guest sends as it is, so checksums have to be real
    offload: bool = False


# ── the guest ─────────────────────────────────────────────────────────────────────────────────────


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a start needs to know of a guest; the owning cloud's id is the driver's and is written beside it."""

    server_id: str
    #: the server's display name: the tenant's text, hostile
    name: str
    hostname: str = ""
    project_id: str = ""
    user_id: str = ""
    vcpus: int
    memory_mib: int
    #: MiB of QEMU's cache of translated code; less than 32 makes boots slow, more than 64 gains nothing
    tb_cache_mib: int = 64
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    #: target of the disk to boot from
    boot: str = "vda"
    #: an ISO image of label config-2
    config_drive: str | None = None
    #: direct boot: files of this server alone, for libvirt gives them to QEMU's user
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    #: appended to, never truncated, by the hypervisor
    console_log: str
    #: what the hypervisor calls it; "" means instance-SERVER_ID
    instance_name: str = ""
    #: the saga's generation that wrote this record
    generation: int = 0
    metadata: Mapping[str, str] = {}

    @property
    def domain_name(self) -> str:
        return self.instance_name or f"instance-{self.server_id}"


#: why a guest stands paused that a start has not let run yet
STARTING: Final = "starting"


class DomainState(msgspec.Struct, frozen=True, kw_only=True):
    """A guest as it is now.  `reason` is the hypervisor's word for it ("booted", "crashed", "saved", …)."""

    server_id: str
    power_state: PowerState
    reason: str = ""
    instance_name: str = ""
    generation: int = 0


class VncAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where QEMU's VNC server of a running guest listens; plain RFB, on loopback."""

    host: str
    port: int


class CpuInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The reference's `cpu_info` of a hypervisor."""

    arch: str
    model: str
    vendor: str
    #: cells, sockets, cores, threads
    topology: dict[str, int]
    features: list[str]


class HostStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the host has and what runs on it, in the reference's units."""

    vcpus: int
    vcpus_used: int
    memory_mib: int
    memory_mib_used: int
    disk_gib: int
    disk_gib_used: int
    disk_gib_available_least: int
    running: int
    #: "QEMU", or "sim"
    hypervisor_type: str
    #: 7002022 is 7.2.22
    hypervisor_version: int
    hypervisor_hostname: str
    #: "kvm", "qemu" (translated) or "sim"
    virt_type: str
    cpu_info: CpuInfo
    #: one line, as the command of that name prints it
    uptime: str = ""


class DiskUsage(msgspec.Struct, frozen=True, kw_only=True):
    target: str
    read_bytes: int
    read_requests: int
    write_bytes: int
    write_requests: int


class NicUsage(msgspec.Struct, frozen=True, kw_only=True):
    mac: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_drop: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_drop: int


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of a running guest."""

    power_state: PowerState
    #: nanoseconds used by each virtual CPU
    cpu_time_ns: tuple[int, ...]
    memory_mib: int
    #: MiB of the host's memory that it holds, where that is known
    memory_used_mib: int | None
    disks: tuple[DiskUsage, ...]
    nics: tuple[NicUsage, ...]


StateCallback = Callable[[DomainState], None]
Unsubscribe = Callable[[], None]


class Hypervisor(Protocol):
    """A machine that runs machines.  Every verb may be repeated and then changes nothing.

    Any verb raises `HypervisorDown` at once when the hypervisor cannot be reached, and `HypervisorFault` for what it
    did not expect.  Verbs that need a guest raise `DomainGone` when there is none; those that take something away do
    not.
    """

    def start(self, domain: Domain, paused: bool = False) -> None:
        """Boot a guest from its record; `paused`, all but let it run (see `unpause`).  Is active already: nothing, but
        one that stands paused, as a start cut short leaves it, runs unless `paused`.  Was suspended: the saved memory is
        dropped (see `resume`).

        Raises DomainRefused, HostFull.
        """

    def destroy(self, server_id: str) -> None:
        """Stop the guest at once and forget it, saved memory included.  Files and taps are the caller's.

        Raises DomainBusy.
        """

    def shutdown(self, server_id: str, *, timeout_s: float) -> bool:
        """Press the power button, wait for the guest, after `timeout_s` pull the plug (0: pull at once).

        The guest stays known, as SHUTDOWN.  Returns whether it went by itself.  Raises DomainGone, DomainBusy.
        """

    def reboot(self, domain: Domain, *, hard: bool, timeout_s: float = 60.0) -> None:
        """Stop (softly: by the power button, for `timeout_s` at most) and start from the record."""

    def pause(self, server_id: str) -> None:
        """Stop the guest's processors.  Raises DomainGone, DomainNotRunning."""

    def unpause(self, server_id: str) -> None:
        """Let them go on.  Raises DomainGone, DomainNotRunning."""

    def suspend(self, server_id: str) -> None:
        """Save the guest's memory to disk and stop it.  Raises DomainGone, DomainNotRunning."""

    def resume(self, server_id: str) -> None:
        """Go on from the saved memory.  Runs already: nothing.  Raises DomainGone, NoSavedState."""

    def attach_disk(self, server_id: str, disk: Disk) -> None:
        """Plug a disk into a running guest.  There already, or not running (the record will tell at start): nothing.

        Raises DomainGone, DeviceRefused, NoFreeSlot.
        """

    def detach_disk(self, server_id: str, key: str, *, timeout_s: float = 60.0) -> None:
        """Unplug the disk with this serial (or target), and return only when the guest has let go.  Not there: nothing.

        Raises DeviceBusy when the guest did not let go in time.
        """

    def attach_nic(self, server_id: str, nic: Nic) -> None:
        """Plug a network interface into a running guest; as `attach_disk`."""

    def detach_nic(self, server_id: str, port_id: str, *, timeout_s: float = 60.0) -> None:
        """Unplug the interface of this port; as `detach_disk`.  The tap stays."""

    def snapshot(
        self, server_id: str, target: Path, *, disk_format: str, key: str = "", timeout_s: float = 3600.0
    ) -> None:
        """Copy a disk, as it is when this returns, into a new standalone file ("raw" or "qcow2"); the guest runs on.

        `key` names the disk, "" the one it boots from.  Raises DomainGone, DeviceRefused (no such disk), DiskExists,
        HypervisorTimeout, HostFull.  Leaves no file behind when it raises.
        """

    def stop_copying(self, server_id: str, key: str = "") -> None:
        """End the copying of a disk that a `snapshot` began whose caller has died.  None under way: nothing."""

    def resize_disk(self, server_id: str, key: str, size: int) -> None:
        """Tell a running guest that its disk has `size` bytes now.  Never shrinks.  Not running: nothing."""

    def console_output(self, server_id: str, lines: int | None) -> str:
        """The last lines of the serial console, all that is kept for None: the guest's own text, hostile.

        Raises DomainGone.
        """

    def vnc_address(self, server_id: str) -> VncAddress:
        """Where the screen of a running guest is served.  Raises DomainGone, DomainNotRunning, ConsoleUnavailable."""

    def wait_begun(self, server_id: str) -> None:
        """Until the process of a guest that another call starts has begun; at once where none is being started.  A hint:
        may return sooner."""

    def power_state(self, server_id: str) -> DomainState:
        """The guest's state now; NOSTATE when there is none."""

    def list(self) -> tuple[DomainState, ...]:
        """Every guest of this cloud: what an agent adopts after its own restart."""

    def host_stats(self) -> HostStats:
        """What the host has and uses."""

    def diagnostics(self, server_id: str) -> Diagnostics:
        """Counters of a running guest.  Raises DomainGone, DomainNotRunning."""

    def subscribe(self, callback: StateCallback) -> Unsubscribe:
        """Call back with a guest's state whenever it may have changed, and with every guest's after a reconnection.

        The callback runs on a thread of the driver's (or of whoever caused the change): it is to post and return.
        """

    def close(self) -> None:
        """Let go of the hypervisor.  Guests run on."""


# ── errors: words for the tenant here, the hypervisor's own in `detail` ───────────────────────────


class HypervisorFault(CloudError):
    """The hypervisor failed in a way that has no name here."""

    default = "The hypervisor could not do what was asked of it."


class HypervisorDown(Unavailable):
    """The hypervisor cannot be reached, or went away during the call: the act may have happened."""

    default = "The hypervisor of this host is not available at this time."


class HypervisorTimeout(HypervisorFault):
    """The act did not end in its time."""

    default = "The hypervisor did not finish in time."


class DomainGone(NotFound):
    """No such guest on this host."""

    default = "The server is not on this host."


class DomainNotRunning(Conflict):
    """The act needs a running guest."""

    default = "The server is not running."


class DomainBusy(Conflict):
    """The guest is being worked on, or its process does not end."""

    default = "The server is busy on its host."


class DomainRefused(HypervisorFault):
    """The guest could not be started as it is described."""

    default = "The hypervisor could not start the server."


class DeviceRefused(HypervisorFault):
    """The device could not be plugged in."""

    default = "The hypervisor could not attach the device."


class DeviceBusy(Conflict):
    """The guest did not let go of a device in time."""

    default = "The server did not release the device."


class NoFreeSlot(Conflict):
    """The guest has no place left to plug a device into."""

    default = "The server has no free slot for another device."


class NoSavedState(Conflict):
    """Nothing to resume from."""

    default = "The server has no saved state to resume from."


class HostFull(HypervisorFault):
    """Memory or disk of the host is used up."""

    default = "The host has not enough free memory or disk."


class ConsoleUnavailable(Conflict):
    """The guest has no screen."""

    default = "The server has no graphical console."
