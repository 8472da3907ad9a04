"""`./dev crash`: kill the cloud in the middle of launches, start it again, and see that nothing was lost or left.

Each round launches a server, kills `cumulet up` (SIGKILL) when a given number of the launch's events are in its log,
and starts it again.  By itself the server must then become ACTIVE, or be in ERROR or gone; at the end the leak check
must find nothing without an owner.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from cumulet.dev.bench import server_body
from cumulet.dev.checkout import program
from cumulet.dev.cloud import CloudFailed, Refused, RunningCloud, Session

__all__ = ["run"]

#: how many events of the launch are in the log when the kill comes
_KILLED_AFTER = (1, 4, 7, 10, 13)
_POLL_S = 0.001
_SETTLED_TIMEOUT_S = 180.0
_GONE_TIMEOUT_S = 60.0
_SETTLED = {"ACTIVE", "ERROR", "gone"}


def run(kind: str) -> bool:
    """All rounds on one state folder; whether all is well.  `kind` is `--sim` or `--real`."""
    good = True
    with tempfile.TemporaryDirectory(prefix="cumulet-crash-") as folder:
        state = Path(folder)
        with RunningCloud(state, [kind], quiet=True) as cloud:
            body = server_body(cloud.session("cumulet"))
        for events in _KILLED_AFTER:
            with RunningCloud(state, [kind], port=cloud.port, quiet=True) as cloud:
                server_id, seen = _launch_and_kill(cloud, body, events)
            with RunningCloud(state, [kind], port=cloud.port, quiet=True) as cloud:
                session = cloud.session("cumulet")
                status = _wait_for(session, server_id, _SETTLED, _SETTLED_TIMEOUT_S)
                with suppress(Refused):  # gone already
                    session.delete("compute", f"/servers/{server_id}")
                gone = _wait_for(session, server_id, {"gone"}, _GONE_TIMEOUT_S) == "gone"
                leaks = _leaks(state)
            well = status in _SETTLED and gone and leaks == "0"
            print(f"killed after {seen:2} events: {status}; deleted: {gone}; without an owner: {leaks}", flush=True)
            good = good and well
    print("all well" if good else "NOT WELL")
    return good


def _launch_and_kill(cloud: RunningCloud, body: dict[str, object], events: int) -> tuple[str, int]:
    """Launch, kill when so many events are logged or the launch is over; the server, and how many were seen."""
    session = cloud.session("cumulet-admin")
    owner = cloud.session("cumulet")
    server_id = str(owner.post("compute", "/servers", body)["server"]["id"])
    ends = time.monotonic() + _SETTLED_TIMEOUT_S
    seen: Sequence[Any] = []
    while len(seen) < events and time.monotonic() < ends:
        actions = session.get("compute", f"/servers/{server_id}/os-instance-actions")["instanceActions"]
        for action in actions:
            if action["action"] == "create":
                path = f"/servers/{server_id}/os-instance-actions/{action['request_id']}"
                seen = session.get("compute", path)["instanceAction"].get("events", [])
        if _status(owner, server_id) != "BUILD":
            break
        threading.Event().wait(_POLL_S)
    cloud.kill()
    return server_id, len(seen)


def _status(session: Session, server_id: str) -> str:
    try:
        return str(session.get("compute", f"/servers/{server_id}")["server"]["status"])
    except Refused as refused:
        if refused.status == 404:
            return "gone"
        raise


def _wait_for(session: Session, server_id: str, wanted: set[str], timeout_s: float) -> str:
    """The server's state, as soon as it is one of those or when the time is over."""
    ends = time.monotonic() + timeout_s
    while True:
        with suppress(httpx.TransportError):
            status = _status(session, server_id)
            if status in wanted or time.monotonic() > ends:
                return status
        if time.monotonic() > ends:
            raise CloudFailed("the cloud does not answer")
        threading.Event().wait(_POLL_S)


def _leaks(state: Path) -> str:
    """What the leak check prints in its last line: how many things have no owner."""
    done = subprocess.run(
        [program("cumulet"), "check", "--state", str(state)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        return f"{done.stdout}{done.stderr}".strip() or f"status {done.returncode}"
    return lines[-1].strip()
