"""Secrets that identity keeps for users (`/v3/credentials`, EC2 keys): encrypted, never used by the cloud itself.

The endpoints that would let an EC2 signature stand for a token are left out: they have been holes elsewhere, and
nothing here needs them.
"""

import hashlib
from typing import Any

import msgspec

from cumulet.core.db import Duplicate
from cumulet.core.errors import BadRequest, Forbidden
from cumulet.identity.records import Credential, Project, User
from cumulet.identity.service.delegation import forbid_delegated
from cumulet.identity.service.realm import Realm, missing, split_extra, taken
from cumulet.identity.service.tokens import Standing
from cumulet.identity.store import rows
from cumulet.identity.tokens import KeyRing

__all__ = ["Credentials"]

EC2 = "ec2"
_KNOWN = frozenset({"user_id", "project_id", "type", "blob"})


class Credentials:
    """Part of the identity service."""

    def __init__(self, realm: Realm, keys: KeyRing) -> None:
        self._realm = realm
        self._keys = keys

    def blob(self, credential: Credential) -> str:
        """The secret in clear."""
        return self._keys.decrypt(credential.blob).decode()

    def create(self, given: dict[str, Any], standing: Standing) -> Credential:
        forbid_delegated(standing, "create_credential")
        ours, extra = split_extra(given, _KNOWN)
        project_id = ours.get("project_id")
        if ours["type"] == EC2:
            if not project_id:
                msg = "Expecting to find project_id in credential."
                raise BadRequest(msg)
            access = _access_key(ours["blob"])
            credential_id = _ec2_id(access)
        else:
            credential_id = self._realm.ids.hex()
        self._within(standing, project_id)
        credential = Credential(
            id=credential_id,
            user_id=ours["user_id"],
            project_id=project_id,
            type=ours["type"],
            blob=self._keys.encrypt(ours["blob"].encode()),
            extra=extra,
        )
        try:
            with self._realm.write() as tx:
                rows.add(tx, credential)
        except Duplicate:
            raise taken("credential", credential_id) from None
        return credential

    def create_ec2(self, user_id: str, project_id: str, standing: Standing) -> Credential:
        """A new pair of keys for a user on a project."""
        with self._realm.db.read() as tx:
            self._realm.need(tx, User, user_id)
            self._realm.need(tx, Project, project_id)
        pair = {"access": self._realm.ids.hex(), "secret": self._realm.ids.secret(32), "trust_id": None}
        blob = msgspec.json.encode(pair).decode()
        return self.create({"user_id": user_id, "project_id": project_id, "type": EC2, "blob": blob}, standing)

    def ec2(self, access: str) -> Credential:
        with self._realm.db.read() as tx:
            found = rows.get(tx, Credential, _ec2_id(access))
        if found is None or found.type != EC2:
            raise missing("credential", access)
        return found

    def update(self, credential_id: str, given: dict[str, Any], standing: Standing) -> Credential:
        """Whom a credential belongs to cannot be changed."""
        forbid_delegated(standing, "update_credential")
        ours, extra = split_extra(given, _KNOWN)
        with self._realm.write() as tx:
            old = self._realm.need(tx, Credential, credential_id)
            if ours.get("user_id", old.user_id) != old.user_id:
                msg = "The owner of a credential cannot be changed."
                raise Forbidden(msg)
            changes: dict[str, Any] = {"extra": {**old.extra, **extra}}
            for name in ("project_id", "type"):
                if name in ours:
                    changes[name] = ours[name]
            if "blob" in ours:
                changes["blob"] = self._keys.encrypt(ours["blob"].encode())
            self._within(standing, changes.get("project_id", old.project_id))
            rows.change(tx, Credential, credential_id, **changes)
        return msgspec.structs.replace(old, **changes)

    def delete(self, credential_id: str, standing: Standing) -> None:
        forbid_delegated(standing, "delete_credential")
        with self._realm.write() as tx:
            self._realm.need(tx, Credential, credential_id)
            rows.remove(tx, Credential, id=credential_id)

    @staticmethod
    def _within(standing: Standing, project_id: str | None) -> None:
        """What an application credential makes is for its own project."""
        own = standing.application_credential
        if own is not None and project_id != own.project_id:
            msg = "An application credential cannot create a credential for another project."
            raise Forbidden(msg)


def _ec2_id(access: str) -> str:
    return hashlib.sha256(access.encode()).hexdigest()


def _access_key(blob: str) -> str:
    try:
        document = msgspec.json.decode(blob)
    except msgspec.DecodeError:
        document = None
    access = document.get("access") if isinstance(document, dict) else None
    if not isinstance(access, str) or not access:
        msg = "Invalid blob in credential: it must be a JSON object with an access key."
        raise BadRequest(msg)
    return access
