"""`./dev demo`: from nothing to a real server that one has logged in to, by the commands a newcomer would type.

Every step is a command of the official client, of ssh or of cumulet, shown before it runs.  The cloud stays up
afterwards, to go on with; `./dev down` ends it.  A second run uses the cloud that is there and replaces the server of
the first.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import httpx

from cumulet.dev import apt
from cumulet.dev.checkout import APT_LOG, WORK, program
from cumulet.dev.cloud import CloudFailed, Refused, Session, read_cloud

__all__ = ["DemoFailed", "down", "run"]

_STATE = Path("/var/lib/cumulet")
_PORT = 8780
_CLOUD = "cumulet"
_NAME = "demo"
_LOG = WORK / "demo-cloud.log"
_PID = WORK / "demo-cloud.pid"
_KEY = WORK / "demo-key"
_START_TIMEOUT_S = 600.0
_STOP_TIMEOUT_S = 60.0
_SSH_TIMEOUT_S = 240.0
_GONE_TIMEOUT_S = 60.0
_PAUSE_S = 0.3
_STEPS = set(range(1, 20))
_STEP_ROW = re.compile(r"^\W*(\d{1,2})\b", re.MULTILINE)
_LINES_SHOWN = 30


class DemoFailed(Exception):
    """A command failed or did not show what it should."""


def run() -> None:
    """The whole demonstration.  Raises DemoFailed, CloudFailed or apt.InstallFailed."""
    began = time.monotonic()
    apt.ensure(["openssh-client"], log=APT_LOG)
    _ensure_cloud()
    entry = read_cloud(_STATE / "clouds.yaml", _CLOUD)
    session = Session(entry)
    _remove_the_last_one(session)
    _make_room(session)
    address = _launch()
    ssh = [*_ssh_words(session, address)]
    _show("logged in over its floating IP", _until_it_answers(ssh))
    _require("two disks in the guest", _run([*ssh, "lsblk"]), r"\bvda\b[\s\S]*\bvdb\b")
    _openstack("volume", "create", "--size", "1", "demo-more")
    _wait("the volume is available", lambda: _status(session, "demo-more") == "available", _GONE_TIMEOUT_S)
    _openstack("server", "add", "volume", _NAME, "demo-more")
    _wait("the guest sees the third disk", lambda: "vdc" in _quietly([*ssh, "lsblk"]), _GONE_TIMEOUT_S)
    _require("three disks in the guest", _run([*ssh, "lsblk"]), r"\bvdc\b")
    traced = _run([program("cumulet"), "trace", _NAME])
    missing = _STEPS - {int(number) for number in _STEP_ROW.findall(traced)}
    if missing:
        raise DemoFailed(f"the trace lacks the steps {sorted(missing)}")
    _openstack("server", "list")
    client = f"{program('openstack')} --os-cloud {_CLOUD}"
    print(f"""
All of it real, in {time.monotonic() - began:.0f} s.  Go on with:

  {client} server list
  {client} server event list {_NAME}
  {client} console log show {_NAME}
  {client} console url show {_NAME}
  {shlex.join(ssh)}
  {program("cumulet")} trace {_NAME}
  http://127.0.0.1:{_PORT}/            the dashboard; user and password are in {_STATE}/openrc
  ./dev down                         ends the cloud; `{program("cumulet")} up` brings it back
""")


def down() -> None:
    """End the cloud that the demonstration started, if it runs."""
    pid = _cloud_pid()
    if pid is None:
        print("the demonstration's cloud does not run")
        return
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        ended = _wait_for_end(handle)
    finally:
        os.close(handle)
    if not ended:
        raise DemoFailed(f"the cloud (process {pid}) still runs {_STOP_TIMEOUT_S:.0f} s after SIGTERM; see {_LOG}")
    _PID.unlink(missing_ok=True)
    print("the cloud has ended")


def _wait_for_end(handle: int) -> bool:
    import select

    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(_STOP_TIMEOUT_S * 1000))


def _cloud_pid() -> int | None:
    """The process of the cloud that an earlier demonstration started, if it still is that."""
    try:
        pid = int(_PID.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ValueError):
        return None
    return pid if b"up" in words and any(word.endswith(b"cumulet") for word in words) else None


def _ensure_cloud() -> None:
    """A real cloud at the default port: the one that is there, or a new one that outlives this command."""
    if _is_healthy():
        print(f"a cloud is running at http://127.0.0.1:{_PORT}")
        return
    command = [program("cumulet"), "up", "--real", "--state", str(_STATE), "--port", str(_PORT)]
    print(f"$ {shlex.join(command)} &", flush=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with _LOG.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    _PID.write_text(str(process.pid))
    ends = time.monotonic() + _START_TIMEOUT_S
    shown = 0
    while True:
        ended = process.poll() is not None
        text = _LOG.read_text(errors="replace")
        complete = text[: text.rfind("\n") + 1]
        sys.stdout.write(complete[shown:])
        sys.stdout.flush()
        shown = len(complete)
        if re.search(r"\bready in [0-9.]+ s\b", complete):
            return
        if ended or time.monotonic() > ends:
            tail = "\n".join(text.splitlines()[-_LINES_SHOWN:])
            raise CloudFailed(f"the cloud {'ended' if ended else 'is not ready'}; the end of {_LOG}:\n{tail}")
        _pause()


def _is_healthy() -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{_PORT}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


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


def _make_room(session: Session) -> None:
    """Key, network, router and rules, unless an earlier demonstration has made them."""
    keys = {entry["keypair"]["name"] for entry in session.get("compute", "/os-keypairs")["keypairs"]}
    if _NAME in keys and not _KEY.exists():
        _openstack("keypair", "delete", _NAME)
    if not _KEY.exists() or _NAME not in keys:
        _KEY.unlink(missing_ok=True)
        _openstack("keypair", "create", "--private-key", str(_KEY), _NAME)
        _KEY.chmod(0o600)
    if not session.get("network", f"/v2.0/networks?name={_NAME}")["networks"]:
        _openstack("network", "create", _NAME)
        _openstack("subnet", "create", "--network", _NAME, "--subnet-range", "10.20.0.0/24", _NAME)
        _openstack("router", "create", "--external-gateway", "public", _NAME)
        _openstack("router", "add", "subnet", _NAME, _NAME)
    if not session.get("network", f"/v2.0/security-groups?name={_NAME}")["security_groups"]:
        _openstack("security", "group", "create", _NAME)
        _openstack("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "22", _NAME)
        _openstack("security", "group", "rule", "create", "--protocol", "icmp", _NAME)


def _launch() -> str:
    """The server of the tutorials, with a second volume made during its launch; its floating IP."""
    image = _openstack("image", "list", "--public", "-f", "value", "-c", "Name").split("\n")[0].strip()
    words = ["server", "create", "--flavor", "m1.small", "--image", image, "--nic", f"net-id={_NAME}"]
    words += ["--security-group", _NAME, "--key-name", _NAME]
    words += ["--block-device", "source_type=blank,destination_type=volume,volume_size=1,delete_on_termination=true"]
    _openstack(*words, "--wait", _NAME)
    floating = _openstack(
        "floating", "ip", "list", "--status", "DOWN", "-f", "value", "-c", "Floating IP Address"
    ).split()
    if not floating:
        words = ["floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address"]
        floating = _openstack(*words).split()
    _openstack("server", "add", "floating", "ip", _NAME, floating[0])
    return floating[0]


def _ssh_words(session: Session, address: str) -> list[str]:
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
    return ["ssh", "-i", str(_KEY), *(word for option in options for word in ("-o", option)), f"{user}@{address}"]


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


def _openstack(*words: str) -> str:
    return _run([program("openstack"), "--os-cloud", _CLOUD, *words])


def _run(command: Sequence[str]) -> str:
    """Show a command, run it, show and return what it said.  Raises DemoFailed."""
    print(f"$ {shlex.join([Path(command[0]).name, *command[1:]])}", flush=True)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment(), check=False
    )
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    if done.returncode != 0:
        raise DemoFailed(f"{shlex.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _quietly(command: Sequence[str]) -> str:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout


def _environment() -> dict[str, str]:
    """No credentials but the cloud's own clouds.yaml."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
    return others | {"OS_CLIENT_CONFIG_FILE": str(_STATE / "clouds.yaml"), "OS_CLOUD": _CLOUD}


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
