"""Kill the process at a named moment: how crash tests reach every boundary of a flow."""

import os
import signal
from collections.abc import Callable

__all__ = ["kill_at"]


def kill_at(spec: str) -> Callable[[str], None]:
    """SIGKILL when the moment `NAME` (or `NAME:N`, the Nth time) is reached."""
    name, _, count = spec.partition(":")
    left = [int(count or 1)]

    def failpoint(moment: str) -> None:
        if moment == name:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return failpoint
