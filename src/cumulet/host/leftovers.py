"""What of a cloud exists on the machine: for taking it down, for the leak check and for tests."""

import os
from collections.abc import Iterator
from pathlib import Path

from cumulet.host.bridge import is_ours
from cumulet.host.config import HostConfig
from cumulet.host.guard import nft_tables
from cumulet.host.links import Netlink
from cumulet.host.namespace import keeper_marker
from cumulet.host.process import command_line, every_process, executable_of

__all__ = ["guests", "leftovers", "network_namespaces", "our_processes"]

_DAEMONS = {
    "ovsdb-server",
    "ovn-northd",
    "ovs-vswitchd",
    "ovn-controller",
    "virtlogd",
    "libvirtd",
    "qemu-storage-daemon",
}
_GUEST = "qemu-system-"
_NETNS = Path("/run/netns")


def leftovers(config: HostConfig) -> list[str]:
    """One line for each thing of this cloud that exists outside its state directory."""
    found = [f"process {pid} {executable}" for pid, executable in our_processes(config)]
    with Netlink() as netlink:
        found += [f"interface {link.name}" for link in netlink.links() if is_ours(config, link.name, link.alias)]
    found += [f"network namespace {name}" for name in network_namespaces(config)]
    found += [f"nft table {table}" for table in nft_tables(config)]
    found += [f"mount {target}" for target in _mounts(config)]
    if os.path.lexists(config.short):
        found.append(f"path {config.short}")
    return found


def our_processes(config: HostConfig) -> list[tuple[int, str]]:
    """Daemons and guests of this cloud, as (pid, executable): by the short path on the command line or in the mount
    namespace."""
    found = []
    for pid in every_process():
        # a guest is another user's: what it runs is not shown to a root without CAP_SYS_PTRACE
        executable = executable_of(pid) or _called(pid)
        if executable == "python":
            ours = keeper_marker(config) in command_line(pid)
        elif executable in _DAEMONS or executable.startswith(_GUEST):
            ours = f"{config.short}/" in command_line(pid) or _sees_short_path(pid, config.short)
        else:
            ours = False
        if ours:
            found.append((pid, executable))
    return found


def _called(pid: int) -> str:
    """By what name a process was started, which it may have made up itself."""
    return command_line(pid).partition(" ")[0].rpartition("/")[2]


def guests(config: HostConfig) -> list[int]:
    return [pid for pid, executable in our_processes(config) if executable.startswith(_GUEST)]


def _sees_short_path(pid: int, short: str) -> bool:
    return any(target == short for target in _mount_points(f"/proc/{pid}/mountinfo"))


def _mount_points(path: str) -> Iterator[str]:
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                yield line.split(" ", 5)[4]
    except OSError:  # the process ended
        return


def _mounts(config: HostConfig) -> list[str]:
    ours = (config.short, f"{_NETNS}/{config.netns_prefix}", config.state_dir + "/")
    return [target for target in _mount_points("/proc/self/mountinfo") if target.startswith(ours)]


def network_namespaces(config: HostConfig) -> list[str]:
    return sorted(path.name for path in _NETNS.glob(f"{config.netns_prefix}*")) if _NETNS.is_dir() else []
