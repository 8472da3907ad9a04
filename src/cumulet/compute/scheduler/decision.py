"""Why a server is where it is, or nowhere: what the scheduler looked at and chose, in full for the admin, in safe words for the owner.

A decision is kept with its server (`compute.store.decisions`), so it is bounded.  Every reason is counted.  Of up to ALL_NAMED hosts
each is named; of more NAMED_OF_MANY of the best, and as many refused ones, some for each reason.
"""

from collections.abc import Mapping, Sequence

import msgspec

__all__ = ["ALL_NAMED", "NAMED_OF_MANY", "Decision", "Refusal", "Weighed", "decide", "refusal_words", "words"]

ALL_NAMED = 50
NAMED_OF_MANY = 6
REASON_MAX = 300

#: what a filter's refusal means, for who may not know the hosts
MEANS = {
    "ComputeFilter": "out of service",
    "AvailabilityZoneFilter": "in another availability zone",
    "RequestedHostFilter": "not the host that was asked for",
    "ComputeCapabilitiesFilter": "without what the flavor's extra specs ask for",
    "ImagePropertiesFilter": "unfit for the image",
    "SameHostFilter": "without the servers of the hint same_host",
    "DifferentHostFilter": "with a server of the hint different_host",
    "ServerGroupAffinityFilter": "apart from the server group",
    "ServerGroupAntiAffinityFilter": "with a server of the group already",
    "Placement": "taken by others at the same moment",
}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why one host was refused, and by which filter or resource."""

    host: str
    by: str
    #: full words, for the admin
    reason: str


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """A host that would do: its weight, and what each weigher gave."""

    host: str
    weight: float
    by: dict[str, float]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One choice.  host: the one chosen, or None."""

    host: str | None
    #: what was asked for
    flavor: str
    resources: dict[str, int]
    zone: str | None = None
    #: hosts that were looked at, and those that nothing spoke against
    considered: int
    fitting: int
    #: so many were about as good as the best; the chosen one is one of them, by the dice
    near: int = 1
    #: by filter or resource: how many hosts it refused, the most first
    reasons: dict[str, int]
    #: best first; the chosen one is among them
    weighed: tuple[Weighed, ...]
    refused: tuple[Refusal, ...]


def decide(
    host: str | None,
    *,
    flavor: str,
    resources: Mapping[str, int],
    zone: str | None,
    considered: int,
    fitting: int,
    near: int,
    reasons: Mapping[str, int],
    weighed: Sequence[Weighed],
    refused: Sequence[Refusal],
) -> Decision:
    """The decision, its words cut to their limit.  How many hosts are named is the plan's care."""
    kept = [
        refusal
        if len(refusal.reason) <= REASON_MAX
        else msgspec.structs.replace(refusal, reason=refusal.reason[: REASON_MAX - 1] + "…")
        for refusal in refused
    ]
    return Decision(
        host=host,
        flavor=flavor,
        resources=dict(resources),
        zone=zone,
        considered=considered,
        fitting=fitting,
        near=near,
        reasons=dict(sorted(reasons.items(), key=lambda item: -item[1])),
        weighed=tuple(weighed),
        refused=tuple(kept),
    )


def words(decision: Decision) -> str:
    """For the server's owner: no host is named."""
    if decision.host is None:
        return refusal_words(decision)
    hosts = "1 host" if decision.considered == 1 else f"{decision.considered} hosts"
    fits = "it fits" if decision.considered == decision.fitting == 1 else f"{decision.fitting} fit"
    return "; ".join([f"{hosts} looked at, {fits}", *_reasons(decision)])


def refusal_words(decision: Decision) -> str:
    """For the owner of a server for which no host was found: what was missing, per filter and resource."""
    if not decision.considered:
        return "No valid host was found. There are no compute hosts in service."
    return "No valid host was found. There are not enough hosts available. " + "; ".join(_reasons(decision)) + "."


def _reasons(decision: Decision) -> list[str]:
    return [
        f"{name}: not enough on {count} of {decision.considered} hosts"
        if name.isupper()  # a resource class; filters have names of their own
        else f"{name}: {count} of {decision.considered} hosts refused" + (f" ({MEANS[name]})" if name in MEANS else "")
        for name, count in decision.reasons.items()
    ]
