"""What a launch costs without a cloud: the port by bare ovsdbapp, and QEMU by the command line that libvirt generated.

That is the floor that `./dev bench real` compares a launch with, on the same machine in the same run: a logical switch
port is written, a tap is made and plugged, OVN says that it is up; QEMU is started, and told to let the guest run.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cumulet.compute.agent.hypervisor import disks
from cumulet.compute.agent.vif import device
from cumulet.dev.cloud import CloudFailed
from cumulet.host.config import HostConfig

__all__ = ["Bare", "BareCost", "command_line"]

_TIMEOUT_S = 30.0
_SWITCH = "cumulet-bench"
_PORT = "cumulet-bench-port"
_GIB = 1 << 30
_MTU = 1442
#: what is written, and heard of in return: of a port of the cloud's no more is read than of one's own, as its answer waits meanwhile
_COLUMNS = {
    "OVN_Northbound": {
        "Logical_Switch": ["name", "ports"],
        "Logical_Switch_Port": ["name", "addresses", "up"],
    },
    "Open_vSwitch": {
        "Open_vSwitch": ["bridges", "cur_cfg", "next_cfg"],
        "Bridge": ["name", "ports"],
        "Port": ["name", "interfaces"],
        "Interface": ["name", "external_ids", "ofport"],
    },
}
#: what libvirt hands over as open files is named instead; what only libvirt reads is left out
_LEFT_OUT = {"-add-fd": "", "-object": "masterKey0"}


@dataclass(frozen=True)
class BareCost:
    """Seconds."""

    port: float
    qemu: float

    @property
    def both(self) -> float:
        return self.port + self.qemu


def command_line(state: Path, server_id: str) -> list[str]:
    """QEMU's words for a guest, from libvirt's log of it.  Raises CloudFailed."""
    logs = [log for log in (state / "libvirt" / "log" / "qemu").glob("*.log") if server_id in log.name]
    if not logs:
        raise CloudFailed(f"libvirt has no log of {server_id}")
    text = logs[0].read_text(errors="replace")
    started = text[text.rindex("starting up libvirt version") :]
    lines = started.splitlines()[1:]
    last = next(at for at, line in enumerate(lines) if not line.endswith("\\"))
    words = shlex.split(" ".join(line.removesuffix("\\") for line in lines[: last + 1]))
    return words[next(at for at, word in enumerate(words) if "qemu-system" in word and "=" not in word) :]


class Bare:
    """Does by hand, again and again, what one launch makes OVN and QEMU do.  Taken down by `close`."""

    def __init__(self, state: Path, command: Sequence[str], *, folder: Path, config_drive: Path | None = None) -> None:
        """`command`: as libvirt generated it; its guest must be gone.  `folder`: for disks and sockets.

        `config_drive`: in place of the guest's own, which went with it.
        """
        config = HostConfig.for_state_dir(str(state))
        self._bridge = config.bridge_int
        self._tap = f"b{config.tag}"
        self._folder = folder
        self._monitor = folder / "monitor"
        self._root = folder / "root.qcow2"
        self._config_drive = config_drive
        self._base, self._command = self._rewritten(command)
        self._made = 0
        self._nb = _Northbound(f"unix:{config.ovn_dir}/nb.sock")
        self._ovs = _api(f"unix:{config.ovn_dir}/ovs.sock", "Open_vSwitch")
        self._nb.api.ls_add(_SWITCH, may_exist=True).execute(check_error=True)

    def close(self) -> None:
        self._nb.api.ls_del(_SWITCH, if_exists=True).execute(check_error=True)
        self._nb.api.ovsdb_connection.stop()
        self._ovs.ovsdb_connection.stop()

    def once(self) -> BareCost:
        """One port and one QEMU, from nothing to a guest that runs; taken away again."""
        self._root.unlink(missing_ok=True)
        disks.make_root(self._root, base=self._base, size=_GIB)
        with self._port() as port_s, self._qemu() as qemu_s:
            return BareCost(port_s, qemu_s)

    def expect(self, port: str) -> None:
        """Listen for the word that this port, somebody else's, is up: then see `wait_up`."""
        self._nb.up.clear()
        self._nb.awaited = port

    def wait_up(self) -> None:
        """Until OVN has said so.  Raises CloudFailed."""
        if not self._nb.up.wait(_TIMEOUT_S):
            raise CloudFailed(f"port {self._nb.awaited} is not up within {_TIMEOUT_S} s")

    def port_up(self) -> float:
        """Seconds until one port is up; taken away again."""
        with self._port() as port_s:
            return port_s

    @contextmanager
    def guest_on(self, port: str) -> Iterator[None]:
        """QEMU, running, on a port that somebody else has made."""
        self._root.unlink(missing_ok=True)
        disks.make_root(self._root, base=self._base, size=_GIB)
        with self.plugged(port), self._qemu():
            yield

    # --- the port --------------------------------------------------------------------------------------------------

    @contextmanager
    def _port(self) -> Iterator[float]:
        # a name of its own: one that was there a moment ago may still be bound in the eyes of OVN
        self._made += 1
        name, mac = f"{_PORT}-{self._made}", "fa:16:3e:be:0c:01"
        self.expect(name)
        began = time.monotonic()
        with self._nb.api.transaction(check_error=True) as transaction:
            transaction.add(self._nb.api.lsp_add(_SWITCH, name))
            transaction.add(self._nb.api.lsp_set_addresses(name, [f"{mac} 10.31.0.2"]))
        try:
            with self.plugged(name):
                self.wait_up()
                yield time.monotonic() - began
        finally:
            self._nb.api.lsp_del(name, if_exists=True).execute(check_error=True)

    @contextmanager
    def plugged(self, port: str) -> Iterator[None]:
        """A tap on the integration bridge in the name of this port of OVN."""
        device.make_tap(self._tap, owner_uid=None, alias=_SWITCH, mtu=_MTU)
        try:
            with self._ovs.transaction(check_error=True) as transaction:
                transaction.add(self._ovs.add_port(self._bridge, self._tap))
                transaction.add(self._ovs.db_set("Interface", self._tap, ("external_ids", {"iface-id": port})))
            yield
        finally:
            self._ovs.del_port(self._tap, self._bridge, if_exists=True).execute(check_error=True)
            device.remove_tap(self._tap)

    # --- the guest -------------------------------------------------------------------------------------------------

    def _rewritten(self, command: Sequence[str]) -> tuple[Path, list[str]]:
        """The base of its root disk, and the command with our own disk, tap, monitor and no file handed over."""
        base: Path | None = None
        words = [command[0]]
        at = 1
        while at < len(command):
            option = command[at]
            takes = at + 1 < len(command) and not command[at + 1].startswith("-")
            value = command[at + 1] if takes else None
            at += 2 if takes else 1
            if option in _LEFT_OUT and _LEFT_OUT[option] in (value or ""):
                continue
            if value is not None and option == "-blockdev":
                block = json.loads(value)
                name = str(block.get("filename", ""))
                if name.endswith(".raw"):
                    base = Path(name)
                elif name.endswith("root.qcow2"):
                    block["filename"] = str(self._root)
                elif name.endswith("config.iso") and self._config_drive is not None:
                    block["filename"] = str(self._config_drive)
                value = json.dumps(block)
            elif value is not None and option == "-netdev":
                net = {"type": "tap", "ifname": self._tap, "script": "no", "downscript": "no"}
                value = json.dumps(net | {"id": json.loads(value)["id"]})
            elif value is not None and option == "-chardev":
                if "id=charmonitor" in value:
                    value = f"socket,id=charmonitor,path={self._monitor},server=on,wait=off"
                elif "id=charserial0" in value:
                    value = f"file,id=charserial0,path={self._folder / 'console.log'}"
            words += [option] if value is None else [option, value]
        if base is None:
            raise CloudFailed(f"no root disk in {shlex.join(command)}")
        return base, words

    @contextmanager
    def _qemu(self) -> Iterator[float]:
        self._monitor.unlink(missing_ok=True)
        said = self._folder / "qemu.log"
        began = time.monotonic()
        with said.open("wb") as log:
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            with closing(self._connect(process, said)) as monitor:
                try:
                    speak = _Qmp(monitor)
                    speak("qmp_capabilities")
                    speak("cont")
                    running = speak("query-status")["running"]
                except (OSError, ValueError) as broken:  # it ended: the words it left say why
                    raise _ended(said) from broken
                if not running:
                    raise CloudFailed("QEMU, started by hand, does not let the guest run")
                yield time.monotonic() - began
        finally:
            process.kill()
            process.wait()

    def _connect(self, process: subprocess.Popen[bytes], said: Path) -> socket.socket:
        monitor = socket.socket(socket.AF_UNIX)
        monitor.settimeout(_TIMEOUT_S)
        ends = time.monotonic() + _TIMEOUT_S
        while True:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                monitor.connect(str(self._monitor))
                return monitor
            if process.poll() is not None or time.monotonic() > ends:
                monitor.close()
                raise _ended(said)
            threading.Event().wait(0.001)


def _ended(said: Path) -> CloudFailed:
    return CloudFailed(f"QEMU, started by hand, did not come up: {said.read_text(errors='replace')}")


class _Qmp:
    """QEMU's monitor: a command, its answer; events are passed over."""

    def __init__(self, monitor: socket.socket) -> None:
        self._file = monitor.makefile("rwb")
        self._file.readline()  # its greeting

    def __call__(self, command: str) -> dict[str, Any]:
        self._file.write(json.dumps({"execute": command}).encode() + b"\n")
        self._file.flush()
        while True:
            said = json.loads(self._file.readline())
            if "return" in said:
                answer: dict[str, Any] = said["return"]
                return answer
            if "error" in said:
                raise CloudFailed(f"QEMU refused {command}: {said['error']}")


def _api(remote: str, schema: str, *, idl_class: Any = None) -> Any:
    from ovsdbapp.backend.ovs_idl import connection, idlutils
    from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl as OpenVswitch
    from ovsdbapp.schema.ovn_northbound.impl_idl import OvnNbApiIdlImpl

    helper = idlutils.get_schema_helper(remote, schema)
    for table, columns in _COLUMNS[schema].items():
        helper.register_columns(table, columns)
    idl = (idl_class or connection.OvsdbIdl)(remote, helper)
    made = connection.Connection(idl, timeout=_TIMEOUT_S)
    library: Any = OvnNbApiIdlImpl if schema == "OVN_Northbound" else OpenVswitch
    # the library keeps one connection for a class, for ever: without a class of its own, a second caller's listens for
    # what the first one waited for
    own = type(library.__name__, (library,), {"_ovsdb_connection": None})
    return own(made)


class _Northbound:
    """OVN's northbound database, and word of a port that is up."""

    def __init__(self, remote: str) -> None:
        from ovsdbapp.backend.ovs_idl import connection

        up = self.up = threading.Event()
        self.awaited = ""
        outer = self

        class Idl(connection.OvsdbIdl):  # type: ignore[misc]  # the library has no types
            def notify(self, event: str, row: Any, updates: Any = None) -> None:
                if row._table.name == "Logical_Switch_Port" and row.name == outer.awaited and row.up == [True]:  # noqa: SLF001 - the library's own way to a row's table
                    up.set()

        self.api = _api(remote, "OVN_Northbound", idl_class=Idl)
