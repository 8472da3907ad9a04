"""What identity keeps for others and does not act upon: policy documents, OAuth consumers, a domain's own
configuration.
"""

from typing import Any

import msgspec

from cumulet.core.db import Tx
from cumulet.core.errors import Forbidden, NotFound
from cumulet.identity import passwords
from cumulet.identity.records import Consumer, PolicyDocument
from cumulet.identity.service.projects import need_domain
from cumulet.identity.service.realm import Realm, split_extra
from cumulet.identity.store import options, rows

__all__ = ["DEFAULT_OPTIONS", "SENSITIVE", "Documents"]

#: what a domain may configure of its own, with the values it has otherwise
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "identity": {"driver": "sql", "list_limit": None},
    "ldap": {
        "url": "ldap://localhost",
        "user": None,
        "suffix": "cn=example,cn=com",
        "query_scope": "one",
        "page_size": 0,
        "user_tree_dn": None,
        "user_filter": None,
        "user_objectclass": "inetOrgPerson",
        "user_id_attribute": "cn",
        "user_name_attribute": "sn",
        "user_mail_attribute": "mail",
        "group_tree_dn": None,
        "group_filter": None,
        "group_objectclass": "groupOfNames",
        "group_id_attribute": "cn",
        "group_name_attribute": "ou",
        "group_member_attribute": "member",
        "tls_req_cert": "demand",
        "use_tls": False,
        "use_pool": True,
    },
}
#: taken, never shown
SENSITIVE = {("ldap", "password")}
_POLICY = frozenset({"type", "blob"})
_CONSUMER = frozenset({"description"})

Options = dict[str, dict[str, Any]]


class Documents:
    """Part of the identity service."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def create_policy(self, given: dict[str, Any]) -> PolicyDocument:
        ours, extra = split_extra(given, _POLICY)
        document = PolicyDocument(id=self._realm.ids.hex(), type=ours["type"], blob=ours["blob"], extra=extra)
        with self._realm.db.write() as tx:
            rows.add(tx, document)
        return document

    def update_policy(self, policy_id: str, given: dict[str, Any]) -> PolicyDocument:
        ours, extra = split_extra(given, _POLICY)
        with self._realm.db.write() as tx:
            old = self._realm.need(tx, PolicyDocument, policy_id)
            changes = {**ours, "extra": {**old.extra, **extra}}
            rows.change(tx, PolicyDocument, policy_id, **changes)
        return msgspec.structs.replace(old, **changes)

    def delete_policy(self, policy_id: str) -> None:
        with self._realm.db.write() as tx:
            self._realm.need(tx, PolicyDocument, policy_id)
            rows.remove(tx, PolicyDocument, id=policy_id)

    def create_consumer(self, given: dict[str, Any]) -> tuple[Consumer, str]:
        """A consumer, and its secret, which is shown this once."""
        ours, extra = split_extra(given, _CONSUMER)
        secret = self._realm.ids.secret(32)
        consumer = Consumer(
            id=self._realm.ids.hex(),
            description=ours.get("description"),
            secret_hash=passwords.hash_secret(secret),
            extra=extra,
        )
        with self._realm.db.write() as tx:
            rows.add(tx, consumer)
        return consumer, secret

    def update_consumer(self, consumer_id: str, given: dict[str, Any]) -> Consumer:
        ours, extra = split_extra(given, _CONSUMER)
        with self._realm.db.write() as tx:
            old = self._realm.need(tx, Consumer, consumer_id)
            changes = {**ours, "extra": {**old.extra, **extra}}
            rows.change(tx, Consumer, consumer_id, **changes)
        return msgspec.structs.replace(old, **changes)

    def delete_consumer(self, consumer_id: str) -> None:
        with self._realm.db.write() as tx:
            self._realm.need(tx, Consumer, consumer_id)
            rows.remove(tx, Consumer, id=consumer_id)

    def options(self, domain_id: str, group: str | None = None, option: str | None = None) -> Options:
        """A domain's own options, or those of a group, or one.  Raises NotFound where there are none."""
        _check_names(group, option)
        with self._realm.db.read() as tx:
            need_domain(tx, domain_id)
            return _chosen(options.read(tx, domain_id), domain_id, group, option)

    def set_options(self, domain_id: str, given: Options, *, replace: bool) -> Options:
        """Write options, replacing all that were there or only those given; what the domain has now."""
        for group, values in given.items():
            for option in values:
                _check_names(group, option)
        with self._realm.db.write() as tx:
            need_domain(tx, domain_id)
            if replace:
                options.remove(tx, domain_id)
            for group, values in given.items():
                for option, value in values.items():
                    options.write(tx, domain_id, group, option, value)
            return _shown(options.read(tx, domain_id))

    def has_options(self, domain_id: str) -> bool:
        with self._realm.db.read() as tx:
            return bool(options.read(tx, domain_id))

    def need_options(self, domain_id: str, group: str | None, option: str | None) -> None:
        """Raises NotFound where there is nothing to change."""
        _check_names(group, option)
        with self._realm.db.read() as tx:
            self._need(tx, domain_id, group, option)

    def delete_options(self, domain_id: str, group: str | None, option: str | None) -> None:
        _check_names(group, option)
        with self._realm.db.write() as tx:
            self._need(tx, domain_id, group, option)
            options.remove(tx, domain_id, group, option)

    @staticmethod
    def _need(tx: Tx, domain_id: str, group: str | None, option: str | None) -> None:
        need_domain(tx, domain_id)
        there = options.read(tx, domain_id)
        if group is not None and (group not in there or (option is not None and option not in there[group])):
            raise _nothing(domain_id, group, option)


def _check_names(group: str | None, option: str | None) -> None:
    if group is not None and group not in DEFAULT_OPTIONS:
        msg = (
            f"Invalid domain specific configuration: Group {group} is not supported for domain specific configurations."
        )
        raise Forbidden(msg)
    if (
        group is not None
        and option is not None
        and option not in DEFAULT_OPTIONS[group]
        and (group, option) not in SENSITIVE
    ):
        msg = (
            f"Invalid domain specific configuration: Option {option} in group {group} is not supported for "
            "domain specific configurations."
        )
        raise Forbidden(msg)


def _shown(there: Options) -> Options:
    return {group: {o: v for o, v in values.items() if (group, o) not in SENSITIVE} for group, values in there.items()}


def _chosen(there: Options, domain_id: str, group: str | None, option: str | None) -> Options:
    found = _shown(there)
    if group is None:
        if not found:
            raise _nothing(domain_id, None, None)
        return found
    if group not in found or (option is not None and option not in found[group]):
        raise _nothing(domain_id, group, option)
    return {group: found[group] if option is None else {option: found[group][option]}}


def _nothing(domain_id: str, group: str | None, option: str | None) -> NotFound:
    what = (
        "any options"
        if group is None
        else (f"group {group}" if option is None else f"option {option} in group {group}")
    )
    return NotFound(f"Could not find {what} in domain configuration for domain {domain_id}.")
