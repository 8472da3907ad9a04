"""Fernet tokens: what stands in one, and the keys.

A token is encrypted and signed, and kept nowhere: whoever has a key can read it.  Keys are files named by number, of
mode 0600, as in the reference: 0 is staged (it will be the next primary, and can read already), the highest is
primary (it writes), those between read what they once wrote.  `rotate` moves them along, and `renew` does so when it is
time; a process that meets a token it cannot read looks at the folder again.
"""

import contextlib
import datetime
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from cumulet.core.clock import Clock, parse

__all__ = ["KeyRing", "NotAToken", "Payload", "Scope", "ScopeKind"]

TOKEN_BYTES_MAX = 2048

ScopeKind = Literal["unscoped", "project", "domain", "system", "trust"]

_METHODS = ("password", "token", "application_credential")
_KINDS: tuple[ScopeKind, ...] = ("unscoped", "project", "domain", "system", "trust")


class NotAToken(Exception):
    """The text is no token that these keys have signed."""


class Scope(msgspec.Struct, frozen=True):
    """What a token is good for.  `id`: the project, the domain; empty for the system and for none."""

    kind: ScopeKind = "unscoped"
    id: str = ""


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says.  Times are core.clock text; `audit_ids`: its own, then that of the first of its chain."""

    user_id: str
    methods: tuple[str, ...]
    scope: Scope
    issued_at: str
    expires_at: str
    audit_ids: tuple[str, ...]
    application_credential_id: str | None = None
    trust_id: str | None = None


class _Wire(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    version: int
    user: Any  # bytes or text, as _pack_id makes them
    methods: int
    kind: int
    scope: Any
    issued: int
    expires: int
    audits: tuple[str, ...]
    application_credential: Any = ""
    trust: Any = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Wire).decode
_VERSION = 1
_EPOCH = parse("1970-01-01T00:00:00")


def _pack_id(id: str) -> bytes | str:
    """32 hex digits as 16 bytes."""
    if len(id) == 32:
        try:
            raw = bytes.fromhex(id)
        except ValueError:
            return id
        return raw if raw.hex() == id else id
    return id


def _unpack_id(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else raw.hex()


def _micros(stamp: str) -> int:
    whole = parse(stamp) - _EPOCH
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds


def _stamp(micros: int) -> str:
    moment = _EPOCH + datetime.timedelta(microseconds=micros)
    return moment.isoformat(timespec="microseconds")


class KeyRing:
    """The Fernet keys of a folder.  Threads may share it, and processes the folder.

    A key's file has the time at which it was made, or became primary.
    """

    def __init__(self, folder: Path, clock: Clock, *, keys_max: int = 3) -> None:
        self._folder = folder
        self._clock = clock
        self._keys_max = max(keys_max, 2)
        self._seen = 0
        self._primary_since = 0.0
        self._fernet = self._load()

    def seal(self, payload: Payload) -> str:
        """The token of a payload."""
        wire = _Wire(
            _VERSION,
            _pack_id(payload.user_id),
            sum(1 << _METHODS.index(method) for method in set(payload.methods)),
            _KINDS.index(payload.scope.kind),
            _pack_id(payload.scope.id),
            _micros(payload.issued_at),
            _micros(payload.expires_at),
            payload.audit_ids,
            _pack_id(payload.application_credential_id or ""),
            _pack_id(payload.trust_id or ""),
        )
        return self.encrypt(_encode(wire))

    def open(self, token: str) -> Payload:
        """What a token says, expired or not.  Raises NotAToken."""
        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            raise NotAToken
        try:
            wire = _decode(self.decrypt(token))
        except msgspec.DecodeError as error:
            raise NotAToken from error
        if wire.version != _VERSION or not wire.audits or wire.kind >= len(_KINDS):
            raise NotAToken
        return Payload(
            user_id=_unpack_id(wire.user),
            methods=tuple(method for bit, method in enumerate(_METHODS) if wire.methods >> bit & 1),
            scope=Scope(_KINDS[wire.kind], _unpack_id(wire.scope)),
            issued_at=_stamp(wire.issued),
            expires_at=_stamp(wire.expires),
            audit_ids=wire.audits,
            application_credential_id=_unpack_id(wire.application_credential) or None,
            trust_id=_unpack_id(wire.trust) or None,
        )

    def encrypt(self, data: bytes) -> str:
        return self._fernet.encrypt_at_time(data, int(self._clock.epoch())).rstrip(b"=").decode()

    def decrypt(self, text: str) -> bytes:
        """Raises NotAToken."""
        padded = text.encode() + b"=" * (-len(text) % 4)
        try:
            return self._fernet.decrypt(padded)
        except InvalidToken:
            if self._changed() == self._seen:
                raise NotAToken from None
        self._fernet = self._load()
        try:
            return self._fernet.decrypt(padded)
        except InvalidToken:
            raise NotAToken from None

    def renew(self, *, after_s: float) -> None:
        """Rotate when the primary key has been that for so long, which costs nothing to ask."""
        if self._clock.epoch() - self._primary_since < after_s:
            return
        with self._alone():
            self._fernet = self._load()  # another may have done it meanwhile
            if self._clock.epoch() - self._primary_since >= after_s:
                self._rotate()

    def rotate(self) -> None:
        """The staged key becomes primary, a new one is staged, the oldest beyond the limit goes."""
        with self._alone():
            self._rotate()

    def _rotate(self) -> None:
        staged, primary = self._folder / "0", self._folder / str(self._numbers()[-1] + 1)
        new = self._make()  # first, as it is what may fail
        if staged.exists():  # not so after an earlier process was killed between these two
            staged.rename(primary)
            self._date(primary)
        new.rename(staged)
        for number in self._numbers()[1 : 1 - self._keys_max]:
            (self._folder / str(number)).unlink()
        self._fernet = self._load()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder, against other threads and processes."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _load(self) -> MultiFernet:
        if not self._folder.is_dir() or not self._numbers():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("1", "0"):
                self._make().rename(self._folder / name)
        self._seen = self._changed()
        self._primary_since = (self._folder / str(self._numbers()[-1])).stat().st_mtime
        return MultiFernet([Fernet((self._folder / str(number)).read_bytes()) for number in self._order()])

    def _order(self) -> Sequence[int]:
        """Highest first: MultiFernet writes with the first."""
        return sorted(self._numbers(), reverse=True)

    def _numbers(self) -> list[int]:
        return sorted(int(entry.name) for entry in self._folder.iterdir() if entry.name.isdigit())

    def _changed(self) -> int:
        return self._folder.stat().st_mtime_ns

    def _make(self) -> Path:
        """A new key, under no number yet."""
        new = self._folder / ".new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        self._date(new)
        return new

    def _date(self, file: Path) -> None:
        now = self._clock.epoch()
        os.utime(file, (now, now))
