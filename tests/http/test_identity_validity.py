"""A token is worth what its holder may do now: whatever is taken away is gone at the next request."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.identity_cloud import Cloud

from cumulet.core.clock import SystemClock
from cumulet.core.errors import Unauthorized, Unavailable
from cumulet.core.work import Pools, Worker
from cumulet.identity.service.tokens import InvalidToken


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[Cloud]:
    """An identity service of the test's own."""
    cloud = Cloud(tmp_path, url=database_url)
    yield cloud
    cloud.close()


def test_keys_are_renewed_by_logins_and_tokens_stay_good(tmp_path: Path) -> None:
    """A login after the key's time writes with the next one, and what was written before is read until it expires."""
    cloud = Cloud(tmp_path, key_renewed_after_s=600)
    try:
        before = cloud.token("demo", "demo-secret")
        cloud.clock.pass_seconds(700)
        after = cloud.token("demo", "demo-secret")
        assert {path.name for path in (tmp_path / "keys" / "tokens").iterdir()} == {"0", "1", "2"}
        cloud.project("another")  # whoever asks next is looked at anew
        for token in (before, after):
            assert cloud.as_(token).get("/v3/auth/projects").status == 200
    finally:
        cloud.close()


class Place:
    """A domain with a project, a user who is member of it by a group, and all their ids."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.domain = cloud.domain("shop")
        self.project = cloud.project("till", domain_id=self.domain)
        self.user = cloud.person("clerk", domain=self.domain)
        body = {"group": {"name": "staff", "domain_id": self.domain}}
        self.group = cloud.admin.post("/v3/groups", body).json["group"]["id"]
        cloud.admin.put(f"/v3/groups/{self.group}/users/{self.user}")
        self.role = cloud.admin.post("/v3/roles", {"role": {"name": "clerk"}}).json["role"]["id"]
        self.grant = f"/v3/projects/{self.project}/groups/{self.group}/roles/{self.role}"
        assert cloud.admin.put(self.grant).status == 204

    def token(self) -> str:
        return self.cloud.token("clerk", "password", {"project": {"id": self.project}}, domain=self.domain)


def _disable(cloud: Cloud, kind: str, id_: str) -> int:
    return cloud.admin.patch(f"/v3/{kind}s/{id_}", {kind: {"enabled": False}}).status


CHANGES: dict[str, Callable[[Cloud, Place], int]] = {
    "role taken": lambda c, p: c.admin.delete(p.grant).status,
    "role deleted": lambda c, p: c.admin.delete(f"/v3/roles/{p.role}").status,
    "left the group": lambda c, p: c.admin.delete(f"/v3/groups/{p.group}/users/{p.user}").status,
    "group deleted": lambda c, p: c.admin.delete(f"/v3/groups/{p.group}").status,
    "user disabled": lambda c, p: _disable(c, "user", p.user),
    "user deleted": lambda c, p: c.admin.delete(f"/v3/users/{p.user}").status,
    "password set": lambda c, p: c.admin.patch(f"/v3/users/{p.user}", {"user": {"password": "another"}}).status,
    "password changed": lambda c, p: (
        c.anyone.post(
            f"/v3/users/{p.user}/password", {"user": {"original_password": "password", "password": "another"}}
        ).status
    ),
    "project disabled": lambda c, p: _disable(c, "project", p.project),
    "project deleted": lambda c, p: c.admin.delete(f"/v3/projects/{p.project}").status,
    "domain disabled": lambda c, p: _disable(c, "domain", p.domain),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_taken_away_is_gone_at_once(cloud: Cloud, change: str) -> None:
    """A token that was just validated, and so remembered, is refused after the change."""
    place = Place(cloud)
    token = place.token()
    assert cloud.as_(token).get("/v3/auth/catalog").status == 200
    assert CHANGES[change](cloud, place) in {200, 204}
    assert cloud.as_(token).get("/v3/auth/catalog").status == 401
    assert not cloud.valid(token)


@pytest.mark.parametrize("change", ["user disabled", "password set"])
def test_a_token_that_was_ended_does_not_come_back(cloud: Cloud, change: str) -> None:
    """Enabling the user again, or setting the old password again, revives no token."""
    place = Place(cloud)
    token = place.token()
    CHANGES[change](cloud, place)
    back = {"user": {"enabled": True, "password": "password"}}
    assert cloud.admin.patch(f"/v3/users/{place.user}", back).status == 200
    assert not cloud.valid(token)
    assert cloud.valid(place.token())


def test_a_token_shows_the_roles_of_now(cloud: Cloud) -> None:
    """A further role, given directly or by implication, is in the old token; taken again, it is not."""
    place = Place(cloud)
    headers = {"x-subject-token": place.token()}

    def names() -> set[str]:
        token = cloud.admin.get("/v3/auth/tokens", headers=headers).json["token"]
        return {role["name"] for role in token["roles"]}

    assert names() == {"clerk"}
    rule = f"/v3/roles/{place.role}/implies/{cloud.role('member')}"
    assert cloud.admin.put(rule).status == 201
    assert names() == {"clerk", "member", "reader"}
    assert cloud.admin.delete(rule).status == 204
    assert names() == {"clerk"}


def test_what_is_read_during_a_change_is_not_remembered_as_current(cloud: Cloud) -> None:
    """A validation that reads between a change's first statement and its commit is looked at anew afterwards."""
    place = Place(cloud)
    token = place.token()
    seen: list[str] = []

    def look() -> None:
        seen.append(cloud.service.validate(token).user_id)

    with cloud.service.realm.write() as tx:
        from cumulet.identity.store import access

        access.remove_member(tx, group_id=place.group, user_id=place.user)
        thread = threading.Thread(target=look)  # noqa: TID251 - the test owns it
        thread.start()
        thread.join(timeout=10)
    assert seen == [place.user]
    with pytest.raises(InvalidToken):
        cloud.service.validate(token)


def test_with_a_shared_database_another_process_writes_are_seen(tmp_path: Path, database_url: str) -> None:
    """The revision is then read from the database at each validation."""
    one = Cloud(tmp_path, url=database_url, shared_database=True)
    token = one.token("demo", "demo-secret")
    assert one.service.validate(token).user_name == "demo"
    two = Cloud(tmp_path, url=database_url, shared_database=True)
    two.admin.patch(f"/v3/users/{one.first.demo_user_id}", {"user": {"enabled": False}})
    with pytest.raises(Unauthorized):
        one.service.validate(token)
    one.close()
    two.close()


class Crowd:
    """Logins on a worker with a pool, as the edge runs them; hashing waits until the test lets it go."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SystemClock()
        self.pools = Pools({"passwords": (4, 64)})
        self.worker = Worker("test", clock=clock, pools=self.pools)
        self.cloud = Cloud(folder, attempts_waiting_max=2)
        self.cloud.service.authentication._signal = self.worker.signal
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.at_once: dict[bytes, int] = {}
        self.most: dict[bytes, int] = {}
        self.lock = threading.Lock()
        self.done: list[BaseException | None] = []
        self.ended = threading.Semaphore(0)
        monkeypatch.setattr("bcrypt.checkpw", self.check)
        self.worker.start()

    def check(self, password: bytes, stored: bytes) -> bool:
        with self.lock:
            self.at_once[stored] = self.at_once.get(stored, 0) + 1
            self.most[stored] = max(self.most.get(stored, 0), self.at_once[stored])
        self.begun.release()
        assert self.go.acquire(timeout=10)
        with self.lock:
            self.at_once[stored] -= 1
        return password == b"demo-secret"

    def log_in(self, name: str) -> None:
        user = {"name": name, "domain": {"id": "default"}, "password": "demo-secret"}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}

        def end(_value: Any, error: BaseException | None) -> None:
            self.done.append(error)
            self.ended.release()

        self.worker.begin(self.cloud.service.authentication.log_in(auth, started=""), end)

    def close(self) -> None:
        self.worker.stop()
        self.pools.close()
        self.cloud.close()


def test_one_attempt_at_a_time_per_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's attempts are hashed one after another, another user's beside them; beyond the limit 503, none is lost."""
    crowd = Crowd(tmp_path, monkeypatch)
    for _ in range(4):
        crowd.log_in("demo")
    crowd.log_in("admin")
    for _ in range(2):
        assert crowd.begun.acquire(timeout=10)
    assert crowd.ended.acquire(timeout=10)
    assert isinstance(crowd.done[0], Unavailable)
    for _ in range(4):
        crowd.go.release()
    for _ in range(4):
        assert crowd.ended.acquire(timeout=10)
    assert max(crowd.most.values()) == 1
    assert len(crowd.most) == 2
    assert sorted(type(error).__name__ for error in crowd.done) == ["NoneType"] * 4 + ["Unavailable"]
    crowd.close()


def test_a_password_changed_while_it_was_checked_is_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash that was compared must still be the user's when the token is issued."""
    crowd = Crowd(tmp_path, monkeypatch)
    crowd.log_in("demo")
    assert crowd.begun.acquire(timeout=10)
    from cumulet.identity.records import User
    from cumulet.identity.store import rows

    with crowd.cloud.service.realm.write() as tx:
        rows.change(tx, User, crowd.cloud.first.demo_user_id, password_hash="$2b$04$" + "." * 53)
    crowd.go.release()
    assert crowd.ended.acquire(timeout=10)
    assert isinstance(crowd.done[0], Unauthorized)
    crowd.close()
