"""What outlives every process: hypervisors, taps, files, the data plane, the volumes' back end, the databases; and the template of all."""

import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from cumulet.compute.agent.hypervisor.sim import SimHypervisor
from cumulet.compute.agent.instances import SimInstances
from cumulet.compute.agent.vif.sim import SimVif
from cumulet.dev.chaos.agenda import Agenda, WorldClock
from cumulet.dev.chaos.perils import Perils
from cumulet.dev.chaos.store import Stores
from cumulet.network.drivers.driver import Port
from cumulet.network.drivers.sim import SimNetwork
from cumulet.run.state import CloudFacts
from cumulet.volume.drivers.sim import SimVolumes

__all__ = ["HOSTS", "VOLUMES_GIB", "HostOutside", "Outside", "Template", "shm"]

VOLUMES_GIB = 500
HOSTS = ("alder", "birch", "cedar")
#: passwords of a world that has no door to the outside
FACTS = CloudFacts(
    cloud_id="00000000-0000-4000-8000-000000000000",
    admin_password="admin-of-a-world",  # noqa: S106 - as said
    demo_password="demo-of-a-world",  # noqa: S106 - as said
)


class Template(msgspec.Struct, frozen=True):
    """A cloud that has been started once: the bytes of its databases, its folder, and what the story uses."""

    databases: dict[str, bytes]
    folder: Path
    #: names of things → ids: network, image, flavors
    ids: dict[str, str]


def shm() -> Path:
    """Where files cost nothing."""
    return Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())  # noqa: S108 - a tmpfs


class WorldNetwork(SimNetwork):
    """A data plane whose ports come up in their own time, or never."""

    def __init__(self, agenda: Agenda, perils: Perils) -> None:
        super().__init__(hosts=HOSTS, clock=WorldClock(agenda))
        self._agenda = agenda
        self._perils = perils
        self._later: dict[str, str] = {}
        self.ports_never_up()

    def ensure_port(self, port: Port, /) -> None:
        before = self._later.get(port.id)
        super().ensure_port(port)
        host = port.binding_host or ""
        if port.id not in self.ports or not host or not port.admin_up:
            self._later.pop(port.id, None)
            return
        if before == host:
            return
        # newly bound, or to another host: the host's agent takes a moment
        self._later[port.id] = host
        if self.port_up(port.id):
            return
        if self._perils.strikes("port never up", port.id, self._perils.rates.never_up):
            return
        self._agenda.at(self._perils.rng.uniform(0.001, 0.3), None, "port up", lambda: self._rise(port.id, host))

    def _rise(self, port_id: str, host: str) -> None:
        if self._later.get(port_id) == host:
            self.set_port_up(port_id, True)

    def remove_port(self, port_id: str, /) -> None:
        super().remove_port(port_id)
        self._later.pop(port_id, None)


class WorldVolumes(SimVolumes):
    """A back end whose images are small: what is uploaded is read byte by byte."""

    def copy_to_image(self, volume_id: str, target: Path, target_format: str, *, copy_id: str | None = None) -> None:
        with self._verb("copy_to_image"):
            self._volume(volume_id)
            if target_format != "raw":
                raise ValueError("the simulation writes raw images only")
            self._readable(volume_id, copy_id)
            target.write_bytes(b"\0" * (64 << 10))


class HostOutside:
    """One host's machine: what stays there when its agent dies."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        (folder / "snapshots").mkdir(parents=True, exist_ok=True)
        self.hypervisor = SimHypervisor(hostname=name, memory_mib=1 << 20, disk_gib=1 << 14)
        self.vif = SimVif()
        self.instances = SimInstances(folder)


class Outside:
    """All of it, for one world."""

    def __init__(self, agenda: Agenda, perils: Perils, template: Template | None, ids: Callable[[], str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cumulet-world-", dir=shm()))
        if template is not None:
            shutil.copytree(template.folder, self.folder, dirs_exist_ok=True)
        (self.folder / "sim").mkdir(exist_ok=True)
        self.stores = Stores(template.databases if template is not None else None)
        self.network = WorldNetwork(agenda, perils)
        #: where hypervisors put copies of disks that guests have open
        self.volume_folder = self.folder / "volumes"
        self.volume_folder.mkdir(exist_ok=True)
        self.volumes = WorldVolumes(total_gib=VOLUMES_GIB, folder=self.volume_folder)
        self.hosts: Mapping[str, HostOutside] = {
            name: HostOutside(name, self.folder / "hosts" / name) for name in HOSTS
        }
        self.ids = ids

    def close(self) -> None:
        self.stores.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def split(rng: random.Random) -> random.Random:
    """Dice of its own, from these."""
    return random.Random(rng.getrandbits(64))  # noqa: S311 - reproducible on purpose
