"""What the identity tests share: a service on a database of its own, a clock they own, and callers with real tokens."""

import datetime
from pathlib import Path
from typing import Any

from tests.http.harness import Answer, ApiClient

from cumulet.core.clock import parse
from cumulet.core.context import Secret
from cumulet.core.db import open_database
from cumulet.core.ids import SystemIds
from cumulet.identity import api
from cumulet.identity.bootstrap import Bootstrapped
from cumulet.identity.config import IdentityConfig
from cumulet.identity.door import TokenValidator
from cumulet.identity.service import IdentityService
from cumulet.identity.tables import METADATA

__all__ = ["Cloud", "OwnedClock"]

#: the cheapest that bcrypt allows
ROUNDS = 4


class OwnedClock:
    """Time that passes when the test says so; a microsecond goes by with each look, so that two events are never at once."""

    def __init__(self) -> None:
        self._now = datetime.datetime(2026, 1, 31, 12, 0, 0)  # noqa: DTZ001 - stored times are naive UTC
        self._start = self._now

    def pass_seconds(self, seconds: float) -> None:
        self._now += datetime.timedelta(seconds=seconds)

    def now(self) -> str:
        self._now += datetime.timedelta(microseconds=1)
        return self._now.isoformat(timespec="microseconds")

    def epoch(self) -> float:
        return (self._now - parse("1970-01-01T00:00:00")).total_seconds()

    def monotonic(self) -> float:
        return (self._now - self._start).total_seconds()


class Cloud:
    """An identity service with its first rows, and ways to call it."""

    def __init__(self, folder: Path, *, url: str | None = None, **config: Any) -> None:
        self.clock = OwnedClock()
        self.db = open_database(url or f"sqlite://{folder}", "identity", METADATA)
        self.db.create()
        settings = IdentityConfig(key_folder=folder / "keys", **{"bcrypt_rounds": ROUNDS, **config})
        self.service = IdentityService(self.db, clock=self.clock, ids=SystemIds(), config=settings)
        self.first = self.bootstrap()
        validate = TokenValidator(None, self.clock, local=self.service.validate)
        self.app = api.application(self.service, authenticate=validate, clock=self.clock, ids=SystemIds())
        self.anyone = ApiClient(self.app, None, base_url="http://cloud.test/identity")

    def bootstrap(self) -> Bootstrapped:
        return self.service.bootstrap(admin_password=Secret("admin-secret"), demo_password=Secret("demo-secret"))

    def close(self) -> None:
        self.db.close()

    def as_(self, token: str) -> ApiClient:
        """A client that carries a token."""
        return ApiClient(self.app, token, base_url="http://cloud.test/identity")

    def log_in(self, name: str, password: str, scope: Any = None, *, domain: str = "default") -> Answer:
        user = {"name": name, "domain": {"id": domain}, "password": password}
        return self.authenticate({"methods": ["password"], "password": {"user": user}}, scope)

    def authenticate(self, identity: dict[str, Any], scope: Any = None) -> Answer:
        auth: dict[str, Any] = {"identity": identity}
        if scope is not None:
            auth["scope"] = scope
        return self.anyone.post("/v3/auth/tokens", {"auth": auth})

    def token(self, name: str, password: str, scope: Any = None, *, domain: str = "default") -> str:
        answer = self.log_in(name, password, scope, domain=domain)
        assert answer.status == 201, answer.json
        return answer.headers["x-subject-token"]

    @property
    def admin(self) -> ApiClient:
        """The administrator, on the admin project."""
        return self.as_(self.token("admin", "admin-secret"))

    @property
    def system(self) -> ApiClient:
        """The administrator of the whole system."""
        return self.as_(self.token("admin", "admin-secret", {"system": {"all": True}}))

    @property
    def demo(self) -> ApiClient:
        """An ordinary member."""
        return self.as_(self.token("demo", "demo-secret"))

    def role(self, name: str) -> str:
        """A role's id."""
        found = self.admin.get(f"/v3/roles?name={name}").json["roles"]
        return str(found[0]["id"])

    def person(self, name: str, *, role: str | None = None, project: str | None = None, domain: str = "default") -> str:
        """A new user with password "password", perhaps with a role on a project; the id."""
        body = {"user": {"name": name, "password": "password", "domain_id": domain}}
        user_id = str(self.admin.post("/v3/users", body).json["user"]["id"])
        if role is not None and project is not None:
            self.grant(user_id, role, project)
        return user_id

    def grant(self, user_id: str, role: str, project: str) -> None:
        assert self.admin.put(f"/v3/projects/{project}/users/{user_id}/roles/{self.role(role)}").status == 204

    def project(self, name: str, **more: Any) -> str:
        """A new project's id."""
        answer = self.admin.post("/v3/projects", {"project": {"name": name, "domain_id": "default", **more}})
        assert answer.status == 201, answer.json
        return str(answer.json["project"]["id"])

    def domain(self, name: str) -> str:
        return str(self.admin.post("/v3/domains", {"domain": {"name": name}}).json["domain"]["id"])

    def domain_persona(self, name: str, role: str, domain: str) -> ApiClient:
        """A caller whose token is scoped to a domain, with a role on it."""
        user_id = self.person(name, domain=domain)
        assert self.admin.put(f"/v3/domains/{domain}/users/{user_id}/roles/{self.role(role)}").status == 204
        return self.as_(self.token(name, "password", {"domain": {"id": domain}}, domain=domain))

    def valid(self, token: str) -> bool:
        """Whether a token still counts."""
        return self.admin("HEAD", "/v3/auth/tokens", headers={"x-subject-token": token}).status == 200
