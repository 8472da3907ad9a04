"""Logging in: methods and scope of `POST /v3/auth/tokens`, from credentials to a token.

A stranger learns nothing: a name that does not exist is answered with the same words and after the same hashing as a
wrong password. One attempt at a time per user: the others wait for their turn, parked, so that one user's flood holds
one thread of the pool.
"""

from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from cumulet.core.db import Tx
from cumulet.core.errors import BadRequest, Forbidden, NotFound, Unauthorized, Unavailable
from cumulet.core.work import Slow, TimedOutError, Until
from cumulet.identity import passwords
from cumulet.identity.records import ApplicationCredential, Project, Trust, User
from cumulet.identity.service.realm import Realm
from cumulet.identity.service.tokens import InvalidToken, Standing, Tokens
from cumulet.identity.store import rows
from cumulet.identity.tokens import Scope

__all__ = ["Authentication"]

TURN_TIMEOUT_S = 60.0
PASSWORD_POOL = "passwords"  # noqa: S105 - the name of a pool

Attempt = Generator[Slow | Until, Any, Any]


class _Proved(msgspec.Struct, frozen=True, kw_only=True):
    """Who it is, and what bounds the token."""

    user_id: str
    methods: tuple[str, ...]
    parent: Standing | None = None
    credential: ApplicationCredential | None = None
    password_hash: str | None = None


class Authentication:
    """Part of the identity service.  signal: wakes who waits for a key on the worker that runs the attempts
    (`Worker.signal`).
    """

    def __init__(self, realm: Realm, tokens: Tokens, *, signal: Callable[[Hashable], None] | None = None) -> None:
        self._realm = realm
        self._tokens = tokens
        self._signal = signal
        #: who is being hashed for, and how many wait behind each
        self._busy: set[str] = set()
        self._waiting: dict[str, int] = {}
        self._dummy = passwords.dummy(realm.config.bcrypt_rounds)

    def log_in(self, auth: dict[str, Any], *, started: str) -> Generator[Slow | Until, Any, tuple[str, Standing]]:
        """The token for a request's `auth`, and what it stands for.  Raises Unauthorized, Forbidden, BadRequest."""
        identity = auth["identity"]
        methods = list(dict.fromkeys(identity["methods"]))
        if not methods:
            msg = "Expecting to find methods in identity."
            raise BadRequest(msg)
        for method in methods:
            if method not in {"password", "token", "application_credential"}:
                msg = "Attempted to authenticate with an unsupported method."
                raise Unauthorized(msg)
            if not isinstance(identity.get(method), dict):
                raise _missing(method, "identity")
        asked = auth.get("scope")
        if "application_credential" in methods and asked is not None:
            msg = "Error authenticating with application credential: Application credentials cannot request a scope."
            raise Unauthorized(msg)
        proofs: list[_Proved] = []
        for method in methods:
            if method == "password":
                proofs.append((yield from self._by_password(identity["password"])))
            elif method == "token":
                proofs.append(self._by_token(identity["token"], asked))
            else:
                proofs.append((yield from self._by_credential(identity["application_credential"])))
        if len({proof.user_id for proof in proofs}) != 1:
            raise Unauthorized
        parent = next((proof.parent for proof in proofs if proof.parent), None)
        credential = next((proof.credential for proof in proofs if proof.credential), None)
        user_id = proofs[0].user_id
        with self._realm.db.read() as tx:
            scope, trust = self._scope(tx, asked, user_id, credential)
        token, standing = self._tokens.issue(
            user_id,
            [method for proof in proofs for method in proof.methods],
            scope,
            started=started,
            parent=parent.payload if parent else None,
            application_credential=credential,
            trust=trust,
            password_hash=next((proof.password_hash for proof in proofs if proof.password_hash), None),
        )
        if trust is not None and trust.remaining_uses is not None:
            self._consume(trust)
        return token, standing

    def check_password(self, user: User | None, password: str, *, key: str) -> Generator[Slow | Until, Any, bool]:
        """Whether it is the user's password.  The same work for nobody (None), under the name that was tried."""
        stored = user.password_hash if user and user.password_hash else self._dummy
        good = yield from self._check(password, stored, key=key)
        return good and user is not None

    def _check(self, password: str, stored: str, *, key: str) -> Generator[Slow | Until, Any, bool]:
        if passwords.is_quick(stored):
            return passwords.matches(password, stored)
        yield from self._turn(key)
        with self._hashing(key):
            good = yield Slow(PASSWORD_POOL, passwords.matches, (password, stored))
        return bool(good)

    def _turn(self, key: str) -> Attempt:
        """Wait until nobody hashes for `key`."""
        while key in self._busy and self._signal is not None:
            waiting = self._waiting.get(key, 0)
            if waiting >= self._realm.config.attempts_waiting_max:
                raise _crowded()
            self._waiting[key] = waiting + 1
            try:
                yield Until(("password", key), TURN_TIMEOUT_S)
            except TimedOutError:
                raise _crowded() from None
            finally:
                self._waiting[key] -= 1
                if not self._waiting[key]:
                    del self._waiting[key]

    @contextmanager
    def _hashing(self, key: str) -> Iterator[None]:
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)
            if self._signal is not None:
                self._signal(("password", key))

    def _by_password(self, given: dict[str, Any]) -> Generator[Slow | Until, Any, _Proved]:
        who = given.get("user")
        if not isinstance(who, dict):
            raise _missing("user", "password")
        if not isinstance(who.get("password"), str):
            raise _missing("password", "user")
        with self._realm.db.read() as tx:
            user = self._user(tx, who)
        good = yield from self.check_password(
            user, who["password"], key=user.id if user else f"? {who.get('id') or who.get('name')}"
        )
        if not good or user is None or not user.enabled:
            raise Unauthorized
        if user.password_expires_at is not None and user.password_expires_at <= self._realm.clock.now():
            msg = f"The password is expired and needs to be changed for user: {user.id}."
            raise Unauthorized(msg)
        return _Proved(user_id=user.id, methods=("password",), password_hash=user.password_hash)

    def _by_token(self, given: dict[str, Any], asked: Any) -> _Proved:
        if not isinstance(given.get("id"), str):
            raise _missing("id", "token")
        try:
            parent = self._tokens.validate(given["id"])
        except InvalidToken:
            msg = "Failed to validate token"
            raise NotFound(msg) from None
        wanted = asked if isinstance(asked, dict) else {}
        if parent.trust is not None:
            raise _refused("Using trust-scoped token to create another token. Create a new trust-scoped token instead")
        if parent.payload.scope.kind == "system" and ("project" in wanted or "domain" in wanted):
            raise _refused(
                "Using a system-scoped token to create a project-scoped or domain-scoped token is not allowed."
            )
        if parent.application_credential is not None and asked:
            raise _refused("Using an application credential token to create a scoped token is not allowed.")
        return _Proved(
            user_id=parent.payload.user_id,
            methods=("token", *parent.payload.methods),
            parent=parent,
            credential=parent.application_credential,
        )

    def _by_credential(self, given: dict[str, Any]) -> Generator[Slow | Until, Any, _Proved]:
        with self._realm.db.read() as tx:
            found = self._credential(tx, given)
        secret = given.get("secret")
        if not isinstance(secret, str):
            raise _missing("secret", "application_credential")
        # the comparison is made in any case, so that the time does not tell whether the credential exists
        stored = found.secret_hash if found else passwords.hash_secret("")
        good = yield from self._check(secret, stored, key=found.id if found else "")
        if found is None or not good:
            raise Unauthorized
        if found.expires_at is not None and found.expires_at <= self._realm.clock.now():
            raise Unauthorized
        return _Proved(user_id=found.user_id, methods=("application_credential",), credential=found)

    def _credential(self, tx: Tx, given: dict[str, Any]) -> ApplicationCredential | None:
        if isinstance(given.get("id"), str):
            return rows.get(tx, ApplicationCredential, given["id"])
        if not isinstance(given.get("name"), str):
            raise _missing("id or name", "application credential")
        who = given.get("user")
        if not isinstance(who, dict):
            raise _missing("user", "application credential")
        user = self._user(tx, who)
        found = rows.find(tx, ApplicationCredential, user_id=user.id, name=given["name"]) if user else []
        return found[0] if found else None

    def _user(self, tx: Tx, who: dict[str, Any]) -> User | None:
        """By id, or by name and domain; None where there is none, or its domain is disabled."""
        if who.get("name"):
            if not isinstance(who.get("domain"), dict):
                raise _missing("domain", "user")
            domain = self._domain(tx, who["domain"])
            found = rows.find(tx, User, name=str(who["name"]), domain_id=domain.id) if domain else []
            return found[0] if found else None
        if not who.get("id"):
            raise _missing("id or name", "user")
        user = rows.get(tx, User, str(who["id"]))
        return user if user and self._domain(tx, {"id": user.domain_id}) else None

    @staticmethod
    def _domain(tx: Tx, given: dict[str, Any]) -> Project | None:
        """An enabled domain by id or name."""
        if given.get("name"):
            found = rows.find(tx, Project, name=str(given["name"]), domain_id="", is_domain=True)
            domain = found[0] if found else None
        elif given.get("id"):
            domain = rows.get(tx, Project, str(given["id"]))
        else:
            raise _missing("id or name", "domain")
        return domain if domain and domain.is_domain and domain.enabled else None

    def _scope(
        self, tx: Tx, asked: Any, user_id: str, credential: ApplicationCredential | None
    ) -> tuple[Scope, Trust | None]:
        if credential is not None:
            return Scope("project", credential.project_id), None
        if asked is None:
            return self._own_scope(tx, user_id), None
        if asked == "unscoped" or (isinstance(asked, dict) and list(asked) == ["unscoped"]):
            return Scope(), None
        kinds = [
            kind
            for kind in ("project", "domain", "system", "OS-TRUST:trust")
            if isinstance(asked, dict) and kind in asked
        ]
        if len(kinds) != 1 or len(asked) != 1:
            raise _missing("system, project, domain, OS-TRUST:trust or unscoped", "scope")
        kind = kinds[0]
        if kind == "system":
            if asked["system"] != {"all": True}:
                raise _missing("all", "system")
            return Scope("system"), None
        if kind == "domain":
            domain = self._domain(tx, asked["domain"])
            if domain is None:
                raise Unauthorized
            return Scope("domain", domain.id), None
        if kind == "project":
            return Scope("project", self._project(tx, asked["project"]).id), None
        if not asked[kind].get("id"):
            raise _missing("trust_id", "trust")
        trust = rows.get(tx, Trust, str(asked[kind]["id"]))
        if trust is None or trust.deleted_at is not None:
            raise Unauthorized
        return (Scope("project", trust.project_id) if trust.project_id else Scope()), trust

    def _project(self, tx: Tx, given: dict[str, Any]) -> Project:
        if given.get("name"):
            if not isinstance(given.get("domain"), dict):
                raise _missing("domain", "project")
            domain = self._domain(tx, given["domain"])
            found = rows.find(tx, Project, name=str(given["name"]), domain_id=domain.id) if domain else []
            project = found[0] if found else None
        elif given.get("id"):
            project = rows.get(tx, Project, str(given["id"]))
        else:
            raise _missing("id or name", "project")
        if (
            project is None
            or not project.enabled
            or project.is_domain
            or self._domain(tx, {"id": project.domain_id}) is None
        ):
            raise Unauthorized
        return project

    def _own_scope(self, tx: Tx, user_id: str) -> Scope:
        """The user's default project, where the user has a role on it."""
        user = rows.get(tx, User, user_id)
        if user is None or user.default_project_id is None:
            return Scope()
        project = rows.get(tx, Project, user.default_project_id)
        if project is None or not project.enabled or self._domain(tx, {"id": project.owner_id}) is None:
            return Scope()
        held = self._tokens.role_ids(tx, user_id, self._tokens.place(tx, project))
        return Scope("project", project.id) if self._realm.graph(tx).in_token(held) else Scope()

    def _consume(self, trust: Trust) -> None:
        """One use less; the last one ends the trust."""
        with self._realm.write() as tx:
            now = rows.get(tx, Trust, trust.id)
            if now is None or now.remaining_uses is None:
                return
            if now.remaining_uses <= 0:
                msg = f"No remaining uses for trust: {trust.id}."
                raise Forbidden(msg)
            rows.change(tx, Trust, trust.id, remaining_uses=now.remaining_uses - 1)


def _crowded() -> Unavailable:
    return Unavailable("Too many attempts to authenticate are waiting; try again later.")


def _missing(attribute: str, target: str) -> BadRequest:
    return BadRequest(
        f"Expecting to find {attribute} in {target}. The server could not comply with the request since it is "
        "either malformed or otherwise incorrect. The client is assumed to be in error."
    )


def _refused(action: str) -> Forbidden:
    return Forbidden(f"You are not authorized to perform the requested action: {action}.")
