"""What is in the guest: programs, libraries, kernel modules and links, from unpacked packages and from `rootfs/`."""

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from cumulet.guest import elf
from cumulet.guest.packages import STATIC, GuestBuildError, run
from cumulet.guest.tree import Tree

__all__ = ["Kernel", "disk_initramfs", "guest_tree", "sources"]

_CLOUD = 1000  # uid and gid of user `cloud`
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_SUDO = "usr/libexec/sudo"
_BUSYBOX = "usr/lib/guest/busybox"  # the static one; a path that users do not meet

#: Programs of Debian packages; everything else that users can type comes from busybox, but nc: see rootfs/usr/bin.
_PROGRAMS = (
    "blkid", "curl", "dbclient", "dropbear", "dropbearkey", "e2fsck", "ip", "lsblk", "mke2fs", "mkfs", "mkfs.fat",
    "ping", "resize2fs", "socat", "sudo", "wget",
)  # fmt: skip

_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "usr/sbin": "bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "var/run": "/run",
    "etc/mtab": "/proc/mounts",
    "usr/bin/init": "/" + _BUSYBOX,
    "usr/bin/passwd": "/" + _BUSYBOX,
    "usr/bin/su": "/" + _BUSYBOX,
    "usr/bin/mkfs.ext2": "mke2fs",
    "usr/bin/mkfs.ext3": "mke2fs",
    "usr/bin/mkfs.ext4": "mke2fs",
    "usr/bin/mkfs.vfat": "mkfs.fat",
    "usr/bin/ping6": "ping",
    "usr/bin/ssh": "dbclient",
    "usr/lib/guest/tcp/nc": "/usr/bin/busybox",
    "usr/lib/guest/udp/nc": "/usr/bin/socat",
}

#: Kernel modules that a disk boot needs before it has a disk, and the others.  What they need in turn comes with them.
_EARLY_MODULES = ("virtio_pci", "virtio_blk", "sd_mod", "sr_mod", "virtio_scsi", "ata_piix")
_MODULES = (
    "virtio_net", "virtio_rng", "virtio_console", "virtio_balloon", "virtio_input", "button", "evdev", "isofs", "vfat",
    "nls_cp437", "nls_ascii", "nls_utf8", "8021q", "dummy", "loop", "qemu_fw_cfg",
)  # fmt: skip

#: What /init of a disk boot calls before or without a mounted /proc, where the shell cannot re-execute itself.
_EARLY_APPLETS = ("sh", "mount", "cat", "dd", "blockdev", "modprobe", "switch_root", "sleep")

_SPECIAL_MODES = {"etc/shadow": 0o640, "etc/sudoers": 0o440, "usr/bin/sudo": 0o4755}


class Kernel:
    """An unpacked kernel package: its image, and its modules with what each of them needs."""

    def __init__(self, unpacked: Path) -> None:
        images = sorted((unpacked / "boot").glob("vmlinuz-*"))
        if len(images) != 1:
            raise GuestBuildError(f"expected one kernel among the packages, found {len(images)}")
        self.image = images[0]
        self.version = self.image.name.removeprefix("vmlinuz-")
        base = unpacked / "usr" if (unpacked / "usr/lib/modules").exists() else unpacked
        self.folder = base / "lib/modules" / self.version
        run("depmod", "-b", base, self.version)
        self._needs: dict[str, list[str]] = {}
        self._paths: dict[str, str] = {}
        for line in (self.folder / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self._paths[_module_name(path)] = path
            self._needs[path] = needs.split()

    def closure(self, module: str) -> list[str]:
        """The files of `module` and of all that it needs.  A module that is part of the kernel itself has none."""
        path = self._paths.get(module)
        if path is not None:
            return [path, *self._needs[path]]
        if module in map(_module_name, (self.folder / "modules.builtin").read_text().splitlines()):
            return []
        raise GuestBuildError(f"kernel {self.version} has no module {module}")


def _module_name(path: str) -> str:
    return re.sub(r"\.ko(\.[a-z]+)?$", "", path.rpartition("/")[2]).replace("-", "_")


def sources() -> dict[str, bytes]:
    """The files of `rootfs/` by their path in the guest."""
    found: dict[str, bytes] = {}

    def walk(folder: Traversable, prefix: str) -> None:
        for item in folder.iterdir():
            if item.is_dir():
                walk(item, f"{prefix}{item.name}/")
            else:
                found[prefix + item.name] = item.read_bytes()

    walk(files("cumulet.guest") / "rootfs", "")
    return found


def guest_tree(unpacked: Path, kernel: Kernel) -> Tree:
    """The whole guest, as its root file system holds it."""
    tree = Tree()
    for path in (
        "dev",
        "proc",
        "sys",
        "run",
        "mnt",
        "usr/bin",
        "usr/lib64",
        "var/lib/guest",
        "var/log",
        "etc/dropbear",
    ):
        tree.folder(path)
    tree.folder("root", 0o700)
    tree.folder("tmp", 0o1777)
    tree.folder("var/tmp", 0o1777)
    tree.folder("home/cloud", owner=_CLOUD)
    tree.folder("home/cloud/.ssh", 0o700, owner=_CLOUD)
    tree.file("home/cloud/.ssh/authorized_keys", b"", 0o600, owner=_CLOUD)
    _add_programs(tree, unpacked)
    for path, target in _LINKS.items():
        tree.link(path, target)
    tree.file("etc/mke2fs.conf", (unpacked / "etc/mke2fs.conf").read_bytes())
    _add_modules(tree, kernel, (*_EARLY_MODULES, *_MODULES))
    for path, data in sources().items():
        if path != "init":
            tree.file(path, data, _mode(path, data))
    return tree


def disk_initramfs(unpacked: Path, kernel: Kernel) -> Tree:
    """The little that a disk boot needs in RAM until it has found its root."""
    tree = Tree()
    for path in ("dev", "proc", "sys", "mnt", "usr/bin"):
        tree.folder(path)
    tree.link("bin", "usr/bin")
    tree.link("lib", "usr/lib")
    tree.file("usr/bin/busybox", _find(unpacked / STATIC, "busybox").read_bytes(), 0o755)
    for name in _EARLY_APPLETS:
        tree.link(f"usr/bin/{name}", "busybox")
    found = sources()
    tree.file("init", found["init"], 0o755)
    tree.file("usr/lib/guest/functions", found["usr/lib/guest/functions"])
    _add_modules(tree, kernel, _EARLY_MODULES)
    return tree


def _mode(path: str, data: bytes) -> int:
    return _SPECIAL_MODES.get(path, 0o755 if data.startswith(b"#!") else 0o644)


def _find(unpacked: Path, name: str) -> Path:
    for folder in ("usr/bin", "usr/sbin", "bin", "sbin"):
        if (found := unpacked / folder / name).exists():
            return found.resolve()
    raise GuestBuildError(f"no package has the program {name}")


def _add_programs(tree: Tree, unpacked: Path) -> None:
    static, dynamic = _find(unpacked / STATIC, "busybox"), _find(unpacked, "busybox")
    tree.file(_BUSYBOX, static.read_bytes(), 0o755)
    tree.file("usr/bin/busybox", dynamic.read_bytes(), 0o755)
    for applet in run(dynamic, "--list").split():
        if applet != "busybox":
            tree.link(f"usr/bin/{applet}", "busybox")
    programs = {f"usr/bin/{name}": _find(unpacked, name) for name in _PROGRAMS}
    programs["usr/lib/sftp-server"] = unpacked / "usr/lib/openssh/sftp-server"
    programs[f"{_SUDO}/sudoers.so"] = unpacked / _SUDO / "sudoers.so"
    programs[f"{_LIBRARIES}/security/pam_permit.so"] = next(unpacked.glob("**/security/pam_permit.so"))
    for path, file in programs.items():
        tree.file(path, file.read_bytes(), _SPECIAL_MODES.get(path, 0o755))
    _add_libraries(tree, unpacked, [*programs.values(), dynamic])


def _add_libraries(tree: Tree, unpacked: Path, programs: Sequence[Path]) -> None:
    """Every library that the programs need, and that those need."""
    folders = [unpacked / path for path in (_LIBRARIES, _LIBRARIES.removeprefix("usr/"), _SUDO, "lib64", "usr/lib64")]
    waiting = list(programs)
    seen: set[str] = set()
    while waiting:
        file = waiting.pop()
        loader = elf.interpreter(file)
        for name in [*elf.needed(file), *([loader.rpartition("/")[2]] if loader else [])]:
            if name in seen:
                continue
            seen.add(name)
            found = next((folder / name for folder in folders if (folder / name).exists()), None)
            if found is None:
                raise GuestBuildError(f"no package has the library {name}, which {file.name} needs")
            waiting.append(found)
            folder = (
                "usr/lib64" if name.startswith("ld-linux") else _SUDO if found.parent.name == "sudo" else _LIBRARIES
            )
            tree.file(f"{folder}/{name}", found.read_bytes(), 0o755)


def _add_modules(tree: Tree, kernel: Kernel, modules: Iterable[str]) -> None:
    """Module files with what they need, and modprobe's index of just these; the kernel asks for file systems by it."""
    prefix = f"usr/lib/modules/{kernel.version}/"
    chosen = {path for module in modules for path in kernel.closure(module)}
    names = {_module_name(path) for path in chosen}
    for path in chosen:
        tree.file(prefix + path, (kernel.folder / path).read_bytes())
    dep = (kernel.folder / "modules.dep").read_text().splitlines(keepends=True)
    alias = (kernel.folder / "modules.alias").read_text().splitlines(keepends=True)
    tree.file(prefix + "modules.dep", "".join(line for line in dep if line.partition(":")[0] in chosen).encode())
    tree.file(prefix + "modules.alias", "".join(line for line in alias if line.split()[-1] in names).encode())
