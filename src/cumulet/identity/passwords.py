"""Password hashes: bcrypt for people, one SHA-256 for secrets that nobody could guess.

bcrypt at 12 rounds takes a quarter of a second on purpose.  A service's secret and an application credential's secret
are 256 random bits: stretching adds nothing to them, and services log in on the launch's path.  The scheme stands at
the head of the hash.
"""

import hashlib
import hmac

from cumulet.core.errors import BadRequest

__all__ = ["PASSWORD_BYTES_MAX", "check_text", "dummy", "hash_password", "hash_secret", "is_quick", "matches"]

#: what bcrypt can tell apart
PASSWORD_BYTES_MAX = 72

_QUICK = "sha256$"


def hash_password(password: str, rounds: int) -> str:
    """Slow: call it in a pool.  At most PASSWORD_BYTES_MAX bytes."""
    import bcrypt

    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


def check_text(password: str) -> None:
    """Raise BadRequest for what bcrypt cannot tell apart or hash."""
    if len(password.encode()) > PASSWORD_BYTES_MAX:
        msg = f"The password is too long: it may have at most {PASSWORD_BYTES_MAX} bytes."
        raise BadRequest(msg)
    if "\0" in password:
        msg = "The password may not hold a NUL character."
        raise BadRequest(msg)


def hash_secret(secret: str) -> str:
    """For random secrets of 256 bits only."""
    return _QUICK + hashlib.sha256(secret.encode()).hexdigest()


def is_quick(stored: str) -> bool:
    """Whether `matches` returns at once."""
    return stored.startswith(_QUICK)


def matches(password: str, stored: str) -> bool:
    """Whether the password is the one that was hashed.  Slow unless `is_quick(stored)`."""
    if is_quick(stored):
        return hmac.compare_digest(hash_secret(password), stored)
    import bcrypt

    given = password.encode()
    fits = len(given) <= PASSWORD_BYTES_MAX and b"\0" not in given
    # hashed in any case, so that the time tells nothing
    same = bcrypt.checkpw(given[:PASSWORD_BYTES_MAX].replace(b"\0", b" "), stored.encode())
    return same and fits


def dummy(rounds: int) -> str:
    """A hash that nothing matches, as costly to check as a real one: for names that do not exist."""
    return f"$2b${rounds:02d}$" + "." * 53
