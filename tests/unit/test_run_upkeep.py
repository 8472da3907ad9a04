"""What the program does now and then."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cumulet.run.services import FORGET_MORE_S, FORGET_S, Services


@pytest.mark.parametrize(
    ("answers", "again_in"),
    [([False, False], FORGET_S), ([False, True], FORGET_MORE_S), ([OSError("disk full"), False], FORGET_S)],
)
def test_old_keys_are_looked_for_again_and_again(answers: list[Any], again_in: float) -> None:
    """Every service that has keys is asked; soon again when there were many, and later also after an error."""
    asked: list[Any] = []
    planned: list[tuple[float, Callable[[], None]]] = []

    def app(answer: Any) -> Any:
        def forget() -> bool:
            asked.append(answer)
            if isinstance(answer, Exception):
                raise answer
            return bool(answer)

        return SimpleNamespace(keys=SimpleNamespace(forget=forget))

    apps = {str(number): app(answer) for number, answer in enumerate(answers)} | {"none": SimpleNamespace(keys=None)}
    worker = SimpleNamespace(after=lambda seconds, act: planned.append((seconds, act)))
    services = cast("Services", SimpleNamespace(apps=apps, _work=lambda _: worker, _forget_keys="itself"))
    if any(isinstance(answer, Exception) for answer in answers):
        with pytest.raises(OSError, match="disk full"):
            Services._forget_keys(services)
    else:
        Services._forget_keys(services)
        assert asked == answers
    assert planned == [(again_in, "itself")]
