"""What every volume back end promises, asked of each: files as qcow2, files as raw, and the simulation."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from cumulet.core.disk.files import copy_sparse
from cumulet.volume.drivers.driver import (
    GIB,
    Connector,
    CopyMissing,
    Growth,
    ImageSource,
    Snapshot,
    SnapshotMissing,
    SourceTooLarge,
    Volume,
    VolumeBackendFull,
    VolumeDiffers,
    VolumeDriver,
    VolumeInUse,
    VolumeMissing,
    VolumeShrinkRefused,
)
from cumulet.volume.drivers.local import LocalVolumes
from cumulet.volume.drivers.sim import SimVolumes

V1, V2, V3 = (f"{digit * 8}-aaaa-4aaa-8aaa-{digit * 12}" for digit in "123")
S1, S2 = (f"{digit * 8}-bbbb-4bbb-8bbb-{digit * 12}" for digit in "12")
HERE = Connector(host="host-1")


class World(Protocol):
    """A back end, and a guest's hands on it."""

    driver: VolumeDriver

    def write(self, volume_id: str, letter: str) -> None: ...
    def read(self, volume_id: str) -> str: ...
    def opened(self, volume_id: str) -> contextlib.AbstractContextManager[None]: ...
    def copy(self, volume_id: str, copy_id: str) -> None: ...
    def image(self, letter: str, size: int) -> ImageSource: ...
    def filled(self) -> VolumeDriver: ...


class LocalWorld:
    """Guests are `qemu-io`, which takes the locks that a guest's QEMU takes."""

    def __init__(self, folder: Path, disk_format: str) -> None:
        self.folder = folder
        self.format = disk_format
        self.driver: VolumeDriver = self._driver()

    def _driver(self, reserve: int = 0) -> LocalVolumes:
        new_format = "raw" if self.format == "raw" else "qcow2"
        return LocalVolumes(self.folder / "volumes", host="host-1", new_format=new_format, reserve_bytes=reserve)

    def _path(self, volume_id: str) -> str:
        return str(self.driver.connection_info(volume_id, HERE).data["device_path"])

    def write(self, volume_id: str, letter: str) -> None:
        command = f"write -P {ord(letter)} 0 4096"
        subprocess.run(
            ["qemu-io", "-f", self.format, "-c", command, self._path(volume_id)],
            check=True,
            timeout=60,
            capture_output=True,
        )

    def read(self, volume_id: str) -> str:
        command = ["qemu-io", "-r", "-f", self.format, "-c", "read -v 0 16", self._path(volume_id)]
        told = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout
        return told.split("\n")[0].split()[-1][0].replace(".", "")

    @contextlib.contextmanager
    def opened(self, volume_id: str) -> Iterator[None]:
        command = ["qemu-io", "-f", self.format, self._path(volume_id)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as guest:
            assert guest.stdin is not None
            assert guest.stdout is not None
            guest.stdin.write("length\n")
            guest.stdin.flush()
            assert guest.stdout.readline()  # it answers when the file is open
            try:
                yield
            finally:
                guest.stdin.write("quit\n")
                guest.stdin.close()
                guest.wait(timeout=60)

    def copy(self, volume_id: str, copy_id: str) -> None:
        path = Path(self._path(volume_id))
        copy_sparse(path, path.with_name(self.driver.place_copy(volume_id, copy_id).name))

    def image(self, letter: str, size: int) -> ImageSource:
        path = self.folder / letter
        path.write_bytes(letter.encode() * 8192)
        with path.open("r+b") as file:
            file.truncate(size)
        return ImageSource(path, "raw", size)

    def filled(self) -> VolumeDriver:
        return self._driver(reserve=1 << 60)


class SimWorld:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sim = SimVolumes(folder=folder)
        self.driver: VolumeDriver = self.sim

    def write(self, volume_id: str, letter: str) -> None:
        self.sim.write(volume_id, letter)

    def read(self, volume_id: str) -> str:
        return self.sim.read(volume_id)

    @contextlib.contextmanager
    def opened(self, volume_id: str) -> Iterator[None]:
        self.sim.open_by_guest.add(volume_id)
        yield
        self.sim.open_by_guest.discard(volume_id)

    def copy(self, volume_id: str, copy_id: str) -> None:
        (self.folder / self.sim.place_copy(volume_id, copy_id).name).touch()

    def image(self, letter: str, size: int) -> ImageSource:
        return ImageSource(Path("/images") / letter, "raw", size)

    def filled(self) -> VolumeDriver:
        self.sim.total_gib = 0
        return self.sim


@pytest.fixture(params=["qcow2", "raw", "sim"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Each back end in turn."""
    if request.param == "sim":
        return SimWorld(tmp_path)
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed")
    return LocalWorld(tmp_path, request.param)


def sizes(driver: VolumeDriver) -> dict[str | None, int | None]:
    """What is there, by owner."""
    return {item.owner_id: item.size_bytes for item in driver.list()}


def test_an_empty_volume_is_there_with_its_size(world: World) -> None:
    """It reads as nothing, and the back end lists it under its id."""
    world.driver.create(Volume(V1, 3))
    assert sizes(world.driver) == {V1: 3 * GIB}
    assert [item.kind for item in world.driver.list()] == ["volume"]
    assert world.read(V1) == ""


def test_every_verb_may_be_repeated(world: World) -> None:
    """A second call changes nothing, not even what was written since, and deleting what is gone is no error."""
    driver = world.driver
    image = world.image("i", GIB)
    for _ in range(2):
        driver.create(Volume(V1, 1))
    world.write(V1, "a")
    for _ in range(2):
        driver.create_snapshot(Snapshot(S1, V1))
        driver.create_from_snapshot(Volume(V2, 1), S1)
        driver.clone(Volume(V3, 1), V1)
        driver.create(Volume(V1, 1))
        driver.create_from_image(Volume(V1, 1), image)
        driver.connection_info(V1, HERE)
        world.write(V1, "b")
    assert [world.read(volume) for volume in (V1, V2, V3)] == ["b", "a", "a"]
    for _ in range(2):
        assert driver.extend(V2, 2) is Growth.DONE
    for _ in range(2):
        driver.terminate_connection(V1, HERE)
        driver.delete(V1)
        driver.delete(V2)
        driver.delete(V3)
        driver.delete_snapshot(S1)
    assert driver.list() == ()


def test_an_id_never_means_two_volumes(world: World) -> None:
    """A second request under an id with another size is refused."""
    world.driver.create(Volume(V1, 1))
    with pytest.raises(VolumeDiffers):
        world.driver.create(Volume(V1, 2))
    with pytest.raises(VolumeDiffers):
        world.driver.create_from_image(Volume(V1, 2), world.image("i", GIB))
    assert sizes(world.driver) == {V1: GIB}


def test_a_volume_from_an_image_begins_with_it(world: World) -> None:
    """The volume has its own size and the image's bytes."""
    world.driver.create_from_image(Volume(V1, 2), world.image("i", GIB // 2))
    assert sizes(world.driver)[V1] == 2 * GIB
    assert world.read(V1) == "i"


def test_a_snapshot_is_what_the_volume_was(world: World) -> None:
    """What is written later reaches neither the snapshot nor what is made from it."""
    world.driver.create(Volume(V1, 1))
    world.write(V1, "a")
    world.driver.create_snapshot(Snapshot(S1, V1))
    world.write(V1, "b")
    world.driver.create_snapshot(Snapshot(S2, V1))
    world.driver.create_from_snapshot(Volume(V2, 1), S1)
    world.write(V2, "c")
    world.driver.create_from_snapshot(Volume(V3, 4), S1)
    assert [world.read(volume) for volume in (V1, V2, V3)] == ["b", "c", "a"]
    assert sizes(world.driver) == {V1: GIB, V2: GIB, V3: 4 * GIB, S1: GIB, S2: GIB}


@pytest.mark.parametrize("order", [(V1, S1, V2, S2), (S2, S1, V2, V1), (S1, V1, S2, V2)])
def test_things_are_deleted_in_any_order(world: World, order: tuple[str, ...]) -> None:
    """Whatever goes first, the rest can still be read, and at the end nothing is left."""
    driver = world.driver
    driver.create(Volume(V1, 1))
    world.write(V1, "a")
    driver.create_snapshot(Snapshot(S1, V1))
    driver.create_from_snapshot(Volume(V2, 1), S1)
    driver.create_snapshot(Snapshot(S2, V2))
    gone = set()
    for thing in order:
        if thing in (S1, S2):
            driver.delete_snapshot(thing)
        else:
            driver.delete(thing)
        gone.add(thing)
        assert {item.owner_id for item in driver.list()} == {V1, V2, S1, S2} - gone
        assert all(world.read(volume) == "a" for volume in {V1, V2} - gone)
    assert driver.list() == ()


def test_a_clone_is_independent_and_may_be_larger(world: World) -> None:
    """Source and clone go their own ways."""
    world.driver.create(Volume(V1, 1))
    world.write(V1, "a")
    world.driver.clone(Volume(V2, 5), V1)
    world.write(V1, "b")
    assert (world.read(V1), world.read(V2), sizes(world.driver)[V2]) == ("b", "a", 5 * GIB)


def test_a_volume_grows_and_never_shrinks(world: World) -> None:
    """Its content stays, its new size is told."""
    world.driver.create(Volume(V1, 2))
    world.write(V1, "a")
    assert world.driver.extend(V1, 7) is Growth.DONE
    with pytest.raises(VolumeShrinkRefused) as refused:
        world.driver.extend(V1, 6)
    assert refused.value.message == "New size for extend must be greater than current size. (current: 7, extended: 6)."
    assert sizes(world.driver)[V1] == 7 * GIB
    assert world.read(V1) == "a"


SMALLER: dict[str, Callable[[World], None]] = {
    "image": lambda world: world.driver.create_from_image(Volume(V2, 1), world.image("i", GIB + 512)),
    "snapshot": lambda world: world.driver.create_from_snapshot(Volume(V2, 1), S1),
    "volume": lambda world: world.driver.clone(Volume(V2, 1), V1),
}


@pytest.mark.parametrize("source", SMALLER)
def test_a_volume_smaller_than_its_source_is_refused(world: World, source: str) -> None:
    """Nothing is cut off, and nothing is left."""
    world.driver.create(Volume(V1, 2))
    world.driver.create_snapshot(Snapshot(S1, V1))
    with pytest.raises(SourceTooLarge):
        SMALLER[source](world)
    assert sizes(world.driver).keys() == {V1, S1}


MISSING: dict[str, Callable[[VolumeDriver], object]] = {
    "extend": lambda driver: driver.extend(V1, 2),
    "snapshot of": lambda driver: driver.create_snapshot(Snapshot(S1, V1)),
    "clone of": lambda driver: driver.clone(Volume(V2, 1), V1),
    "connect to": lambda driver: driver.connection_info(V1, HERE),
    "image of": lambda driver: driver.copy_to_image(V1, Path("/nowhere"), "raw"),
}


@pytest.mark.parametrize("verb", MISSING)
def test_a_volume_that_is_not_there_is_named(world: World, verb: str) -> None:
    """The error says which one, as the reference says it."""
    with pytest.raises(VolumeMissing) as missing:
        MISSING[verb](world.driver)
    assert missing.value.message == f"Volume {V1} could not be found."


def test_a_snapshot_that_is_not_there_is_named(world: World) -> None:
    """The error says which one."""
    with pytest.raises(SnapshotMissing) as missing:
        world.driver.create_from_snapshot(Volume(V1, 1), S1)
    assert missing.value.message == f"Snapshot {S1} could not be found."


def test_a_volume_that_a_guest_has_open_is_left_alone(world: World) -> None:
    """Not deleted, not copied while it changes; growing it is the hypervisor's.  Afterwards all of it works."""
    driver = world.driver
    driver.create(Volume(V1, 1))
    with world.opened(V1):
        for refused in (
            lambda: driver.delete(V1),
            lambda: driver.create_snapshot(Snapshot(S1, V1)),
            lambda: driver.clone(Volume(V2, 1), V1),
        ):
            with pytest.raises(VolumeInUse):
                refused()
        assert driver.extend(V1, 2) is Growth.BY_HYPERVISOR
        assert {item.owner_id for item in driver.list()} == {V1}
    driver.create_snapshot(Snapshot(S1, V1))
    driver.delete(V1)
    assert {item.owner_id for item in driver.list()} == {S1}


def test_the_record_alone_is_enough_to_grow_by_the_hypervisor(world: World) -> None:
    """What is recorded as attached is grown by its hypervisor, whether or not a guest is seen."""
    world.driver.create(Volume(V1, 1))
    assert world.driver.extend(V1, 2, attached=True) is Growth.BY_HYPERVISOR


def test_things_are_made_of_a_hypervisors_copy(world: World) -> None:
    """While a guest has the volume open, a snapshot and a clone are made of the copy under their own id, not of the volume; twice is
    once, and dropped, a copy is gone."""
    driver = world.driver
    driver.create(Volume(V1, 1))
    world.write(V1, "a")
    for copy_id in (S1, V2):
        world.copy(V1, copy_id)
    with world.opened(V1):
        for _ in range(2):
            driver.create_snapshot(Snapshot(S1, V1), copied=True)
            driver.clone(Volume(V2, 2), V1, copied=True)
        for copy_id in (S1, V2, S2):
            driver.drop_copy(V1, copy_id)
        driver.create_from_snapshot(Volume(V3, 1), S1)
    assert [world.read(volume) for volume in (V1, V2, V3)] == ["a", "a", "a"]
    assert sizes(driver) == {V1: GIB, V2: 2 * GIB, V3: GIB, S1: GIB}
    assert {item.kind for item in driver.list()} == {"volume", "snapshot"}


def test_copies_are_listed_with_their_volume(world: World) -> None:
    """A copy is told by what it is for and by its volume; it goes with the volume, and one that came later still can be dropped."""
    driver = world.driver
    driver.create(Volume(V1, 1))
    world.copy(V1, S1)
    copies = [item for item in driver.list() if item.kind == "copy"]
    assert [(item.owner_id, item.copy_of) for item in copies] == [(S1, V1)]
    driver.delete(V1)
    assert driver.list() == ()
    next(world.folder.glob("volumes"), world.folder).joinpath(copies[0].name).touch()
    assert [(item.kind, item.owner_id, item.copy_of) for item in driver.list()] == [("copy", S1, V1)]
    driver.drop_copy(V1, S1)
    assert driver.list() == ()


def test_a_copy_that_is_not_there_is_missed(world: World) -> None:
    """What was never copied, or dropped, is CopyMissing; what is no volume has no place for a copy."""
    driver = world.driver
    driver.create(Volume(V1, 1))
    world.copy(V1, S1)
    driver.drop_copy(V1, S1)
    for refused in (
        lambda: driver.create_snapshot(Snapshot(S1, V1), copied=True),
        lambda: driver.clone(Volume(V2, 1), V1, copied=True),
    ):
        with pytest.raises(CopyMissing):
            refused()
    with pytest.raises(VolumeMissing):
        driver.place_copy(V3, S1)
    driver.drop_copy(V3, S1)
    assert sizes(driver) == {V1: GIB}


def test_a_full_back_end_says_so_and_keeps_nothing(world: World) -> None:
    """Every verb that needs room names the lack of it, and leaves what was there."""
    world.driver.create(Volume(V1, 1))
    world.driver.create_snapshot(Snapshot(S1, V1))
    driver = world.filled()
    for attempt in (
        lambda: driver.create(Volume(V2, 1)),
        lambda: driver.create_from_image(Volume(V2, 1), world.image("i", GIB)),
        lambda: driver.create_from_snapshot(Volume(V2, 1), S1),
        lambda: driver.clone(Volume(V2, 1), V1),
        lambda: driver.create_snapshot(Snapshot(S2, V1)),
    ):
        with pytest.raises(VolumeBackendFull):
            attempt()
    assert {item.owner_id for item in driver.list()} == {V1, S1}
    assert driver.capacity().free_gib == 0


def test_the_scheduler_learns_what_is_promised(world: World) -> None:
    """Provisioned is the sum of all sizes, and goes down again."""
    before = world.driver.capacity()
    assert before.provisioned_gib == 0
    assert 0 < before.free_gib <= before.total_gib
    world.driver.create(Volume(V1, 5))
    world.driver.create_snapshot(Snapshot(S1, V1))
    assert world.driver.capacity().provisioned_gib == 10
    world.driver.delete(V1)
    assert world.driver.capacity().provisioned_gib == 5


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_the_connection_has_the_references_shape(world: World, mode: str) -> None:
    """What goes to hosts and clients is what the reference sends, with the format stated."""
    world.driver.create(Volume(V1, 1))
    info = world.driver.connection_info(V1, Connector(host="host-1", access_mode="ro" if mode == "ro" else "rw"))
    assert info.driver_volume_type in {"local", "sim"}
    assert info.data.keys() == {
        "device_path", "format", "volume_id", "access_mode", "qos_specs", "encrypted", "cacheable", "discard",
    }  # fmt: skip
    assert (info.data["volume_id"], info.data["access_mode"]) == (V1, mode)
    assert info.data["format"] in {"qcow2", "raw"}


def test_a_volume_becomes_an_image(world: World, tmp_path: Path) -> None:
    """The image's file is as large as the disk, and a second attempt replaces the first."""
    world.driver.create(Volume(V1, 1))
    world.write(V1, "a")
    target = tmp_path / "image.raw"
    for _ in range(2):
        world.driver.copy_to_image(V1, target, "raw")
    assert target.stat().st_size == GIB
    with target.open("rb") as file:
        assert file.read(1) == b"a"
