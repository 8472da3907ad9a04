"""Disks written without a process: the real tools find them whole, and they grow."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.disk_images import names

from cumulet.core.disk import qcow2
from cumulet.core.disk.errors import DiskCannotGrow, DiskExists, ImageMalformed

GIB = 1 << 30
TIB = 1 << 40

needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def qemu(*command: str | Path) -> str:
    """Run a tool that must succeed."""
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def check(path: Path) -> None:
    """No errors, no leaks: qemu-img check ends with 0 only then."""
    qemu("qemu-img", "check", "-q", "-f", "qcow2", path)


def info(path: Path) -> dict[str, Any]:
    """What the tool says of a file whose format is known."""
    told: dict[str, Any] = json.loads(qemu("qemu-img", "info", "-f", "qcow2", "--output=json", path))
    return told


def io(path: Path, *commands: str, disk_format: str = "qcow2") -> str:
    """Read and write by the tool; a wrong pattern is an error."""
    return qemu("qemu-io", "-f", disk_format, *(word for command in commands for word in ("-c", command)), path)


SIZES = [512, 65536, GIB, 10 * GIB + 512, 4 * TIB, 4 * TIB + 512, 100 * TIB]


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
def test_an_empty_disk_is_whole_before_and_after_it_is_written(size: int, tmp_path: Path) -> None:
    """qemu-img check passes, the size is told, and both ends can be written and read."""
    disk = tmp_path / "disk.qcow2"
    qcow2.write_empty(disk, size=size)
    check(disk)
    assert info(disk)["virtual-size"] == size
    assert disk.stat().st_blocks * 512 <= 64 * 1024
    if size <= 4 * TIB:  # a host file system of 4 KiB blocks ends at 16 TiB, and qemu-io maps what it writes
        io(disk, "read -P 0 0 512", f"write -P 0x61 {size - 512} 512", f"read -P 0x61 {size - 512} 512")
        check(disk)


@needs_qemu
def test_an_overlay_shows_its_base_and_keeps_its_own(tmp_path: Path) -> None:
    """What is not written is read from the base, whose format is stated; writing changes only the overlay."""
    base, disk = tmp_path / "base.raw", tmp_path / "disk.qcow2"
    base.write_bytes(b"b" * (1 << 20))
    qcow2.write_overlay(disk, size=2 << 20, backing=base, backing_format="raw")
    check(disk)
    told = info(disk)
    assert (told["backing-filename"], told["backing-filename-format"]) == (str(base), "raw")
    io(disk, "read -P 0x62 0 1M", "read -P 0 1M 1M", "write -P 0x6f 4096 4096", "read -P 0x6f 4096 4096")
    check(disk)
    assert base.read_bytes() == b"b" * (1 << 20)


@needs_qemu
@pytest.mark.parametrize("size", [11 * GIB, 4 * TIB])
def test_a_disk_grows_by_its_header(size: int, tmp_path: Path) -> None:
    """After growing, what was written is there, the rest is zero, and the tool finds no fault."""
    disk = tmp_path / "disk.qcow2"
    qcow2.write_empty(disk, size=GIB)
    io(disk, "write -P 0x61 0 64k")
    qcow2.grow(disk, size=size)
    qcow2.grow(disk, size=size)
    check(disk)
    assert info(disk)["virtual-size"] == qcow2.read_header(disk).size == size
    io(disk, "read -P 0x61 0 64k", f"write -P 0x7a {size - 65536} 64k", f"read -P 0x7a {size - 65536} 64k")
    check(disk)


@needs_qemu
def test_a_disk_grows_by_the_tool_as_well(tmp_path: Path) -> None:
    """A hypervisor that grows one of ours finds nothing strange in it."""
    disk = tmp_path / "disk.qcow2"
    qcow2.write_empty(disk, size=GIB)
    qemu("qemu-img", "resize", "-q", "-f", "qcow2", disk, "5T")
    check(disk)
    assert qcow2.read_header(disk).size == 5 * TIB


def test_a_disk_does_not_shrink_nor_grow_past_its_tables(tmp_path: Path) -> None:
    """What the header alone cannot say is refused, and nothing is changed."""
    disk = tmp_path / "disk.qcow2"
    qcow2.write_empty(disk, size=GIB)
    before = disk.read_bytes()
    for size in (GIB - 512, 4 * TIB + 512):
        with pytest.raises(DiskCannotGrow):
            qcow2.grow(disk, size=size)
    assert disk.read_bytes() == before


def test_an_overlay_does_not_uncover_what_its_base_holds_behind_its_end(tmp_path: Path) -> None:
    """A base larger than the overlay would show through when the overlay grows: refused."""
    disk = tmp_path / "disk.qcow2"
    qcow2.write_overlay(disk, size=GIB, backing=tmp_path / "base.raw", backing_format="raw")
    with pytest.raises(DiskCannotGrow):
        qcow2.grow(disk, size=2 * GIB, backing_size=2 * GIB)
    qcow2.grow(disk, size=2 * GIB, backing_size=GIB)
    assert qcow2.read_header(disk).size == 2 * GIB


def test_the_header_says_what_was_written(tmp_path: Path) -> None:
    """Size, base and its format are read back without a tool."""
    disk = tmp_path / "disk.qcow2"
    qcow2.write_overlay(disk, size=GIB - 100, backing=tmp_path / "bäse, with=odd:name.raw", backing_format="raw")
    header = qcow2.read_header(disk)
    assert header.size == GIB  # rounded up to a sector, which a GiB is made of
    assert (header.backing_file, header.backing_format) == (str(tmp_path / "bäse, with=odd:name.raw"), "raw")


def test_a_disk_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    """The second writer is refused, the first one's bytes stay, and no half-made file is left."""
    disk = tmp_path / "disk.qcow2"
    qcow2.write_empty(disk, size=GIB)
    os.truncate(disk, 1 << 20)
    with pytest.raises(DiskExists):
        qcow2.write_overlay(disk, size=GIB, backing=tmp_path / "base", backing_format="raw")
    assert disk.stat().st_size == 1 << 20
    assert names(tmp_path) == ["disk.qcow2"]


@pytest.mark.parametrize("size", [0, -1, (1 << 50) + 1])
def test_sizes_that_no_disk_has_are_refused(size: int, tmp_path: Path) -> None:
    """Nothing is written for an impossible size."""
    with pytest.raises(ValueError, match="a disk has between"):
        qcow2.write_empty(tmp_path / "disk.qcow2", size=size)
    assert names(tmp_path) == []


def test_a_base_must_be_named_absolutely(tmp_path: Path) -> None:
    """A relative name would mean another file for another reader."""
    with pytest.raises(ValueError, match="absolute"):
        qcow2.write_overlay(tmp_path / "disk.qcow2", size=GIB, backing=Path("base"), backing_format="raw")


def test_a_file_of_another_kind_is_not_grown(tmp_path: Path) -> None:
    """Growing looks at the header first."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(65536))
    with pytest.raises(ImageMalformed):
        qcow2.grow(disk, size=GIB)
    assert disk.read_bytes() == bytes(65536)
