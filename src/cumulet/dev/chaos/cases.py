"""What chaos and its proofs have found: what was wrong, the seed that shows it when the cure is taken away, and the cure."""

import msgspec

__all__ = ["CASES", "Case"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A finding.  seed: plays to a good end since the cure."""

    what: str
    seed: int
    cure: str


CASES = (
    Case(
        what="a database that refuses once leaves a saga that nobody looks at",
        seed=0,
        cure="whatever the coordinator itself fails with, it looks at the saga again (core/saga/coordinator.py: _guarded)",
    ),
)
