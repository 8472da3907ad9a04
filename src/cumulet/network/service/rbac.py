"""RBAC policies: a project shows what it owns to another, or to all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cumulet.core.db.database import Tx
from cumulet.network import errors
from cumulet.network.records import ACCESS_EXTERNAL, ACCESS_SHARED, EVERYBODY, RbacPolicy, Viewer
from cumulet.network.service.means import Means
from cumulet.network.store import networks, rbac, subnets
from cumulet.network.store.listing import Search
from cumulet.network.values import Unfit, uuid

__all__ = ["RbacPolicies"]


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

    @staticmethod
    def change_target(changes: Mapping[str, Any]) -> dict[str, bool]:
        """What policy judges a change by: whom the policy is to be for."""
        return {"everybody": changes["target_tenant"] == EVERYBODY} if "target_tenant" in changes else {}

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[RbacPolicy]:
        made = []
        with self._means.db.write() as tx:
            for one in wanted:
                self._means.count(tx, "rbac_policy", one["project_id"])
                made.append(self._add(tx, viewer, one))
        return made

    def _add(self, tx: Tx, viewer: Viewer, wanted: Mapping[str, Any]) -> RbacPolicy:
        if wanted["action"] == ACCESS_EXTERNAL and wanted["object_type"] != "network":
            raise errors.InvalidInput(
                reason=f"Invalid action '{wanted['action']}' for object type '{wanted['object_type']}'"
            )
        self._check_target(wanted["target_tenant"])
        about = rbac.object_of(tx, wanted["object_type"], wanted["object_id"])
        if about is None:
            raise errors.RbacPolicyNotFound(id=wanted["object_id"])
        if not viewer.sees_all and about["project_id"] != viewer.project_id:
            raise errors.InvalidInput(reason="Only admins can manipulate policies on objects they do not own")
        self._check_scope(tx, wanted)
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

    @staticmethod
    def _check_scope(tx: Tx, wanted: Mapping[str, Any]) -> None:
        """Who is shown a subnet pool must see the address scope it is in."""
        pool = subnets.get_pool(tx, wanted["object_id"]) if wanted["object_type"] == "subnetpool" else None
        scope = subnets.get_scope(tx, pool.address_scope_id) if pool is not None and pool.address_scope_id else None
        if scope is None or scope.shared or scope.project_id == wanted["target_tenant"]:
            return
        if not {EVERYBODY, wanted["target_tenant"]} & rbac.targets(tx, scope.id, ACCESS_SHARED):
            raise errors.InvalidInput(
                reason=f"Cannot share the subnet pool with {wanted['target_tenant']}, which does not see its address scope"
            )

    def _mark(self, tx: Tx, policy: RbacPolicy) -> None:
        """What the network's own row says of its policies: shared with all, external for anybody."""
        if policy.object_type != "network":
            return
        shared = EVERYBODY in rbac.targets(tx, policy.object_id, ACCESS_SHARED)
        external = bool(rbac.targets(tx, policy.object_id, ACCESS_EXTERNAL))
        networks.change(tx, policy.object_id, {"shared": shared, "external": external}, self._means.clock.now())

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
                self._mark(tx, after)
        return after

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            policy = rbac.get(tx, id, viewer)
            if policy is None:
                raise errors.RbacPolicyNotFound(id=id)
            self._check_idle(tx, policy, but=set())
            rbac.remove(tx, id)
            self._mark(tx, policy)

    @staticmethod
    def _check_idle(tx: Tx, policy: RbacPolicy, *, but: set[str]) -> None:
        """Whoever uses what is shown to him must be shown it by another policy, or it stays."""
        about = rbac.object_of(tx, policy.object_type, policy.object_id)
        if about is None or EVERYBODY in but:
            return
        others = rbac.targets(tx, policy.object_id, policy.action) - {policy.target_project}
        if EVERYBODY in others:
            return
        network = networks.get(tx, policy.object_id) if policy.action == ACCESS_EXTERNAL else None
        if network is not None and network.is_default and policy.target_project == EVERYBODY:
            raise errors.RbacPolicyInUse(object_id=policy.object_id, details="it is the default external network")
        stranded = rbac.users(tx, policy, about["project_id"]) - others - but
        if stranded:
            raise errors.RbacPolicyInUse(object_id=policy.object_id, details=f"{len(stranded)} other project(s) use it")
