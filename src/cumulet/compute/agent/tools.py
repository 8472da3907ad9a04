"""What a step may use that runs on a host: the doors of the other services, the host's drivers, the servers' files."""

import threading
from pathlib import Path
from typing import Any, Protocol

from cumulet.compute.agent.hypervisor.connection_info import disk_from_connection
from cumulet.compute.agent.hypervisor.driver import (
    Backing,
    DeviceRefused,
    Disk,
    Domain,
    DomainBusy,
    FileSource,
    Hypervisor,
    Nic,
    PowerState,
)
from cumulet.compute.agent.instances import Instances
from cumulet.compute.agent.vif.driver import VifDriver
from cumulet.compute.doors import Doors
from cumulet.compute.records import BlockDevice, Interface, Server
from cumulet.core.errors import CloudError

__all__ = ["HostTools", "MetadataPorts", "PortsUp"]


#: how often a copy is begun anew because the guest went off, or came on, meanwhile
COPY_ATTEMPTS = 3
#: ports that are remembered to be up
PORTS_UP_MAX = 1000


class MetadataPorts(Protocol):
    """What a host offers its guests at 169.254.169.254, as the launch sees it."""

    def join(self, network_id: str, port_id: str) -> None:
        """A guest's port is in a network here: answer in that network."""

    def leave(self, port_id: str) -> None:
        """A guest's port is gone."""


class PortsUp:
    """Ports of which the network has said, since they were last plugged, that they are up, until that was used.

    What is not here may be up as well and is read: words get lost, and the oldest make room.  Any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[str, bool] = {}

    def heard(self, port_id: str, up: bool) -> None:
        with self._lock:
            self._ids.pop(port_id, None)
            if up:
                self._ids[port_id] = True
                if len(self._ids) > PORTS_UP_MAX:
                    del self._ids[next(iter(self._ids))]

    def take(self, port_id: str) -> bool:
        """Whether it is up by what was heard, which is forgotten."""
        with self._lock:
            return self._ids.pop(port_id, False)


class HostTools(Doors):
    """For steps that run on a host.

    connector: who this host is to a volume service; vif: makes and plugs taps; instances: the servers' files; pool: where what is done to
    guests and taps runs, disks that are copied aside.
    """

    def __init__(
        self,
        *,
        host: str,
        hypervisor: Hypervisor,
        vif: VifDriver,
        metadata: MetadataPorts,
        instances: Instances,
        connector: dict[str, Any],
        virt_type: str,
        tb_cache_mib: int = 64,
        pool: str = "devices",
        **doors: Any,
    ) -> None:
        super().__init__(**doors)
        self.host = host
        self.hypervisor = hypervisor
        self.vif = vif
        self.metadata = metadata
        self.instances = instances
        self.connector = connector
        #: "kvm", "qemu" (translated) or "sim"
        self.virt_type = virt_type
        self.ports_up = PortsUp()
        self.pool = pool
        self._tb_cache_mib = tb_cache_mib

    @staticmethod
    def disk(device: BlockDevice) -> Disk:
        """The disk of an attached volume."""
        return disk_from_connection(
            device.connection or {},
            volume_id=device.volume_id or "",
            target=(device.device_name or "vdb").removeprefix("/dev/"),
        )

    @staticmethod
    def nic(interface: Interface) -> Nic:
        return Nic(port_id=interface.port_id, mac=interface.mac, tap=interface.tap, mtu=interface.mtu)

    def snapshot_to(self, server: Server, image_id: str) -> None:
        """A flat qcow2 of the server's root disk, under the image's id.  Blocks."""
        target = self.instances.snapshot_path(image_id)
        target.unlink(missing_ok=True)
        self.hypervisor.snapshot(server.id, target, disk_format="qcow2")

    def copy_volume(self, server: Server, volume_id: str, name: str) -> None:
        """A copy of an attached volume as it is at one moment, in a new file beside the volume's own, in its format.  Blocks."""
        source = self._volume_file(server, volume_id)
        target = Path(source.path).with_name(name)
        for _ in range(COPY_ATTEMPTS):
            target.unlink(missing_ok=True)
            if self._runs(server.id):
                try:
                    self.hypervisor.snapshot(server.id, target, disk_format=source.format, key=volume_id)
                except CloudError:
                    if self._runs(server.id):
                        raise
                    continue  # it went off meanwhile
                return
            self.instances.copy_idle(Path(source.path), target)
            if not self._runs(server.id):
                return
        target.unlink(missing_ok=True)
        raise DomainBusy(detail=f"server {server.id} was started or stopped whenever volume {volume_id} was copied")

    def drop_volume_copy(self, server: Server, volume_id: str, name: str) -> None:
        """End the copying and remove the file.  Blocks."""
        self.hypervisor.stop_copying(server.id, volume_id)
        Path(self._volume_file(server, volume_id).path).with_name(name).unlink(missing_ok=True)

    def _runs(self, server_id: str) -> bool:
        return self.hypervisor.power_state(server_id).power_state in (PowerState.RUNNING, PowerState.PAUSED)

    def _volume_file(self, server: Server, volume_id: str) -> FileSource:
        """Where an attached volume lies, as the volume service said when it was connected."""
        device = next((one for one in server.block_devices if one.volume_id == volume_id and one.connection), None)
        source = self.disk(device).source if device is not None else None
        if not isinstance(source, FileSource):
            raise DeviceRefused("The server has no such disk.", detail=f"volume {volume_id} is no file of {server.id}")
        return source

    def domain(
        self,
        server: Server,
        *,
        interfaces: list[Interface],
        devices: list[BlockDevice],
        base: Path | None,
        generation: int,
    ) -> Domain:
        """A guest's whole record, made anew from the server's at every start."""
        disks: list[Disk] = []
        root = next((device for device in devices if device.boot_index == 0), None)
        if root is None or root.destination == "local":
            backing = (Backing(path=str(base)),) if base is not None else ()
            disks.append(
                Disk(
                    target="vda",
                    source=FileSource(path=str(self.instances.root_disk(server.id)), format="qcow2", backing=backing),
                )
            )
        for device in devices:
            if device.destination == "volume" and device.connection is not None:
                disks.append(self.disk(device))
            elif device.destination == "local" and device.boot_index != 0 and device.source == "blank":
                path = self.instances.extra_disk(server.id, device.id)
                disks.append(
                    Disk(target=device.device_name or "vdz", source=FileSource(path=str(path), format="qcow2"))
                )
        boot = root.device_name if root is not None and root.destination == "volume" and root.device_name else "vda"
        boot = boot.removeprefix("/dev/")
        direct = self.instances.direct_boot(server.id)
        return Domain(
            server_id=server.id,
            name=server.name,
            hostname=server.hostname,
            project_id=server.project_id,
            user_id=server.user_id,
            vcpus=server.flavor.vcpus,
            memory_mib=server.flavor.ram_mb,
            tb_cache_mib=self._tb_cache_mib,
            disks=tuple(disks),
            nics=tuple(self.nic(interface) for interface in interfaces),
            boot=boot,
            kernel=str(direct.kernel) if direct else None,
            initrd=str(direct.ramdisk) if direct and direct.ramdisk else None,
            cmdline=self._command_line(server, boot) if direct else "",
            config_drive=str(self.instances.config_drive(server.id)) if server.config_drive else None,
            console_log=str(self.instances.console_log(server.id)),
            generation=generation,
        )

    def _command_line(self, server: Server, boot: str) -> str:
        """What a kernel of the server's own is told: as its image says, else what the reference tells it."""
        timer = " no_timer_check" if self.virt_type == "qemu" else ""
        return str(
            server.image_properties.get("os_command_line") or f"root=/dev/{boot} console=tty0 console=ttyS0{timer}"
        )
