"""OVN and Open vSwitch in a folder of their own, with network namespaces as guests: for tests of the network drivers.

Not the product's supervisor: as little as these tests need.  Every name it gives to the machine begins with `nt`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from cumulet.compute.agent.vif import device, netlink, netns
from cumulet.compute.agent.vif.bridge import Bridge

T = TypeVar("T")

BRIDGE = "nt-int"
EXTERNAL = "nt-ex"
CHASSIS = "nt-host"
CLOUD = "nt-cloud"
GUARD = "nt_guard"
EXTERNAL_HOST = "172.30.77.1"

_SHARE = Path("/usr/share")
_WAIT_S_MAX = 15.0


class OvnLab:
    """One host with everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pids: dict[str, int] = {}
        self._environment = os.environ | {
            f"{who}_{what}": str(folder)
            for who in ("OVS", "OVN")
            for what in ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")
        }
        self.northbound = f"unix:{folder}/ovnnb.sock"
        self.southbound = f"unix:{folder}/ovnsb.sock"
        self.ovsdb = f"unix:{folder}/db.sock"

    def start(self) -> None:
        rules = "".join(
            f"table {family} {GUARD} {{ chain c {{ type filter hook {hook} priority {priority};"
            ' iifname { "nt-g*", "nt-t*", "nt-m*" } drop; }; }\n'
            for family, hook, priority in (("inet", "prerouting", -450), ("arp", "input", 0))
        )
        self._run("nft", "-f", "-", input_text=rules)
        for database, schema in (("ovnnb", "ovn/ovn-nb"), ("ovnsb", "ovn/ovn-sb"), ("conf", "openvswitch/vswitch")):
            self._run("ovsdb-tool", "create", f"{self.folder}/{database}.db", f"{_SHARE}/{schema}.ovsschema")
        for daemon in ("ovnnb", "ovnsb"):
            self.start_daemon(daemon)
        self._run("ovn-nbctl", f"--db={self.northbound}", "init")
        self._run("ovn-sbctl", f"--db={self.southbound}", "init")
        self.start_daemon("northd")
        self.start_daemon("ovsdb")
        external_ids = {
            "system-id": CHASSIS, "hostname": CHASSIS, "ovn-remote": self.southbound, "ovn-encap-type": "geneve",
            "ovn-encap-ip": "127.0.0.1", "ovn-bridge": BRIDGE, "ovn-bridge-datapath-type": "netdev",
            "ovn-monitor-all": "true", "ovn-bridge-mappings": f"physnet1:{EXTERNAL}",
            "ovn-openflow-probe-interval": "0",
        }  # fmt: skip
        self.vsctl("--no-wait", "init")
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", *(f"external_ids:{k}={v}" for k, v in external_ids.items()))
        for bridge, mode in ((BRIDGE, "secure"), (EXTERNAL, "standalone")):
            self.vsctl(
                "--no-wait",
                "add-br",
                bridge,
                "--",
                "set",
                "Bridge",
                bridge,
                "datapath_type=netdev",
                f"fail_mode={mode}",
            )
        self.vsctl(
            "--no-wait", "--id=@d", "create", "Datapath", 'datapath_version=""', "--",
            "set", "Open_vSwitch", ".", "datapaths:netdev=@d",
        )  # fmt: skip
        self.start_daemon("vswitchd")
        self.start_daemon("controller")
        self._run("ip", "addr", "add", f"{EXTERNAL_HOST}/24", "dev", EXTERNAL)
        self._run("ip", "link", "set", EXTERNAL, "up")

    def stop(self) -> None:
        for daemon in ("controller", "northd", "vswitchd", "ovsdb", "ovnnb", "ovnsb"):
            if daemon == "vswitchd" and daemon in self._pids:
                # Its own way out takes its devices along.
                self._run("ovs-appctl", "-t", f"{self.folder}/vswitchd.ctl", "exit", "--cleanup", check=False)
            self.kill(daemon)
        for family in ("inet", "arp"):
            self._run("nft", "delete", "table", family, GUARD, check=False)
        for name in (BRIDGE, EXTERNAL):
            self._run("ip", "link", "del", name, check=False)

    def start_daemon(self, name: str) -> None:
        folder = self.folder
        common = [
            f"--pidfile={folder}/{name}.pid",
            "-vconsole:off",
            f"--log-file={folder}/{name}.log",
            "--detach",
            "--no-chdir",
        ]
        control = f"--unixctl={folder}/{name}.ctl"
        if name in {"ovnnb", "ovnsb"}:
            command = ["ovsdb-server", f"{folder}/{name}.db", f"--remote=punix:{folder}/{name}.sock", control]
        elif name == "ovsdb":
            command = ["ovsdb-server", f"{folder}/conf.db", f"--remote=punix:{folder}/db.sock", control]
        elif name == "northd":
            command = ["ovn-northd", f"--ovnnb-db={self.northbound}", f"--ovnsb-db={self.southbound}", control]
        elif name == "vswitchd":
            command = ["ovs-vswitchd", self.ovsdb, control]
        else:
            command = ["ovn-controller", self.ovsdb]
        self._run(*command, *common)
        self._pids[name] = int((folder / f"{name}.pid").read_text())
        if name == "vswitchd":
            # Open vSwitch 3.1.0 aborts in its connection tracking otherwise.
            datapath = self.vsctl("get", "Open_vSwitch", ".", "datapaths:netdev").strip()
            self.vsctl("set", "Datapath", datapath, "capabilities:ct_zero_snat=false")

    def kill(self, name: str) -> None:
        """As a crash would: and wait until it is gone."""
        self.signal(name, signal.SIGKILL)
        pid = self._pids.pop(name, None)
        if pid is not None:
            wait_for(lambda: not _runs(pid))

    def signal(self, name: str, number: signal.Signals) -> None:
        pid = self._pids.get(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def vsctl(self, *words: str) -> str:
        return self._run("ovs-vsctl", "--timeout=10", f"--db={self.ovsdb}", *words)

    def nbctl(self, *words: str) -> str:
        return self._run("ovn-nbctl", "--timeout=10", f"--db={self.northbound}", *words)

    def _run(self, *command: str, input_text: str | None = None, check: bool = True) -> str:
        # Output by a file: a daemon holds on to what it inherits.
        output = self.folder / "command.out"
        with output.open("w") as out:
            done = subprocess.run(
                command,
                input=input_text or "",
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environment,
                timeout=30,
                check=False,
            )
        text = output.read_text()
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {text}")
        return text


class Guest:
    """A network namespace as a guest: its own end of a veth, the other on the integration bridge."""

    def __init__(self, lab: OvnLab, name: str, port_id: str, mac: str) -> None:
        self._bridge = Bridge(lab.ovsdb, BRIDGE, cloud=CLOUD, timeout_s=5)
        self._lab = lab
        self.name = f"nt-g{name}"
        self.path = Path("/run/netns") / self.name
        netns._on_own_thread(partial(netns._make_namespace, self.path))
        namespace = os.open(self.path, os.O_RDONLY)
        netlink.make_veth(self.name, peer="eth0", peer_mac=mac, peer_namespace=namespace, mtu=1442)
        os.close(namespace)
        device.ipv6_off(self.name)
        device.set_up(self.name)
        self.run(device.set_up, "lo")
        self.run(device.transmit_checksums_off, "eth0")
        self.run(device.set_up, "eth0")
        self._bridge.put(self.name, {"iface-id": port_id, "attached-mac": mac})

    def run(self, work: Callable[..., T], *words: object) -> T:
        """Do something inside."""
        return netns._on_own_thread(partial(netns._inside, self.path, partial(work, *words)))

    def address(self, address: str, gateway: str | None = None) -> None:
        self.ip("addr", "flush", "dev", "eth0", "scope", "global")
        self.ip("addr", "add", address, "dev", "eth0")
        if gateway is not None:
            self.ip("route", "replace", "default", "via", gateway)

    def ip(self, *words: str) -> str:
        return subprocess.run(
            ["ip", "-n", self.name, *words], check=True, capture_output=True, text=True, timeout=10
        ).stdout

    def command(self, *words: str, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *words], check=False, capture_output=True, text=True, timeout=timeout_s
        )

    def pings(self, address: str, *, source: str | None = None) -> bool:
        """One echo, one second."""
        return self.command("ping", "-c1", "-W1", *(() if source is None else ("-I", source)), address).returncode == 0

    def connects(self, address: str, port: int) -> bool:
        """A TCP connection within a second and a half."""

        def attempt() -> bool:
            with socket.socket() as sock:
                sock.settimeout(1.5)
                return sock.connect_ex((address, port)) == 0

        return self.run(attempt)

    def lease(self, folder: Path) -> dict[str, str]:
        """Ask by DHCP and take what is given; what the client's script was told."""
        script, told = folder / "lease.sh", folder / f"{self.name}.lease"
        script.write_text(
            f'#!/bin/sh\n[ "$1" = bound ] || exit 0\nenv > {told}\nip addr add $ip/$mask dev $interface\n'
            "set -- $staticroutes\nwhile [ $# -ge 2 ]; do\n"
            'if [ "$2" = 0.0.0.0 ]; then ip route replace $1 dev eth0; '
            "else ip route replace $1 via $2 dev eth0; fi; shift 2\ndone\n"
        )
        script.chmod(0o755)
        done = self.command(
            "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1", "-s", str(script)
        )
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        return dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)

    def close(self) -> None:
        self._bridge.take(self.name)
        subprocess.run(["ip", "link", "del", self.name], check=False, capture_output=True, timeout=10)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True, timeout=10)


@contextlib.contextmanager
def listening(guest: Guest, port: int, answer: bytes = b"here") -> Iterator[list[str]]:
    """A TCP server in the guest that says one word to whoever comes; gives the callers' addresses."""
    server = guest.run(partial(netns._listen, "0.0.0.0", port, datagram=False))
    with serving(server, answer) as callers:
        yield callers


@contextlib.contextmanager
def serving(server: socket.socket, answer: bytes = b"here") -> Iterator[list[str]]:
    """The same on a socket that listens already."""
    callers: list[str] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, address = server.accept()
                callers.append(address[0])
                with client:
                    client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)  # noqa: TID251 - a test's own server
    thread.start()
    try:
        yield callers
    finally:
        # Wakes the accept; closing alone would not.
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(timeout=5)


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """One real OVN test at a time on this machine."""
    with Path("/tmp/ovn-real.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_for(condition: Callable[[], bool], timeout_s: float = _WAIT_S_MAX) -> None:
    """Until the condition holds; fails with its last word when time is up."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # reaped before it was opened, or read
        return False
    return state != "Z"
