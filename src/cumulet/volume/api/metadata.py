"""The users' metadata of volumes and of snapshots: the same six rows below either."""

from collections.abc import Callable
from typing import Any

import msgspec

from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.web import Call, Delete, Get, Post, Put, Response, Route
from cumulet.volume.api.caller import service
from cumulet.volume.api.schemas import META, METADATA
from cumulet.volume.records import Snapshot, Volume
from cumulet.volume.store import labels

__all__ = ["METADATA_MAX", "Labelled", "few"]

METADATA_MAX = 128


def few(metadata: dict[str, str]) -> dict[str, str]:
    """The same, or BadRequest for more than one thing may carry."""
    if len(metadata) > METADATA_MAX:
        raise BadRequest(f"Maximum number of metadata items exceeds {METADATA_MAX}.")
    return metadata


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of thing that carries metadata.

    word: as errors name it.  found(call, id, rule): one of them, for who may do this to it.
    """

    word: str
    found: Callable[[Call, str, str], Volume | Snapshot]

    def routes(self, path: str, *, show: str, add: str, change: str, remove: str) -> list[Route]:
        """The rows below `path`, each with the name of its rule."""

        def all_of(call: Call, id: str) -> Any:
            return {"metadata": self.found(call, id, show).metadata}

        def extend(call: Call, id: str) -> Any:
            thing = self.found(call, id, add)
            return self._replace(call, thing, {**thing.metadata, **call.body["metadata"]})

        def replace(call: Call, id: str) -> Any:
            return self._replace(call, self.found(call, id, change), call.body["metadata"])

        def one(call: Call, id: str, key: str) -> Any:
            metadata = self.found(call, id, show).metadata
            if key not in metadata:
                raise self._without(id, key)
            return {"meta": {key: metadata[key]}}

        def put(call: Call, id: str, key: str) -> Any:
            thing = self.found(call, id, change)
            meta = call.body["meta"]
            if key not in meta:
                raise BadRequest("Request body and URI mismatch")
            self._replace(call, thing, {**thing.metadata, **meta})
            return {"meta": meta}

        def drop(call: Call, id: str, key: str) -> Response:
            thing = self.found(call, id, remove)
            with service(call).db.write() as tx:
                if not labels.remove(tx, thing.id, key):
                    raise self._without(id, key)
            return Response(200)

        return [
            Get(path, all_of, may=show),
            Post(path, extend, may=add, takes=METADATA, status=200),
            Put(path, replace, may=change, takes=METADATA),
            Get(path + "/{key}", one, may=show),
            Put(path + "/{key}", put, may=change, takes=META),
            Delete(path + "/{key}", drop, may=remove),
        ]

    def _replace(self, call: Call, thing: Volume | Snapshot, wanted: dict[str, str]) -> Any:
        with service(call).db.write() as tx:
            labels.replace(tx, thing.id, few(wanted))
        return {"metadata": wanted}

    def _without(self, id: str, key: str) -> NotFound:
        return NotFound(f"{self.word} {id} has no metadata with key {key}.")
