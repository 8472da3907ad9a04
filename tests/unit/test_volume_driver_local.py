"""Volumes as files: formats are facts, crashes leave parts that are listed, a guest's volume is copied with help."""

import contextlib
import json
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.unit.disk_images import noise

from cumulet.core.disk import qcow2
from cumulet.core.disk.files import PART, copy_sparse
from cumulet.volume.drivers.driver import (
    GIB,
    Connector,
    ImageSource,
    Snapshot,
    Volume,
    VolumeBackendDown,
    VolumeBackendFull,
    VolumeElsewhere,
    VolumeInUse,
)
from cumulet.volume.drivers.local import LocalVolumes

V1, V2, V3 = (f"{digit * 8}-aaaa-4aaa-8aaa-{digit * 12}" for digit in "123")
S1 = "11111111-bbbb-4bbb-8bbb-111111111111"
HERE = Connector(host="host-1")

needs_qemu = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is not installed")
needs_daemon = pytest.mark.skipif(
    shutil.which("qemu-storage-daemon") is None, reason="qemu-storage-daemon is not installed"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the volumes lie."""
    return tmp_path / "volumes"


@pytest.fixture
def driver(folder: Path) -> LocalVolumes:
    """Files as qcow2."""
    return LocalVolumes(folder, host="host-1", reserve_bytes=0)


@pytest.fixture
def raw_driver(folder: Path) -> LocalVolumes:
    """Files as raw, in the same folder."""
    return LocalVolumes(folder, host="host-1", new_format="raw", reserve_bytes=0)


def path_of(driver: LocalVolumes, volume_id: str) -> Path:
    """The file a host would open."""
    return Path(driver.connection_info(volume_id, HERE).data["device_path"])


def test_the_name_records_the_format(driver: LocalVolumes, raw_driver: LocalVolumes) -> None:
    """Volumes of both formats live side by side, whatever new ones are made as."""
    driver.create(Volume(V1, 1))
    raw_driver.create(Volume(V2, 1))
    told = {volume: raw_driver.connection_info(volume, HERE).data for volume in (V1, V2)}
    assert [told[volume]["format"] for volume in (V1, V2)] == ["qcow2", "raw"]
    assert [Path(told[volume]["device_path"]).name for volume in (V1, V2)] == [f"volume-{V1}.qcow2", f"volume-{V2}.raw"]
    assert told[V1]["discard"] is True


def test_files_are_the_owners_alone(driver: LocalVolumes) -> None:
    """Nobody else on the host may read a volume."""
    driver.create(Volume(V1, 1))
    assert path_of(driver, V1).stat().st_mode & 0o777 == 0o600


def test_a_header_that_a_guest_writes_on_a_raw_volume_stays_data(raw_driver: LocalVolumes, folder: Path) -> None:
    """Snapshot, clone, growth and listing take the volume as raw, though it begins like qcow2 with a backing file."""
    raw_driver.create(Volume(V1, 1))
    evil = folder.parent / "evil"
    qcow2.write_overlay(evil, size=5 * GIB, backing=Path("/etc/passwd"), backing_format="raw")
    header = evil.read_bytes()
    with path_of(raw_driver, V1).open("r+b") as file:
        file.write(header)
    raw_driver.create_snapshot(Snapshot(S1, V1))
    raw_driver.create_from_snapshot(Volume(V2, 2), S1)
    raw_driver.extend(V1, 3)
    with path_of(raw_driver, V2).open("rb") as file:
        assert file.read(len(header)) == header
    assert {item.owner_id: item.size_bytes for item in raw_driver.list()} == {V1: 3 * GIB, V2: 2 * GIB, S1: GIB}


def test_other_hosts_are_told_that_they_cannot_reach_a_file(driver: LocalVolumes) -> None:
    """A connector of another host is refused by name."""
    driver.create(Volume(V1, 1))
    with pytest.raises(VolumeElsewhere):
        driver.connection_info(V1, Connector(host="host-2"))


@pytest.mark.parametrize("bad", ["../../etc/passwd", "a/b", "", ".", "x" * 65, "-rf", "a\n"])
def test_an_id_that_is_no_id_never_becomes_a_path(driver: LocalVolumes, bad: str) -> None:
    """Names are checked before anything is opened."""
    for attempt in (
        lambda: driver.create(Volume(bad, 1)),
        lambda: driver.delete(bad),
        lambda: driver.delete_snapshot(bad),
    ):
        with pytest.raises(ValueError, match="not an id"):
            attempt()


def test_a_crash_leaves_parts_that_are_listed_and_deleted_with_their_volume(driver: LocalVolumes, folder: Path) -> None:
    """What was not finished is nobody's volume, is listed with its owner's id, and does not hinder the next attempt."""
    (folder / f"volume-{V1}.qcow2.1f-0{PART}").write_bytes(b"half")
    (folder / f"volume-{V1}.qcow2.1f-0{PART}.1f-1{PART}").write_bytes(b"half")
    (folder / f"snapshot-{S1}.qcow2.1f-2{PART}").write_bytes(b"half")
    (folder / "notes.txt").write_text("somebody's")
    assert {(item.kind, item.owner_id) for item in driver.list()} == {
        ("unfinished", V1),
        ("unfinished", S1),
        ("unknown", None),
    }
    driver.create(Volume(V1, 1))
    driver.delete(V1)
    driver.delete_snapshot(S1)
    assert [item.name for item in driver.list()] == ["notes.txt"]


def test_what_a_killed_attempt_left_goes_at_the_next_start_or_when_told(driver: LocalVolumes, folder: Path) -> None:
    """A start removes what dead processes had begun; told to, the driver removes all that was, and neither volume nor copy."""
    dead = folder / f"volume-{V1}.qcow2.7fffffff-0{PART}"
    alive = folder / f"volume-{V1}.qcow2.1-0{PART}"
    for part in (dead, alive):
        part.write_bytes(b"half")
    driver.create(Volume(V1, 1))
    assert dead.exists()
    LocalVolumes(folder, host="host-1")
    assert [part.exists() for part in (dead, alive)] == [False, True]
    copy = path_of(driver, V1).with_name(driver.place_copy(V1, S1).name)
    copy.write_bytes(b"whole")
    driver.drop_unfinished(V1)
    assert not alive.exists()
    assert [(item.kind, item.owner_id) for item in driver.list()] == [("volume", V1), ("copy", S1)]


def test_a_damaged_file_is_named_down_and_hides_nothing(driver: LocalVolumes) -> None:
    """A qcow2 file without its header is still listed, without a size, and can be deleted."""
    driver.create(Volume(V1, 1))
    driver.create(Volume(V2, 1))
    path_of(driver, V1).write_bytes(bytes(65536))
    with pytest.raises(VolumeBackendDown) as down:
        driver.extend(V1, 2)
    assert str(path_of(driver, V1)) not in down.value.message
    assert {item.owner_id: item.size_bytes for item in driver.list()} == {V1: None, V2: GIB}
    assert driver.capacity().provisioned_gib == 1
    driver.delete(V1)
    assert [item.owner_id for item in driver.list()] == [V2]


def test_a_folder_that_went_away_is_a_back_end_that_is_down(driver: LocalVolumes, folder: Path) -> None:
    """Nothing is taken for deleted because a disk is not mounted."""
    folder.rmdir()
    for attempt in (
        driver.list,
        driver.capacity,
        lambda: driver.create(Volume(V1, 1)),
        lambda: driver.delete(V1),
        lambda: driver.connection_info(V1, HERE),
    ):
        with pytest.raises(VolumeBackendDown):
            attempt()


def test_the_same_call_twice_at_once_makes_one_volume(driver: LocalVolumes) -> None:
    """Whoever is second finds what the first made."""
    barrier = threading.Barrier(8)

    def make(_number: int) -> None:
        barrier.wait(timeout=30)
        driver.create(Volume(V1, 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    assert [(item.kind, item.owner_id) for item in driver.list()] == [("volume", V1)]


def test_an_empty_volume_is_made_without_a_process(
    driver: LocalVolumes, raw_driver: LocalVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started for creating, growing, snapshots and clones."""

    def refuse(*_arguments: object, **_more: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for made in (driver, raw_driver):
        made.create(Volume(V1, 1))
        made.create_snapshot(Snapshot(S1, V1))
        made.create_from_snapshot(Volume(V2, 2), S1)
        made.clone(Volume(V3, 2), V1)
        made.extend(V1, 100)
        for volume in (V1, V2, V3):
            made.delete(volume)
        made.delete_snapshot(S1)


@needs_qemu
def test_what_is_made_from_an_image_grows_without_the_tool(driver: LocalVolumes, tmp_path: Path) -> None:
    """The container is of our own making even where the content was converted, so later growth is a header's matter."""
    image = tmp_path / "image"
    image.write_bytes(noise(1 << 20))
    driver.create_from_image(Volume(V1, 1), ImageSource(image, "raw", 1 << 20))
    driver.create_snapshot(Snapshot(S1, V1))
    driver.create_from_snapshot(Volume(V2, 4096), S1)
    qcow2.grow(path_of(driver, V1), size=4096 * GIB)
    for volume in (V1, V2):
        check = ["qemu-img", "check", "-q", "-f", "qcow2", path_of(driver, volume)]
        subprocess.run(check, check=True, timeout=60)
        compare = ["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", path_of(driver, volume), image]
        subprocess.run(compare, check=True, timeout=60)


@needs_qemu
def test_a_volume_grows_past_what_its_tables_hold(driver: LocalVolumes) -> None:
    """Beyond 4 TiB the tool moves the tables."""
    driver.create(Volume(V1, 1))
    driver.extend(V1, 5000)
    assert qcow2.read_header(path_of(driver, V1)).size == 5000 * GIB
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path_of(driver, V1)], check=True, timeout=60)


@pytest.mark.real
def test_a_file_system_that_fills_up_during_a_copy_is_named_and_cleaned(tmp_path: Path) -> None:
    """The kernel's own refusal, not our reckoning: VolumeBackendFull, and nothing but the source remains."""
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", mount], check=True, timeout=60)
    try:
        driver = LocalVolumes(mount / "volumes", host="host-1", new_format="raw", reserve_bytes=-(1 << 40))
        driver.create(Volume(V1, 1))
        with path_of(driver, V1).open("r+b") as file:
            file.write(noise(2 << 20))
        with pytest.raises(VolumeBackendFull):
            driver.clone(Volume(V2, 1), V1)
        assert [item.owner_id for item in driver.list()] == [V1]
        image = tmp_path / "image"
        image.write_bytes(noise(4 << 20))
        converted = LocalVolumes(mount / "volumes", host="host-1", reserve_bytes=-(1 << 40))
        with pytest.raises(VolumeBackendFull):
            converted.create_from_image(Volume(V2, 1), ImageSource(image, "raw", 4 << 20))
        assert [item.owner_id for item in driver.list()] == [V1]
    finally:
        subprocess.run(["umount", mount], check=True, timeout=60)


class Daemon:
    """A qemu-storage-daemon in the place of a guest's QEMU: it has the volume open for writing, and obeys QMP."""

    def __init__(self, path: Path, socket: Path) -> None:
        self.socket = socket
        command = ["qemu-storage-daemon", "--chardev", "stdio,id=c", "--monitor", "chardev=c"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()
        self.do("qmp_capabilities")
        self.do("nbd-server-start", addr={"type": "unix", "data": {"path": str(socket)}})
        self.do(
            "blockdev-add",
            **{"driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": str(path)}},
        )
        self.do("block-export-add", **{"type": "nbd", "id": "e", "name": "disk", "node-name": "disk", "writable": True})

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        return message

    def do(self, command: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        while "return" not in (answer := self._read()):
            assert "error" not in answer, answer

    def wait(self, event: str) -> None:
        while self._read().get("event") != event:
            pass

    def guest(self, command: str) -> None:
        subprocess.run(
            ["qemu-io", "-f", "raw", "-c", command, f"nbd+unix:///disk?socket={self.socket}"],
            check=True,
            timeout=60,
            capture_output=True,
        )

    def mirror(self, target: Path) -> None:
        """What a hypervisor does for us: the disk and the new file are made alike, and stay so."""
        qcow2.write_empty(target, size=GIB)
        file = {"driver": "file", "filename": str(target)}
        self.do("blockdev-add", **{"driver": "qcow2", "node-name": "copy", "file": file})
        self.do("blockdev-mirror", **{"device": "disk", "target": "copy", "sync": "full", "job-id": "mirror"})
        self.wait("BLOCK_JOB_READY")

    def cut(self) -> None:
        """From here on the new file is a copy."""
        self.do("block-job-cancel", device="mirror")
        self.wait("BLOCK_JOB_COMPLETED")
        self.do("blockdev-del", **{"node-name": "copy"})

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)


@needs_daemon
@needs_qemu
def test_a_running_guests_volume_is_snapshot_with_the_hypervisors_help(driver: LocalVolumes, tmp_path: Path) -> None:
    """The snapshot holds what was written before the copy was cut, and nothing since; while the copy is still being written it is refused,
    as the volume itself always is; the guest loses nothing."""
    driver.create(Volume(V1, 1))
    daemon = Daemon(path_of(driver, V1), tmp_path / "nbd")
    copy = path_of(driver, V1).with_name(driver.place_copy(V1, S1).name)
    try:
        daemon.guest("write -P 0x61 0 1M")
        daemon.mirror(copy)
        daemon.guest("write -P 0x62 0 64k")
        for copied in (False, True):
            with pytest.raises(VolumeInUse):
                driver.create_snapshot(Snapshot(S1, V1), copied=copied)
        daemon.cut()
        daemon.guest("write -P 0x63 0 1M")
        driver.create_snapshot(Snapshot(S1, V1), copied=True)
        driver.drop_copy(V1, S1)
        with pytest.raises(VolumeInUse):
            driver.delete(V1)
    finally:
        daemon.stop()
    driver.create_from_snapshot(Volume(V2, 1), S1)
    for volume, command in ((V1, "read -P 0x63 0 1M"), (V2, "read -P 0x62 0 64k"), (V2, "read -P 0x61 64k 960k")):
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path_of(driver, volume)], check=True, timeout=60)
        read = ["qemu-io", "-r", "-f", "qcow2", "-c", command, path_of(driver, volume)]
        assert (
            "Pattern verification failed"
            not in subprocess.run(read, check=True, timeout=60, capture_output=True, text=True).stdout
        )
    assert {item.owner_id for item in driver.list()} == {V1, V2, S1}


@needs_qemu
def test_a_guest_that_comes_while_a_volume_is_copied_is_noticed(
    driver: LocalVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that a guest may have written into meanwhile is not kept."""
    driver.create(Volume(V1, 1))
    with contextlib.ExitStack() as guests:

        def copy_slowly(source: Path, target: Path) -> None:
            copy_sparse(source, target)
            command = ["qemu-io", "-f", "qcow2", source]
            guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            guests.callback(guest.communicate, "quit\n")
            assert guest.stdin is not None
            assert guest.stdout is not None
            guest.stdin.write("length\n")
            guest.stdin.flush()
            assert guest.stdout.readline()  # it answers when the file is open

        monkeypatch.setattr("cumulet.volume.drivers.local.copy_sparse", copy_slowly)
        with pytest.raises(VolumeInUse):
            driver.create_snapshot(Snapshot(S1, V1))
    assert [item.owner_id for item in driver.list()] == [V1]
