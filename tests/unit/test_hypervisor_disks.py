"""Root disks, the image cache, and what connection data become."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cumulet.compute.agent.hypervisor import disks
from cumulet.compute.agent.hypervisor.connection_info import disk_from_connection
from cumulet.compute.agent.hypervisor.driver import Backing, DeviceRefused, FileSource, NetworkSource
from cumulet.compute.agent.hypervisor.image_cache import BaseImage, ImageCache
from cumulet.core.disk import qcow2
from cumulet.core.disk.errors import DiskExists, ImageRefused

MIB = 1 << 20
RAW = BaseImage(image_id="image-1", checksum="abc", disk_format="raw", size=MIB)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base of 1 MiB."""
    path = tmp_path / "base.raw"
    path.write_bytes(b"base".ljust(MIB, b"\0"))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    """An empty cache that takes disks up to 1 GiB."""
    return ImageCache(tmp_path / "cache", virtual_bytes_max=1 << 30)


def test_a_root_disk_stands_on_its_base(tmp_path: Path, base: Path) -> None:
    """An overlay of the flavor's size, whose base and format are written in it; a second call leaves it alone."""
    path = tmp_path / "root.qcow2"
    source = disks.make_root(path, base=base, size=8 * MIB)
    header = qcow2.read_header(path)
    assert (header.size, header.backing_file, header.backing_format) == (8 * MIB, str(base), "raw")
    assert [backing.path for backing in source.backing] == [str(base)]
    before = path.stat().st_ino
    assert disks.make_root(path, base=base, size=8 * MIB) == source
    assert path.stat().st_ino == before


def test_a_root_disk_never_replaces_another_ones(tmp_path: Path, base: Path) -> None:
    """A disk over another base is left, and told."""
    path, other = tmp_path / "root.qcow2", tmp_path / "other.raw"
    other.write_bytes(bytes(MIB))
    disks.make_root(path, base=base, size=0)
    with pytest.raises(DiskExists):
        disks.make_root(path, base=other, size=0)
    assert qcow2.read_header(path).backing_file == str(base)


def test_an_image_must_fit_the_flavor(tmp_path: Path, base: Path) -> None:
    """Too small a flavor is refused in the reference's words; size 0 is as large as the image."""
    with pytest.raises(disks.FlavorDiskTooSmall, match="Flavor's disk is too small for requested image"):
        disks.make_root(tmp_path / "root.qcow2", base=base, size=MIB // 2)
    disks.make_root(tmp_path / "root.qcow2", base=base, size=0)
    assert qcow2.read_header(tmp_path / "root.qcow2").size == MIB


def test_a_root_disk_grows_and_never_shrinks(tmp_path: Path, base: Path) -> None:
    """Growing may be repeated; asking for less changes nothing."""
    path = tmp_path / "root.qcow2"
    disks.make_root(path, base=base, size=4 * MIB)
    for size in (16 * MIB, 16 * MIB, 2 * MIB):
        disks.grow_root(path, size=size)
        assert qcow2.read_header(path).size == 16 * MIB


def test_removing_and_making_blank_disks_may_be_repeated(tmp_path: Path) -> None:
    """Both verbs find their work done."""
    path = tmp_path / "blank.qcow2"
    for _ in range(2):
        disks.make_blank(path, size=MIB)
    assert not qcow2.read_header(path).has_backing
    for _ in range(2):
        disks.remove(path)
    assert not path.exists()


def test_a_guest_gets_its_own_kernel(tmp_path: Path) -> None:
    """The copy is another file: what happens to its owner does not happen to the original."""
    source, target = tmp_path / "vmlinuz", tmp_path / "own"
    source.write_bytes(b"kernel")
    for _ in range(2):
        disks.copy_for_guest(source, target)
    assert target.read_bytes() == b"kernel"
    assert target.stat().st_ino != source.stat().st_ino


def test_an_image_is_fetched_once_however_many_ask(cache: ImageCache) -> None:
    """Eight launches at the same time: one fetch, one base, the same answer for all."""
    fetches: list[Path] = []
    everybody_asked, entered = threading.Event(), threading.Barrier(8)

    def fetch(path: Path) -> None:
        fetches.append(path)
        assert everybody_asked.wait(timeout=10)
        path.write_bytes(bytes(MIB))

    def ask(_number: int) -> Path:
        if entered.wait(timeout=10) == 0:
            everybody_asked.set()
        return cache.ensure_base(RAW, fetch).path

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(ask, range(8)))
    assert len(fetches) == 1
    assert len(paths) == 1
    assert [cached.path for cached in cache.entries()] == list(paths)


def test_a_base_is_read_only_and_complete(cache: ImageCache, base: Path) -> None:
    """From a file of this host a base is copied, not linked, and nobody may write to it."""
    cached = cache.ensure_base(RAW, base)
    assert cached.path.read_bytes() == base.read_bytes()
    assert cached.path.stat().st_ino != base.stat().st_ino
    assert cached.path.stat().st_mode & 0o777 == 0o444


def test_a_failed_fetch_fails_all_and_the_next_may_succeed(cache: ImageCache) -> None:
    """The error reaches the caller, nothing is left, and the cache is not poisoned."""

    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        cache.ensure_base(RAW, broken)
    assert cache.entries() == ()
    cached = cache.ensure_base(RAW, lambda path: _write(path, MIB))
    assert [path.name for path in cached.path.parent.iterdir()] == [cached.path.name]


def test_bytes_pass_the_gate_on_this_host_too(cache: ImageCache, tmp_path: Path) -> None:
    """A "raw" image that is qcow2, a qcow2 with a base, and a wrong size are refused and leave nothing."""
    disguised = tmp_path / "disguised"
    qcow2.write_overlay(disguised, size=MIB, backing=Path("/etc/shadow"), backing_format="raw")
    size = disguised.stat().st_size
    for disk_format, claimed in (("raw", size), ("qcow2", size), ("raw", size + 512)):
        image = BaseImage(image_id="bad", checksum="1", disk_format=disk_format, size=claimed)
        with pytest.raises(ImageRefused):
            cache.ensure_base(image, disguised)
    assert list((tmp_path / "cache").iterdir()) == []


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path, cache: ImageCache) -> None:
    """Unfinished files go at the next start, bases stay."""
    cached = cache.ensure_base(RAW, lambda path: _write(path, MIB))
    (tmp_path / "cache" / "x.raw.1-0.part").write_bytes(b"half")
    again = ImageCache(tmp_path / "cache", virtual_bytes_max=1 << 30)
    assert [entry.path for entry in again.entries()] == [cached.path]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_only_unused_bases_are_evicted(cache: ImageCache) -> None:
    """A base goes when no disk stands on it and nobody asked for it lately."""
    kept, idle, fresh = (
        cache.ensure_base(
            BaseImage(image_id=name, checksum="1", disk_format="raw", size=512), lambda path: _write(path, 512)
        )
        for name in ("kept", "idle", "fresh")
    )
    for cached in (kept, idle):
        os.utime(cached.path, (1000, 1000))
    assert cache.evict(keep=[kept.path], unused_since=fresh.used_at - 1) == (idle.path,)
    assert {entry.path for entry in cache.entries()} == {kept.path, fresh.path}


def test_hostile_ids_stay_in_the_folder() -> None:
    """Whatever an image's id or checksum holds, the base's name is one plain file name."""
    image = BaseImage(image_id="../../etc/passwd", checksum="/../x", disk_format="raw", size=1)
    assert image.base_name == "etcpasswd_x.raw"


def test_local_volumes_are_files() -> None:
    """Path and format as the volume service says; read-only where it says so."""
    info: dict[str, Any] = {
        "driver_volume_type": "local",
        "data": {"device_path": "/v/1.qcow2", "format": "qcow2", "access_mode": "ro", "discard": True},
    }
    info["data"]["backing"] = [{"path": "/v/0.raw", "format": "raw"}]
    disk = disk_from_connection(info, volume_id="v1", target="vdb")
    assert disk.source == FileSource(path="/v/1.qcow2", format="qcow2", backing=(Backing(path="/v/0.raw"),))
    assert (disk.serial, disk.read_only, disk.cache, disk.key) == ("v1", True, "writeback", "v1")


def test_network_volumes() -> None:
    """rbd, iSCSI and nbd in the reference's shape; a password in the data goes nowhere."""
    rbd = disk_from_connection(
        {
            "driver_volume_type": "rbd",
            "data": {
                "name": "volumes/v", "hosts": ["10.0.0.1", "10.0.0.2"], "ports": ["6789", "6789"],
                "auth_enabled": True, "auth_username": "cloud", "secret_type": "ceph", "secret_uuid": "s",
            },
        },
        volume_id="v",
        target="vdb",
    )  # fmt: skip
    assert isinstance(rbd.source, NetworkSource)
    assert [host.name for host in rbd.source.hosts] == ["10.0.0.1", "10.0.0.2"]
    assert rbd.cache == "none"
    iscsi = disk_from_connection(
        {
            "driver_volume_type": "iscsi",
            "data": {
                "target_iqn": "iqn.x", "target_portal": "[fe80::1]:3261", "target_lun": 1,
                "auth_method": "CHAP", "auth_username": "u", "auth_password": "hush", "secret_uuid": "s",
            },
        },
        volume_id="v",
        target="vdb",
    )  # fmt: skip
    assert isinstance(iscsi.source, NetworkSource)
    assert (iscsi.source.name, iscsi.source.hosts[0].name, iscsi.source.hosts[0].port) == ("iqn.x/1", "fe80::1", "3261")
    assert "hush" not in repr(iscsi)


@pytest.mark.parametrize(
    "info", [{}, {"driver_volume_type": "fibre_channel", "data": {}}, {"driver_volume_type": "rbd", "data": {}}]
)
def test_connections_that_lead_nowhere_are_refused(info: dict[str, object]) -> None:
    """An unknown kind, or data without what its kind needs."""
    with pytest.raises(DeviceRefused):
        disk_from_connection(info, volume_id="v", target="vdb")


def _write(path: Path, size: int) -> None:
    path.write_bytes(bytes(size))
