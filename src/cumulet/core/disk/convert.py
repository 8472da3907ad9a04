"""Conversions between formats, by a `qemu-img` that may touch nothing else.

Every format is given explicitly, the source's and each layer's under it: nothing is ever probed.  The process is
confined to its files (see `jail`), to so much memory, CPU time and output, and killed when its time is over.  The
target appears under its name when it is complete and flushed, or not at all.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from cumulet.core.disk import jail, qcow2
from cumulet.core.disk.errors import (
    ConversionFailed,
    ConversionNoSpace,
    ConversionTimeout,
    ConverterMissing,
    DiskExists,
)
from cumulet.core.disk.files import appearing

__all__ = ["Layer", "Limits", "convert", "resize"]

#: in QEMU's names
_FORMATS = frozenset({"raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"})
#: formats that could name a file under them
_LAYERED = frozenset({"qcow2", "vmdk"})
_NICE = 10
_OPEN_FILES_MAX = 64
_WORDS_MAX = 2000
_FULL_MARKS = ("No space left on device", "File too large", "Disk quota exceeded")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one conversion may use.  The reference allows its tools 1 GiB of address space as well."""

    #: no file grows beyond this; give the disk's virtual size and some room for tables
    output_bytes: int
    address_space_bytes: int = 1 << 30
    cpu_s: int = 1800
    wall_s: float = 3600.0


class Layer(msgspec.Struct, frozen=True):
    """A disk as the record knows it: its file, its format in QEMU's name, and the layer under it."""

    path: Path
    format: str
    backing: "Layer | None" = None


def convert(
    src: Path,
    src_format: str,
    dst: Path,
    dst_format: str,
    *,
    limits: Limits,
    backing: Layer | None = None,
    size: int | None = None,
    replace: bool = False,
) -> None:
    """Write the disk in `src` to `dst` in another format.

    `backing` is what lies under `src`; without it a layer under `src` is not opened even if `src` names one.  With
    `size` (raw and qcow2 only) the new disk has so many bytes, zero behind the source's end, in a container of our
    own making.  Raises ConversionFailed and its kinds; DiskExists if `dst` is there, unless `replace`;
    FileNotFoundError.
    """
    source = Layer(src, src_format, backing)
    reads = [str(layer.path.resolve(strict=True)) for layer in _layers(source)]
    _known(dst_format)
    if not replace and dst.exists():
        raise DiskExists(detail=str(dst))
    with appearing(dst, durable=True, replace=replace) as part:
        if size is None:
            part.touch(mode=0o600)
            arguments = ["convert", "-O", dst_format]
        else:
            _empty(part, dst_format, size)
            arguments = ["convert", "-n", "--target-is-zero", "-O", dst_format]
        target = str(part.absolute())
        _run([*arguments, _described(source), target], reads=reads, writes=[target], limits=limits)


def resize(path: Path, disk_format: str, size: int, *, limits: Limits) -> None:
    """Grow a disk that no process has open, where its header alone cannot (`qcow2.grow`).  Raises ConversionFailed."""
    _known(disk_format)
    target = str(path.absolute())
    _run(["resize", "-f", disk_format, target, str(size)], reads=[], writes=[target], limits=limits)


def _empty(path: Path, disk_format: str, size: int) -> None:
    if disk_format == "qcow2":
        qcow2.write_empty(path, size=size)
    elif disk_format == "raw":
        path.touch(mode=0o600)
        os.truncate(path, size)
    else:
        raise ValueError(f"a {disk_format} disk has the size of its source")


def _layers(top: Layer) -> list[Layer]:
    layers = [top]
    while (under := layers[-1].backing) is not None:
        layers.append(under)
    for layer in layers:
        _known(layer.format)
    return layers


def _known(disk_format: str) -> None:
    if disk_format not in _FORMATS:
        raise ValueError(f"no conversion from or to {disk_format!r}")


def _described(layer: Layer) -> str:
    """A source in QEMU's JSON form, which says every format, and `null` where there is no layer under it."""
    return "json:" + json.dumps(_node(layer))


def _node(layer: Layer) -> dict[str, object]:
    node: dict[str, object] = {
        "driver": layer.format,
        "read-only": True,
        "file": {"driver": "file", "filename": str(layer.path.absolute())},
    }
    if layer.format in _LAYERED:
        node["backing"] = None if layer.backing is None else _node(layer.backing)
    return node


def _run(arguments: list[str], *, reads: list[str], writes: list[str], limits: Limits) -> None:
    program = shutil.which("qemu-img", path="/usr/bin:/usr/local/bin:/bin")
    if program is None:
        raise ConverterMissing
    spec = {
        "read": reads,
        "write": writes,
        "nice": _NICE,
        "limits": {
            "RLIMIT_AS": limits.address_space_bytes,
            "RLIMIT_CPU": limits.cpu_s,
            "RLIMIT_FSIZE": limits.output_bytes,
            "RLIMIT_CORE": 0,
            "RLIMIT_NOFILE": _OPEN_FILES_MAX,
        },
    }
    command = [sys.executable, "-I", "-S", str(jail.__file__), json.dumps(spec), program, *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limits.wall_s,
            check=False,
            cwd="/",
            # One arena: glibc would reserve 64 MiB of address space for each thread.
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "MALLOC_ARENA_MAX": "1"},
        )
    except subprocess.TimeoutExpired as late:
        raise ConversionTimeout(detail=f"qemu-img {arguments[0]} took more than {limits.wall_s} s") from late
    if done.returncode == 0:
        return
    words = done.stderr.decode("utf-8", "replace")[-_WORDS_MAX:].strip()
    detail = f"qemu-img {arguments[0]} ended with {done.returncode}: {words}"
    if done.returncode == -signal.SIGXFSZ or any(mark in words for mark in _FULL_MARKS):
        raise ConversionNoSpace(detail=detail)
    if done.returncode == -signal.SIGXCPU:
        raise ConversionTimeout(detail=detail)
    raise ConversionFailed(detail=detail)
