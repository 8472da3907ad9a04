"""Tokens: what they stand for now, their issue, their end.

A token says who, where, and until when; what its holder may do is read from the live assignments each time it is
looked at, so that a role taken away, a user disabled or a project deleted takes effect at once.  What was found is
kept under the realm's revision, which every such change raises; the expiry is looked at each time.  (Lists of
revocations, as the reference keeps them for every such change, were turned down: here one is kept only for tokens
that are ended by name.)
"""

from collections.abc import Sequence

import msgspec

from cumulet.core import context as core
from cumulet.core.clock import add_seconds, parse
from cumulet.core.context import Context
from cumulet.core.db import Tx
from cumulet.core.errors import Forbidden, Unauthorized
from cumulet.identity.records import AccessRule, ApplicationCredential, Issue, Project, Role, Trust, User
from cumulet.identity.roles import WHOLE_SYSTEM, Place, reaches
from cumulet.identity.service.realm import Realm
from cumulet.identity.store import access, issues, rows
from cumulet.identity.tokens import KeyRing, NotAToken, Payload, Scope

__all__ = ["InvalidToken", "Standing", "Tokens"]

FORGET_EVERY_S = 600
ANCESTORS_MAX = 16


class InvalidToken(Unauthorized):
    """The token is not one of ours, has expired, or its holder has lost what it stands for."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token stands for now."""

    payload: Payload
    user: User
    user_domain: Project
    #: the scope: a project or a domain, and the domain that owns it
    project: Project | None
    domain: Project | None
    roles: Sequence[Role]
    context: Context
    application_credential: ApplicationCredential | None
    access_rules: Sequence[AccessRule] | None
    trust: Trust | None
    expires_epoch: float

    def __repr__(self) -> str:
        return f"Standing(user={self.user.id})"


class _Kept(msgspec.Struct, frozen=True):
    revision: object
    standing: Standing


class Tokens:
    """Part of the identity service."""

    def __init__(self, realm: Realm, keys: KeyRing) -> None:
        self._realm = realm
        self._keys = keys
        self._kept: dict[str, _Kept] = {}
        self._forgotten = 0.0

    def validate(self, token: str, *, window_s: int = 0) -> Standing:
        """What a token stands for.  window_s: how long it may have expired before.  Raises InvalidToken."""
        revision = self._realm.revision()
        kept = self._kept.get(token)
        if kept is not None and kept.revision == revision:
            if kept.standing.expires_epoch + window_s <= self._realm.clock.epoch():
                raise InvalidToken
            return kept.standing
        try:
            payload = self._keys.open(token)
        except NotAToken:
            raise InvalidToken from None
        if add_seconds(payload.expires_at, window_s) <= self._realm.clock.now():
            raise InvalidToken
        with self._realm.db.read() as tx:
            if issues.is_revoked(tx, payload.audit_ids[0]):
                raise InvalidToken
            standing = self.stand(tx, payload)
        if len(self._kept) >= self._realm.config.cached_tokens_max:
            self._kept.clear()
        self._kept[token] = _Kept(revision, standing)
        return standing

    def issue(
        self,
        user_id: str,
        methods: Sequence[str],
        scope: Scope,
        *,
        started: str,
        parent: Payload | None = None,
        application_credential: ApplicationCredential | None = None,
        trust: Trust | None = None,
        password_hash: str | None = None,
    ) -> tuple[str, Standing]:
        """A new token and what it stands for; its issue is recorded.

        parent: the token it was got with, whose expiry and chain it keeps.  password_hash: what the password was
        compared with; when it has been changed meanwhile, the attempt fails.  started: when the request arrived.
        """
        realm = self._realm
        now = realm.clock.now()
        expires_at = add_seconds(now, realm.config.token_lifetime_s)
        if parent is not None:
            expires_at = min(expires_at, parent.expires_at)
        for bound in (trust, application_credential):
            if bound is not None and bound.expires_at is not None:
                expires_at = min(expires_at, bound.expires_at)
        chain = (parent.audit_ids[-1],) if parent is not None else ()
        payload = Payload(
            user_id=user_id,
            methods=tuple(dict.fromkeys(methods)),
            scope=scope,
            issued_at=now,
            expires_at=expires_at,
            audit_ids=(realm.ids.secret(16), *chain),
            application_credential_id=application_credential.id if application_credential else None,
            trust_id=trust.id if trust else None,
        )
        revision = realm.revision()
        with realm.db.read() as tx:
            standing = self.stand(tx, payload)
            user = rows.get(tx, User, user_id)
        if password_hash is not None and (user is None or user.password_hash != password_hash):
            raise Unauthorized
        self._keys.renew(after_s=realm.config.key_renewed_after_s)
        token = self._keys.seal(payload)
        with realm.db.write() as tx:
            self._forget(tx)
            record = Issue(
                audit_id=payload.audit_ids[0],
                user_id=user_id,
                methods=list(payload.methods),
                started=started or now,
                finished=realm.clock.now(),
            )
            issues.record(tx, record)
        self._kept[token] = _Kept(revision, standing)
        return token, standing

    def revoke(self, standing: Standing) -> None:
        """End one token."""
        with self._realm.write() as tx:
            issues.revoke(tx, standing.payload.audit_ids[0], standing.payload.expires_at)

    def issued(self, audit_id: str) -> Issue | None:
        """The record of a token's issue, while it is kept."""
        with self._realm.db.read() as tx:
            return issues.issue(tx, audit_id)

    def _forget(self, tx: Tx) -> None:
        realm = self._realm
        if realm.clock.monotonic() < self._forgotten:
            return
        self._forgotten = realm.clock.monotonic() + FORGET_EVERY_S
        now = realm.clock.now()
        issues.forget(
            tx,
            issued_before=add_seconds(now, -realm.config.issue_kept_s),
            expired_before=add_seconds(now, -realm.config.allow_expired_window_s),
        )

    def stand(self, tx: Tx, payload: Payload) -> Standing:
        """What a payload stands for, read from the live rows.  Raises InvalidToken."""
        user = rows.get(tx, User, payload.user_id)
        if user is None or not user.enabled or payload.issued_at <= user.tokens_since:
            raise InvalidToken
        user_domain = self._enabled(tx, user.domain_id)
        scope = payload.scope
        trust: Trust | None = None
        credential: ApplicationCredential | None = None
        rules: Sequence[AccessRule] | None = None
        project: Project | None = None
        domain: Project | None = None
        roles: Sequence[Role] = ()
        if payload.trust_id is not None:
            trust = self._trust(tx, payload.trust_id, user)
            if trust.impersonation:
                user = rows.get(tx, User, trust.trustor_user_id) or user
                user_domain = self._enabled(tx, user.domain_id)
        if scope.kind == "project":
            project = self._enabled(tx, scope.id)
            domain = project if project.is_domain else self._enabled(tx, project.domain_id)
        elif scope.kind == "domain":
            domain = self._enabled(tx, scope.id)
            if not domain.is_domain:
                raise InvalidToken
        if scope.kind != "unscoped":
            holder = trust.trustor_user_id if trust else user.id
            role_ids = self.role_ids(tx, holder, self._place(tx, scope, project))
            if payload.application_credential_id is not None:
                credential = self._credential(tx, payload.application_credential_id, payload)
                role_ids &= self._realm.graph(tx).expand(credential.role_ids)
                if credential.access_rule_ids is not None:
                    rules = rows.find(tx, AccessRule, id=credential.access_rule_ids)
            if trust is not None:
                given = self._realm.graph(tx).expand(trust.role_ids)
                if not given <= role_ids:
                    msg = "Trustee has no delegated roles."
                    raise Forbidden(msg)
                role_ids = given
            roles = self._realm.graph(tx).in_token(role_ids)
            if not roles:
                raise InvalidToken(_no_access(user.id, scope))
        context = Context(
            user_id=user.id,
            user_name=user.name,
            user_domain_id=user.domain_id,
            project_id=project.id if project else None,
            project_name=project.name if project else None,
            project_domain_id=domain.id if project and domain else None,
            domain_id=domain.id if domain and not project else None,
            system_scope="all" if scope.kind == "system" else None,
            roles=frozenset(role.name for role in roles),
            audit_ids=payload.audit_ids,
            expires_at=payload.expires_at,
            application_credential_id=payload.application_credential_id,
            access_rules=None if rules is None else tuple(core.AccessRule(r.service, r.method, r.path) for r in rules),
        )
        return Standing(
            payload=payload,
            user=user,
            user_domain=user_domain,
            project=project,
            domain=domain,
            roles=roles,
            context=context,
            application_credential=credential,
            access_rules=rules,
            trust=trust,
            expires_epoch=(parse(payload.expires_at) - parse("1970-01-01T00:00:00")).total_seconds(),
        )

    def role_ids(self, tx: Tx, user_id: str, place: Place) -> frozenset[str]:
        """Every role a user holds at a place: its own and its groups', on it or inherited, and what they imply."""
        actors = [user_id, *access.group_ids(tx, user_id)]
        held = access.held(tx, actors, place.ids)
        return self._realm.graph(tx).expand(a.role_id for a in held if reaches(a, place))

    def roles_on(self, tx: Tx, user_id: str, scope: Scope) -> frozenset[str]:
        """Every role a user holds on a project that exists.  Raises NotFound."""
        project = self._realm.need(tx, Project, scope.id)
        return self.role_ids(tx, user_id, self.place(tx, project))

    def place(self, tx: Tx, project: Project) -> Place:
        """A project with everything above it."""
        above: list[str] = []
        parent_id = project.parent_id
        while parent_id and parent_id != project.domain_id and len(above) < ANCESTORS_MAX:
            above.append(parent_id)
            parent = rows.get(tx, Project, parent_id)
            parent_id = parent.parent_id if parent else ""
        if project.domain_id:
            above.append(project.domain_id)
        return Place(target="project", id=project.id, above=tuple(above), domain_id=project.domain_id)

    def _place(self, tx: Tx, scope: Scope, project: Project | None) -> Place:
        if project is not None:
            return self.place(tx, project)
        if scope.kind == "domain":
            return Place(target="domain", id=scope.id)
        return WHOLE_SYSTEM

    @staticmethod
    def _enabled(tx: Tx, project_id: str) -> Project:
        found = rows.get(tx, Project, project_id)
        if found is None or not found.enabled:
            raise InvalidToken
        return found

    def _credential(self, tx: Tx, credential_id: str, payload: Payload) -> ApplicationCredential:
        found = rows.get(tx, ApplicationCredential, credential_id)
        if found is None or found.user_id != payload.user_id or found.project_id != payload.scope.id:
            raise InvalidToken
        if found.expires_at is not None and found.expires_at <= self._realm.clock.now():
            raise InvalidToken
        return found

    def _trust(self, tx: Tx, trust_id: str, trustee: User) -> Trust:
        found = rows.get(tx, Trust, trust_id)
        now = self._realm.clock.now()
        if found is None or found.deleted_at is not None or (found.expires_at is not None and found.expires_at <= now):
            raise InvalidToken
        if found.trustee_user_id != trustee.id:
            msg = "User is not a trustee."
            raise Forbidden(msg)
        trustor = rows.get(tx, User, found.trustor_user_id)
        if trustor is None or not trustor.enabled:
            msg = "Trustor is disabled."
            raise Forbidden(msg)
        return found


def _no_access(user_id: str, scope: Scope) -> str:
    place = "the system" if scope.kind == "system" else f"{scope.kind} {scope.id}"
    return f"User {user_id} has no access to {place}"
