"""The bootable disk: a partition table, a small FAT partition with boot loader and kernel, and the root file system.

The root comes last so that it can grow: at each boot the guest lets its partition reach to the end of the disk.  The
boot loader is syslinux, because it alone is installed into a file, by nobody in particular; extlinux and grub want a
mounted file system.
"""

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

from cumulet.guest.packages import GuestBuildError, run
from cumulet.guest.tree import Tree

__all__ = ["ROOT_LABEL", "make_disk"]

ROOT_LABEL = "cumulet-root"  # rootfs/init looks for it

_MIB = 1024 * 1024
_SECTOR = 512
_BOOT_START = _MIB
_ROOT_SIZE = 64 * _MIB
_MASTER_BOOT_RECORD = Path("/usr/lib/syslinux/mbr/mbr.bin")
_FAT16_LBA, _LINUX = 0x0E, 0x83
_ACTIVE = 0x80
_CHUNK = _MIB


def make_disk(target: Path, root: Tree, boot_files: Mapping[str, bytes], *, cmdline: str, work: Path) -> int:
    """Make `target` a qcow2 disk that boots by BIOS, and return its virtual size in bytes."""
    boot, ext4, raw = work / "boot.fat", work / "root.ext4", work / "disk.raw"
    _make_boot(boot, boot_files, cmdline, work)
    root.ext4(ext4, size=_ROOT_SIZE, label=ROOT_LABEL)
    root_start = _BOOT_START + boot.stat().st_size
    with raw.open("wb") as disk:
        disk.truncate(root_start + _ROOT_SIZE)
        disk.write(_partition_table(boot.stat().st_size, root_start))
        for start, part in ((_BOOT_START, boot), (root_start, ext4)):
            disk.seek(start)
            with part.open("rb") as source:
                shutil.copyfileobj(source, disk, _CHUNK)
    run("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", raw, target)
    return raw.stat().st_size


def _make_boot(file: Path, boot_files: Mapping[str, bytes], cmdline: str, work: Path) -> None:
    config = f"DEFAULT linux\nPROMPT 0\nLABEL linux\n KERNEL vmlinuz\n INITRD initrd.img\n APPEND {cmdline}\n"
    contents = {**boot_files, "syslinux.cfg": config.encode()}
    # Room for the files, for syslinux itself and for the file system's tables; and FAT16 has at least 4,085 clusters.
    size = max(sum(map(len, contents.values())) // _MIB + 3, 17) * _MIB
    with file.open("wb") as empty:
        empty.truncate(size)
    run("mkfs.vfat", "-F", "16", "-s", "8", "-n", "BOOT", file)
    sources = []
    for name, data in contents.items():
        source = work / name
        source.write_bytes(data)
        sources.append(source)
    run("mcopy", "-i", file, *sources, "::")
    run("syslinux", "--install", file)


def _partition_table(boot_size: int, root_start: int) -> bytes:
    code = _MASTER_BOOT_RECORD.read_bytes()
    if len(code) > 440:
        raise GuestBuildError(f"{_MASTER_BOOT_RECORD} is too long for a boot record")
    entries = b"".join(
        # Cylinders and heads are left at their "look at the sector numbers" value.
        struct.pack("<B3sB3sII", active, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start // _SECTOR, size // _SECTOR)
        for active, kind, start, size in (
            (_ACTIVE, _FAT16_LBA, _BOOT_START, boot_size),
            (0, _LINUX, root_start, _ROOT_SIZE),
        )
    )
    return (code.ljust(446, b"\0") + entries).ljust(510, b"\0") + b"\x55\xaa"
