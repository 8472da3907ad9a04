"""How many logins the dashboard keeps, and for how long."""

from tests.http.dashboard_cloud import FakeClock

from cumulet.core.context import Secret
from cumulet.core.ids import SeededIds
from cumulet.dashboard import sessions
from cumulet.dashboard.sessions import Session, Sessions, Signer


class Desk:
    """Sessions under a clock of the test's own."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        ids = SeededIds(3)
        self.sessions = Sessions(clock=self.clock, ids=ids, signer=Signer(ids))

    def open(self, user: str = "u", *, expires_at: str = "2026-01-20T00:00:00.000000Z") -> Session:
        return self.sessions.open(
            Secret("t"), audit_id="a", user_id=user, user_name=user, project_name="p", expires_at=expires_at
        )

    def there(self, session: Session) -> bool:
        return self.sessions.find(self.sessions.cookie(session)) is session


def test_one_user_has_few_sessions() -> None:
    """A user's oldest login makes room for the newest, other users keep theirs."""
    desk = Desk()
    other = desk.open("other")
    own = [desk.open() for _ in range(sessions.SESSIONS_PER_USER_MAX + 1)]
    assert not desk.there(own[0])
    assert all(desk.there(one) for one in [*own[1:], other])


def test_all_users_together_have_a_bounded_number() -> None:
    """Beyond the limit, the session that was used least recently goes."""
    desk = Desk()
    every = [desk.open(f"u{n}") for n in range(sessions.SESSIONS_MAX)]
    assert desk.there(every[0])
    desk.open("one more")
    assert len(desk.sessions) == sessions.SESSIONS_MAX
    assert desk.there(every[0])
    assert not desk.there(every[1])


def test_use_keeps_a_session_but_not_for_ever() -> None:
    """A session in use lasts beyond the idle limit, and ends at its greatest age."""
    desk = Desk()
    session = desk.open()
    for _ in range(11):
        desk.clock.seconds += 3600
        assert desk.there(session)
    desk.clock.seconds += 3600
    assert not desk.there(session)
    assert len(desk.sessions) == 0


def test_a_session_ends_with_its_token() -> None:
    """However young it is."""
    desk = Desk()
    session = desk.open(expires_at="2026-01-01T00:00:30.000000Z")
    desk.clock.seconds = 29
    assert desk.there(session)
    desk.clock.seconds = 30
    assert not desk.there(session)


def test_a_session_that_has_ended_gives_its_place_back() -> None:
    """Logging in forgets those that are over, so that they never count against the limit."""
    desk = Desk()
    for n in range(10):
        desk.open(f"u{n}")
    desk.clock.seconds = sessions.IDLE_S_MAX + 1
    desk.open()
    assert len(desk.sessions) == 1


def test_only_signed_names_are_looked_up() -> None:
    """A session's bare name, another purpose's signature, or a changed one opens nothing."""
    desk = Desk()
    session = desk.open()
    cookie = desk.sessions.cookie(session)
    mark = desk.sessions.form_mark(session)
    flipped = cookie[:-1] + ("0" if cookie[-1] != "0" else "1")
    for wrong in (None, "", ".", session.name, f"{session.name}.", f"{session.name}.{mark}", flipped, f"{cookie}é"):
        assert desk.sessions.find(wrong) is None
    assert desk.there(session)
