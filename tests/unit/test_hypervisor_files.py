"""The config drive as a CD image, and the tail of a console log."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cumulet.compute.agent.hypervisor import config_drive, console

SECTOR = 2048
NAMES = st.text("abcXYZ019-_.", min_size=1, max_size=40).filter(lambda name: name.strip(".") != "")


def read_joliet(image: bytes) -> dict[str, bytes]:
    """Every file of the image by its long name: a reader independent of the writer."""
    root = 17 * SECTOR + 156
    return _read_folder(image, *struct.unpack_from("<I4xI", image, root + 2), prefix="")


def _read_folder(image: bytes, sector: int, size: int, *, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    position, end = sector * SECTOR, sector * SECTOR + size
    while position < end:
        length = image[position]
        if length == 0:
            position = (position // SECTOR + 1) * SECTOR
            continue
        extent, count = struct.unpack_from("<I4xI", image, position + 2)
        name = image[position + 33 : position + 33 + image[position + 32]]
        position_next = position + length
        if name not in (b"\0", b"\1"):
            text = name.decode("utf-16-be").removesuffix(";1")
            if image[position + 25] & 2:
                found |= _read_folder(image, extent, count, prefix=f"{prefix}{text}/")
            else:
                found[prefix + text] = image[extent * SECTOR : extent * SECTOR + count]
        position = position_next
    return found


@given(st.dictionaries(st.tuples(NAMES, NAMES).map("/".join), st.binary(max_size=5000), max_size=60))
def test_every_file_can_be_read_back(files: dict[str, bytes]) -> None:
    """Names and contents come out as they went in, and the image is whole sectors."""
    image = config_drive.build(files)
    assert read_joliet(image) == files
    assert len(image) == int.from_bytes(image[16 * SECTOR + 80 : 16 * SECTOR + 84], "little") * SECTOR


def test_the_label_is_where_guests_look() -> None:
    """Volume label config-2 in both descriptors, and the same files make the same bytes."""
    files = {"openstack/latest/meta_data.json": b"{}"}
    image = config_drive.build(files)
    assert image[16 * SECTOR + 40 : 16 * SECTOR + 72].rstrip() == b"config-2"
    assert image[17 * SECTOR + 40 : 17 * SECTOR + 72].decode("utf-16-be").rstrip() == "config-2"
    assert image == config_drive.build(files)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", "x" * 65])
def test_paths_stay_inside(name: str) -> None:
    """Only relative paths of names that every reader can take."""
    with pytest.raises(ValueError, match="not a path inside the drive"):
        config_drive.build({name: b""})


def test_a_drive_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the limit is refused before anything is built."""
    monkeypatch.setattr(config_drive, "CONFIG_DRIVE_BYTES_MAX", 10)
    with pytest.raises(config_drive.ConfigDriveTooLarge):
        config_drive.build({"a": bytes(11)})


def test_writing_again_replaces(tmp_path: Path) -> None:
    """A drive may be written again, appears whole, and is nobody else's to read."""
    path = tmp_path / "drive.iso"
    config_drive.write(path, {"a": b"1"})
    config_drive.write(path, {"a": b"2"})
    assert read_joliet(path.read_bytes()) == {"a": b"2"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_last_lines_of_a_console(tmp_path: Path) -> None:
    """As many lines as asked for, all for None, none for 0; an unfinished line counts."""
    log = tmp_path / "console.log"
    assert console.tail(log, None) == ""
    log.write_bytes(b"one\r\ntwo\nthree")
    assert console.tail(log, None) == "one\r\ntwo\nthree"
    assert console.tail(log, 2) == "two\nthree"
    assert console.tail(log, 0) == ""
    assert console.tail(log, 99) == "one\r\ntwo\nthree"


def test_a_tail_reaches_into_the_older_log(tmp_path: Path) -> None:
    """After a rotation the lines before it are still told, up to the limit of bytes."""
    (tmp_path / "console.log").write_bytes(b"new\n")
    (tmp_path / "console.log.0").write_bytes(b"old\nolder\n")
    assert console.tail(tmp_path / "console.log", None) == "old\nolder\nnew\n"
    assert console.tail(tmp_path / "console.log", None, bytes_max=8) == "der\nnew\n"[-8:]


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    """A guest may print anything."""
    (tmp_path / "console.log").write_bytes(b"\xff\xfe\x00ok\n")
    assert console.tail(tmp_path / "console.log", 1).endswith("ok\n")
