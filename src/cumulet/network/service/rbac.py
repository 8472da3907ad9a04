"""RBAC policies: a project shows what it owns to another, or to all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cumulet.core.db.database import Tx
from cumulet.network import errors
from cumulet.network.records import RbacPolicy, Viewer
from cumulet.network.service.means import Means
from cumulet.network.store import networks, rbac
from cumulet.network.store.listing import Search
from cumulet.network.values import Unfit, uuid

__all__ = ["RbacPolicies"]

EVERYBODY = "*"
_ACTIONS = {
    "network": {"access_as_shared", "access_as_external"},
    "security_group": {"access_as_shared"},
    "subnetpool": {"access_as_shared"},
    "address_scope": {"access_as_shared"},
}


class RbacPolicies:
    """RBAC policies of one cloud."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def get(self, viewer: Viewer, id: str) -> RbacPolicy:
        with self._means.db.read() as tx:
            policy = rbac.get(tx, id, viewer)
        if policy is None:
            raise errors.RbacPolicyNotFound(id=id)
        return policy

    def lists(self, search: Search) -> list[RbacPolicy]:
        with self._means.db.read() as tx:
            return rbac.lists(tx, search)

    def target(self, policy: RbacPolicy, viewer: Viewer) -> dict[str, Any]:
        return {"project_id": policy.project_id, "everybody": policy.target_project == EVERYBODY}

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {"project_id": wanted["project_id"], "everybody": wanted["target_tenant"] == EVERYBODY}

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[RbacPolicy]:
        made = []
        with self._means.db.write() as tx:
            for one in wanted:
                self._means.count(tx, "rbac_policy", one["project_id"])
                made.append(self._add(tx, viewer, one))
        return made

    def _add(self, tx: Tx, viewer: Viewer, wanted: Mapping[str, Any]) -> RbacPolicy:
        if wanted["action"] not in _ACTIONS[wanted["object_type"]]:
            raise errors.InvalidInput(
                reason=f"Invalid action '{wanted['action']}' for object type '{wanted['object_type']}'"
            )
        self._check_target(wanted["target_tenant"])
        about = rbac.object_of(tx, wanted["object_type"], wanted["object_id"])
        if about is None or (not viewer.sees_all and about["project_id"] != viewer.project_id):
            raise errors.RbacPolicyNotFound(id=wanted["object_id"])
        if wanted["action"] == "access_as_external" and not viewer.sees_all:
            raise errors.InvalidInput(reason="Only admin can manipulate policies on networks for external access")
        policy = RbacPolicy(
            id=self._means.ids.uuid(),
            project_id=wanted["project_id"],
            object_type=wanted["object_type"],
            object_id=wanted["object_id"],
            action=wanted["action"],
            target_project=wanted["target_tenant"],
        )
        if rbac.same(tx, policy) is not None:
            raise errors.DuplicateRbacPolicy
        rbac.add(tx, policy)
        self._mark(tx, policy)
        return policy

    @staticmethod
    def _check_target(target: str) -> None:
        if target == EVERYBODY:
            return
        dashed = (
            f"{target[:8]}-{target[8:12]}-{target[12:16]}-{target[16:20]}-{target[20:]}"
            if len(target) == 32
            else target
        )
        try:
            uuid(dashed)
        except Unfit:
            raise errors.InvalidInput(
                reason=f"'{target}' is not a valid target project ID; expected a UUID or '*'"
            ) from None

    def _mark(self, tx: Tx, policy: RbacPolicy) -> None:
        """A network that a policy makes external for some is external: routers may have their gateway there."""
        if policy.object_type == "network" and policy.action == "access_as_external":
            networks.change(tx, policy.object_id, {"external": True}, self._means.clock.now())

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> RbacPolicy:
        with self._means.db.write() as tx:
            before = rbac.get(tx, id, viewer)
            if before is None:
                raise errors.RbacPolicyNotFound(id=id)
            target = changes.get("target_tenant", before.target_project)
            self._check_target(target)
            after = msgspec.structs.replace(before, target_project=target)
            if target != before.target_project:
                if rbac.same(tx, after) is not None:
                    raise errors.DuplicateRbacPolicy
                self._check_idle(tx, before, but={target})
                rbac.retarget(tx, id, target)
        return after

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            policy = rbac.get(tx, id, viewer)
            if policy is None:
                raise errors.RbacPolicyNotFound(id=id)
            self._check_idle(tx, policy, but=set())
            rbac.remove(tx, id)

    @staticmethod
    def _check_idle(tx: Tx, policy: RbacPolicy, *, but: set[str]) -> None:
        """Whoever uses what is shown to him must be shown it by another policy, or it stays."""
        if policy.action != "access_as_shared":
            return
        about = rbac.object_of(tx, policy.object_type, policy.object_id)
        if about is None or EVERYBODY in but:
            return
        others = rbac.targets(tx, policy.object_id, policy.action) - {policy.target_project}
        if EVERYBODY in others:
            return
        if (
            policy.object_type == "network"
            and (network := networks.get(tx, policy.object_id)) is not None
            and network.shared
        ):
            return
        stranded = rbac.users(tx, policy, about["project_id"]) - others - but
        if stranded:
            raise errors.RbacPolicyInUse(object_id=policy.object_id, details=f"{len(stranded)} other project(s) use it")
