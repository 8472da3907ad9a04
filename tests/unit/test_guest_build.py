"""The guest image's build: archive, libraries, packages, partition table, and when it builds again."""

import stat
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cumulet.guest import build as build_module
from cumulet.guest import elf, packages
from cumulet.guest.build import GuestBuildError, build
from cumulet.guest.contents import sources
from cumulet.guest.disk import ROOT_LABEL
from cumulet.guest.tree import Tree


def _read_cpio(data: bytes) -> dict[str, tuple[int, int, bytes]]:
    """Mode, owner and content of each record, as the kernel's reader finds them."""
    found: dict[str, tuple[int, int, bytes]] = {}
    at = 0
    while True:
        magic, words = data[at : at + 6], [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        assert magic == b"070701"
        mode, uid, size, name_size = words[1], words[2], words[6], words[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, uid, data[start : start + size])
        at = (start + size + 3) & ~3


def test_an_archive_carries_owner_mode_and_content() -> None:
    """What goes into the tree comes out of the archive, each parent before what it holds."""
    tree = Tree()
    tree.file("home/cloud/.ssh/authorized_keys", b"key\n", 0o600, owner=1000)
    tree.file("usr/bin/sudo", b"\x7fELF.", 0o4755)
    tree.link("bin", "usr/bin")
    found = _read_cpio(tree.cpio())
    assert found["home/cloud/.ssh/authorized_keys"] == (stat.S_IFREG | 0o600, 1000, b"key\n")
    assert found["usr/bin/sudo"] == (stat.S_IFREG | 0o4755, 0, b"\x7fELF.")
    assert found["bin"] == (stat.S_IFLNK | 0o777, 0, b"usr/bin")
    names = list(found)
    assert all(name.rpartition("/")[0] in ["", *names[:number]] for number, name in enumerate(names))


def test_nothing_can_be_put_below_a_link() -> None:
    """A path through a symbolic link would be written elsewhere than it says."""
    tree = Tree()
    tree.link("bin", "usr/bin")
    with pytest.raises(GuestBuildError):
        tree.file("bin/sh", b"")


def test_libraries_are_those_that_the_loader_finds(tmp_path: Path) -> None:
    """The reader of ELF files agrees with ldd on a real program, and finds nothing in a script."""
    program = Path(sys.executable).resolve()
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    loaded = {line.split()[0].rpartition("/")[2] for line in said.splitlines()}
    assert elf.needed(program)
    assert set(elf.needed(program)) <= loaded
    assert (elf.interpreter(program) or "").rpartition("/")[2] in loaded
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert elf.needed(script) == []
    assert elf.interpreter(script) is None


def test_the_libraries_of_libraries_are_fetched_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gets its real name; of a package's dependencies libraries come along, other programs do not."""
    text = (
        "linux-image-cloud-amd64\n  Depends: linux-image-6.1-cloud-amd64\n"
        "linux-image-6.1-cloud-amd64\n  Depends: kmod\nkmod\n  Depends: libkmod2\nlibkmod2\n"
        "curl\n  Depends: libcurl4\n  PreDepends: libc6\n  Depends: <virtual>\n    provider\n"
        "libcurl4\n |Depends: libssl3\n  Depends: debconf\nlibssl3\nlibc6\ndebconf\n  Depends: libdb5\nlibdb5\n"
    )
    monkeypatch.setattr(packages, "run", lambda *_command: text)
    wanted = ("linux-image-cloud-amd64", "curl")
    assert packages._closure(wanted) == ["curl", "libc6", "libcurl4", "libssl3", "linux-image-6.1-cloud-amd64"]


def test_without_package_lists_the_build_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose lists know no kernel gets an error that names the cure."""
    monkeypatch.setattr(packages, "run", lambda *_command: "")
    with pytest.raises(packages.PackagesUnavailable):
        packages.fetch(tmp_path)


def test_a_failed_program_shows_its_last_words() -> None:
    """The error of a build step holds what the program said, not only its status."""
    with pytest.raises(packages.CommandFailed, match="no such thing"):
        packages.run("sh", "-c", "echo no such thing >&2; exit 3")
    with pytest.raises(packages.CommandFailed, match="not found"):
        packages.run("/nonexistent/program")


def test_the_partition_table_reaches_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The active FAT partition comes first, the root last; nothing of the disk is left over."""
    from cumulet.guest import disk

    code = tmp_path / "mbr.bin"
    code.write_bytes(b"\xeb" * 440)
    monkeypatch.setattr(disk, "_MASTER_BOOT_RECORD", code)
    boot_size = 18 * 1024 * 1024
    table = disk._partition_table(boot_size, 1024 * 1024 + boot_size)
    assert len(table) == 512
    assert table[510:] == b"\x55\xaa"
    first, second = (struct.unpack("<B3sB3sII", table[446 + 16 * n : 462 + 16 * n]) for n in range(2))
    assert (first[0], first[2], first[4], first[5]) == (0x80, 0x0E, 2048, boot_size // 512)
    assert (second[0], second[2], second[4], second[5]) == (0, 0x83, 2048 + boot_size // 512, 64 * 2048)


def test_the_guest_looks_for_the_label_that_the_build_sets() -> None:
    """Build and guest name the root file system alike."""
    assert f"label={ROOT_LABEL} " in sources()["init"].decode()


def _pretend_built(out: Path) -> None:
    manifest = build_module._Manifest(
        inputs=build_module._inputs(("a_1_amd64.deb",)),
        packages=("a_1_amd64.deb",),
        disk_size=4,
        virtual_size=90_000_000,
        kernel_size=6,
        initramfs_size=9,
        kernel_version="6.1",
    )
    (out / "disk.qcow2").write_bytes(b"disk")
    (out / "vmlinuz").write_bytes(b"kernel")
    (out / "initramfs.img").write_bytes(b"initramfs")
    (out / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def test_a_built_image_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With unchanged inputs no program is run and no package is looked for."""
    monkeypatch.setattr(build_module, "missing_packages", lambda: pytest.fail("looked for packages"))
    _pretend_built(tmp_path)
    image = build(tmp_path)
    assert (image.disk, image.disk_size, image.virtual_size) == (tmp_path / "disk.qcow2", 4, 90_000_000)
    assert (image.kernel.read_bytes(), image.initramfs.read_bytes()) == (b"kernel", b"initramfs")


@pytest.mark.parametrize("harm", ["source changed", "file cut short", "file gone", "manifest torn"])
def test_an_image_that_is_not_whole_is_built_again(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other sources, or files that are not those of the manifest: the image is not taken for built."""
    _pretend_built(tmp_path)
    if harm == "source changed":
        monkeypatch.setattr(build_module, "sources", lambda: {**sources(), "etc/motd": b"news"})
    elif harm == "file cut short":
        (tmp_path / "initramfs.img").write_bytes(b"init")
    elif harm == "file gone":
        (tmp_path / "vmlinuz").unlink()
    else:
        (tmp_path / "manifest.json").write_text("{")
    monkeypatch.setattr(build_module, "missing_packages", lambda: ("mtools",))
    with pytest.raises(packages.PackagesUnavailable, match="mtools"):
        build(tmp_path)
