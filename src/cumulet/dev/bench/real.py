"""The rows on real drivers, each beside the same done by hand in the same run: what the cloud adds to what must be.

A port: written to OVN, its tap plugged, up in OVN's own words; by the API and the agent's own plugging, and all of it by
bare ovsdbapp.  `until_shown`: until the API shows it as ACTIVE, polled.
A guest: until a login by key has run a command in it; by the API, and by the command line that libvirt generated for
it, on the same port.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from cumulet.compute.agent.vif.ovs import OvsVif
from cumulet.dev.bare import Bare, command_line
from cumulet.dev.bench import machine
from cumulet.dev.bench.limits import Api, beside_bare, server_body
from cumulet.dev.bench.load import summary
from cumulet.dev.cloud import CloudFailed, Refused, RunningCloud, Session
from cumulet.host.config import HostConfig

__all__ = ["run"]

_PORTS = 20
_LOGINS = 5
_POLL_S = 0.002
_TRY_S = 0.05
_LIMIT_S = 180.0
_MTU = 1442


def run(rows: Sequence[str], results: dict[str, Any], tell: Callable[[str], None]) -> None:
    """One real cloud for all of them.  Raises CloudFailed or Refused."""
    with (
        tempfile.TemporaryDirectory(prefix="cumulet-bench-") as folder,
        RunningCloud(Path(folder), ["--real"], quiet=True) as cloud,
        cloud.session("cumulet") as session,
        cloud.session("cumulet-admin") as admin,
    ):
        results.setdefault("memory", {})["real"] = {"pss_mib": round(machine.pss_mib(_processes(cloud)), 1)}
        if "real_launch" in rows:
            tell("real_launch")
            results["real_launch"] = _launch(cloud, session)
        if "real_port" in rows:
            tell("real_port")
            results["real_port"] = _port(cloud, session, admin)
        if "real_ssh" in rows:
            tell("real_ssh")
            results["real_ssh"] = _ssh(cloud, session, admin)


def _processes(cloud: RunningCloud) -> list[int]:
    """The program and its daemons, which have its state folder in their command lines."""
    wanted = str(cloud.state).encode()
    found = set(machine.tree(cloud.pid))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended
                if wanted in (entry / "cmdline").read_bytes():
                    found |= set(machine.tree(int(entry.name)))
    return sorted(found)


def _compared(ours: Sequence[float], bare: Sequence[float]) -> dict[str, Any]:
    ratio = statistics.median(ours) / statistics.median(bare)
    return {"ours": summary(ours), "bare": summary(bare), "ratio": round(ratio, 3)}


def _launch(cloud: RunningCloud, session: Session) -> dict[str, Any]:
    bare, active, seen = beside_bare(cloud, session)
    compared = _compared([one / 1000 for one in active], [cost.both for cost in bare])
    return compared | {"until_seen": summary([one / 1000 for one in seen])}


def _some_command(cloud: RunningCloud, session: Session) -> tuple[dict[str, Any], list[str]]:
    """A launch's body, and QEMU's words for a guest that is gone again."""
    body = server_body(session)
    server = str(session.post("compute", "/servers", body)["server"]["id"])
    _until(lambda: session.get("compute", f"/servers/{server}")["server"]["status"] == "ACTIVE", "a first server")
    command = command_line(cloud.state, server)
    _remove(session, server)
    return body, command


def _port(cloud: RunningCloud, session: Session, admin: Session) -> dict[str, Any]:
    body, command = _some_command(cloud, session)
    network = body["server"]["networks"][0]["uuid"]
    host = admin.get("compute", "/os-hypervisors/detail")["hypervisors"][0]["hypervisor_hostname"]
    config = HostConfig.for_state_dir(str(cloud.state))
    vif = OvsVif(ovsdb=f"unix:{config.ovn_dir}/ovs.sock", cloud="bench", bridge=config.bridge_int)
    api = Api(admin, "network")
    wanted = {"network_id": network, "binding:host_id": host, "device_owner": "compute:bench"}
    ours, shown, bare = list[float](), list[float](), list[float]()
    with (
        tempfile.TemporaryDirectory(prefix="cumulet-bare-") as own,
        closing(Bare(cloud.state, command, folder=Path(own))) as by_hand,
    ):
        for _ in range(_PORTS):
            bare.append(by_hand.port_up())
            began = time.monotonic()
            port = api.ask("POST", "/v2.0/ports", {"port": wanted})["port"]
            by_hand.expect(port["id"])
            vif.plug(port["id"], mac=port["mac_address"], server_id="bench", mtu=_MTU)
            by_hand.wait_up()
            ours.append(time.monotonic() - began)
            _until(lambda port=port["id"]: _status(api, port) == "ACTIVE", "a port is up")  # type: ignore[misc]
            shown.append(time.monotonic() - began)
            vif.unplug(port["id"])
            admin.delete("network", f"/v2.0/ports/{port['id']}")
    return _compared(ours[1:], bare[1:]) | {"until_shown": summary(shown[1:])}


def _status(api: Api, port: str) -> str:
    return str(api.ask("GET", f"/v2.0/ports/{port}")["port"]["status"])


def _ssh(cloud: RunningCloud, session: Session, admin: Session) -> dict[str, Any]:
    ours, bare = list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="cumulet-bare-") as own:
        folder = Path(own)
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        public_key = key.with_suffix(".pub").read_text().strip()
        session.post("compute", "/os-keypairs", {"keypair": {"name": "bench", "public_key": public_key}})
        body = server_body(session)
        port, address = _reachable_port(session, body["server"]["networks"][0]["uuid"])
        body["server"] |= {"networks": [{"port": port}], "key_name": "bench", "config_drive": True}
        user = session.get("image", "/v2/images?visibility=public&status=active")["images"][0]["os_admin_user"]
        login = _words(key, user, address)
        host = admin.get("compute", "/os-hypervisors/detail")["hypervisors"][0]["hypervisor_hostname"]
        drive = folder / "config.iso"
        command: list[str] | None = None
        for _ in range(_LOGINS + 1):
            began = time.monotonic()
            server = str(session.post("compute", "/servers", body)["server"]["id"])
            _until_login(login, address)
            ours.append(time.monotonic() - began)
            command = command_line(cloud.state, server)
            shutil.copyfile(next(cloud.state.rglob(f"*{server}*/config.iso")), drive)
            _remove(session, server)
            with closing(Bare(cloud.state, command, folder=folder, config_drive=drive)) as by_hand:
                admin.ask("PUT", "network", f"/v2.0/ports/{port}", {"port": {"binding:host_id": host}})
                began = time.monotonic()
                with by_hand.guest_on(port):
                    _until_login(login, address)
                    bare.append(time.monotonic() - began)
                admin.ask("PUT", "network", f"/v2.0/ports/{port}", {"port": {"binding:host_id": ""}})
    # the first launch loads the image
    return _compared(ours[1:], bare[1:])


def _reachable_port(session: Session, network: str) -> tuple[str, str]:
    """A port with a floating IP that lets SSH in; its id, and the address."""
    public = session.get("network", "/v2.0/networks?router:external=true")["networks"][0]["id"]
    subnet = session.get("network", f"/v2.0/subnets?network_id={network}")["subnets"][0]["id"]
    router_body = {"router": {"name": "bench", "external_gateway_info": {"network_id": public}}}
    router = session.post("network", "/v2.0/routers", router_body)["router"]["id"]
    session.ask("PUT", "network", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet})
    group_body = {"security_group": {"name": "bench"}}
    group = session.post("network", "/v2.0/security-groups", group_body)["security_group"]["id"]
    rule = {"security_group_id": group, "direction": "ingress", "protocol": "tcp"}
    rule |= {"port_range_min": 22, "port_range_max": 22}
    session.post("network", "/v2.0/security-group-rules", {"security_group_rule": rule})
    port_body = {"port": {"network_id": network, "security_groups": [group]}}
    port = str(session.post("network", "/v2.0/ports", port_body)["port"]["id"])
    floating_body = {"floatingip": {"floating_network_id": public, "port_id": port}}
    floating = session.post("network", "/v2.0/floatingips", floating_body)["floatingip"]
    return port, str(floating["floating_ip_address"])


def _words(key: Path, user: str, address: str) -> list[str]:
    # the host key is made by the guest at its first boot: there is nothing to compare it with
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
    options.append("ConnectTimeout=1")
    return [
        "ssh",
        "-i",
        str(key),
        *(word for option in options for word in ("-o", option)),
        f"{user}@{address}",
        "true",
    ]


def _until_login(words: Sequence[str], address: str) -> None:
    ends = time.monotonic() + _LIMIT_S
    # an `ssh` that begins too early waits a second for its second try: that would be the measurement's own coarseness
    while not _listens(address) and time.monotonic() < ends:
        threading.Event().wait(_TRY_S)
    while subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0:
        if time.monotonic() > ends:
            raise CloudFailed(f"no login within {_LIMIT_S} s")
        threading.Event().wait(_TRY_S)


def _listens(address: str) -> bool:
    with suppress(OSError), socket.create_connection((address, 22), timeout=_TRY_S):
        return True
    return False


def _remove(session: Session, server: str) -> None:
    session.delete("compute", f"/servers/{server}")

    def gone() -> bool:
        try:
            session.get("compute", f"/servers/{server}")
        except Refused as refused:
            return refused.status == 404
        return False

    _until(gone, "a server is gone")


def _until(true: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + _LIMIT_S
    while not true():
        if time.monotonic() > ends:
            raise CloudFailed(f"not within {_LIMIT_S} s: {what}")
        threading.Event().wait(_POLL_S)
