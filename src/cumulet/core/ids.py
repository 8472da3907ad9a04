"""Identifiers and randomness, as an argument: one object that a seed can own."""

import random
import secrets
import uuid
from typing import Protocol

__all__ = ["Ids", "SeededIds", "SystemIds"]


class Ids(Protocol):
    """Where identifiers, secrets and dice come from."""

    def uuid(self) -> str:
        """A random UUID with dashes, as compute, image, network and volume name things."""

    def hex(self) -> str:
        """A random UUID without dashes, as identity names things."""

    def secret(self, nbytes: int = 32) -> str:
        """URL-safe random text that nobody can guess."""

    def request_id(self) -> str:
        """`req-UUID`."""

    @property
    def rng(self) -> random.Random:
        """Dice for choices that need no secrecy."""


class SystemIds:
    """Identifiers from the operating system's randomness."""

    def __init__(self) -> None:
        self._rng = random.Random()  # noqa: S311 - dice for scheduling, not for secrets

    def uuid(self) -> str:
        return str(uuid.uuid4())

    def hex(self) -> str:
        return uuid.uuid4().hex

    def secret(self, nbytes: int = 32) -> str:
        return secrets.token_urlsafe(nbytes)

    def request_id(self) -> str:
        return f"req-{uuid.uuid4()}"

    @property
    def rng(self) -> random.Random:
        return self._rng


class SeededIds:
    """The same sequence for the same seed: for tests and simulated worlds only."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def hex(self) -> str:
        return self.uuid().replace("-", "")

    def secret(self, nbytes: int = 32) -> str:
        return self._rng.randbytes(nbytes).hex()

    def request_id(self) -> str:
        return f"req-{self.uuid()}"

    @property
    def rng(self) -> random.Random:
        return self._rng
