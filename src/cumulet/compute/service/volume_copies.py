"""Copies of attached volumes, for the volume service: begun, looked at, ended.  A copy is known by the id of what is made of it."""

from cumulet.compute.records import Server
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.errors import BadRequest, Conflict, NotFound
from cumulet.core.saga import Coordinator, Failure, Saga
from cumulet.flows.volume_copy import VOLUME_COPY, VolumeCopyRequest

__all__ = ["VolumeCopies"]

#: the kind of the failure of a copy that nobody wants any more
GIVEN_UP = "Cancelled"


class VolumeCopies:
    """See the module's docstring."""

    def __init__(self, db: Database, coordinator: Coordinator) -> None:
        self._db = db
        self._coordinator = coordinator

    def begin(self, context: Context, server: Server, copy_id: str, *, volume_id: str, file: str) -> Saga:
        """Begin a copy, unless it is under way.  Raises BadRequest, Conflict, this also for one that was given up."""
        if all(device.volume_id != volume_id for device in server.block_devices):
            raise BadRequest(f"Volume {volume_id} is not attached to instance {server.id}.")
        if server.host is None or server.task_state == "deleting":
            raise Conflict(f"Instance {server.id} is on no host.")
        request = VolumeCopyRequest(copy_id=copy_id, volume_id=volume_id, file=file)
        with self._db.write() as tx:
            there = self._find(tx, server, copy_id)
            if there is not None and there.failure is not None and there.failure.kind == GIVEN_UP:
                raise Conflict(f"Copy {copy_id} was given up.")
            if there is None or not there.live:
                self._coordinator.begin(
                    tx, VOLUME_COPY, subject_id=server.id, context=context, input=request, host=server.host
                )
            return self._one(tx, server, copy_id)

    def get(self, server: Server, copy_id: str) -> Saga:
        """The newest attempt.  Raises NotFound."""
        with self._db.read() as tx:
            return self._one(tx, server, copy_id)

    def end(self, context: Context, server: Server, copy_id: str) -> None:
        """Turn a copy back that is under way.  Raises NotFound for a server that has none and is on no host.

        One that was never begun is begun and turned back at once: its request may still come, and finds that it was given up.
        """
        with self._db.write() as tx:
            if self._find(tx, server, copy_id) is None and server.host is not None:
                nothing = VolumeCopyRequest(copy_id=copy_id, volume_id="", file="")
                self._coordinator.begin(
                    tx, VOLUME_COPY, subject_id=server.id, context=context, input=nothing, host=server.host
                )
            saga = self._one(tx, server, copy_id)
            if saga.live:
                failure = Failure(message="The copy was given up.", code=409, kind=GIVEN_UP)
                self._coordinator.cancel(tx, saga, failure)

    def _one(self, tx: Tx, server: Server, copy_id: str) -> Saga:
        found = self._find(tx, server, copy_id)
        if found is None:
            raise NotFound(f"Copy {copy_id} could not be found.")
        return found

    def _find(self, tx: Tx, server: Server, copy_id: str) -> Saga | None:
        return next(
            (
                saga
                for saga in self._coordinator.journal.of_subject(tx, server.id)
                if saga.flow == VOLUME_COPY.name and saga.input["copy_id"] == copy_id
            ),
            None,
        )
