"""Acts run side by side, each after what it needs."""

import threading

import pytest

from cumulet.host.order import Act, run_in_order


def test_an_act_waits_for_what_it_needs_and_for_nothing_else() -> None:
    """Two acts that need nothing run at the same time; a third runs after both."""
    meeting = threading.Barrier(2, timeout=5)
    done: list[str] = []

    def meet(name: str) -> None:
        meeting.wait()
        done.append(name)

    run_in_order(
        [
            Act("last", ("a", "b"), lambda: done.append("last")),
            Act("a", (), lambda: meet("a")),
            Act("b", (), lambda: meet("b")),
        ]
    )
    assert sorted(done[:2]) == ["a", "b"]
    assert done[2:] == ["last"]


def test_after_a_failure_nothing_more_is_begun() -> None:
    """The failure itself is raised, and the acts that needed it never run."""
    begun: list[str] = []

    def fail() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        run_in_order([Act("first", (), fail), Act("second", ("first",), lambda: begun.append("second"))])
    assert begun == []


def test_a_need_that_nobody_meets_is_an_error() -> None:
    """An order that cannot be kept is refused, not silently cut short."""
    with pytest.raises(ValueError, match="orphan"):
        run_in_order([Act("orphan", ("nobody",), lambda: None)])
