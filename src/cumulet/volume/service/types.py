"""Volume types, their access, the projects' defaults, QoS specs."""

from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.core.db import Duplicate, Tx
from cumulet.core.errors import BadRequest, Conflict, NotFound
from cumulet.volume.errors import TypeNotFound
from cumulet.volume.records import Qos, VolumeType
from cumulet.volume.service.means import Means
from cumulet.volume.store import types

__all__ = ["Types"]


class Types:
    """See the module's docstring."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def get(self, id: str, *, project_id: str | None) -> VolumeType:
        with self._means.db.read() as tx:
            return self._find(tx, id, project_id=project_id)

    @staticmethod
    def _find(tx: Tx, id: str, *, project_id: str | None = None) -> VolumeType:
        found = types.get(tx, id, project_id=project_id)
        if found is None:
            raise TypeNotFound(id=id)
        return found

    def create(
        self,
        *,
        name: str,
        description: str | None,
        is_public: bool,
        extra_specs: Mapping[str, str],
        project_id: str | None,
    ) -> VolumeType:
        """Raises Conflict when the name is taken.  project_id: who gets access to a private one at once."""
        new = VolumeType(
            id=self._means.ids.uuid(),
            name=name,
            description=description,
            is_public=is_public,
            extra_specs=dict(extra_specs),
            qos_specs_id=None,
            created_at=self._means.clock.now(),
        )
        try:
            with self._means.db.write() as tx:
                types.add(tx, new)
                if not is_public and project_id is not None:
                    types.add_access(tx, new.id, project_id)
        except Duplicate:
            raise Conflict(f"Volume Type {name} already exists.") from None
        return new

    def update(self, id: str, **values: Any) -> VolumeType:
        try:
            with self._means.db.write() as tx:
                self._find(tx, id)
                types.set_fields(tx, id, **values)
                return self._find(tx, id)
        except Duplicate:
            raise Conflict(f"Volume Type {values.get('name')} already exists.") from None

    def delete(self, id: str) -> None:
        with self._means.db.write() as tx:
            kind = self._find(tx, id)
            if kind.name == self._means.config.default_type:
                raise BadRequest(f"Volume Type {id} deletion is not allowed: it is the default type.")
            if types.in_use(tx, id):
                raise BadRequest("Target volume type is still in use.")
            if any(row["type_id"] == id for row in types.defaults(tx)):
                raise BadRequest(f"Volume Type {id} deletion is not allowed: it is a project's default type.")
            types.remove(tx, id)

    def change_specs(self, id: str, change: Mapping[str, str | None]) -> VolumeType:
        """Set, or with None remove.  Raises NotFound for a removal of what is not there."""
        with self._means.db.write() as tx:
            kind = self._find(tx, id)
            if "multiattach" in change and types.in_use(tx, id):
                raise BadRequest("Volume Type is currently in use: multiattach cannot be changed.")
            specs = dict(kind.extra_specs)
            for key, value in change.items():
                if value is not None:
                    specs[key] = value
                elif specs.pop(key, None) is None:
                    raise NotFound(f"Volume Type {id} has no extra specs with key {key}.")
            types.set_fields(tx, id, extra_specs=specs)
            return self._find(tx, id)

    # --- access ----------------------------------------------------------------------------------------------------

    def projects_of(self, id: str) -> list[str]:
        with self._means.db.read() as tx:
            if self._find(tx, id).is_public:
                raise NotFound("Access list not available for public volume types.")
            return types.projects_of(tx, id)

    def add_access(self, id: str, project_id: str) -> None:
        try:
            with self._means.db.write() as tx:
                if self._find(tx, id).is_public:
                    raise Conflict(f"Type access modification is not applicable to public volume type {id}.")
                types.add_access(tx, id, project_id)
        except Duplicate:
            raise Conflict(f"Volume type access for {id} / {project_id} combination already exists.") from None

    def remove_access(self, id: str, project_id: str) -> None:
        with self._means.db.write() as tx:
            if self._find(tx, id).is_public:
                raise Conflict(f"Type access modification is not applicable to public volume type {id}.")
            if not types.remove_access(tx, id, project_id):
                raise NotFound(f"Volume type access not found for {id} / {project_id} combination.")

    # --- defaults --------------------------------------------------------------------------------------------------

    def defaults(self) -> list[dict[str, Any]]:
        with self._means.db.read() as tx:
            return types.defaults(tx)

    def default_of(self, project_id: str) -> str:
        with self._means.db.read() as tx:
            found = types.default_of(tx, project_id)
        if found is None:
            raise NotFound(f"Default type for project {project_id} not found.")
        return found

    def set_default(self, project_id: str, key: str) -> str:
        with self._means.db.write() as tx:
            found = types.find(tx, key)
            if found is None:
                raise TypeNotFound(id=key)
            types.set_default(tx, project_id, found.id)
        return found.id

    def unset_default(self, project_id: str) -> None:
        with self._means.db.write() as tx:
            types.set_default(tx, project_id, None)

    # --- QoS specs -------------------------------------------------------------------------------------------------

    def all_qos(self) -> list[Qos]:
        with self._means.db.read() as tx:
            return types.all_qos(tx)

    def qos(self, id: str) -> Qos:
        with self._means.db.read() as tx:
            return self._qos(tx, id)

    @staticmethod
    def _qos(tx: Tx, id: str) -> Qos:
        found = types.get_qos(tx, id)
        if found is None:
            raise NotFound(f"No such qos spec {id}.")
        return found

    def create_qos(self, name: str, consumer: str, specs: Mapping[str, str]) -> Qos:
        now = self._means.clock.now()
        new = Qos(id=self._means.ids.uuid(), name=name, consumer=consumer, specs=dict(specs), created_at=now)
        try:
            with self._means.db.write() as tx:
                types.add_qos(tx, new)
        except Duplicate:
            raise Conflict(f"Qos Specs {name} already exists.") from None
        return new

    def change_qos(self, id: str, change: Mapping[str, str | None], *, consumer: str | None = None) -> Qos:
        with self._means.db.write() as tx:
            qos = self._qos(tx, id)
            specs = dict(qos.specs)
            for key, value in change.items():
                if value is not None:
                    specs[key] = value
                elif specs.pop(key, None) is None:
                    raise BadRequest(f"Qos spec {id} has no spec with key {key}.")
            types.set_qos(tx, id, consumer=consumer or qos.consumer, specs=specs)
            return msgspec.structs.replace(qos, specs=specs, consumer=consumer or qos.consumer)

    def delete_qos(self, id: str, *, force: bool) -> None:
        with self._means.db.write() as tx:
            self._qos(tx, id)
            if types.types_of_qos(tx, id) and not force:
                raise BadRequest(f"Qos Specs {id} is still associated with entities.")
            types.remove_qos(tx, id)

    def types_of_qos(self, id: str) -> list[VolumeType]:
        with self._means.db.read() as tx:
            self._qos(tx, id)
            return types.types_of_qos(tx, id)

    def associate_qos(self, id: str, type_id: str, *, on: bool) -> None:
        with self._means.db.write() as tx:
            self._qos(tx, id)
            kind = self._find(tx, type_id)
            if on and kind.qos_specs_id not in {None, id}:
                raise BadRequest(f"Type {type_id} is already associated with another qos specs: {kind.qos_specs_id}.")
            types.set_fields(tx, type_id, qos_specs_id=id if on else None)

    def disassociate_all(self, id: str) -> None:
        with self._means.db.write() as tx:
            self._qos(tx, id)
            for kind in types.types_of_qos(tx, id):
                types.set_fields(tx, kind.id, qos_specs_id=None)
