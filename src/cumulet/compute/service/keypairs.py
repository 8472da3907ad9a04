"""SSH keypairs: made here with the private half given once and kept nowhere, or brought by the user."""

import base64
import binascii
import hashlib
import string

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cumulet.compute.records import KeySnapshot
from cumulet.compute.service.quotas import Quotas
from cumulet.compute.store import keypairs
from cumulet.compute.store.keypairs import Keypair
from cumulet.core.clock import Clock
from cumulet.core.context import Secret
from cumulet.core.db import Database, Duplicate
from cumulet.core.errors import BadRequest, Conflict, Forbidden, NotFound

__all__ = ["Keypairs", "snapshot_of"]

SAFE = frozenset(string.ascii_letters + string.digits + "_- ")
#: from 2.92 on a name may be that of an address
SAFE_LATER = SAFE | {"@", "."}


def snapshot_of(db: Database, user_id: str, name: str | None) -> KeySnapshot | None:
    """A user's key as it goes onto a server's record.  Raises BadRequest where there is none of that name."""
    if name is None:
        return None
    with db.read() as tx:
        key = keypairs.get(tx, user_id, name)
    if key is None:
        raise BadRequest("Invalid key_name provided.")
    return KeySnapshot(name=key.name, type=key.type, public_key=key.public_key)


class Keypairs:
    """What can be done to keypairs."""

    def __init__(self, db: Database, *, quotas: Quotas, clock: Clock) -> None:
        self._db = db
        self._quotas = quotas
        self._clock = clock

    def get(self, user_id: str, name: str) -> Keypair:
        with self._db.read() as tx:
            keypair = keypairs.get(tx, user_id, name)
        if keypair is None:
            raise NotFound(f"Keypair {name} not found for user {user_id}")
        return keypair

    def create(
        self, user_id: str, project_id: str, name: str, *, public_key: str | None, newer_names: bool
    ) -> tuple[Keypair, Secret | None]:
        """Without `public_key` a pair is made; its private half is the second value."""
        safe = SAFE_LATER if newer_names else SAFE
        if name != name.strip() or not set(name) <= safe:
            raise BadRequest("Keypair data is invalid: Keypair name contains unsafe characters")
        private: Secret | None = None
        if public_key is None:
            public_key, private = generate()
        keypair = Keypair(
            user_id=user_id,
            name=name,
            id=0,
            type="ssh",
            fingerprint=fingerprint(public_key),
            public_key=public_key,
            created_at=self._clock.now(),
        )
        with self._db.write() as tx:
            limit = self._quotas.limit(tx, "key_pairs", project_id, user_id)
            if 0 <= limit <= keypairs.count(tx, user_id):
                raise Forbidden("Quota exceeded, too many key pairs.")
            keypair = Keypair(
                **{**{f: getattr(keypair, f) for f in Keypair.__struct_fields__}, "id": keypairs.next_id(tx)}
            )
            try:
                keypairs.add(tx, keypair)
            except Duplicate:
                raise Conflict(f"Key pair '{name}' already exists.") from None
        return keypair, private

    def delete(self, user_id: str, name: str) -> None:
        with self._db.write() as tx:
            if not keypairs.remove(tx, user_id, name):
                raise NotFound(f"Keypair {name} not found for user {user_id}")


def generate() -> tuple[str, Secret]:
    """A new Ed25519 pair in OpenSSH's formats: (public, private)."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return f"{public.decode()} Generated-by-cumulet", Secret(private.decode())


def fingerprint(public_key: str) -> str:
    """MD5 of the key's blob in colon form, as the reference shows it.  Raises BadRequest for what is no public key."""
    parts = public_key.split()
    try:
        if len(parts) < 2:
            raise ValueError("not a kind, a blob and perhaps a comment")
        blob = base64.b64decode(parts[1], validate=True)
        serialization.load_ssh_public_key(f"{parts[0]} {parts[1]}".encode())
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        raise BadRequest("Keypair data is invalid: failed to generate fingerprint") from None
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))
