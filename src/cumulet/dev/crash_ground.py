"""The cloud that is killed again and again: made once, watched from outside, whole again after each kill."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from cumulet.dev.cloud import CloudFailed, Refused, RunningCloud, Session, free_port
from cumulet.dev.kills import DAEMONS, GUEST, PROGRAM, Holder, Row, Victims
from cumulet.host.config import HostConfig
from cumulet.host.errors import OvsdbFailed
from cumulet.host.libvirtd import libvirt_uri
from cumulet.host.ovn import socket_path
from cumulet.host.ovsdb import JsonRpc, as_map
from cumulet.host.process import command_line

__all__ = ["Ground", "SimGround"]

_POLL_S = 0.02
_REACHED_S = 30.0
_QUIET_S = 60.0
_BOOTED_S = 120.0
_ANSWER_S = 2.0
_LOG_LINES = 40
_LOG_COLUMNS = 400
_SSH = 22
_BYSTANDER = "bystander"
#: how a launch may end with a server that stands
_COMPLETE, _STARTED = "complete", "off, started again"
_STANDS = (_COMPLETE, _STARTED)
_VERSION = {"OpenStack_API_Version": "compute 2.96"}


class SimGround:
    """A cloud on simulated drivers, of which only the program itself can be killed.  A context manager."""

    kind = "--sim"

    def __init__(self, state: Path) -> None:
        self.state = state
        #: how the last row ended when it ended well, and what the leak check found
        self.end = ""
        self.leaked = 0
        state.mkdir(parents=True, exist_ok=True)
        # a socket's path may have some hundred characters only, and a state folder may lie deep
        self._holder = Holder(Path(f"/tmp/cumulet-crash-{os.getpid()}.sock"))  # noqa: S108 - made with bind, which takes no other's
        self._port = free_port()
        self._server_id: str | None = None
        self._cloud: RunningCloud | None = None
        self._sessions: list[Session] = []

    def __enter__(self) -> Self:
        self._holder.__enter__()
        try:
            self._start()
            self._furnish()
            self._clear()
            self._rehearse()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if self._cloud is not None:
            self._cloud.stop()
        self._holder.__exit__()

    # --- the cloud -----------------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        arguments = [self.kind, "--bcrypt-rounds", "4", "--failpoint", self._holder.option]
        self._cloud = RunningCloud(self.state, arguments, port=self._port, quiet=True)
        self._sessions = [self._cloud.session("cumulet"), self._cloud.session("cumulet-admin")]

    def _start_again(self) -> None:
        self._leave()
        self._start()

    def _leave(self) -> None:
        while self._sessions:
            self._sessions.pop().close()

    @property
    def cloud(self) -> RunningCloud:
        if self._cloud is None:
            raise CloudFailed("it was never started")
        return self._cloud

    @property
    def _user(self) -> Session:
        return self._sessions[0]

    @property
    def _admin(self) -> Session:
        return self._sessions[1]

    def begin_afresh(self) -> None:
        """After a row that did not end well: a new program, and nothing left of the row.  Raises CloudFailed."""
        self.cloud.kill()
        self._start_again()
        self._clear()

    def _clear(self) -> None:
        for server in self._user.get("compute", "/servers")["servers"]:
            if server["name"] != _BYSTANDER:
                with suppress(Refused):
                    self._user.delete("compute", f"/servers/{server['id']}")
        self._server_id = None
        self._must(self._nothing_left, "the cloud does not come to itself")

    def log_tail(self) -> str:
        lines = (self.state / "log" / "cumulet.log").read_text(errors="replace").splitlines()
        return "\n".join(line[:_LOG_COLUMNS] for line in lines[-_LOG_LINES:])

    def show_log(self, name: str) -> None:
        """What the cloud told its operator during a row that did not end well."""
        print(f"--- {name}: the end of the log", self.log_tail(), "---", sep="\n", flush=True)

    def _furnish(self) -> None:
        """What the servers need, once."""
        found = self._user.get("network", "/v2.0/networks?name=crash")["networks"]
        if found:
            network = found[0]["id"]
        else:
            network = self._user.post("network", "/v2.0/networks", {"network": {"name": "crash"}})["network"]["id"]
            subnet = {"network_id": network, "ip_version": 4, "cidr": "10.31.0.0/24"}
            self._user.post("network", "/v2.0/subnets", {"subnet": subnet})
        image = self._user.get("image", "/v2/images?visibility=public&status=active")["images"][0]["id"]
        flavors = {flavor["name"]: flavor["id"] for flavor in self._user.get("compute", "/flavors")["flavors"]}
        self._network = network
        self._body = {"imageRef": image, "flavorRef": flavors["m1.nano"], "networks": [{"uuid": network}]}

    def _rehearse(self) -> None:
        """A launch and a deletion that nothing happens to: the image is loaded, and each step's length is known."""
        self._server_id = self._launch("rehearsal")
        self._must(lambda: self._usable(self._server_id), "the rehearsal's launch")
        self._user.delete("compute", f"/servers/{self._server_id}")
        self._must(lambda: self._is_gone(self._server_id), "the rehearsal's deletion")
        self._server_id = None

    # --- killing -------------------------------------------------------------------------------------------------------------------

    def kill_during_launch(self, row: Row, name: str) -> float:
        """Launch, and kill at the row's moment; when that was."""
        if self._server_id is not None:  # it was kept for a deletion that is not in the table
            self._remove()
        killed = self._plan(row)
        with suppress(httpx.TransportError):  # it may be killed while it answers
            self._server_id = self._launch(name)
        return self._done(row, killed)

    def kill_during_delete(self, row: Row) -> float:
        """Delete the server that stands, and kill at the row's moment; when that was."""
        if self._server_id is not None and self.end not in _STANDS:
            self._remove()
        if self._server_id is None:
            self._server_id = self._launch("to-be-deleted")
            self._must(lambda: self._usable(self._server_id), "a launch")
        killed = self._plan(row)
        with suppress(httpx.TransportError):
            self._user.delete("compute", f"/servers/{self._server_id}")
        return self._done(row, killed)

    def _plan(self, row: Row) -> list[float]:
        killed: list[float] = []

        def deed() -> None:
            killed.append(time.monotonic())
            self._kill(row.victim)

        self._holder.plan(row.moment, deed)
        return killed

    def _kill(self, victim: str) -> None:
        os.kill(self.cloud.pid, signal.SIGKILL)

    def _done(self, row: Row, killed: list[float]) -> float:
        if not self._holder.wait_done(_REACHED_S):
            raise CloudFailed(f"{row.moment} was not reached")
        if row.victim == PROGRAM:
            if not self.cloud.wait_until_killed(_REACHED_S):
                raise CloudFailed(f"not killed at {row.moment}")
            self._start_again()
        return killed[0]

    # --- looking -------------------------------------------------------------------------------------------------------------------

    def settled(self, row: Row, name: str, ends: float) -> str:
        """What is still wrong when the time is over; nothing as soon as all is well."""
        self.end, self.leaked = "", 0
        if row.flow == "delete":
            return self._wait(lambda: self._is_gone(self._server_id) or self._whole(), ends, self._forget)
        if self._server_id is None:
            found = self._user.get("compute", f"/servers?name={name}")["servers"]
            self._server_id = str(found[0]["id"]) if found else None
        return self._wait(lambda: self._launched(row) or self._whole(), ends)

    def _forget(self) -> None:
        self._server_id, self.end = None, "gone"

    def _launched(self, row: Row) -> str:
        """What is wrong with a server whose launch was hit."""
        if self._server_id is None:
            self.end = "gone"
            return self._nothing_left()
        server = self._server(self._server_id)
        if server is None or server["status"] == "ERROR":
            self.end = "gone" if server is None else "ERROR, nothing left"
            if server is not None and not server.get("fault", {}).get("message"):
                return "ERROR without a reason"
            return self._remains(self._server_id)
        if row.victim == GUEST and server["status"] == "SHUTOFF" and server["OS-EXT-STS:task_state"] is None:
            # it runs no more, and its owner is told so and can start it
            self._user.post("compute", f"/servers/{self._server_id}/action", {"os-start": None})
            self.end = _STARTED
            return "starting"
        if self.end != _STARTED:
            self.end = _COMPLETE
        return self._usable(self._server_id)

    def _usable(self, server_id: str | None) -> str:
        """What keeps a server from being used."""
        server = self._server(str(server_id))
        if server is None:
            return "the server is gone"
        if server["status"] != "ACTIVE" or server["OS-EXT-STS:task_state"] is not None:
            return f"{server['status']}, {server['OS-EXT-STS:task_state']}: {server.get('fault', {}).get('message')}"
        if server["OS-EXT-STS:power_state"] != 1:
            return f"ACTIVE with power state {server['OS-EXT-STS:power_state']}"
        ports = self._ports(str(server_id))
        if [port["status"] for port in ports] != ["ACTIVE"]:
            return f"ACTIVE with ports {[port['status'] for port in ports]}"
        volumes = self._user.get("block-storage", "/volumes/detail")["volumes"]
        if [volume["status"] for volume in volumes] != ["in-use"]:
            return f"ACTIVE with volumes {[volume['status'] for volume in volumes]}"
        return self._runs(str(server_id), ports[0]["id"])

    def _runs(self, server_id: str, port_id: str) -> str:
        """What is wrong with the guest on this machine: nothing that could be seen of a simulated one."""
        return ""

    def _is_gone(self, server_id: str | None) -> str:
        server = self._server(str(server_id))
        if server is not None:
            return f"not gone: {server['status']}, {server['OS-EXT-STS:task_state']}"
        return self._remains(str(server_id))

    def _remains(self, server_id: str) -> str:
        """What there is of a server that is no more."""
        if ports := self._ports(server_id):
            return f"ports left: {[port['id'] for port in ports]}"
        if volumes := self._user.get("block-storage", "/volumes/detail")["volumes"]:
            return f"volumes left: {[(volume['id'], volume['status']) for volume in volumes]}"
        return ""

    def _nothing_left(self) -> str:
        others = [one for one in self._user.get("compute", "/servers")["servers"] if one["name"] != _BYSTANDER]
        if others:
            return f"servers left: {others}"
        return self._remains("") or self._whole()

    def _whole(self) -> str:
        """What is wrong with the cloud."""
        leaks = self._admin.operator("/check")["leaks"]
        self.leaked = len(leaks)
        return "; ".join(f"leaked {leak['kind']} {leak['id']} {leak['detail']}".rstrip() for leak in leaks)

    # --- asking --------------------------------------------------------------------------------------------------------------------

    def _launch(self, name: str) -> str:
        root = {"boot_index": 0, "uuid": self._body["imageRef"], "source_type": "image", "destination_type": "local"}
        data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
        devices = [one | {"delete_on_termination": True} for one in (root, data)]
        body = {"server": self._body | {"name": name, "block_device_mapping_v2": devices}}
        return str(self._user.post("compute", "/servers", body, **_VERSION)["server"]["id"])

    def _remove(self) -> None:
        with suppress(Refused):  # gone already
            self._user.delete("compute", f"/servers/{self._server_id}")
        self._must(lambda: self._is_gone(self._server_id), "a deletion")
        self._server_id = None

    def _server(self, server_id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._user.get("compute", f"/servers/{server_id}", **_VERSION)["server"]
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return found

    def _ports(self, server_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._user.get("network", f"/v2.0/ports?device_id={server_id}")["ports"]
        return [port for port in found if port["device_owner"].startswith("compute:")] if server_id else []

    def _must(self, look: Callable[[], str], what: str, timeout_s: float = _QUIET_S) -> None:
        if left := self._wait(look, time.monotonic() + timeout_s):
            raise CloudFailed(f"{what}: {left}\n{self.log_tail()}")

    @staticmethod
    def _wait(look: Callable[[], str], ends: float, well: Callable[[], None] = lambda: None) -> str:
        """What `look` still says when the time is over; nothing as soon as it says nothing."""
        while True:
            try:
                left = look()
            except Refused as refused:
                left = str(refused)
            if not left:
                well()
                return ""
            if time.monotonic() > ends:
                return left
            threading.Event().wait(_POLL_S)


class Ground(SimGround):
    """A real cloud, with a server that stands by and must be reached whatever is killed."""

    kind = "--real"

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._config = HostConfig.for_state_dir(str(state))
        self._victims = Victims(self._config)

    def _furnish(self) -> None:
        super()._furnish()
        self._open_network()
        servers = self._user.get("compute", f"/servers?name={_BYSTANDER}")["servers"]
        body = {"server": self._body | {"name": _BYSTANDER, "security_groups": [{"name": _BYSTANDER}]}}
        self._bystander = str((servers or [self._user.post("compute", "/servers", body)["server"]])[0]["id"])
        self._must(lambda: self._active(self._bystander), "the bystander's launch")
        self._victims.bystanders |= {pid for pid in self._victims.guests() if self._bystander in command_line(pid)}
        self._address = self._floating_address(self._ports(self._bystander)[0]["id"])
        self._must(self._reached, "the bystander's first answer", _BOOTED_S)

    def _open_network(self) -> None:
        """A way in from outside, and a rule that lets SSH in."""
        self._public = self._user.get("network", "/v2.0/networks?router:external=true")["networks"][0]["id"]
        if self._user.get("network", f"/v2.0/security-groups?name={_BYSTANDER}")["security_groups"]:
            return
        subnet = self._user.get("network", f"/v2.0/subnets?network_id={self._network}")["subnets"][0]["id"]
        router = {"name": _BYSTANDER, "external_gateway_info": {"network_id": self._public}}
        router_id = self._user.post("network", "/v2.0/routers", {"router": router})["router"]["id"]
        interface = {"subnet_id": subnet}
        self._user.ask("PUT", "network", f"/v2.0/routers/{router_id}/add_router_interface", interface)
        group = {"security_group": {"name": _BYSTANDER}}
        group_id = self._user.post("network", "/v2.0/security-groups", group)["security_group"]["id"]
        rule = {"security_group_id": group_id, "direction": "ingress", "protocol": "tcp"}
        rule |= {"port_range_min": _SSH, "port_range_max": _SSH}
        self._user.post("network", "/v2.0/security-group-rules", {"security_group_rule": rule})

    def _floating_address(self, port_id: str) -> str:
        found = self._user.get("network", f"/v2.0/floatingips?port_id={port_id}")["floatingips"]
        if not found:
            body = {"floatingip": {"floating_network_id": self._public, "port_id": port_id}}
            found = [self._user.post("network", "/v2.0/floatingips", body)["floatingip"]]
        return str(found[0]["floating_ip_address"])

    def _kill(self, victim: str) -> None:
        if victim == PROGRAM:
            super()._kill(victim)
        else:
            self._victims.kill(victim)

    def _runs(self, server_id: str, port_id: str) -> str:
        pids = [pid for pid in self._victims.guests() if server_id in command_line(pid)]
        if len(pids) != 1:
            return f"ACTIVE with {len(pids)} guests"
        return self._domain_state(server_id) or self._plugged(port_id)

    def _domain_state(self, server_id: str) -> str:
        """What libvirt says of a guest that should run."""
        import libvirt

        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # else every error is also printed
        try:
            connection = libvirt.open(libvirt_uri(self._config))
        except libvirt.libvirtError as error:
            return f"libvirt: {error}"
        try:
            state, _ = connection.lookupByUUIDString(server_id).state()
        except libvirt.libvirtError as error:
            return f"libvirt: {error}"
        finally:
            connection.close()
        return "" if state == libvirt.VIR_DOMAIN_RUNNING else f"ACTIVE, but libvirt has its state as {state}"

    def _plugged(self, port_id: str) -> str:
        """What the switch says of a port that should be up."""
        columns = ["name", "ofport", "external_ids"]
        select = {"op": "select", "table": "Interface", "where": [], "columns": columns}
        try:
            with JsonRpc(socket_path(self._config, "ovs"), seconds=_ANSWER_S) as rpc:
                rows = rpc.transact("Open_vSwitch", select)[0]["rows"]
        except OvsdbFailed as error:
            return str(error)
        found = [row for row in rows if as_map(row["external_ids"]).get("iface-id") == port_id]
        if len(found) != 1:
            return f"{len(found)} interfaces of port {port_id}"
        installed = as_map(found[0]["external_ids"]).get("ovn-installed")
        if not isinstance(found[0]["ofport"], int) or found[0]["ofport"] < 1 or installed != "true":
            return f"interface {found[0]['name']}: ofport {found[0]['ofport']}, installed: {installed}"
        return ""

    def _remains(self, server_id: str) -> str:
        if guests := self._victims.guests():
            return f"guests left: {guests}"
        return super()._remains(server_id)

    def _whole(self) -> str:
        missing = [name for name in DAEMONS if name not in self._victims.running()]
        if missing:
            return f"not running: {', '.join(missing)}"
        return self._active(self._bystander) or self._reached() or super()._whole()

    def _active(self, server_id: str) -> str:
        server = self._server(server_id)
        return "" if server and server["status"] == "ACTIVE" else f"bystander: {server and server['status']}"

    def _reached(self) -> str:
        """What keeps the bystander from answering over its floating address."""
        try:
            socket.create_connection((self._address, _SSH), timeout=_ANSWER_S).close()
        except OSError as error:
            return f"bystander at {self._address}: {error}"
        return ""
