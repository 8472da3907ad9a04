"""Security groups: a default one for each project on first use, and rules that are checked whole before one is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cumulet.core.db.database import Tx
from cumulet.network import errors
from cumulet.network.records import SecurityGroup, SecurityGroupRule, Viewer
from cumulet.network.service.effects import Thing
from cumulet.network.service.means import Means, check_revision
from cumulet.network.service.rule_checks import check_rule, same_rule
from cumulet.network.store import security_groups as store
from cumulet.network.store import standard
from cumulet.network.store.listing import Search
from cumulet.network.tables import security_groups

__all__ = ["SecurityGroupRules", "SecurityGroups"]

DEFAULT = "default"


class SecurityGroups:
    """Security groups of one cloud."""

    def __init__(self, means: Means) -> None:
        self._means = means

    # Reading

    def get(self, viewer: Viewer, id: str) -> SecurityGroup:
        with self._means.db.read() as tx:
            group = store.get(tx, id, viewer)
        if group is None:
            raise errors.SecurityGroupNotFound(id=id)
        return group

    def lists(self, search: Search) -> list[SecurityGroup]:
        self._first_use(search)
        with self._means.db.read() as tx:
            return store.lists(tx, search)

    def _first_use(self, search: Search) -> None:
        """Who looks for a project's groups finds its default one."""
        asked = search.filters.get("project_id") if search.viewer.sees_all else None
        project_id = asked[0] if asked else search.viewer.project_id
        if project_id:
            self.ensure_defaults([project_id])

    def target(self, group: SecurityGroup, viewer: Viewer) -> dict[str, Any]:
        return {"project_id": group.project_id, "shared": group.shared, "security_group:project_id": group.project_id}

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {"project_id": wanted["project_id"]}

    # Creating

    def ensure_defaults(self, project_ids: Iterable[str]) -> None:
        """Make each project's default group, where it is not there.  Owed to the data plane, not awaited by who came first."""
        wanted = sorted({project_id for project_id in project_ids if project_id})
        with self._means.db.read() as tx:
            missing = [project_id for project_id in wanted if store.default_of(tx, project_id) is None]
        if not missing:
            return
        things: list[Thing]
        with self._means.db.write() as tx:
            things = [
                ("security_group", self._add_default(tx, project_id))
                for project_id in missing
                if store.default_of(tx, project_id) is None
            ]
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things)

    def default(self, tx: Tx, project_id: str) -> str:
        """A project's default group, inside a transaction; `ensure_defaults` comes first, but somebody may have removed it since."""
        return store.default_of(tx, project_id) or self._add_default(tx, project_id)

    def _add_default(self, tx: Tx, project_id: str) -> str:
        group = self._new(
            {"project_id": project_id, "name": DEFAULT, "description": "Default security group", "stateful": True}
        )
        store.add(tx, group)
        store.set_default(tx, project_id, group.id)
        return group.id

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[SecurityGroup]:
        if any(one["name"].lower() == DEFAULT for one in wanted):
            raise errors.SecurityGroupDefaultAlreadyExists
        self.ensure_defaults(one["project_id"] for one in wanted)
        made: list[SecurityGroup] = []
        with self._means.db.write() as tx:
            for one in wanted:
                self._means.count(tx, "security_group", one["project_id"])
                group = self._new(one)
                self._means.count(tx, "security_group_rule", one["project_id"], len(group.rules))
                store.add(tx, group)
                made.append(group)
            things: list[Thing] = [("security_group", group.id) for group in made]
            stamp = self._means.effects.owe(tx, things)

        def undo(tx: Tx) -> None:
            for group in made:
                store.remove(tx, group.id)

        self._means.effects.apply(stamp, things, undo=undo)
        return made

    def _new(self, wanted: Mapping[str, Any]) -> SecurityGroup:
        common = self._means.standard(wanted)
        is_default = wanted["name"] == DEFAULT
        rules = [self._rule(common, direction="egress", ethertype=ethertype) for ethertype in ("IPv4", "IPv6")]
        if is_default:
            rules += [
                self._rule(common, direction="ingress", ethertype=ethertype, remote_group_id=common["id"])
                for ethertype in ("IPv4", "IPv6")
            ]
        return SecurityGroup(**common, stateful=wanted["stateful"], is_default=is_default, rules=tuple(rules))

    def _rule(self, group: Mapping[str, Any], **values: Any) -> SecurityGroupRule:
        return SecurityGroupRule(
            id=self._means.ids.uuid(),
            project_id=group["project_id"],
            description="",
            created_at=group["created_at"],
            updated_at=group["updated_at"],
            revision_number=1,
            security_group_id=group["id"],
            protocol=None,
            port_range_min=None,
            port_range_max=None,
            remote_ip_prefix=None,
            belongs_to_default_sg=group["name"] == DEFAULT,
            **{"remote_group_id": None, **values},
        )

    # Changing

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> SecurityGroup:
        if str(changes.get("name", "")).lower() == DEFAULT:
            raise errors.SecurityGroupDefaultAlreadyExists
        with self._means.db.write() as tx:
            before = store.get(tx, id, viewer)
            if before is None:
                raise errors.SecurityGroupNotFound(id=id)
            check_revision(before.revision_number, revision)
            if before.is_default and "name" in changes:
                raise errors.SecurityGroupCannotUpdateDefault
            if changes.get("stateful", before.stateful) != before.stateful and store.in_use(tx, id):
                raise errors.SecurityGroupInUse(id=id)
            store.change(tx, id, dict(changes), self._means.clock.now())
            things: list[Thing] = [("security_group", id)] if {"name", "stateful"} & set(changes) else []
            stamp = self._means.effects.owe(tx, things)
            after = store.get(tx, id, viewer)
        self._means.effects.apply(stamp, things)
        assert after is not None  # noqa: S101 - read in the transaction that changed it
        return after

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            group = store.get(tx, id, viewer)
            if group is None:
                raise errors.SecurityGroupNotFound(id=id)
            check_revision(group.revision_number, revision)
            if store.in_use(tx, id):
                raise errors.SecurityGroupInUse(id=id)
            if group.is_default and not viewer.sees_all:
                raise errors.SecurityGroupCannotRemoveDefault
            # rules of other groups that let this one in have nobody left to let in
            things: list[Thing] = [("security_group", id)]
            for rule_id in store.remote_users(tx, id):
                rule = store.get_rule(tx, rule_id)
                if rule is not None:
                    store.remove_rule(tx, rule_id)
                    standard.touch(tx, security_groups, [rule.security_group_id], self._means.clock.now())
                    things.append(("security_group", rule.security_group_id))
            store.remove(tx, id)
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, list(dict.fromkeys(things)), gone=True)

    # For ports, inside their transaction

    @staticmethod
    def for_port(tx: Tx, project_id: str, ids: Sequence[str]) -> list[str]:
        """Groups that a project's port may join, whoever asks: all seen by the project, all stateful or none."""
        found = store.by_ids(tx, ids, Viewer(project_id=project_id))
        missing = next((id for id in ids if id not in found), None)
        if missing is not None:
            raise errors.SecurityGroupNotFound(id=missing)
        if len({group.stateful for group in found.values()}) > 1:
            raise errors.SecurityGroupConflict(
                reason="Cannot apply both stateful and stateless security groups on the same port at the same time"
            )
        return list(dict.fromkeys(ids))


class SecurityGroupRules:
    """Rules of security groups."""

    def __init__(self, means: Means, groups: SecurityGroups) -> None:
        self._means = means
        self._groups = groups

    # Reading

    def get(self, viewer: Viewer, id: str) -> SecurityGroupRule:
        with self._means.db.read() as tx:
            rule = store.get_rule(tx, id)
            owner = None if rule is None else store.by_ids(tx, [rule.security_group_id], viewer)
        if rule is None or not owner:
            raise errors.SecurityGroupRuleNotFound(id=id)
        return rule

    def lists(self, search: Search) -> list[SecurityGroupRule]:
        self._groups._first_use(search)  # noqa: SLF001 - the two classes are one room: rules have no life without groups
        with self._means.db.read() as tx:
            return store.lists_rules(tx, search)

    def target(self, rule: SecurityGroupRule, viewer: Viewer) -> dict[str, Any]:
        with self._means.db.read() as tx:
            group = store.by_ids(tx, [rule.security_group_id]).get(rule.security_group_id)
        return {"project_id": rule.project_id, "security_group:project_id": group.project_id if group else ""}

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        group_id = wanted["security_group_id"]
        with self._means.db.read() as tx:
            group = store.by_ids(tx, [group_id], viewer).get(group_id)
        if group is None:
            raise errors.SecurityGroupNotFound(id=group_id)
        return {"project_id": wanted["project_id"], "security_group:project_id": group.project_id}

    # Writing

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[SecurityGroupRule]:
        """All of them or none; each is checked by itself first, so that one bad rule names itself."""
        if len({one["security_group_id"] for one in wanted}) > 1:
            raise errors.SecurityGroupNotSingleGroupRules
        checked = [check_rule(one) for one in wanted]
        group_id = wanted[0]["security_group_id"]
        with self._means.db.write() as tx:
            group = store.get(tx, group_id, viewer)
            if group is None:
                raise errors.SecurityGroupNotFound(id=group_id)
            self._means.count(tx, "security_group_rule", group.project_id, len(checked))
            self._check_remotes(tx, viewer, checked)
            made: list[SecurityGroupRule] = []
            for one in checked:
                rule = self._new(group, one)
                if any(same_rule(rule, other) for other in made):
                    raise errors.DuplicateSecurityGroupRuleInPost
                there = next((other for other in group.rules if same_rule(rule, other)), None)
                if there is not None:
                    raise errors.SecurityGroupRuleExists(rule_id=there.id)
                made.append(rule)
            store.add_rules(tx, made)
            standard.touch(tx, security_groups, [group_id], self._means.clock.now())
            things: list[Thing] = [("security_group", group_id)]
            stamp = self._means.effects.owe(tx, things)

        def undo(tx: Tx) -> None:
            for rule in made:
                store.remove_rule(tx, rule.id)

        self._means.effects.apply(stamp, things, undo=undo)
        return made

    @staticmethod
    def _check_remotes(tx: Tx, viewer: Viewer, rules: Sequence[Mapping[str, Any]]) -> None:
        remotes = {rule["remote_group_id"] for rule in rules if rule["remote_group_id"]}
        found = store.by_ids(tx, remotes, viewer)
        for id in remotes:
            if id not in found:
                raise errors.SecurityGroupNotFound(id=id)

    def _new(self, group: SecurityGroup, wanted: Mapping[str, Any]) -> SecurityGroupRule:
        now = self._means.clock.now()
        return SecurityGroupRule(
            id=self._means.ids.uuid(),
            project_id=group.project_id,
            description=wanted["description"],
            created_at=now,
            updated_at=now,
            revision_number=1,
            security_group_id=group.id,
            direction=wanted["direction"],
            ethertype=wanted["ethertype"],
            protocol=wanted["protocol"],
            port_range_min=wanted["port_range_min"],
            port_range_max=wanted["port_range_max"],
            remote_ip_prefix=wanted["remote_ip_prefix"],
            remote_group_id=wanted["remote_group_id"],
            belongs_to_default_sg=group.is_default,
        )

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            rule = store.get_rule(tx, id)
            if rule is None or not store.by_ids(tx, [rule.security_group_id], viewer):
                raise errors.SecurityGroupRuleNotFound(id=id)
            check_revision(rule.revision_number, revision)
            store.remove_rule(tx, id)
            standard.touch(tx, security_groups, [rule.security_group_id], self._means.clock.now())
            things: list[Thing] = [("security_group", rule.security_group_id)]
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things, gone=True)
