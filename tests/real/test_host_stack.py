"""The machine under the cloud, for real: start from nothing, kill, adopt, stop, and nothing left.

Each test has a cloud of its own in a fresh state directory below a folder that only root may enter, as `/root` is:
QEMU's user must reach its disks all the same.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.ids import SystemIds
from cumulet.host.config import HostConfig
from cumulet.host.errors import BridgeTaken, SubnetTaken
from cumulet.host.guard import nft_tables
from cumulet.host.leftovers import leftovers
from cumulet.host.links import Netlink
from cumulet.host.ovsdb import JsonRpc, as_map, wait_row
from cumulet.host.probe import trial_guest
from cumulet.host.process import open_process, parent_of, wait_all_gone
from cumulet.host.stack import HostStack
from cumulet.host.supervisor import HostEvent

pytestmark = pytest.mark.real

DAEMONS = {
    "keeper",
    "ovn-nb",
    "ovn-sb",
    "ovn-ovs",
    "ovn-northd",
    "ovn-vswitchd",
    "ovn-controller",
    "virtlogd",
    "libvirtd",
}
#: generous: a wall-clock budget on a shared machine says little; the bench has the true one
START_S_MAX = 15.0

START_AND_WAIT = """
import sys
from cumulet.core.ids import SystemIds
from cumulet.host.config import HostConfig
from cumulet.host.process import open_process, parent_of, wait_all_gone
from cumulet.host.stack import HostStack
stack = HostStack(HostConfig.for_state_dir(sys.argv[1], hostname="host-under-test"), lambda event: None)
stack.start()
print("ready", flush=True)
sys.stdin.read()
"""


class Cloud:
    """A stack, what it told, and the means to look at it."""

    def __init__(self, state_dir: Path) -> None:
        self.config = HostConfig.for_state_dir(str(state_dir), hostname="host-under-test")
        self.events: list[HostEvent] = []
        self._told = threading.Condition()
        self.stack = HostStack(self.config, self._on_event)

    def _on_event(self, event: HostEvent) -> None:
        with self._told:
            self.events.append(event)
            self._told.notify_all()

    def wait_restarted(self, *names: str) -> None:
        def all_back() -> bool:
            back = {event.daemon for event in self.events if event.what == "restarted"}
            return back.issuperset(names)

        with self._told:
            assert self._told.wait_for(all_back, timeout=30), self.events

    def kill(self, *names: str) -> None:
        """SIGKILL, and wait until the supervisor has started them again."""
        with self._told:
            self.events.clear()
        pids = self.stack.pids()
        for name in names:
            os.kill(pids[name], signal.SIGKILL)
        self.wait_restarted(*names)

    def capability(self) -> str:
        """What the switch offers OVN."""
        select = {"op": "select", "table": "Datapath", "where": [], "columns": ["capabilities"]}
        with JsonRpc(self.stack.endpoints.ovs.removeprefix("unix:"), seconds=5) as rpc:
            rows = rpc.transact("Open_vSwitch", select)[0]["rows"]
        return str(as_map(rows[0]["capabilities"])["ct_zero_snat"])

    def addresses(self, name: str) -> list[str]:
        with Netlink() as netlink:
            link = netlink.link(name)
            assert link is not None
            return [address.address for address in netlink.addresses() if address.index == link.index]

    def plug_and_wait_up(self) -> None:
        """A logical port, an internal interface with its id, and OVN says up: the whole chain works."""
        port = SystemIds().uuid()
        switch = f"sw-{port}"
        endpoints = self.stack.endpoints
        with JsonRpc(endpoints.nb.removeprefix("unix:"), seconds=10) as rpc:
            rpc.transact(
                "OVN_Northbound",
                {"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "p", "row": {"name": port}},
                {"op": "insert", "table": "Logical_Switch", "row": {"name": switch, "ports": ["named-uuid", "p"]}},
            )
        name = self.config.tap_name(port)
        ids = ["map", [["iface-id", port]]]
        interface = {"name": name, "type": "internal", "external_ids": ids}
        with JsonRpc(endpoints.ovs.removeprefix("unix:"), seconds=10) as rpc:
            rpc.transact(
                "Open_vSwitch",
                {"op": "insert", "table": "Interface", "uuid-name": "i", "row": interface},
                {
                    "op": "insert",
                    "table": "Port",
                    "uuid-name": "p",
                    "row": {"name": name, "interfaces": ["named-uuid", "i"]},
                },
                {
                    "op": "mutate",
                    "table": "Bridge",
                    "where": [["name", "==", self.config.bridge_int]],
                    "mutations": [["ports", "insert", ["named-uuid", "p"]]],
                },
            )
        wait_row(
            endpoints.nb.removeprefix("unix:"),
            "OVN_Northbound",
            "Logical_Switch_Port",
            ["name", "up"],
            lambda row: row["name"] == port and row["up"] is True,
            seconds=15,
        )

    def libvirt(self) -> Any:
        import libvirt

        return libvirt.open(self.stack.endpoints.libvirt_uri)


@pytest.fixture
def folder() -> Iterator[Path]:
    """For state directories: closed to everybody but root."""
    path = Path(tempfile.mkdtemp(prefix="cumulet-host-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cloud(folder: Path) -> Iterator[Cloud]:
    """A cloud that is taken down whatever happens."""
    made = Cloud(folder / "state")
    yield made
    made.stack.stop(keep_guests=False)
    assert leftovers(made.config) == []


def test_from_nothing_to_a_host_that_ovn_knows_and_back(cloud: Cloud) -> None:
    """All daemons run, the chassis is registered, the bridges stand, libvirt answers; stop() leaves nothing."""
    before = _machine()
    started = cloud.stack.start()
    assert set(started.started) == DAEMONS
    assert started.seconds < START_S_MAX
    endpoints = cloud.stack.endpoints
    wait_row(
        endpoints.sb.removeprefix("unix:"),
        "OVN_Southbound",
        "Chassis",
        ["name"],
        lambda row: bool(row["name"] == "host-under-test"),
        seconds=5,
    )
    assert cloud.addresses(cloud.config.bridge_ex) == [
        f"{cloud.config.external_gateway}/{cloud.config.external_prefix}"
    ]
    assert cloud.capability() == "false"
    assert len(nft_tables(cloud.config)) == 2
    connection = cloud.libvirt()
    assert connection.getType() == "QEMU"
    connection.close()
    assert os.sched_getscheduler(cloud.stack.pids()["libvirtd"]) == os.SCHED_RR | os.SCHED_RESET_ON_FORK
    cloud.plug_and_wait_up()
    cloud.stack.stop(keep_guests=False)
    assert leftovers(cloud.config) == []
    assert _machine() <= before


def test_a_killed_switch_comes_back_harmless(cloud: Cloud) -> None:
    """The restarted ovs-vswitchd does not offer what makes it abort, and ports still come up."""
    cloud.stack.start()
    cloud.kill("ovn-vswitchd")
    assert cloud.capability() == "false"
    assert cloud.addresses(cloud.config.bridge_ex)
    cloud.plug_and_wait_up()


def test_everything_killed_at_once_comes_back(cloud: Cloud) -> None:
    """In the right order: nothing hangs, and the host works again."""
    cloud.stack.start()
    cloud.kill(*DAEMONS)
    assert cloud.capability() == "false"
    cloud.plug_and_wait_up()
    cloud.libvirt().close()


def test_libvirtd_moves_to_the_next_keeper(cloud: Cloud) -> None:
    """When the keeper was killed: guests started from then on are reaped at once, as those before were."""
    cloud.stack.start()
    cloud.events.clear()
    os.kill(cloud.stack.pids()["keeper"], signal.SIGKILL)
    cloud.wait_restarted("keeper", "libvirtd")
    pids = cloud.stack.pids()
    assert parent_of(pids["libvirtd"]) == pids["keeper"]
    assert {event.daemon for event in cloud.events if event.what == "died"} == {"keeper", "libvirtd"}


def test_a_second_start_adopts_what_a_killed_cloud_left_running(folder: Path) -> None:
    """SIGKILL of the cloud's process ends no daemon, and the next start starts none."""
    first = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(folder / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    second = Cloud(folder / "state")
    with first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == b"ready\n"
            running = set(leftovers(second.config))
            first.kill()
            first.wait(10)
            started = second.stack.start()
            assert set(started.adopted) == DAEMONS
            assert set(leftovers(second.config)) == running
            second.kill("libvirtd")
            second.libvirt().close()
        finally:
            first.kill()
            second.stack.stop(keep_guests=False)
    assert leftovers(second.config) == []


def test_after_everything_was_killed_a_new_start_works(cloud: Cloud) -> None:
    """As after a crash of the whole machine, but with the stale files of the same boot."""
    cloud.stack.start()
    daemons = [process for pid in cloud.stack.pids().values() if (process := open_process(pid)) is not None]
    cloud.stack.stop(keep_guests=True)
    for daemon in daemons:
        daemon.send(signal.SIGKILL)
    assert wait_all_gone(daemons, 10)
    for daemon in daemons:
        daemon.close()
    again = Cloud(Path(cloud.config.state_dir))
    started = again.stack.start()
    assert set(started.started) == DAEMONS
    again.plug_and_wait_up()
    again.stack.stop(keep_guests=False)


def test_guests_and_daemons_are_kept_when_asked(cloud: Cloud, folder: Path) -> None:
    """A guest runs on while the cloud is away, and is known again.  Its disk lies below a folder closed to its user."""
    cloud.stack.start()
    with cloud.libvirt() as connection:
        guest = connection.createXML(_guest(cloud, folder), 0)
        assert guest.isActive()
    daemons = cloud.stack.pids()
    cloud.stack.stop(keep_guests=True)
    again = Cloud(Path(cloud.config.state_dir))
    again.stack.start()
    assert again.stack.pids() == daemons
    with again.libvirt() as connection:
        assert connection.lookupByName("keep-me").isActive()
    again.stack.stop(keep_guests=False)
    assert leftovers(cloud.config) == []


def test_two_clouds_stand_side_by_side(cloud: Cloud, folder: Path) -> None:
    """The second one starts, works and stops without touching the first."""
    cloud.stack.start()
    mine = set(leftovers(cloud.config))
    other = Cloud(folder / "other")
    try:
        other.stack.start()
        other.plug_and_wait_up()
        other.kill("ovn-vswitchd")
        cloud.plug_and_wait_up()
    finally:
        other.stack.stop(keep_guests=False)
    assert leftovers(other.config) == []
    assert mine <= set(leftovers(cloud.config))
    assert all(event.what == "started" for event in cloud.events)


def test_a_subnet_in_use_is_refused_before_anything_is_touched(folder: Path) -> None:
    """The loopback's own network stands for any network that the machine already has."""
    config = HostConfig.for_state_dir(str(folder / "state"), external_cidr="127.0.0.0/16")
    with pytest.raises(SubnetTaken, match=r"127\.0\.0\.1/8 on lo"):
        HostStack(config, lambda _: None).start()
    assert leftovers(config) == []
    assert not (folder / "state").exists()


def test_a_bridge_of_somebody_else_is_refused(folder: Path) -> None:
    """An interface that merely has the name of our bridge is not taken over."""
    config = HostConfig.for_state_dir(str(folder / "state"))
    subprocess.run(["ip", "link", "add", config.bridge_ex, "type", "bridge"], check=True)
    try:
        with pytest.raises(BridgeTaken, match=config.bridge_ex):
            HostStack(config, lambda _: None).start()
    finally:
        subprocess.run(["ip", "link", "del", config.bridge_ex], check=True)
    assert leftovers(config) == []


def test_the_trial_guest_runs_and_is_timed() -> None:
    """Under TCG, which works everywhere: two marks, and a plausible time between them."""
    trial = trial_guest("tcg")
    assert trial.failure == ""
    assert trial.seconds is not None
    assert 0 < trial.seconds < 2


def _guest(cloud: Cloud, folder: Path) -> str:
    assert folder.stat().st_mode & 0o077 == 0
    disks = Path(cloud.config.short, "disks")
    disks.mkdir(mode=0o711)
    disk = disks / "keep-me.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    return f"""
        <domain type='qemu'><name>keep-me</name><memory unit='MiB'>16</memory>
          <os><type arch='x86_64' machine='q35'>hvm</type></os>
          <devices><disk type='file' device='disk'>
            <driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
          </disk></devices>
        </domain>"""


def _machine() -> set[str]:
    """Interfaces, mounts and nft tables of the whole machine that are not some other cloud's."""
    with Netlink() as netlink:
        links = {link.name for link in netlink.links() if not link.alias.startswith("cumulet")}
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()}
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.splitlines()
    return links | mounts | {table for table in tables if "cumulet_" not in table}
