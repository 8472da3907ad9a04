"""Run acts side by side, each after those it needs."""

import concurrent.futures
from collections.abc import Callable, Sequence

import msgspec

__all__ = ["Act", "run_in_order"]


class Act(msgspec.Struct, frozen=True):
    name: str
    needs: tuple[str, ...]
    do: Callable[[], None]


def run_in_order(acts: Sequence[Act]) -> None:
    """Every act once, in its own thread, when all acts it names in `needs` are done.

    After a failure nothing more is begun; the first failure is raised when what was begun has ended.
    """
    waiting = list(acts)
    done: set[str] = set()
    begun: dict[concurrent.futures.Future[None], Act] = {}
    failure: BaseException | None = None
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(acts)), thread_name_prefix="host") as pool:
        while True:
            ready = [] if failure else [act for act in waiting if done.issuperset(act.needs)]
            for act in ready:
                waiting.remove(act)
                begun[pool.submit(act.do)] = act
            if not begun:
                break
            ended, _ = concurrent.futures.wait(begun, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in ended:
                done.add(begun.pop(future).name)
                failure = failure or future.exception()
    if failure is not None:
        raise failure
    if waiting:
        raise ValueError(f"these acts need what nobody does: {[act.name for act in waiting]}")
