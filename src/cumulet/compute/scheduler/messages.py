"""What the conductor and the scheduler say to each other."""

import msgspec

from cumulet.compute.records import Server
from cumulet.core.bus import Interface, call
from cumulet.core.errors import CloudError
from cumulet.core.saga import Order

__all__ = ["NoValidHostError", "Refusal", "SchedulerInterface", "SelectRequest", "Selected"]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why one host was refused, and by which filter or resource."""

    host: str
    by: str
    #: full words, for the admin
    reason: str


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
    """The choice, and how it was made (kept for the admin: `why`)."""

    host: str
    node: str
    zone: str
    weights: dict[str, float] = {}
    refused: tuple[Refusal, ...] = ()
    considered: int = 0


class SchedulerInterface(Interface, topic="scheduler"):
    """The scheduler's named queue."""

    @call
    def select(self, request: SelectRequest) -> Selected:
        """Raises NoValidHostError."""
        raise NotImplementedError


def explain(refusals: list[Refusal], considered: int) -> tuple[str, str]:
    """(safe words, full detail) for a launch that found no host."""
    by: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        by.setdefault(refusal.by, []).append(refusal)
    if not considered:
        return "No valid host was found. There are no compute hosts in service.", "0 hosts considered"
    parts = [
        f"{name}: not enough on {len(list_)} of {considered} hosts"
        if name.isupper()  # a resource class; filters have names of their own
        else f"{name}: {len(list_)} of {considered} hosts refused"
        for name, list_ in by.items()
    ]
    safe = "No valid host was found. There are not enough hosts available. " + "; ".join(parts) + "."
    detail = "; ".join(f"{refusal.host}: {refusal.by}: {refusal.reason}" for refusal in refusals)
    return safe, detail
