"""The cloud's own libvirtd and virtlogd, in the keeper's mount namespace, with a configuration of their own.

Their folders are bound over /etc/libvirt, /run/libvirt and so on, so each of them believes to be the machine's only
libvirt.
"""

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from cumulet.host.config import HostConfig
from cumulet.host.daemons import Daemon, find, log_of
from cumulet.host.namespace import run_in_keeper
from cumulet.host.process import go_first

__all__ = [
    "clear_folder",
    "forget_previous_boot",
    "libvirt_daemons",
    "libvirt_uri",
    "write_configuration",
]

_READY_S_MAX = 15.0
_SBIN = "/usr/sbin"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: by libvirt's names for them
_NOT_ASKED = ("cpu-unavailable-features", "VGA.vgamem_mb", "query-hotpluggable-cpus", "iothread")


def libvirt_uri(config: HostConfig) -> str:
    return f"qemu:///system?socket={config.libvirt_dir}/run/libvirt-sock"


def libvirt_daemons(config: HostConfig) -> list[Daemon]:
    """In the order of starting.  QEMU asks libvirtd for nothing, but its console log goes through virtlogd."""
    return [
        _daemon(config, "virtlogd", needs=()),
        _daemon(config, "libvirtd", needs=("virtlogd",), then=lambda: warm_capabilities(config)),
    ]


def _daemon(config: HostConfig, name: str, *, needs: tuple[str, ...], then: Callable[[], None] | None = None) -> Daemon:
    pidfile = f"{config.libvirt_dir}/run/{name}.pid"
    # without /usr/sbin libvirt finds no `tc`, of which it would run a process for each tap; ours have what it would set
    command = ["env", "PATH=/usr/bin:/bin", f"{_SBIN}/{name}"]
    command += ["-d", "-f", f"{config.libvirt_dir}/etc/{name}.conf", "-p", pidfile]

    def launch() -> None:
        run_in_keeper(config, command, log=log_of(config, name), seconds=_READY_S_MAX)
        if then is not None:
            then()

    def care() -> None:
        # each start of a guest waits for it three times and more, each time behind whoever has the core: 6 ms of 93, where OVN
        # and the cloud are at work for the same launch
        process = find(daemon)
        if process is not None:
            go_first(process.pid)
            process.close()

    daemon = Daemon(
        name=name, executable=name, marker=pidfile, pidfile=pidfile, needs=("keeper", *needs), launch=launch, care=care
    )
    return daemon


def write_configuration(config: HostConfig) -> None:
    """The daemons' configuration files.  The host's id stays the same for ever: libvirt would invent one at each
    start."""
    folder = Path(config.state_dir, "libvirt")
    id_file = folder / "host_uuid"
    if not id_file.exists():
        id_file.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    log = f'log_outputs = "3:file:{config.log_dir}'
    files = {
        "libvirtd.conf": [
            f'host_uuid = "{id_file.read_text(encoding="ascii").strip()}"',
            'unix_sock_group = "root"',
            'unix_sock_ro_perms = "0700"',
            'unix_sock_rw_perms = "0700"',
            'auth_unix_ro = "none"',
            'auth_unix_rw = "none"',
            f'{log}/libvirtd.log"',
        ],
        "virtlogd.conf": [f'{log}/virtlogd.log"'],
        "qemu.conf": [
            f"remote_display_port_min = {config.vnc_ports.first}",
            f"remote_display_port_max = {config.vnc_ports.last}",
            f"remote_websocket_port_min = {config.websocket_ports.first}",
            f"remote_websocket_port_max = {config.websocket_ports.last}",
            # owners are known: the disks are ours.  Remembering them in extended attributes counts references, which a
            # crash upsets
            "remember_owner = 0",
            # at each start libvirt asks QEMU, which reads its monitor byte by byte, 8 us each.  Without these it does not
            # ask: what CPU the guest got, property by property, 192 of them, 0.3 s (it asks the older way, by two bit
            # masks); how much memory the screen got, which we chose; which processors could be plugged in; which I/O
            # threads there are.  We have no use for either
            f"capability_filters = [{', '.join(map(_quoted, _NOT_ASKED))}]",
            # the keeper's /dev has no more than a guest may see: another for each is made and removed for nothing
            "namespaces = [ ]",
            # what we would have of them is the list of devices that a guest may open; making and removing a folder for
            # each controller, thread and guest costs 25 ms a start
            "cgroup_controllers = [ ]",
        ],
    }
    for name, lines in files.items():
        (folder / "etc" / name).write_text("\n".join([*lines, ""]), encoding="ascii")


def _quoted(word: str) -> str:
    return f'"{word}"'


def forget_previous_boot(config: HostConfig) -> bool:
    """Empty libvirt's run folder when it is from an earlier boot; say whether this is a new boot.

    libvirt expects its run folder on a file system that a reboot clears: the pids in it belong to other processes by
    now.
    """
    folder = Path(config.state_dir, "libvirt", "run")
    record = Path(config.state_dir, "run", "boot_id")
    current = Path(_BOOT_ID).read_text(encoding="ascii")
    if record.exists() and record.read_text(encoding="ascii") == current:
        return False
    clear_folder(folder)
    record.write_text(current, encoding="ascii")
    return True


def clear_folder(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def warm_capabilities(config: HostConfig) -> None:
    """Have libvirt ask QEMU what it can do, so that the first guest need not wait for it (3 s)."""
    command = ["virsh", "-q", "-c", libvirt_uri(config), "domcapabilities", "--virttype", "qemu"]
    run_in_keeper(config, command, log=os.devnull, seconds=_READY_S_MAX)
