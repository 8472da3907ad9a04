"""Faults on demand: what is to go wrong, how often, and for whom.  For users' own tests; there only when the cloud was started so.

A registry, asked at a few named places (`run/faulty.py`).  Where there is none, those places are not there either, but for one
comparison with None in each request.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cumulet.core.clock import Clock, add_seconds
from cumulet.core.errors import BadRequest, NotFound, ServerFault
from cumulet.core.ids import Ids

__all__ = ["KINDS", "Fault", "Faults", "InjectedFault", "Kind", "Param"]

FAULTS_MAX = 100


class InjectedFault(ServerFault):
    """What fails because it was told to."""

    default = "A fault was injected here."


class Param(msgspec.Struct, frozen=True):
    """One more thing that a kind takes: its type, and the words or bounds it may have."""

    type: type
    required: bool = False
    words: tuple[str, ...] = ()
    max: float | None = None


class Kind(msgspec.Struct, frozen=True):
    """What can go wrong, in words, and what may be said of it."""

    what: str
    params: Mapping[str, Param] = {}


KINDS: Mapping[str, Kind] = {
    "host_dies": Kind("a host takes no orders and gives no sign of life", {"host": Param(str)}),
    "port_never_up": Kind("the network does not bring ports up"),
    "image_slow": Kind("what reads or writes an image takes longer", {"seconds": Param(float, True, (), 3600.0)}),
    "volume_full": Kind("the back end has no room for volumes and snapshots"),
    "api_error": Kind(
        "requests are answered with an error",
        {"service": Param(str), "route": Param(str), "status": Param(int, False, ("500", "503"))},
    ),
    "step_fails": Kind(
        "a step of a long operation fails, before its effect or after it, or its undo does",
        {"flow": Param(str), "step": Param(str), "when": Param(str, False, ("before", "after", "undo"))},
    ),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault.  project: whom it strikes, None for all; count: how often at most; rate: with which probability each time."""

    id: str
    kind: str
    params: dict[str, Any]
    project: str | None
    count: int | None
    rate: float
    #: seconds
    duration: float | None
    made_at: str
    ends_at: str | None
    struck: int = 0


class Faults:
    """The registry.  Any thread may ask it."""

    def __init__(self, *, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._lock = threading.Lock()
        self._faults: dict[str, Fault] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Be told, on whichever thread, that a fault came or went."""
        self._listeners.append(listener)

    # --- the admin's side ------------------------------------------------------------------------------------------

    def add(self, asked: Mapping[str, Any]) -> Fault:
        """Raises BadRequest for what it does not know."""
        name = asked.get("kind")
        if not isinstance(name, str) or name not in KINDS:
            raise BadRequest(f"Unknown kind of fault {name!r}; there are {', '.join(sorted(KINDS))}.")
        count = _number(asked, "count", int, low=1)
        rate = _number(asked, "rate", float, low=0.0, high=1.0)
        duration = _number(asked, "duration", float, low=0.0)
        project = asked.get("project")
        if project is not None and not isinstance(project, str):
            raise BadRequest("'project' must be a project's id.")
        now = self._clock.now()
        fault = Fault(
            id=self._ids.uuid(),
            kind=name,
            params=_params(KINDS[name], {k: v for k, v in asked.items() if k not in _COMMON}),
            project=project,
            count=count,
            rate=1.0 if rate is None else rate,
            duration=duration,
            made_at=now,
            ends_at=None if duration is None else add_seconds(now, duration),
        )
        with self._lock:
            if len(self._faults) >= FAULTS_MAX:
                raise BadRequest(f"There are {FAULTS_MAX} faults already.")
            self._faults[fault.id] = fault
        self._changed()
        return fault

    def list(self) -> list[Fault]:
        """Those that may still strike."""
        self.expire()
        with self._lock:
            return list(self._faults.values())

    def remove(self, fault_id: str) -> None:
        """Raises NotFound."""
        with self._lock:
            if self._faults.pop(fault_id, None) is None:
                raise NotFound(f"Fault {fault_id} could not be found.")
        self._changed()

    # --- the places' side ------------------------------------------------------------------------------------------

    def strike(self, kind: str, project: str | None, **facts: str) -> Fault | None:
        """The fault that strikes here and now, counted; None when none does.  facts: what a fault's params must agree with."""
        if not self._faults:
            return None
        self.expire()
        with self._lock:
            for fault in self._faults.values():
                if fault.kind != kind or (fault.project is not None and fault.project != project):
                    continue
                if any(facts.get(name, value) != value for name, value in fault.params.items()):
                    continue
                if fault.count is not None and fault.struck >= fault.count:
                    continue
                if fault.rate < 1.0 and self._ids.rng.random() >= fault.rate:
                    continue
                self._faults[fault.id] = msgspec.structs.replace(fault, struck=fault.struck + 1)
                return fault
        return None

    def holds(self, fault_id: str) -> bool:
        """Whether a fault is still there: for places where it lasts."""
        self.expire()
        return fault_id in self._faults

    def expire(self) -> None:
        """Take out those whose time is over."""
        with self._lock:
            now = self._clock.now()
            over = [fault.id for fault in self._faults.values() if fault.ends_at is not None and fault.ends_at <= now]
            for fault_id in over:
                del self._faults[fault_id]
        if over:
            self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()


_COMMON = ("kind", "project", "count", "rate", "duration")


def _number(asked: Mapping[str, Any], name: str, kind: type, *, low: float, high: float | None = None) -> Any:
    value = asked.get(name)
    if value is None:
        return None
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or value < low or (high is not None and value > high):
        most = "" if high is None else f" and {high:g} at most"
        raise BadRequest(f"{name!r} must be a number, {low:g} at least{most}.")
    return value


def _params(kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(given) - set(kind.params))
    if unknown:
        raise BadRequest(f"Unknown parameter {', '.join(unknown)}; there are {', '.join(kind.params) or 'none'}.")
    for name, param in kind.params.items():
        value = given.get(name)
        if value is None:
            if param.required:
                raise BadRequest(f"The parameter {name!r} is missing.")
        elif param.type in {int, float}:
            _number(given, name, param.type, low=0.0, high=param.max)
        elif not isinstance(value, str):
            raise BadRequest(f"{name!r} must be text.")
        if value is not None and param.words and str(value) not in param.words:
            raise BadRequest(f"{name!r} must be one of {', '.join(param.words)}.")
    return {name: value for name, value in given.items() if value is not None}
