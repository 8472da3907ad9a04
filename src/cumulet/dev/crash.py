"""`./dev crash`: kill the cloud in the middle of launches, start it again, and see that nothing was lost or left.

Each round launches a server, lets `cumulet up` kill itself (SIGKILL) at one boundary of the launch, and starts it again
on the same state folder.  By itself the server must then become ACTIVE, or be in ERROR or gone; the leak check must
find nothing without an owner, with the server there and when it has been deleted.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cumulet.dev.bench.limits import server_body
from cumulet.dev.cloud import CloudFailed, Refused, RunningCloud, Session

__all__ = ["MOMENTS", "run"]

#: every boundary of a launch's steps and messages, in the flow's order
MOMENTS = (
    "launch.ask_scheduler.before",
    "launch.claim_host.after",
    "launch.cast_to_host.before",
    "launch.ask_scheduler.after",
    "launch.load_image.before",
    "launch.load_image.after",
    "launch.bind_ports.before",
    "launch.bind_ports.after",
    "launch.attach_volumes.before",
    "launch.attach_volumes.after",
    "launch.start_domain.before",
    "launch.start_domain.after",
)
#: a real round takes longer: one moment in every part of the flow
REAL_MOMENTS = (
    "launch.claim_host.after",
    "launch.load_image.after",
    "launch.bind_ports.after",
    "launch.attach_volumes.after",
    "launch.start_domain.before",
    "launch.start_domain.after",
)
_POLL_S = 0.01
_KILLED_TIMEOUT_S = 60.0
_SETTLED_TIMEOUT_S = 120.0
_GONE_TIMEOUT_S = 60.0
_SETTLED = frozenset({"ACTIVE", "ERROR", "gone"})


@dataclass(frozen=True)
class _Round:
    """How one kill ended."""

    moment: str
    #: the server after the next start
    status: str
    #: how long after the next start's readiness it was so
    settled_in_s: float
    #: whether it could be deleted
    gone: bool
    #: what had no owner, while it was there and afterwards
    leaks: Sequence[str]

    @property
    def well(self) -> bool:
        return self.status in _SETTLED and self.gone and not self.leaks

    def __str__(self) -> str:
        left = "; ".join(self.leaks) or "0"
        verdict = "well" if self.well else "NOT WELL"
        gone = "yes" if self.gone else "NO"
        return f"{self.moment:<30} {self.status:<7} {self.settled_in_s:>9.2f} s {gone:>8} {left:>14}   {verdict}"


def run(kind: str, moments: Sequence[str] = ()) -> bool:
    """A round for each moment, all on one state folder; whether all is well.  `kind` is `--sim` or `--real`."""
    rounds: list[_Round] = []
    print(f"{'killed at':<30} {'server':<7} {'settled in':>11} {'deleted':>8} {'without owner':>14}", flush=True)
    with tempfile.TemporaryDirectory(prefix="cumulet-crash-") as folder:
        state = Path(folder)
        with RunningCloud(state, [kind], quiet=True) as cloud, cloud.session("cumulet") as session:
            body = _with_volume(server_body(session))
        for moment in moments or (MOMENTS if kind == "--sim" else REAL_MOMENTS):
            rounds.append(_round(state, kind, cloud.port, body, moment))
            print(rounds[-1], flush=True)
    good = all(one.well for one in rounds)
    print(f"{sum(one.well for one in rounds)} of {len(rounds)} well")
    return good


def _with_volume(body: dict[str, Any]) -> dict[str, Any]:
    """With a second, blank volume, so that every step has something to do."""
    root = {"boot_index": 0, "uuid": body["server"]["imageRef"], "source_type": "image", "destination_type": "local"}
    data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
    devices = [one | {"delete_on_termination": True} for one in (root, data)]
    return {"server": body["server"] | {"block_device_mapping_v2": devices}}


def _round(state: Path, kind: str, port: int, body: dict[str, Any], moment: str) -> _Round:
    name = f"{moment}-{os.getpid()}"
    with RunningCloud(state, [kind, "--failpoint", moment], port=port, quiet=True) as cloud:
        with cloud.session("cumulet") as session, suppress(httpx.TransportError):  # it may be killed while it answers
            session.post("compute", "/servers", {"server": body["server"] | {"name": name}})
        if not cloud.wait_until_killed(_KILLED_TIMEOUT_S):
            raise CloudFailed(f"the launch did not pass {moment}")
    with (
        RunningCloud(state, [kind], port=port, quiet=True) as cloud,
        cloud.session("cumulet") as session,
        cloud.session("cumulet-admin") as admin,
    ):
        began = time.monotonic()
        found = session.get("compute", f"/servers?name={name}")["servers"]
        if not found:
            return _Round(moment, "gone", 0.0, gone=True, leaks=_leaks(admin))
        server_id = str(found[0]["id"])
        status = _wait_for(session, server_id, _SETTLED, _SETTLED_TIMEOUT_S)
        took = time.monotonic() - began
        leaks = _leaks(admin)
        with suppress(Refused):  # gone already
            session.delete("compute", f"/servers/{server_id}")
        gone = _wait_for(session, server_id, {"gone"}, _GONE_TIMEOUT_S) == "gone"
        _wait_until_no_volumes(session)
        return _Round(moment, status, took, gone=gone, leaks=[*leaks, *_leaks(admin)])


def _status(session: Session, server_id: str) -> str:
    try:
        return str(session.get("compute", f"/servers/{server_id}")["server"]["status"])
    except Refused as refused:
        if refused.status == 404:
            return "gone"
        raise


def _wait_for(session: Session, server_id: str, wanted: frozenset[str] | set[str], timeout_s: float) -> str:
    """The server's state, as soon as it is one of those or when the time is over."""
    ends = time.monotonic() + timeout_s
    while True:
        status = _status(session, server_id)
        if status in wanted or time.monotonic() > ends:
            return status
        threading.Event().wait(_POLL_S)


def _wait_until_no_volumes(session: Session) -> None:
    """A volume that ends with its server goes in its own time; one that stays is told by the leak check of nobody, so here."""
    ends = time.monotonic() + _GONE_TIMEOUT_S
    while volumes := session.get("block-storage", "/volumes/detail")["volumes"]:
        if time.monotonic() > ends:
            raise CloudFailed(f"left of deleted servers: {[(one['id'], one['status']) for one in volumes]}")
        threading.Event().wait(_POLL_S)


def _leaks(admin: Session) -> list[str]:
    """What `cumulet check` prints: everything without an owner."""
    found = admin.operator("/check")["leaks"]
    return [f"{leak['kind']} {leak['id']} {leak['detail']}".rstrip() for leak in found]
