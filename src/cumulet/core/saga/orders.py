"""What hosts were told to do, and whether they were heard of since: an order is a message, and messages get lost.

In memory only: after a start every saga is looked at anyway, and every order sent again.
"""

import msgspec

from cumulet.core.clock import Clock, add_seconds

__all__ = ["Orders"]

#: an order that no host takes up for so long is given up where there is a way back
TAKEN_UP_S = 300.0
#: the longest pause between two sendings of one order
PAUSE_S_MAX = 120.0


class _Sent(msgspec.Struct):
    generation: int
    first_at: str
    at: str
    times: int = 1
    heard: bool = False


class Orders:
    """By saga: the newest order.  On the coordinator's worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[str, _Sent] = {}

    def note(self, saga_id: str, generation: int) -> None:
        """It is sent now, for the first time or again."""
        now, there = self._clock.now(), self._sent.get(saga_id)
        if there is None or there.generation != generation or there.heard:
            self._sent[saga_id] = _Sent(generation, now, now)
        else:
            there.at, there.times = now, there.times + 1

    def heard(self, saga_id: str, generation: int) -> None:
        """The host has it."""
        there = self._sent.get(saga_id)
        if there is not None and there.generation == generation:
            there.heard = True

    def drop(self, saga_id: str) -> None:
        """Nothing is asked of a host any more."""
        self._sent.pop(saga_id, None)

    def sent(self) -> list[str]:
        return list(self._sent)

    def stands(self, saga_id: str, generation: int) -> bool:
        """Whether an order of this generation is out, and nothing was heard."""
        there = self._sent.get(saga_id)
        return there is not None and there.generation == generation and not there.heard

    def old(self, saga_id: str) -> bool:
        """Whether it was sent long enough in vain."""
        return add_seconds(self._sent[saga_id].first_at, TAKEN_UP_S) <= self._clock.now()

    def unheard(self, after_s: float) -> list[str]:
        """Those to be sent again, each pause twice the one before."""
        now = self._clock.now()
        return [
            saga_id
            for saga_id, one in self._sent.items()
            if not one.heard and add_seconds(one.at, min(after_s * 2.0 ** (one.times - 1), PAUSE_S_MAX)) <= now
        ]
