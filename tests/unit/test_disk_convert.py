"""The confined converter: what it writes, what it cannot reach, and what is left when it fails."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.disk_images import names, noise

from cumulet.core.disk import jail, qcow2
from cumulet.core.disk.convert import Layer, Limits, convert, resize
from cumulet.core.disk.errors import (
    ConversionFailed,
    ConversionNoSpace,
    ConversionTimeout,
    ConverterMissing,
    DiskExists,
)

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")

MIB = 1 << 20
LIMITS = Limits(output_bytes=64 * MIB, wall_s=60.0)

confined = pytest.mark.skipif(jail.landlock_version() == 0, reason="this kernel has no Landlock")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A raw disk with data at both ends."""
    path = tmp_path / "source.raw"
    path.write_bytes(noise(MIB) + bytes(4 * MIB) + b"end".ljust(512, b"\0"))
    return path


@pytest.mark.parametrize("disk_format", ["qcow2", "vmdk", "vdi", "vpc", "vhdx", "raw"])
def test_a_disk_survives_the_way_there_and_back(disk_format: str, source: Path, tmp_path: Path) -> None:
    """Every format that comes in can be made, and read again, without a byte changed."""
    convert(source, "raw", tmp_path / "there", disk_format, limits=LIMITS)
    convert(tmp_path / "there", disk_format, tmp_path / "back", "raw", limits=LIMITS)
    content = source.read_bytes()
    assert (tmp_path / "back").read_bytes()[: len(content)] == content
    assert names(tmp_path) == ["back", "source.raw", "there"]


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_a_larger_disk_begins_with_the_source_and_is_zero_behind(
    disk_format: str, source: Path, tmp_path: Path
) -> None:
    """With a size, the disk has that size, and takes no room for what is zero."""
    disk = tmp_path / "disk"
    convert(source, "raw", disk, disk_format, limits=Limits(output_bytes=1 << 31, wall_s=60.0), size=1 << 30)
    assert disk.stat().st_blocks * 512 < 2 * MIB
    subprocess.run(["qemu-img", "compare", "-q", "-f", disk_format, "-F", "raw", disk, source], check=True, timeout=60)
    if disk_format == "qcow2":
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", disk], check=True, timeout=60)
        qcow2.grow(disk, size=1 << 40)


def test_layers_are_read_as_the_record_says(source: Path, tmp_path: Path) -> None:
    """An overlay is flattened over the base that is given with it."""
    overlay = tmp_path / "overlay.qcow2"
    qcow2.write_overlay(overlay, size=source.stat().st_size, backing=source, backing_format="raw")
    convert(overlay, "qcow2", tmp_path / "flat", "raw", limits=LIMITS, backing=Layer(source, "raw"))
    assert (tmp_path / "flat").read_bytes() == source.read_bytes()


def test_a_layer_that_is_not_in_the_record_is_not_read(tmp_path: Path) -> None:
    """A source that names a file of the host under it yields zeros, not that file."""
    qcow2.write_overlay(tmp_path / "evil.qcow2", size=MIB, backing=Path("/etc/passwd"), backing_format="raw")
    convert(tmp_path / "evil.qcow2", "qcow2", tmp_path / "out", "raw", limits=LIMITS)
    assert (tmp_path / "out").read_bytes() == bytes(MIB)


@confined
def test_the_converter_cannot_open_a_file_it_was_not_given(tmp_path: Path) -> None:
    """Even what passes no gate reaches nothing: the kernel refuses an external data file."""
    options = f"data_file={tmp_path / 'secret'},data_file_raw=on"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "evil.qcow2", "1M"]
    subprocess.run(create, check=True, timeout=60, cwd=tmp_path)
    (tmp_path / "secret").write_bytes(b"secret".ljust(MIB, b"\0"))
    with pytest.raises(ConversionFailed) as failed:
        convert(tmp_path / "evil.qcow2", "qcow2", tmp_path / "out", "raw", limits=LIMITS)
    assert "Permission denied" in str(failed.value.detail)
    assert not (tmp_path / "out").exists()


@confined
def test_the_jail_leaves_the_given_files_and_the_libraries(tmp_path: Path) -> None:
    """Reading a given file works; reading another, writing a read-only one and connecting do not."""
    (tmp_path / "given").write_text("given")
    (tmp_path / "other").write_text("other")
    script = f"""
import importlib.util, socket
spec = importlib.util.spec_from_file_location("jail", {jail.__file__!r})
jail = importlib.util.module_from_spec(spec)
spec.loader.exec_module(jail)
jail.confine_files([{str(tmp_path / "given")!r}], [])
def attempt(what):
    try:
        what()
    except PermissionError:
        return "refused"
    except OSError as error:
        return type(error).__name__
    return "allowed"
print(attempt(lambda: open({str(tmp_path / "given")!r}).read()))
print(attempt(lambda: open({str(tmp_path / "other")!r}).read()))
print(attempt(lambda: open({str(tmp_path / "given")!r}, "w")))
print(attempt(lambda: open("/etc/passwd").read()))
print(attempt(lambda: open("/usr/bin/env", "rb").read(4)))
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["allowed", "refused", "refused", "refused", "allowed"]


def test_output_beyond_its_limit_is_cut_off(source: Path, tmp_path: Path) -> None:
    """A bomb stops at the limit, and its pieces are gone."""
    with pytest.raises(ConversionNoSpace):
        convert(source, "raw", tmp_path / "out", "raw", limits=Limits(output_bytes=MIB, wall_s=60.0))
    assert names(tmp_path) == ["source.raw"]


def test_a_conversion_that_takes_too_long_is_killed(source: Path, tmp_path: Path) -> None:
    """The wall clock rules, and nothing is left."""
    with pytest.raises(ConversionTimeout):
        convert(source, "raw", tmp_path / "out", "qcow2", limits=Limits(output_bytes=64 * MIB, wall_s=0.001))
    assert names(tmp_path) == ["source.raw"]


def test_a_conversion_that_needs_too_much_memory_fails(source: Path, tmp_path: Path) -> None:
    """The address space is limited."""
    with pytest.raises(ConversionFailed):
        convert(
            source,
            "raw",
            tmp_path / "out",
            "qcow2",
            limits=Limits(output_bytes=64 * MIB, address_space_bytes=16 * MIB, wall_s=60.0),
        )
    assert names(tmp_path) == ["source.raw"]


def test_a_source_of_another_format_fails_and_the_tenant_reads_no_path(source: Path, tmp_path: Path) -> None:
    """Nothing is probed: a raw file opened as qcow2 is an error.  Its words stay with the operator."""
    with pytest.raises(ConversionFailed) as failed:
        convert(source, "qcow2", tmp_path / "out", "raw", limits=LIMITS)
    assert str(tmp_path) not in failed.value.message
    assert "not in qcow2 format" in str(failed.value.detail)


def test_a_qcow2_header_inside_a_raw_disk_stays_data(tmp_path: Path) -> None:
    """A guest that writes a header on its raw disk changes nothing (CVE-2026-24708)."""
    disk = tmp_path / "guest.raw"
    qcow2.write_overlay(disk, size=MIB, backing=Path("/etc/passwd"), backing_format="raw")
    convert(disk, "raw", tmp_path / "out.qcow2", "qcow2", limits=LIMITS)
    convert(tmp_path / "out.qcow2", "qcow2", tmp_path / "back", "raw", limits=LIMITS)
    assert (tmp_path / "back").read_bytes() == disk.read_bytes()


def test_a_target_that_is_there_is_kept_unless_told_otherwise(source: Path, tmp_path: Path) -> None:
    """A second conversion onto a name replaces it only when asked to."""
    convert(source, "raw", tmp_path / "out", "raw", limits=LIMITS)
    with pytest.raises(DiskExists):
        convert(source, "raw", tmp_path / "out", "qcow2", limits=LIMITS)
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    convert(source, "raw", tmp_path / "out", "qcow2", limits=LIMITS, replace=True)
    assert qcow2.read_header(tmp_path / "out").size == source.stat().st_size


@pytest.mark.parametrize("disk_format", ["", "luks", "json", "host_device", "RAW"])
def test_formats_that_are_not_disks_of_ours_are_not_tried(disk_format: str, source: Path, tmp_path: Path) -> None:
    """The converter is never started for a format outside the list."""
    for src_format, dst_format in ((disk_format, "raw"), ("raw", disk_format)):
        with pytest.raises(ValueError, match="no conversion"):
            convert(source, src_format, tmp_path / "out", dst_format, limits=LIMITS)


def test_a_file_name_is_never_taken_for_a_protocol(tmp_path: Path) -> None:
    """Names with colons, commas and spaces are names."""
    odd = tmp_path / "json: nbd:localhost:1,x=y 100%"
    odd.write_bytes(b"z" * MIB)
    convert(odd, "raw", tmp_path / "fat:out, x", "raw", limits=LIMITS)
    assert (tmp_path / "fat:out, x").read_bytes() == odd.read_bytes()


def test_a_disk_is_grown_past_its_tables(tmp_path: Path) -> None:
    """Where the header alone cannot, the tool moves the tables."""
    disk = tmp_path / "disk.qcow2"
    qcow2.write_empty(disk, size=1 << 30)
    resize(disk, "qcow2", 9 << 40, limits=LIMITS)
    assert qcow2.read_header(disk).size == 9 << 40
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", disk], check=True, timeout=60)


def test_a_host_without_the_tool_says_so(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what is missing."""
    monkeypatch.setattr("shutil.which", lambda *_name, **_where: None)
    with pytest.raises(ConverterMissing):
        convert(source, "raw", tmp_path / "out", "raw", limits=LIMITS)
