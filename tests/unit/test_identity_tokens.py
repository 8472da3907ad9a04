"""Fernet tokens and their keys."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.identity_cloud import OwnedClock

from cumulet.identity.tokens import KeyRing, NotAToken, Payload, Scope

PAYLOAD = Payload(
    user_id="0123456789abcdef0123456789abcdef",
    methods=("password", "token"),
    scope=Scope("project", "default"),
    issued_at="2026-01-31T12:00:00.000001",
    expires_at="2026-01-31T13:00:00.999999",
    audit_ids=("3qZ4f0yW1u8xQvK2p6bL9w", "x" * 22),
    application_credential_id="f" * 32,
)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """New keys."""
    return KeyRing(tmp_path / "keys", OwnedClock())


def test_a_token_says_what_was_put_in(ring: KeyRing) -> None:
    """Every field comes back, times to the microsecond, and the text fits a database column of 255."""
    token = ring.seal(PAYLOAD)
    assert ring.open(token) == PAYLOAD
    assert len(token) < 255
    assert "=" not in token


@given(
    user_id=st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=64),
    kind=st.sampled_from(["unscoped", "project", "domain", "system"]),
    scope_id=st.sampled_from(["", "default", "f" * 32, "F" * 32, "0" * 31, "g" * 32]),
    trust=st.sampled_from([None, "a" * 32, "t"]),
)
def test_any_identifier_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, user_id: str, kind: str, scope_id: str, trust: str | None
) -> None:
    """Hex identifiers are packed, all others are kept as text: neither is mistaken for the other."""
    ring = _RINGS.setdefault("one", KeyRing(tmp_path_factory.mktemp("keys"), OwnedClock()))
    payload = Payload(
        user_id=user_id,
        methods=("application_credential",),
        scope=Scope(kind, scope_id),  # type: ignore[arg-type]  # one of the kinds
        issued_at=PAYLOAD.issued_at,
        expires_at=PAYLOAD.expires_at,
        audit_ids=("a",),
        trust_id=trust,
    )
    assert ring.open(ring.seal(payload)) == payload


_RINGS: dict[str, KeyRing] = {}


@pytest.mark.parametrize("text", ["", "x", "gAAAAA", "ä", "gAAAAA" + "A" * 200, "A" * 5000])
def test_what_is_no_token_is_refused(ring: KeyRing, text: str) -> None:
    """Anything but what these keys signed."""
    with pytest.raises(NotAToken):
        ring.open(text)


def test_a_changed_token_is_refused(ring: KeyRing) -> None:
    """Whichever character is changed."""
    token = ring.seal(PAYLOAD)
    for place in range(0, len(token), 7):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(NotAToken):
            ring.open(token[:place] + other + token[place + 1 :])


def test_keys_are_for_their_owner_alone(ring: KeyRing, tmp_path: Path) -> None:
    """Files 0600 in a folder 0700."""
    assert ring is not None
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert files == {"0": 0o600, "1": 0o600}


def test_a_token_outlives_rotations_as_long_as_its_key_is_kept(ring: KeyRing, tmp_path: Path) -> None:
    """With three keys: the staged one becomes primary, the old primary reads on once more, then it is gone."""
    token = ring.seal(PAYLOAD)
    ring.rotate()
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"0", "1", "2"}
    assert ring.open(token) == PAYLOAD
    ring.rotate()
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"0", "2", "3"}
    with pytest.raises(NotAToken):
        ring.open(token)


def test_a_key_is_renewed_when_it_is_time_and_once(tmp_path: Path) -> None:
    """Two processes on one folder: neither earlier, and not both; each reads what the other writes then."""
    clock = OwnedClock()
    rings = [KeyRing(tmp_path / "keys", clock) for _ in range(2)]
    first = rings[0].seal(PAYLOAD)
    clock.pass_seconds(59)
    for ring in rings:
        ring.renew(after_s=60)
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"0", "1"}
    clock.pass_seconds(1)
    for ring in rings:
        ring.renew(after_s=60)
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"0", "1", "2"}
    for ring in rings:
        assert ring.open(first) == PAYLOAD
        assert all(each.open(ring.seal(PAYLOAD)) == PAYLOAD for each in rings)
    # another start counts on from where the key became primary
    KeyRing(tmp_path / "keys", clock).renew(after_s=60)
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"0", "1", "2"}


def test_a_rotation_that_was_cut_short_is_completed_by_the_next(ring: KeyRing, tmp_path: Path) -> None:
    """Killed when the staged key had become primary and none was staged."""
    (tmp_path / "keys" / "0").rename(tmp_path / "keys" / "2")
    token = KeyRing(tmp_path / "keys", OwnedClock()).seal(PAYLOAD)
    ring.rotate()
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"0", "1", "2"}
    assert ring.open(token) == PAYLOAD


def test_another_process_reads_what_a_new_key_wrote(ring: KeyRing, tmp_path: Path) -> None:
    """It looks at the folder again when it meets a token that its keys cannot read."""
    other = KeyRing(tmp_path / "keys", OwnedClock())
    for _ in range(3):
        other.rotate()
    assert ring.open(other.seal(PAYLOAD)) == PAYLOAD


def test_a_second_start_reads_the_first_ones_tokens(ring: KeyRing, tmp_path: Path) -> None:
    """Keys are made once."""
    assert KeyRing(tmp_path / "keys", OwnedClock()).open(ring.seal(PAYLOAD)) == PAYLOAD
