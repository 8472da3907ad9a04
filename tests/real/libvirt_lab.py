"""A libvirt of its own in a folder, for tests of the hypervisor driver: the product's keeper and daemons without OVN.

Guests come in two kinds: a disk whose first sector stops the processor, which boots in no time and does nothing, and
the product's own guest image, booted straight from its kernel.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cumulet.compute.agent.hypervisor import disks
from cumulet.compute.agent.hypervisor.driver import Disk, Domain, FileSource, Nic
from cumulet.compute.agent.hypervisor.libvirt_driver import LibvirtHypervisor
from cumulet.compute.agent.vif import device
from cumulet.core.ids import SystemIds
from cumulet.guest.build import DIRECT_BOOT_CMDLINE, GuestImage
from cumulet.host import leftovers
from cumulet.host.config import HostConfig
from cumulet.host.daemons import Daemon, find
from cumulet.host.libvirtd import forget_previous_boot, libvirt_daemons, libvirt_uri, write_configuration
from cumulet.host.namespace import (
    claim_short_path,
    keeper_command,
    keeper_environment,
    make_folders,
    release_short_path,
)
from cumulet.host.process import end, open_process

CLOUD = "libvirt-lab"
_ONE_GUEST_LOCK = "/tmp/one-boot.lock"
_BOOT_S_MAX = 60.0
_PATIENCE_S = 5.0
_IDS = SystemIds()
#: cli; hlt; jmp to hlt
_STOPPED = b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa"


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Guests share two processors with every other test: one set of them at a time."""
    with open(_ONE_GUEST_LOCK, "a") as lock:  # noqa: PTH123 - for its descriptor
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = _BOOT_S_MAX) -> None:
    """Look until it is so.  For what tells nobody: a console log, a process in the table."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)  # noqa: TID251 - as said


class LibvirtLab:
    """virtlogd and libvirtd, private, with a driver on them."""

    def __init__(self, folder: Path, guest: GuestImage | None = None) -> None:
        self.config = HostConfig.for_state_dir(str(folder), hostname="libvirt-lab", reach_outside=False)
        self.folder = Path(self.config.short) / "guests"
        self.uri = libvirt_uri(self.config)
        self._guest = guest
        self._taps: list[str] = []

    def start(self) -> None:
        """Start what does not run."""
        make_folders(self.config)
        claim_short_path(self.config)
        forget_previous_boot(self.config)
        write_configuration(self.config)
        if find(self._keeper()) is None:
            with Path(self.config.log_dir, "keeper.log").open("ab") as log:
                subprocess.run(
                    keeper_command(self.config),
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=keeper_environment(self.config),
                    timeout=10,
                    start_new_session=True,
                )
        self.start_daemons()
        self.folder.mkdir(mode=0o711, exist_ok=True)
        base = self.folder / "stopped.raw"
        if not base.exists():
            base.write_bytes(_STOPPED.ljust(1 << 20, b"\0"))
            base.chmod(0o444)

    def start_daemons(self) -> None:
        """Start libvirt's daemons, those that do not run."""
        for daemon in libvirt_daemons(self.config):
            if find(daemon) is None:
                daemon.launch()

    def driver(self, cloud_id: str = CLOUD) -> LibvirtHypervisor:
        """A driver on these daemons."""
        return LibvirtHypervisor(
            self.uri, cloud_id=cloud_id, virt_type="qemu", hostname="libvirt-lab", disk_directory=self.folder
        )

    def kill_libvirtd(self) -> None:
        """SIGKILL, and wait until it is gone."""
        for daemon in libvirt_daemons(self.config):
            process = find(daemon) if daemon.name == "libvirtd" else None
            if process is not None:
                with contextlib.closing(process):
                    os.kill(process.pid, 9)
                    assert process.wait_gone(_PATIENCE_S)

    def kill_guest(self, server_id: str) -> None:
        """SIGKILL of a guest's process."""
        for pid in leftovers.guests(self.config):
            if server_id in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8"):
                os.kill(pid, 9)

    def stop(self) -> None:
        """Leave nothing on the machine."""
        guests = [process for pid in leftovers.guests(self.config) if (process := open_process(pid)) is not None]
        end(guests, _PATIENCE_S)
        for daemon in (*reversed(libvirt_daemons(self.config)), self._keeper()):
            process = find(daemon)
            if process is not None:
                end([process], _PATIENCE_S)
                process.close()
        for tap in self._taps:
            device.remove_tap(tap)
        release_short_path(self.config)

    # What guests are made of.

    def stopped(self) -> Domain:
        """A server whose guest stops its processor at once."""
        server_id = _IDS.uuid()
        source = disks.make_root(self._file(server_id, "qcow2"), base=self.folder / "stopped.raw", size=4 << 20)
        return self._domain(server_id, source)

    def direct(self, *, cmdline: str = DIRECT_BOOT_CMDLINE) -> Domain:
        """A server that boots the guest image from its kernel."""
        assert self._guest is not None
        server_id = _IDS.uuid()
        kernel, initrd = self._file(server_id, "vmlinuz"), self._file(server_id, "initrd")
        disks.copy_for_guest(self._guest.kernel, kernel)
        disks.copy_for_guest(self._guest.initramfs, initrd)
        source = disks.make_blank(self._file(server_id, "qcow2"), size=4 << 20)
        domain = self._domain(server_id, source)
        return Domain(
            server_id=domain.server_id,
            name=domain.name,
            vcpus=1,
            memory_mib=192,
            disks=domain.disks,
            console_log=domain.console_log,
            kernel=str(kernel),
            initrd=str(initrd),
            cmdline=cmdline,
        )

    def nic(self) -> Nic:
        """A tap that leads nowhere, and its port."""
        port_id = _IDS.uuid()
        tap = f"lv-t{port_id[:9]}"
        device.make_tap(tap, owner_uid=None, alias=CLOUD, mtu=1442)
        self._taps.append(tap)
        return Nic(port_id=port_id, mac=f"fa:16:3e:{port_id[:2]}:{port_id[2:4]}:{port_id[4:6]}", tap=tap, mtu=1442)

    def _domain(self, server_id: str, source: FileSource) -> Domain:
        return Domain(
            server_id=server_id,
            name=f'server <{server_id}> & "friends"\x1b[2J',
            vcpus=1,
            memory_mib=64,
            disks=(Disk(target="vda", source=source),),
            console_log=str(self._file(server_id, "log")),
        )

    def _file(self, server_id: str, suffix: str) -> Path:
        return self.folder / f"{server_id}.{suffix}"

    def _keeper(self) -> Daemon:
        return Daemon(
            name="keeper",
            executable="python",
            marker=f"keeper.py {self.config.state_dir} {self.config.short}",
            pidfile=f"{self.config.run_dir}/keeper.pid",
            launch=lambda: None,
        )


__all__ = ["CLOUD", "LibvirtLab", "only_one", "wait_for"]
