"""What a user gives on: application credentials, the access rules they keep to, and trusts.

A credential never makes a wider one: what is made with a token has no role, no access and no time that the token's
own credential has not, and a restricted credential makes none at all.  (The reference checks roles and the
restriction only.)
"""

import datetime
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from cumulet.core.db import Duplicate, Tx
from cumulet.core.errors import BadRequest, Forbidden
from cumulet.core.work import Slow
from cumulet.identity import passwords
from cumulet.identity.passwords import check_text
from cumulet.identity.records import AccessRule, ApplicationCredential, Role, Trust, User
from cumulet.identity.service.authentication import PASSWORD_POOL
from cumulet.identity.service.realm import Realm, missing, taken
from cumulet.identity.service.tokens import Standing, Tokens
from cumulet.identity.store import rows
from cumulet.identity.tokens import Scope

__all__ = ["ApplicationCredentials", "Trusts", "forbid_delegated", "moment"]

ACCESS_RULES_MAX = 100


def moment(text: str) -> str:
    """A time given by a client, as core.clock text.  Raises BadRequest."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        msg = f"Invalid input for field 'expires_at': {text[:64]!r} is not a time."
        raise BadRequest(msg) from None
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return time.isoformat(timespec="microseconds")


def forbid_delegated(standing: Standing, doing: str) -> None:
    """Raise Forbidden for a token that was itself got by delegation: a trust, a restricted application credential."""
    credential = standing.application_credential
    if standing.trust is not None:
        msg = f"{doing} with a token issued via delegation is not allowed."
        raise Forbidden(msg)
    if credential is not None and not credential.unrestricted:
        msg = (
            f"You are not authorized to perform the requested action: {doing} using method 'application_credential' is "
            "not allowed for managing additional application credentials."
        )
        raise Forbidden(msg)


Created = Generator[Slow, Any, tuple[ApplicationCredential, str]]


class ApplicationCredentials:
    """Part of the identity service."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def create(self, given: dict[str, Any], standing: Standing) -> Created:
        """A credential of the token's user on its project, and its secret, which is shown this once.

        A secret of ours is 256 random bits and more; one that a person has chosen is hashed as a password is.
        """
        forbid_delegated(standing, "create_application_credential")
        if standing.project is None:
            msg = "An application credential needs a token that is scoped to a project."
            raise Forbidden(msg)
        expires_at = self._expiry(given.get("expires_at"), standing.application_credential)
        secret = given.get("secret") or self._realm.ids.secret(48)
        if given.get("secret") and len(secret.encode()) <= passwords.PASSWORD_BYTES_MAX:
            check_text(secret)
            hashed = yield Slow(PASSWORD_POOL, passwords.hash_password, (secret, self._realm.config.bcrypt_rounds))
        else:
            hashed = passwords.hash_secret(secret)
        try:
            with self._realm.write() as tx:
                if rows.count(tx, ApplicationCredential, user_id=standing.user.id) >= self._limit():
                    msg = f"At most {self._limit()} application credentials are allowed to a user."
                    raise Forbidden(msg)
                rules = self._rules(tx, given.get("access_rules"), standing)
                credential = ApplicationCredential(
                    id=self._realm.ids.hex(),
                    name=given["name"],
                    user_id=standing.user.id,
                    project_id=standing.project.id,
                    description=given.get("description"),
                    secret_hash=hashed,
                    role_ids=self._role_ids(tx, given.get("roles"), standing),
                    access_rule_ids=None if rules is None else [rule.id for rule in rules],
                    unrestricted=bool(given.get("unrestricted")),
                    expires_at=expires_at,
                    created_at=self._realm.clock.now(),
                )
                rows.add(tx, credential)
        except Duplicate:
            raise taken("application credential", given["name"]) from None
        return credential, secret

    def _limit(self) -> int:
        return self._realm.config.application_credentials_per_user_max

    def _expiry(self, given: str | None, parent: ApplicationCredential | None) -> str | None:
        bound = parent.expires_at if parent else None
        if given is None:
            return bound
        expires_at = moment(given)
        if expires_at <= self._realm.clock.now():
            msg = "Invalid application credential: expires_at is in the past."
            raise BadRequest(msg)
        if bound is not None and expires_at > bound:
            msg = "An application credential cannot outlive the one it is created with."
            raise Forbidden(msg)
        return expires_at

    def _role_ids(self, tx: Tx, given: Sequence[dict[str, Any]] | None, standing: Standing) -> list[str]:
        """The roles asked for with what they imply, all of which the token must have; without any, the token's."""
        own = {role.id for role in standing.roles}
        if not given:
            return sorted(own)
        graph = self._realm.graph(tx)
        wanted = graph.expand(find_role(graph.roles.values(), role).id for role in given)
        if not wanted <= own:
            msg = "Invalid application credential: Cannot create an application credential with unassigned role"
            raise BadRequest(msg)
        return sorted(wanted)

    def _rules(self, tx: Tx, given: Sequence[dict[str, Any]] | None, standing: Standing) -> list[AccessRule] | None:
        """The user's rules, found or made.  A token that keeps to rules gives on only those."""
        bound = standing.access_rules
        if not given:
            return None if bound is None else list(bound)
        user_id = standing.user.id
        there = {(rule.service, rule.path, rule.method): rule for rule in rows.find(tx, AccessRule, user_id=user_id)}
        by_id = {rule.id: rule for rule in there.values()}
        chosen: dict[str, AccessRule] = {}
        for wanted in given:
            if "id" in wanted:
                rule = by_id.get(wanted["id"])
                if rule is None:
                    raise BadRequest(missing("access rule", wanted["id"]).message)
            else:
                key = (wanted["service"], wanted["path"], wanted["method"])
                rule = there.get(key)
                if rule is None:
                    if len(there) >= ACCESS_RULES_MAX:
                        msg = f"A user may have at most {ACCESS_RULES_MAX} access rules."
                        raise Forbidden(msg)
                    rule = AccessRule(
                        id=self._realm.ids.hex(), user_id=user_id, service=key[0], path=key[1], method=key[2]
                    )
                    rows.add(tx, rule)
                    there[key] = rule
            chosen[rule.id] = rule
        if bound is not None and not set(chosen) <= {rule.id for rule in bound}:
            msg = "An application credential cannot have access rules that the one it is created with has not."
            raise Forbidden(msg)
        return list(chosen.values())

    def delete(self, credential_id: str, standing: Standing) -> None:
        forbid_delegated(standing, "delete_application_credential")
        with self._realm.write() as tx:
            self._realm.need(tx, ApplicationCredential, credential_id)
            rows.remove(tx, ApplicationCredential, id=credential_id)

    def rules(self, credentials: Sequence[ApplicationCredential]) -> dict[str, AccessRule]:
        """The access rules of several credentials, by id."""
        ids = {rule_id for credential in credentials for rule_id in credential.access_rule_ids or ()}
        with self._realm.db.read() as tx:
            return {rule.id: rule for rule in rows.find(tx, AccessRule, id=ids)}

    def delete_rule(self, user_id: str, rule_id: str) -> None:
        """Raises Forbidden while a credential keeps to it."""
        with self._realm.write() as tx:
            rule = self._realm.need(tx, AccessRule, rule_id)
            if rule.user_id != user_id:
                raise missing("access rule", rule_id)
            for credential in rows.find(tx, ApplicationCredential, user_id=user_id):
                if rule_id in (credential.access_rule_ids or ()):
                    msg = f"Access rule {rule_id} is in use by application credential {credential.id}."
                    raise Forbidden(msg)
            rows.remove(tx, AccessRule, id=rule_id)


class Trusts:
    """Part of the identity service.  A trust is not given on: with a trust's token no other is made."""

    def __init__(self, realm: Realm, tokens: Tokens) -> None:
        self._realm = realm
        self._tokens = tokens

    def create(self, given: dict[str, Any], standing: Standing) -> Trust:
        """The token's user lets another act for it."""
        refuse_credential(standing)
        if standing.payload.user_id != given["trustor_user_id"]:
            msg = "The authenticated user should match the trustor."
            raise Forbidden(msg)
        project_id = given.get("project_id")
        if project_id and not given.get("roles"):
            msg = "You are not authorized to perform the requested action: At least one role should be specified."
            raise Forbidden(msg)
        uses = given.get("remaining_uses")
        if uses is not None and uses <= 0:
            msg = "remaining_uses must be a positive integer or null."
            raise BadRequest(msg)
        expires_at = moment(given["expires_at"]) if given.get("expires_at") else None
        if expires_at is not None and expires_at <= self._realm.clock.now():
            msg = "The trust's expires_at is in the past."
            raise BadRequest(msg)
        with self._realm.write() as tx:
            self._realm.need(tx, User, given["trustee_user_id"])
            trust = Trust(
                id=self._realm.ids.hex(),
                trustor_user_id=given["trustor_user_id"],
                trustee_user_id=given["trustee_user_id"],
                project_id=project_id,
                impersonation=given["impersonation"],
                role_ids=self._role_ids(tx, given, standing),
                remaining_uses=uses,
                expires_at=expires_at,
                deleted_at=None,
                redelegated_trust_id=None,
                redelegation_count=0,
                created_at=self._realm.clock.now(),
            )
            rows.add(tx, trust)
        return trust

    def _role_ids(self, tx: Tx, given: dict[str, Any], standing: Standing) -> list[str]:
        """The roles given on, each of which the trustor holds."""
        if not given.get("roles"):
            return []
        graph = self._realm.graph(tx)
        held: frozenset[str] = frozenset()
        if given.get("project_id"):
            held = self._tokens.roles_on(tx, standing.user.id, Scope("project", given["project_id"]))
        wanted = [find_role(graph.roles.values(), role).id for role in given["roles"]]
        for role_id in wanted:
            if role_id not in held:
                raise missing("role", role_id)
        return sorted(set(wanted))

    def trust(self, trust_id: str) -> Trust:
        """A trust that still counts.  Raises NotFound."""
        found = self._realm.get(Trust, trust_id)
        spent = found.remaining_uses is not None and found.remaining_uses <= 0
        if (
            found.deleted_at is not None
            or spent
            or (found.expires_at is not None and found.expires_at <= self._realm.clock.now())
        ):
            raise missing("trust", trust_id)
        return found

    def delete(self, trust_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, Trust, trust_id)
            rows.remove(tx, Trust, id=trust_id)

    def find(self, **where: Any) -> list[Trust]:
        now = self._realm.clock.now()
        return [
            trust for trust in self._realm.find(Trust, **where) if trust.expires_at is None or trust.expires_at > now
        ]


def refuse_credential(standing: Standing) -> None:
    """Raise Forbidden for any token got with an application credential or a trust: trusts are made by people."""
    if standing.application_credential is not None:
        msg = (
            "You are not authorized to perform the requested action: Using method 'application_credential' is not "
            "allowed for managing trusts."
        )
        raise Forbidden(msg)
    forbid_delegated(standing, "Managing trusts")


def find_role(roles: Iterable[Role], given: dict[str, Any]) -> Role:
    """A role by id or by name.  Raises BadRequest."""
    for role in roles:
        if role.id == given.get("id") or (
            not given.get("id") and role.name == given.get("name") and not role.domain_id
        ):
            return role
    raise BadRequest(missing("role", str(given.get("id") or given.get("name"))).message)
