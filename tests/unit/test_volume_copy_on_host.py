"""A copy of an attached volume on its server's host: by the hypervisor while the guest runs, of the file while it is off."""

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from cumulet.compute.agent.hypervisor.driver import DeviceRefused, Disk, Domain, DomainBusy, DomainGone, FileSource
from cumulet.compute.agent.hypervisor.sim import Failure, SimHypervisor
from cumulet.compute.agent.instances import SimInstances
from cumulet.compute.agent.tools import COPY_ATTEMPTS, HostTools
from cumulet.compute.records import BlockDevice, Server

SERVER, VOLUME = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


class Instances(SimInstances):
    """Copies with bytes; `meanwhile` is what happens during one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.copied = 0
        self.meanwhile: Any = None

    def copy_idle(self, source: Path, target: Path) -> None:
        self.copied += 1
        target.write_bytes(source.read_bytes())
        if self.meanwhile is not None:
            self.meanwhile()


class Host:
    """A host with one server that has one volume."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / f"volume-{VOLUME}.raw"
        self.file.write_bytes(b"idle")
        self.target = folder / "copy.part"
        self.hypervisor = SimHypervisor(hostname="host-1")
        self.instances = Instances(folder)
        disk = Disk(target="vda", serial=VOLUME, source=FileSource(path=str(self.file), format="raw"))
        self.domain = Domain(server_id=SERVER, name="s", vcpus=1, memory_mib=64, console_log="/dev/null", disks=(disk,))
        connection = {"driver_volume_type": "local", "data": {"device_path": str(self.file), "format": "raw"}}
        device = BlockDevice(
            id="d", source="volume", destination="volume", boot_index=0, volume_id=VOLUME, connection=connection
        )
        # what a copy looks at, of the many things that a server's record has
        self.server = cast("Server", msgspec.defstruct("Server", ["id", "block_devices"])(SERVER, [device]))
        nothing: Any = None
        self.tools = HostTools(
            host="host-1", hypervisor=self.hypervisor, vif=nothing, metadata=nothing, instances=self.instances, connector={},
            virt_type="sim", image=nothing, network=nothing, volume=nothing, placement=nothing, service_token=nothing,
        )  # fmt: skip

    def copy(self) -> bytes:
        self.tools.copy_volume(self.server, VOLUME, self.target.name)
        return self.target.read_bytes()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Nothing runs yet."""
    return Host(tmp_path)


def test_a_running_guests_disk_is_copied_by_its_hypervisor(host: Host) -> None:
    """The file is never read; a copy that an earlier attempt left gives way."""
    host.hypervisor.start(host.domain)
    host.target.write_bytes(b"half")
    assert host.copy().startswith(b"This is a snapshot of a simulated server.")
    assert host.instances.copied == 0


def test_the_disk_of_a_guest_that_is_off_is_copied_as_a_file(host: Host) -> None:
    """Whether its hypervisor still knows it or not."""
    assert host.copy() == b"idle"
    host.hypervisor.start(host.domain)
    host.hypervisor.shutdown(SERVER, timeout_s=0)
    assert host.copy() == b"idle"


def test_a_guest_that_goes_off_meanwhile_is_copied_as_a_file(host: Host) -> None:
    """The hypervisor says that it has gone, and the file is at rest."""
    host.hypervisor.start(host.domain)
    host.hypervisor.fail(Failure(verb="snapshot", error=DomainGone()))
    states = iter((True, False, False, False))
    host.tools._runs = lambda _: next(states)  # type: ignore[method-assign]
    assert host.copy() == b"idle"


def test_a_guest_that_runs_and_cannot_be_copied_is_an_error(host: Host) -> None:
    """What the hypervisor says is said on, and the file is not read."""
    host.hypervisor.start(host.domain)
    host.hypervisor.fail(Failure(verb="snapshot", error=DeviceRefused()))
    with pytest.raises(DeviceRefused):
        host.copy()
    assert host.instances.copied == 0


def test_a_guest_that_comes_on_meanwhile_is_copied_anew(host: Host) -> None:
    """What was read of the file while somebody began to write is worth nothing."""
    host.instances.meanwhile = lambda: host.hypervisor.start(host.domain)
    assert host.copy().startswith(b"This is a snapshot")
    assert host.instances.copied == 1


def test_a_guest_that_never_rests_is_given_up(host: Host) -> None:
    """After some attempts, with nothing left."""
    states = iter([False, True] * COPY_ATTEMPTS)
    host.tools._runs = lambda _: next(states)  # type: ignore[method-assign]
    with pytest.raises(DomainBusy):
        host.copy()
    assert not host.target.exists()


def test_a_copy_can_be_dropped_at_any_time(host: Host) -> None:
    """There or not, the guest on or off."""
    host.copy()
    for _ in range(2):
        host.tools.drop_volume_copy(host.server, VOLUME, host.target.name)
        assert not host.target.exists()
    host.hypervisor.start(host.domain)
    host.copy()
    host.tools.drop_volume_copy(host.server, VOLUME, host.target.name)
    assert not host.target.exists()


def test_what_is_no_file_is_refused(host: Host) -> None:
    """Another volume than the server's has no place here."""
    with pytest.raises(DeviceRefused):
        host.tools.copy_volume(host.server, SERVER, "copy.part")
