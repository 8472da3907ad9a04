"""The Debian packages under a real cloud: which are missing, and how to install them without their services.

A package's own service must neither start now (it would take bridges, sockets and ports) nor at the next boot, so
installation runs under a policy that denies starts, and switches off what it brought.  Units that were there before are
left as they are.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from cumulet.host.errors import BindingUnusable, InstallFailed

__all__ = ["PACKAGES", "binding_usable", "install", "link_libvirt_binding", "missing"]

#: package -> a file that only it brings
PACKAGES = {
    "ovn-central": "/usr/bin/ovn-northd",
    "ovn-host": "/usr/bin/ovn-controller",
    "openvswitch-switch": "/usr/share/openvswitch/vswitch.ovsschema",
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",
    "qemu-utils": "/usr/bin/qemu-img",
    "seabios": "/usr/share/seabios/bios-256k.bin",
    "ipxe-qemu": "/usr/lib/ipxe/qemu/efi-virtio.rom",
    "libvirt-daemon": "/usr/sbin/libvirtd",
    "libvirt-daemon-driver-qemu": "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
    "libvirt-daemon-system": "/etc/libvirt/libvirtd.conf",
    "libvirt-clients": "/usr/bin/virsh",
    "python3-libvirt": "/usr/lib/python3/dist-packages/libvirt.py",
    "iproute2": "/usr/sbin/tc",
    "nftables": "/usr/sbin/nft",
    "xorriso": "/usr/bin/xorriso",
    "novnc": "/usr/share/novnc/core/rfb.js",
}

_UNITS = {
    "ovn-central": ("ovn-central.service",),
    "ovn-host": ("ovn-host.service",),
    "openvswitch-switch": ("openvswitch-switch.service",),
    "libvirt-daemon-system": (
        "libvirtd.service",
        "libvirtd.socket",
        "libvirtd-ro.socket",
        "libvirtd-admin.socket",
        "libvirt-guests.service",
        "virtlogd.service",
        "virtlogd.socket",
        "virtlockd.service",
        "virtlockd.socket",
    ),
    "nftables": ("nftables.service",),
}
_BINDING_FOLDER = Path("/usr/lib/python3/dist-packages")
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_SAVED = Path("/usr/sbin/policy-rc.d.before-cumulet")
_APT_S_MAX = 900.0
_DPKG_LOCK_S_MAX = 300


def missing(packages: dict[str, str] | None = None) -> list[str]:
    """Names of the packages that are not installed.  Looks at files, which takes no process and no package database."""
    return [name for name, path in (packages or PACKAGES).items() if not Path(path).exists()]


def install(names: Sequence[str], log: Path) -> None:
    """Install packages by apt-get, services neither started nor enabled.  Output goes to the log.

    Raises InstallFailed with apt's own first complaint.
    """
    if not names:
        return
    if os.geteuid() != 0:
        raise InstallFailed(f"installing {', '.join(names)} needs root")
    if shutil.which("apt-get") is None:
        raise InstallFailed("this machine has no apt-get; only Debian and its kin can carry real drivers")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, _no_service_starts():
        if not any(Path("/var/lib/apt/lists").glob("*Packages*")):
            _apt(["update"], output.fileno(), log)
        try:
            _apt(["install", "--yes", "--no-install-recommends", *names], output.fileno(), log)
        except InstallFailed:
            # the lists may be older than the archive
            _apt(["update"], output.fileno(), log)
            _apt(["install", "--yes", "--no-install-recommends", *names], output.fileno(), log)
        units = [unit for name in names for unit in _UNITS.get(name, ())]
        if units and shutil.which("systemctl"):
            # also without a running systemd: this only removes links
            subprocess.run(
                ["systemctl", "disable", *units],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=_APT_S_MAX,
            )


def _apt(arguments: list[str], output: int, log: Path) -> None:
    begin = log.stat().st_size
    command = ["apt-get", "-q", "-o", f"DPkg::Lock::Timeout={_DPKG_LOCK_S_MAX}", *arguments]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            check=False,
            timeout=_APT_S_MAX,
        )
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"apt-get {arguments[0]} took more than {_APT_S_MAX:g} s; see {log}") from None
    if done.returncode == 0:
        return
    with log.open("rb") as written:
        written.seek(begin)
        lines = written.read().decode(errors="replace").splitlines()
    complaint = next((line for line in lines if line.startswith("E: ")), f"exit status {done.returncode}")
    raise InstallFailed(f"apt-get {arguments[0]} failed: {complaint.removeprefix('E: ')}; see {log}")


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Have Debian's policy deny every start meanwhile; the administrator's own policy comes back afterwards."""
    if _POLICY.exists() and not _POLICY_SAVED.exists():
        _POLICY.rename(_POLICY_SAVED)
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
        if _POLICY_SAVED.exists():
            _POLICY_SAVED.rename(_POLICY)


def link_libvirt_binding(target: Path | None = None) -> None:
    """Make Debian's libvirt binding importable here, by links: no compiler, and always the installed libvirt's own
    binding.

    Raises BindingUnusable when it was built for another Python than this one.
    """
    folder = target or Path(sysconfig.get_paths()["purelib"])
    if folder == _BINDING_FOLDER:
        return
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    extensions = [_BINDING_FOLDER / f"{name}{suffix}" for name in ("libvirtmod", "libvirtmod_qemu")]
    if not all(path.exists() for path in extensions):
        built = ", ".join(sorted(path.name for path in _BINDING_FOLDER.glob("libvirtmod.*"))) or "nothing"
        raise BindingUnusable(
            f"package python3-libvirt brings {built}, but this Python wants *{suffix}; run cumulet by Debian's python3"
        )
    modules = [_BINDING_FOLDER / f"{name}.py" for name in ("libvirt", "libvirt_qemu", "libvirtaio")]
    for source in (*modules, *extensions):
        link = folder / source.name
        if link.is_symlink() or not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(source)
    importlib.invalidate_caches()


def binding_usable() -> bool:
    """Whether `import libvirt` can work.  Does not import it."""
    return importlib.util.find_spec("libvirt") is not None and importlib.util.find_spec("libvirtmod") is not None
