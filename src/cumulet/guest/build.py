"""Make the guest image, once: `build(out)`, or `python -m cumulet.guest.build OUT`.

Three files come out.  `disk.qcow2` boots by BIOS from a virtio, SCSI or IDE disk.  `vmlinuz` with `initramfs.img` boots
the same guest without any disk, straight from the hypervisor.  A second call finds them and returns at once, unless the
sources of the guest changed; the Debian packages stay as they were first fetched until `refresh` asks for newer ones,
so that an image does not change by itself.
"""

import argparse
import fcntl
import hashlib
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import msgspec

from cumulet.guest.contents import Kernel, disk_initramfs, guest_tree, sources
from cumulet.guest.disk import ROOT_LABEL, make_disk
from cumulet.guest.packages import PACKAGES, GuestBuildError, PackagesUnavailable, fetch, missing_packages, run, unpack

__all__ = ["DIRECT_BOOT_CMDLINE", "PACKAGES", "GuestBuildError", "GuestImage", "build", "missing_packages"]

#: The kernel's command line for `kernel` and `initramfs`.  With `root=…` added a disk that holds the guest is preferred
#: to RAM.  The kernel's self-tests of its ciphers are left out: on an emulated processor they take 0.3 s of each boot.
DIRECT_BOOT_CMDLINE = "console=tty0 console=ttyS0 quiet cryptomgr.notests=1"

_DISK_CMDLINE = f"root=LABEL={ROOT_LABEL} {DIRECT_BOOT_CMDLINE}"


class GuestImage(msgspec.Struct, frozen=True):
    """A built guest image.  Sizes in bytes; `virtual_size` is the disk's as the guest sees it."""

    disk: Path
    kernel: Path
    initramfs: Path
    disk_size: int
    virtual_size: int
    kernel_size: int
    initramfs_size: int
    kernel_version: str


class _Manifest(msgspec.Struct, frozen=True):
    """What was built from what; written last."""

    inputs: str
    packages: tuple[str, ...]
    disk_size: int
    virtual_size: int
    kernel_size: int
    initramfs_size: int
    kernel_version: str


def build(out: Path, *, refresh: bool = False) -> GuestImage:
    """The guest image in folder `out`, built unless it is there already.

    Needs PACKAGES installed and, the first time or with `refresh`, Debian's archive.  Raises GuestBuildError.
    """
    out = out.absolute()
    if not refresh and (image := _built(out)):
        return image
    if lacking := missing_packages():
        raise PackagesUnavailable(f"the guest image is built with Debian packages missing here: {' '.join(lacking)}")
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        if not refresh and (image := _built(out)):
            return image  # somebody else has built it while we waited
        packages = fetch(out / "packages", refresh=refresh)
        with tempfile.TemporaryDirectory(prefix="build.", dir=out) as work:
            return _build(out, packages, Path(work))


def _build(out: Path, packages: Iterable[Path], work: Path) -> GuestImage:
    unpacked = work / "unpacked"
    unpack(packages, unpacked)
    kernel = Kernel(unpacked)
    tree = guest_tree(unpacked, kernel)
    image = kernel.image.read_bytes()
    boot_files = {"vmlinuz": image, "initrd.img": _packed(disk_initramfs(unpacked, kernel).cpio(), work)}
    disk = work / "disk.qcow2"
    virtual_size = make_disk(disk, tree, boot_files, cmdline=_DISK_CMDLINE, work=work)
    tree.file("init", sources()["init"], 0o755)
    initramfs = work / "initramfs.img"
    initramfs.write_bytes(_packed(tree.cpio(), work))
    names = tuple(package.name for package in packages)
    manifest = _Manifest(
        inputs=_inputs(names),
        packages=names,
        disk_size=disk.stat().st_size,
        virtual_size=virtual_size,
        kernel_size=len(image),
        initramfs_size=initramfs.stat().st_size,
        kernel_version=kernel.version,
    )
    (out / "manifest.json").unlink(missing_ok=True)
    kernel.image.replace(out / "vmlinuz")
    disk.replace(out / "disk.qcow2")
    initramfs.replace(out / "initramfs.img")
    written = work / "manifest.json"
    written.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    written.replace(out / "manifest.json")
    return _image(out, manifest)


def _packed(archive: bytes, work: Path) -> bytes:
    """Compressed as the kernel unpacks it fastest: lz4's old format."""
    plain, packed = work / "initramfs.cpio", work / "initramfs.lz4"
    plain.write_bytes(archive)
    run("lz4", "-l", "-9", "-q", "-f", plain, packed)
    return packed.read_bytes()


def _built(out: Path) -> GuestImage | None:
    """What an earlier call has made of the same inputs."""
    try:
        manifest = msgspec.json.decode((out / "manifest.json").read_bytes(), type=_Manifest)
        image = _image(out, manifest)
        sizes = (image.disk.stat().st_size, image.kernel.stat().st_size, image.initramfs.stat().st_size)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    complete = sizes == (image.disk_size, image.kernel_size, image.initramfs_size)
    return image if complete and manifest.inputs == _inputs(manifest.packages) else None


def _image(out: Path, manifest: _Manifest) -> GuestImage:
    return GuestImage(
        disk=out / "disk.qcow2",
        kernel=out / "vmlinuz",
        initramfs=out / "initramfs.img",
        disk_size=manifest.disk_size,
        virtual_size=manifest.virtual_size,
        kernel_size=manifest.kernel_size,
        initramfs_size=manifest.initramfs_size,
        kernel_version=manifest.kernel_version,
    )


def _inputs(packages: Iterable[str]) -> str:
    """A name for all that the image depends on: this package's own files, and the versions of the Debian packages."""
    digest = hashlib.sha256()
    here = files("cumulet.guest")
    programs = {item.name: item.read_bytes() for item in here.iterdir() if item.name.endswith(".py")}
    for name, data in sorted({**programs, **{f"rootfs/{path}": data for path, data in sources().items()}}.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    for package in packages:
        digest.update(f"{package}\n".encode())
    return digest.hexdigest()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One build in a folder at a time; the others wait."""
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Build into the named folder and say what is there."""
    parser = argparse.ArgumentParser(prog="python -m cumulet.guest.build", description="Make the guest image.")
    parser.add_argument("out", type=Path, help="the folder for the image; packages are kept there too")
    parser.add_argument("--refresh", action="store_true", help="fetch the newest Debian packages and build again")
    options = parser.parse_args(arguments)
    try:
        image = build(options.out, refresh=options.refresh)
    except GuestBuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path in (image.disk, image.kernel, image.initramfs):
        sys.stdout.write(f"{path.stat().st_size / 1e6:6.1f} MB  {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
