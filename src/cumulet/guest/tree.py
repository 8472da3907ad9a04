"""A file system as a table of entries, and the two forms it leaves in: an initramfs archive and an ext4 file system.

Owners and modes live in the table, so that the build needs neither root nor fakeroot: the archive carries them in its
headers, and in the ext4 file system they are set by debugfs.
"""

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cumulet.guest.packages import GuestBuildError, run

__all__ = ["Entry", "Tree"]


class Entry(msgspec.Struct, frozen=True):
    """A file, a folder or a symbolic link.  `data` is the content or the link's target; `mode` has the type's bits."""

    mode: int
    data: bytes = b""
    uid: int = 0
    gid: int = 0


class Tree:
    """Entries by their path, without a leading slash; parents are made as needed."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        """In an order in which a parent comes before what it holds."""
        return iter(sorted(self._entries.items()))

    def folder(self, path: str, mode: int = 0o755, *, owner: int = 0) -> None:
        self._put(path, Entry(stat.S_IFDIR | mode, b"", owner, owner))

    def file(self, path: str, data: bytes, mode: int = 0o644, *, owner: int = 0) -> None:
        self._put(path, Entry(stat.S_IFREG | mode, data, owner, owner))

    def link(self, path: str, target: str) -> None:
        self._put(path, Entry(stat.S_IFLNK | 0o777, target.encode()))

    def _put(self, path: str, entry: Entry) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in self._entries:
            self.folder(parent)
        if parent and not stat.S_ISDIR(self._entries[parent].mode):
            raise GuestBuildError(f"{parent} is no folder of the guest, yet {path} should go into it")
        self._entries[path] = entry

    def cpio(self) -> bytes:
        """The tree as the kernel takes it for an initramfs: cpio in the format `newc`."""
        parts: list[bytes] = []
        for number, (path, entry) in enumerate(self, start=1):
            parts += _record(path, entry, number)
        parts += _record("TRAILER!!!", Entry(0), 0)
        return b"".join(parts)

    def ext4(self, file: Path, *, size: int, label: str) -> None:
        """Make `file` an ext4 file system of `size` bytes that holds the tree."""
        with tempfile.TemporaryDirectory(dir=file.parent) as name:
            stage = Path(name) / "root"
            stage.mkdir()
            owners = ["sif / mode 040755", "sif / uid 0", "sif / gid 0"]
            for path, entry in self:
                self._stage(stage / path, entry)
                owners += [f'sif "/{path}" uid {entry.uid}', f'sif "/{path}" gid {entry.gid}']
            # An inode for each 16 KiB, as on big disks: the ratio is kept when the guest grows it to one.
            # Everything is laid out now: the kernel would else do it in the background of each guest's first boot.
            options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
            kind = ("-q", "-F", "-t", "ext4", "-b", "4096", "-i", "16384", "-m", "0", "-L", label, "-E", options)
            run("mke2fs", *kind, "-d", stage, file, f"{size // 1024}k")
        run("debugfs", "-w", "-f", "-", file, text="\n".join(owners) + "\n")

    @staticmethod
    def _stage(path: Path, entry: Entry) -> None:
        if stat.S_ISLNK(entry.mode):
            path.symlink_to(entry.data.decode())
        elif stat.S_ISDIR(entry.mode):
            path.mkdir()
            path.chmod(stat.S_IMODE(entry.mode))
        else:
            path.write_bytes(entry.data)
            path.chmod(stat.S_IMODE(entry.mode))


def _record(path: str, entry: Entry, number: int) -> list[bytes]:
    name = path.encode() + b"\0"
    # magic, inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum
    words = (number, entry.mode, entry.uid, entry.gid, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % word for word in words) + name
    return [head, b"\0" * (-len(head) % 4), entry.data, b"\0" * (-len(entry.data) % 4)]
