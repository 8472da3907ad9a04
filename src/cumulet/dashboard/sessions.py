"""Who is logged in.

A browser holds a random name and a signature over it, nothing else; the token stays in this process's memory and is gone when it ends.
Sessions are limited in number and age, so that neither a forgotten browser nor a loop of logins keeps anything for long.
"""

import hmac
from collections import deque
from dataclasses import dataclass, field

from cumulet.core.clock import Clock, parse, seconds_between
from cumulet.core.context import Secret
from cumulet.core.ids import Ids

__all__ = ["Notice", "Session", "Sessions", "Signer"]

SESSIONS_MAX = 1000
SESSIONS_PER_USER_MAX = 20
AGE_S_MAX = 12 * 3600.0
IDLE_S_MAX = 2 * 3600.0
NOTICES_MAX = 5
LAUNCHED_MAX = 200


class Signer:
    """Makes marks that only this process can make."""

    def __init__(self, ids: Ids) -> None:
        self._key = ids.secret().encode()

    def mark(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}\0{text}".encode(), "sha256").hexdigest()

    def made(self, mark: str, purpose: str, text: str) -> bool:
        """Whether a mark is ours, in a time that does not tell how far it was right."""
        return hmac.compare_digest(mark.encode(), self.mark(purpose, text).encode())

    def sign(self, purpose: str, text: str) -> str:
        return f"{text}.{self.mark(purpose, text)}"

    def read(self, purpose: str, signed: str) -> str | None:
        """The text of what `sign` gave, or None for anything else."""
        text, _, mark = signed.partition(".")
        return text if text and self.made(mark, purpose, text) else None


@dataclass(frozen=True)
class Notice:
    """Something to tell at the next page."""

    text: str
    bad: bool = False


@dataclass
class Session:
    """One login.  expires_at and began are the clock's text."""

    name: str
    token: Secret
    audit_id: str
    user_id: str
    user_name: str
    project_name: str
    expires_at: str
    began: str
    used: float
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=NOTICES_MAX))
    #: the servers launched with this token: the token's own issue belongs to their trace
    launched: deque[str] = field(default_factory=lambda: deque(maxlen=LAUNCHED_MAX))


class Sessions:
    """All logins, the least recently used first."""

    def __init__(self, *, clock: Clock, ids: Ids, signer: Signer) -> None:
        self._clock = clock
        self._ids = ids
        self._signer = signer
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self, token: Secret, *, audit_id: str, user_id: str, user_name: str, project_name: str, expires_at: str
    ) -> Session:
        """A new session under a name nobody had before; the oldest make room."""
        for old in [one for one in self._open.values() if not self._good(one)]:
            self.close(old)
        own = [one for one in self._open.values() if one.user_id == user_id]
        for old in own[: max(0, len(own) - SESSIONS_PER_USER_MAX + 1)]:
            self.close(old)
        while len(self._open) >= SESSIONS_MAX:
            self.close(next(iter(self._open.values())))
        session = Session(
            name=self._ids.secret(),
            token=token,
            audit_id=audit_id,
            user_id=user_id,
            user_name=user_name,
            project_name=project_name,
            expires_at=expires_at,
            began=self._clock.now(),
            used=self._clock.monotonic(),
        )
        self._open[session.name] = session
        return session

    def find(self, cookie: str | None) -> Session | None:
        """The session a browser's cookie stands for, if it still may be used."""
        name = self._signer.read("session", cookie or "")
        session = self._open.get(name) if name else None
        if session is None:
            return None
        if not self._good(session):
            self.close(session)
            return None
        session.used = self._clock.monotonic()
        self._open[session.name] = self._open.pop(session.name)
        return session

    def close(self, session: Session) -> None:
        self._open.pop(session.name, None)

    def cookie(self, session: Session) -> str:
        return self._signer.sign("session", session.name)

    def form_mark(self, session: Session) -> str:
        """What every form of this session carries, so that no other site's page can send one."""
        return self._signer.mark("form", session.name)

    def _good(self, session: Session) -> bool:
        now = self._clock.now()
        return (
            parse(now) < parse(session.expires_at)
            and seconds_between(session.began, now) < AGE_S_MAX
            and self._clock.monotonic() - session.used < IDLE_S_MAX
        )
