"""`./dev demo`: from nothing to a real server that one has logged in to, by the commands a newcomer would type.

Every step is a command of the official client, of ssh or of cumulet, shown before it runs.  The cloud stays up
afterwards, to go on with; `./dev down` ends it.  A second run uses the cloud that is there and replaces the server of
the first.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cumulet.dev import apt
from cumulet.dev.checkout import APT_LOG, program
from cumulet.dev.cloud import Refused, Session, read_cloud
from cumulet.dev.standing import CLOUD, Place, ensure
from cumulet.host.confines import look

__all__ = ["DemoFailed", "run"]

_AS = ("--os-cloud", CLOUD)
_NAME = "demo"
_SSH_TIMEOUT_S = 240.0
_GONE_TIMEOUT_S = 60.0
_PAUSE_S = 0.3
_STEPS = set(range(1, 20))
_STEP_ROW = re.compile(r"^\W*(\d{1,2})\b", re.MULTILINE)


class DemoFailed(Exception):
    """A command failed or did not show what it should."""


def run(place: Place) -> None:
    """The whole demonstration.  Raises DemoFailed, CloudFailed or apt.InstallFailed."""
    began = time.monotonic()
    _require_a_real_machine()
    apt.ensure_real_host(log=APT_LOG)
    apt.ensure(["openssh-client"], log=APT_LOG)
    ensure(place)
    entry = read_cloud(place.state / "clouds.yaml", CLOUD)
    session = Session(entry)
    _remove_the_last_one(session)
    _make_room(place, session)
    address = _launch(place)
    ssh = [*_ssh_words(place, session, address)]
    _show("logged in over its floating IP", _until_it_answers(ssh))
    _require("two disks in the guest", _run(place, [*ssh, "lsblk"]), r"\bvda\b[\s\S]*\bvdb\b")
    _openstack(place, "volume", "create", "--size", "1", "demo-more")
    _wait("the volume is available", lambda: _status(session, "demo-more") == "available", _GONE_TIMEOUT_S)
    _openstack(place, "server", "add", "volume", _NAME, "demo-more")
    _wait("the guest sees the third disk", lambda: "vdc" in _quietly([*ssh, "lsblk"], place), _GONE_TIMEOUT_S)
    _require("three disks in the guest", _run(place, [*ssh, "lsblk"]), r"\bvdc\b")
    traced = _run(place, [program("cumulet"), "trace", "--state", str(place.state), _NAME])
    missing = _STEPS - {int(number) for number in _STEP_ROW.findall(traced)}
    if missing:
        raise DemoFailed(f"the trace lacks the steps {sorted(missing)}")
    if "skipped" in traced or "waiting" in traced:
        raise DemoFailed("a step of the launch had nothing to do")
    _openstack(place, "server", "list")
    client = f"{program('openstack')} --os-cloud {CLOUD}"
    if place.options:  # the user's own clouds.yaml may name another cloud by now
        client = f"OS_CLIENT_CONFIG_FILE={shlex.quote(str(place.state / 'clouds.yaml'))} {client}"
    print(f"""
All of it real, in {time.monotonic() - began:.0f} s.  Go on with:

  {client} server list
  {client} server event list {_NAME}
  {client} console log show {_NAME}
  {client} console url show {_NAME}
  {shlex.join(ssh)}
  {program("cumulet")} trace --state {place.state} {_NAME}

The dashboard is at {place.url}/; user and password are in {place.state}/openrc.
`./dev down{place.options}` ends the cloud, `./dev demo{place.options}` brings it back.
""")


def _require_a_real_machine() -> None:
    """Before anything is installed.  Raises DemoFailed with what forbids a real cloud here."""
    reasons = ["it needs root"]
    if os.geteuid() == 0:
        confines = look()
        reasons = [reason for reason in (confines.namespaces, confines.interfaces) if reason]
    if reasons:
        simulated = f"{program('cumulet')} up --sim --state DIR"
        raise DemoFailed(f"a real cloud cannot run here: {'; '.join(reasons)}.\nA simulated one can: {simulated}")


def _remove_the_last_one(session: Session) -> None:
    """What an earlier demonstration made and this one makes again."""
    for server in session.get("compute", f"/servers?name=^{_NAME}$")["servers"]:
        print(f"removing the server of the last demonstration, {server['id']}")
        session.delete("compute", f"/servers/{server['id']}")
        _wait("the old server is gone", partial(_is_gone, session, server["id"]), _GONE_TIMEOUT_S)
    for volume in session.get("block-storage", "/volumes?name=demo-more")["volumes"]:
        _wait("the old volume is free", lambda: _status(session, "demo-more") == "available", _GONE_TIMEOUT_S)
        session.delete("block-storage", f"/volumes/{volume['id']}")
        _wait("the old volume is gone", lambda: _status(session, "demo-more") is None, _GONE_TIMEOUT_S)


def _is_gone(session: Session, server_id: str) -> bool:
    try:
        session.get("compute", f"/servers/{server_id}")
    except Refused as refused:
        return refused.status == 404
    return False


def _status(session: Session, name: str) -> str | None:
    """The state of a volume; None when there is none of that name."""
    volumes = session.get("block-storage", f"/volumes/detail?name={name}")["volumes"]
    return str(volumes[0]["status"]) if volumes else None


def _make_room(place: Place, session: Session) -> None:
    """Key, network, router and rules, unless an earlier demonstration has made them."""
    keys = {entry["keypair"]["name"] for entry in session.get("compute", "/os-keypairs")["keypairs"]}
    if _NAME in keys and not place.key.exists():
        _openstack(place, "keypair", "delete", _NAME)
    if not place.key.exists() or _NAME not in keys:
        place.key.unlink(missing_ok=True)
        _openstack(place, "keypair", "create", "--private-key", str(place.key), _NAME)
        place.key.chmod(0o600)
    if not session.get("network", f"/v2.0/networks?name={_NAME}")["networks"]:
        _openstack(place, "network", "create", _NAME)
        _openstack(place, "subnet", "create", "--network", _NAME, "--subnet-range", "10.20.0.0/24", _NAME)
        _openstack(place, "router", "create", "--external-gateway", "public", _NAME)
        _openstack(place, "router", "add", "subnet", _NAME, _NAME)
    if not session.get("network", f"/v2.0/security-groups?name={_NAME}")["security_groups"]:
        _openstack(place, "security", "group", "create", _NAME)
        _openstack(place, "security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "22", _NAME)
        _openstack(place, "security", "group", "rule", "create", "--protocol", "icmp", _NAME)


def _launch(place: Place) -> str:
    """The server of the tutorials, with a second volume made during its launch; its floating IP."""
    image = _openstack(place, "image", "list", "--public", "-f", "value", "-c", "Name").split("\n")[0].strip()
    words = ["server", "create", "--flavor", "m1.small", "--image", image, "--nic", f"net-id={_NAME}"]
    words += ["--security-group", _NAME, "--key-name", _NAME]
    words += ["--block-device", "source_type=blank,destination_type=volume,volume_size=1,delete_on_termination=true"]
    try:
        _openstack(place, *words, "--wait", _NAME)
    except DemoFailed as error:
        # the client says no more than that it failed
        fault = _quietly([program("openstack"), *_AS, "server", "show", "-f", "value", "-c", "fault", _NAME], place)
        traced = _quietly([program("cumulet"), "trace", "--state", str(place.state), "--no-follow", _NAME], place)
        raise DemoFailed(f"{error}{fault}\n{traced}") from None
    floating = _openstack(
        place, "floating", "ip", "list", "--status", "DOWN", "-f", "value", "-c", "Floating IP Address"
    ).split()
    if not floating:
        words = ["floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address"]
        floating = _openstack(place, *words).split()
    _openstack(place, "server", "add", "floating", "ip", _NAME, floating[0])
    return floating[0]


def _ssh_words(place: Place, session: Session, address: str) -> list[str]:
    images = session.get("image", "/v2/images?visibility=public")["images"]
    user = next((image["os_admin_user"] for image in images if "os_admin_user" in image), "cloud")
    # The host key is made by the guest at its first boot: there is nothing to compare it with.
    options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
        "ConnectTimeout=5",
    ]
    return ["ssh", "-i", str(place.key), *(word for option in options for word in ("-o", option)), f"{user}@{address}"]


def _until_it_answers(ssh: Sequence[str]) -> str:
    """The guest's first answer.  Until its keys have arrived an SSH server refuses."""
    print(f"$ {shlex.join([*ssh, 'hostname; uptime'])}", flush=True)
    ends = time.monotonic() + _SSH_TIMEOUT_S
    while True:
        done = subprocess.run(
            [*ssh, "hostname; uptime"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
        if time.monotonic() > ends:
            raise DemoFailed(f"no login within {_SSH_TIMEOUT_S:.0f} s: {done.stderr.strip()}")
        _pause()


def _openstack(place: Place, *words: str) -> str:
    return _run(place, [program("openstack"), *_AS, *words])


def _run(place: Place, command: Sequence[str]) -> str:
    """Show a command, run it, show and return what it said.  Raises DemoFailed."""
    print(f"$ {shlex.join([Path(command[0]).name, *command[1:]])}", flush=True)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment(place), check=False
    )
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    if done.returncode != 0:
        raise DemoFailed(f"{shlex.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _quietly(command: Sequence[str], place: Place) -> str:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment(place), check=False
    ).stdout


def _environment(place: Place) -> dict[str, str]:
    """No credentials but the cloud's own clouds.yaml."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
    return others | {"OS_CLIENT_CONFIG_FILE": str(place.state / "clouds.yaml"), "OS_CLOUD": CLOUD}


def _require(what: str, text: str, pattern: str) -> None:
    if not re.search(pattern, text):
        raise DemoFailed(f"not seen: {what}")


def _show(what: str, text: str) -> None:
    print(f"{text.rstrip()}\n-- {what}", flush=True)


def _wait(what: str, condition: Callable[[], bool], timeout_s: float) -> None:
    ends = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends:
            raise DemoFailed(f"not within {timeout_s:.0f} s: {what}")
        _pause()


def _pause() -> None:
    """Between two questions to somebody who has no event to send us."""
    threading.Event().wait(_PAUSE_S)
