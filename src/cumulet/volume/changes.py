"""Word of volumes whose status changed, to whoever in this process waits for one."""

from collections.abc import Callable

import structlog

from cumulet.core.db import Tx

__all__ = ["Changes"]

log = structlog.get_logger()


class Changes:
    """Calls back after each commit that changed a volume's status; not on its way to be made, which nobody waits for."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[str], None]] = []

    def subscribe(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def note(self, tx: Tx, volume_id: str) -> None:
        """To be told once the transaction has committed."""
        tx.after_commit.append(lambda: self._tell(volume_id))

    def _tell(self, volume_id: str) -> None:
        for callback in self._callbacks:
            try:
                callback(volume_id)
            except Exception:  # one listener's mistake must not cost the others their news
                log.exception("listener failed", volume=volume_id)
