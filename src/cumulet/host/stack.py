"""The machine under the cloud: start it, keep it running, adopt it, stop it.  Read this file first.

    guard ──┐
    keeper ─┼─ NB, SB ──── northd ──────────────┐
            ├─ local OVSDB ─ vswitchd ─ controller ─ chassis known
            └─ virtlogd ─── libvirtd (capabilities warmed)

Each daemon is found by pid file, program and command line: what still runs after the cloud was killed is adopted, what
does not is started.  So start() is the same act on an empty machine, beside running guests, and after any part died.
"""

import contextlib
import ctypes
import functools
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from cumulet.host import leftovers, ovn
from cumulet.host.bridge import check_free, remove_links
from cumulet.host.config import Endpoints, HostConfig
from cumulet.host.daemons import Daemon, find, log_of
from cumulet.host.errors import DaemonDidNotStart, HostError
from cumulet.host.libvirtd import clear_folder, forget_previous_boot, libvirt_daemons, libvirt_uri, write_configuration
from cumulet.host.links import Netlink
from cumulet.host.namespace import (
    claim_short_path,
    keeper_command,
    keeper_environment,
    keeper_marker,
    make_folders,
    mount_volatile,
    release_short_path,
    unmount_volatile,
    volatile_folder,
)
from cumulet.host.order import Act, run_in_order
from cumulet.host.outside import close_outside, open_outside
from cumulet.host.process import Process, end, open_process, parent_of
from cumulet.host.supervisor import HostEvent, RestartLimits, Supervisor

__all__ = ["HostStack", "Started"]

_KEEPER_S_MAX = 5.0
#: how long a daemon or guest may take to end before it is killed
_PATIENCE_S = 5.0
_MNT_DETACH = 2
#: endings of files in the OVN folder that mean nothing once the daemons are gone
_VOLATILE = {".ctl", ".sock", ".pid", ".mgmt", ".snoop"}


class Started(msgspec.Struct, frozen=True):
    """What start() did."""

    seconds: float
    started: tuple[str, ...]
    adopted: tuple[str, ...]


class HostStack:
    """All daemons of one cloud on this machine.

    `on_event` is called from threads of ours, and must return soon.  One process at a time may hold the stack of a
    state directory; the cloud's lock on the directory sees to that.
    """

    def __init__(
        self, config: HostConfig, on_event: Callable[[HostEvent], None], limits: RestartLimits | None = None
    ) -> None:
        self.config = config
        self._on_event = on_event
        self._limits = limits
        self._supervisor: Supervisor | None = None
        self._datapath = ""

    @property
    def endpoints(self) -> Endpoints:
        """Valid after start()."""
        config = self.config
        return Endpoints(
            nb=f"unix:{ovn.socket_path(config, 'nb')}",
            sb=f"unix:{ovn.socket_path(config, 'sb')}",
            ovs=f"unix:{ovn.socket_path(config, 'ovs')}",
            libvirt_uri=libvirt_uri(config),
            chassis=config.system_id,
            physical_network=config.physical_network,
            datapath=self._datapath,
        )

    def start(self) -> Started:
        """Bring everything up and begin to watch it.  May be repeated by another process after this one was killed.

        Raises HostError.  BridgeTaken and SubnetTaken come before anything is changed; after DaemonDidNotStart what was
        started stays, for a second start() to adopt or for stop() to take down.
        """
        began = time.monotonic()
        config = self.config
        self._prepare()
        daemons = self._daemons()
        supervisor = Supervisor(daemons, self._on_event, self._limits)
        launched: dict[str, bool] = {}

        def bring_up(name: str) -> None:
            launched[name] = supervisor.bring_up(name)

        acts = [Act("guard", (), lambda: open_outside(config))]
        for daemon in daemons:
            # frames of guests flow from the moment the switch runs: never without the guard
            needs = (*daemon.needs, "guard") if daemon.name == "ovn-vswitchd" else daemon.needs
            acts.append(Act(daemon.name, needs, functools.partial(bring_up, daemon.name)))
        acts.append(Act("chassis", ("ovn-controller", "ovn-northd"), lambda: ovn.wait_chassis(config)))
        try:
            run_in_order(acts)
        except (HostError, OSError) as error:
            supervisor.close()
            if isinstance(error, HostError):
                raise
            raise HostError(f"the machine refused: {error}") from error
        supervisor.watch()
        self._supervisor = supervisor
        return Started(
            seconds=time.monotonic() - began,
            started=tuple(daemon.name for daemon in daemons if launched[daemon.name]),
            adopted=tuple(daemon.name for daemon in daemons if not launched[daemon.name]),
        )

    def pids(self) -> dict[str, int]:
        """The daemons that run, by name."""
        return self._supervisor.pids() if self._supervisor is not None else {}

    def stop(self, *, keep_guests: bool) -> None:
        """Stop watching; then, unless guests are to be kept, take everything down and leave nothing on the machine.

        Works as well in a process that did not start the stack.  Guests are ended, not asked to shut down: that is
        their driver's business, before this.
        """
        if self._supervisor is not None:
            self._supervisor.close()
            self._supervisor = None
        if keep_guests or not os.path.lexists(self.config.short):
            return
        config = self.config
        run_in_order(
            [
                Act("guests", (), self._end_guests),
                Act("libvirtd", ("guests",), lambda: self._end("libvirtd")),
                Act("virtlogd", ("libvirtd",), lambda: self._end("virtlogd")),
                # while northd and the databases run, so that the ports are seen to go down
                Act("controller", (), self._end_controller),
                Act("northd", ("controller",), lambda: self._end("ovn-northd")),
                Act("vswitchd", ("controller", "guests"), self._end_switch),
                Act("databases", ("northd", "vswitchd"), lambda: self._end("ovn-nb", "ovn-sb", "ovn-ovs")),
                Act("keeper", ("databases", "virtlogd"), lambda: self._end("keeper")),
            ]
        )
        _end_all([pid for pid, _ in leftovers.our_processes(config)])
        self._clear()

    def abandon(self) -> None:
        """After a start that failed: take down what it started, unless guests of an earlier run need it."""
        if os.path.realpath(self.config.short) == self.config.state_dir:  # nobody else's path
            self.stop(keep_guests=bool(leftovers.guests(self.config)))

    # Starting.

    def _prepare(self) -> None:
        """Everything before the first daemon: checks that change nothing, then folders, link and configuration."""
        config = self.config
        local_database = Path(config.state_dir, "ovn", ovn.LOCAL_DATABASE)
        with Netlink() as netlink:
            check_free(config, netlink, first_start=not local_database.exists())
            link_names = {link.name for link in netlink.links()}
        make_folders(config)
        claim_short_path(config)
        if forget_previous_boot(config):
            local_database.unlink(missing_ok=True)
        record = Path(config.state_dir, "run", "datapath")
        if not local_database.exists() or not record.exists():
            record.write_text(ovn.choose_datapath(link_names) + "\n", encoding="ascii")
        self._datapath = record.read_text(encoding="ascii").strip()
        write_configuration(config)
        keepers = self.find("keeper")
        if not keepers:  # what runs has the folder open
            mount_volatile(config)
        for keeper in keepers:
            keeper.close()

    def _daemons(self) -> list[Daemon]:
        config = self.config
        keeper = Daemon(
            name="keeper",
            executable="python",
            marker=keeper_marker(config),
            pidfile=f"{config.run_dir}/keeper.pid",
            launch=lambda: _launch_keeper(config),
            care=self._take_in,
        )
        return [keeper, *ovn.ovn_daemons(config, self._datapath or "netdev"), *libvirt_daemons(config)]

    def _take_in(self) -> None:
        """A libvirtd of an earlier keeper ends, to be started by this one: whom it orphans, each guest, is reaped where it lives."""
        keepers, libvirtds = self.find("keeper"), self.find("libvirtd")
        end(
            [process for process in libvirtds if parent_of(process.pid) not in {each.pid for each in keepers}],
            _PATIENCE_S,
        )
        for process in (*keepers, *libvirtds):
            process.close()

    # Stopping.

    def find(self, *names: str) -> list[Process]:
        """Those of these daemons that run, whoever started them.  The caller closes them."""
        found = (find(daemon) for daemon in self._daemons() if daemon.name in names)
        return [process for process in found if process is not None]

    def _end(self, *names: str) -> None:
        processes = self.find(*names)
        end(processes, _PATIENCE_S)
        for process in processes:
            process.close()

    def _end_guests(self) -> None:
        _end_all(leftovers.guests(self.config))

    def _end_controller(self) -> None:
        for process in self.find("ovn-controller"):
            ovn.release_chassis(self.config, process.pid)
            process.wait_gone(_PATIENCE_S)
            process.close()
        self._end("ovn-controller")

    def _end_switch(self) -> None:
        for process in self.find("ovn-vswitchd"):
            ovn.take_down_switch(self.config)
            process.wait_gone(_PATIENCE_S)
            process.close()
        self._end("ovn-vswitchd")

    def _clear(self) -> None:
        """Remove what no daemon removes, and what of the state directory belongs to this run only."""
        config = self.config
        remove_links(config)
        for name in leftovers.network_namespaces(config):
            _remove_network_namespace(f"/run/netns/{name}")
        close_outside(config)
        clear_folder(Path(volatile_folder(config)))
        unmount_volatile(config)
        clear_folder(Path(config.state_dir, "run"))
        folder = Path(config.state_dir, "ovn")
        for entry in folder.iterdir():
            if entry.suffix in _VOLATILE or entry.name.startswith(("ovs.db", ".ovs.db")):
                entry.unlink()
        release_short_path(config)


def _launch_keeper(config: HostConfig) -> None:
    log = log_of(config, "keeper")
    with Path(log).open("ab") as output:
        starter = subprocess.Popen(
            keeper_command(config),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=keeper_environment(config),
            start_new_session=True,
        )
    process = open_process(starter.pid)
    if process is None:
        raise HostError("the keeper's starter vanished")
    with contextlib.closing(process):
        if not process.wait_gone(_KEEPER_S_MAX):
            starter.kill()
    if starter.wait() != 0:
        raise DaemonDidNotStart(f"the keeper ended with {starter.returncode}; see {log}")


def _end_all(pids: list[int]) -> None:
    processes = [process for pid in pids if (process := open_process(pid)) is not None]
    end(processes, _PATIENCE_S)
    for process in processes:
        process.close()


def _remove_network_namespace(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.umount2(os.fsencode(path), _MNT_DETACH)  # not mounted is as good: the file goes in any case
    Path(path).unlink(missing_ok=True)
