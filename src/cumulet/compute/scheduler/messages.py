"""What the conductor and the scheduler say to each other."""

from typing import Any

import msgspec

from cumulet.compute.records import FlavorSnapshot, Server
from cumulet.compute.scheduler.decision import Decision
from cumulet.core.bus import Interface, call
from cumulet.core.errors import CloudError
from cumulet.core.saga import Order

__all__ = [
    "Fit",
    "FitRequest",
    "NoValidHostError",
    "RefitRequest",
    "SchedulerInterface",
    "SelectRequest",
    "Selected",
]


class NoValidHostError(CloudError):
    """No host can hold the server.  The words name what was missing, per filter and resource, without naming hosts."""

    status = 500
    title = "Internal Server Error"
    default = "No valid host was found."


class SelectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Choose a host for a server, take its resources, and order the host to build it."""

    order: Order
    server: Server
    asked_at: str
    #: hosts that must not be chosen (they failed before)
    exclude: tuple[str, ...] = ()
    #: whether the order is sent on to the host (a launch), or the conductor goes on itself (a resize)
    hand_over: bool = True
    #: by when, after it was ordered, the host must have recorded something
    hand_over_s: float = 60.0


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The choice.  How it was made is kept with the server (`decision.py`)."""

    host: str
    node: str
    zone: str


class RefitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Make a server's claim on its host that of the largest of these flavors in each resource; the last one is what it is to become."""

    order: Order
    server: Server
    flavors: list[FlavorSnapshot]
    action: str


class FitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Where would a server go, if it were launched."""

    flavor: FlavorSnapshot
    image_properties: dict[str, Any] = {}
    zone: str | None = None


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """rooms: by host, how many such servers it would hold, best first, as many hosts as a decision names; fits: on all hosts."""

    decision: Decision
    rooms: dict[str, int]
    fits: int


class SchedulerInterface(Interface, topic="scheduler"):
    """The scheduler's named queue."""

    @call
    def select(self, request: SelectRequest) -> Selected:
        """Raises NoValidHostError."""
        raise NotImplementedError

    @call
    def refit(self, request: RefitRequest) -> str:
        """For a resize, which stays on its host: the decision in safe words.  Raises NoValidHostError."""
        raise NotImplementedError

    @call
    def fit(self, request: FitRequest) -> Fit:
        """The same filters and weights as for a launch, and nothing is claimed."""
        raise NotImplementedError
