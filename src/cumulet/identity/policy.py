"""Who may do what in identity: the reference's policy names and current defaults.

Most rules look at the thing acted upon (`target.user.domain_id`, …), so the row's first look asks: could the caller
do this to something of its own?  The handler then asks again about the thing found, with `judge`.  A caller is a
*domain* persona when its token is scoped to that domain; `token.domain.id` of the reference is `domain_id` here.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cumulet.core.context import Context
from cumulet.core.errors import Forbidden
from cumulet.core.policy import Policy, Rule

__all__ = ["DEFERRED", "RULES", "IdentityPolicy"]

ADMIN = "rule:admin_required"
SYSTEM_READER = "(role:reader and system_scope:all)"
READER = f"{ADMIN} or {SYSTEM_READER}"
OWNER = "user_id:%(user_id)s"


def _in_domain(role: str, *things: str) -> str:
    return "(" + " and ".join([f"role:{role}", *(f"domain_id:%(target.{thing})s" for thing in things)]) + ")"


def _grant(role: str) -> str:
    """A persona of the domain that owns both the actor and the target."""
    pairs = [
        (actor, target)
        for actor in ("user.domain_id", "group.domain_id")
        for target in ("project.domain_id", "domain.id")
    ]
    return "(" + " or ".join(_in_domain(role, *pair) for pair in pairs) + ")"


_OWN_PROJECT_DOMAIN = "domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s"
_PROJECT_MANAGER = f"{ADMIN} or (role:manager and {_OWN_PROJECT_DOMAIN})"
_PROJECT_READER = f"{READER} or (role:reader and {_OWN_PROJECT_DOMAIN}) or project_id:%(target.project.id)s"
_USER_MANAGER = f"{ADMIN} or {_in_domain('manager', 'user.domain_id')}"
_GROUP_MANAGER = f"{ADMIN} or {_in_domain('manager', 'group.domain_id')}"
_GROUP_READER = f"{READER} or {_in_domain('reader', 'group.domain_id')}"
_DOMAIN_LISTER = f"{READER} or {_in_domain('reader', 'domain_id')}"
_ROLE_OF_DOMAIN = "(domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)"
_GRANTER = (
    f"{ADMIN} or {_grant('admin')} and {_ROLE_OF_DOMAIN} or {_grant('manager')} and rule:domain_managed_target_role"
)
_TRUST_PARTY = f"{READER} or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s"
_CREDENTIAL_OWNER = "user_id:%(target.credential.user_id)s"

ANY_SCOPE = ("system", "domain", "project")
NO_DOMAIN = ("system", "project")
PROJECT = ("project",)


def _rules(check: str, scope: tuple[str, ...], names: str) -> list[Rule]:
    return [Rule(f"identity:{name}", check, scope) for name in names.split()]


_NAMED = [
    Rule("admin_required", "role:admin or is_admin:1"),
    Rule("service_role", "role:service"),
    Rule("service_or_admin", "rule:admin_required or rule:service_role"),
    Rule("owner", OWNER),
    Rule("admin_or_owner", "rule:admin_required or rule:owner"),
    Rule("token_subject", "user_id:%(target.token.user_id)s"),
    Rule("admin_or_token_subject", "rule:admin_required or rule:token_subject"),
    Rule("service_admin_or_token_subject", "rule:service_or_admin or rule:token_subject"),
    Rule(
        "domain_managed_target_role",
        "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s",
    ),
]

RULES: list[Rule] = [
    *_NAMED,
    # tokens
    *_rules(
        "",
        (),
        "get_auth_catalog get_auth_projects get_auth_domains get_auth_system list_projects_for_user "
        "list_domains_for_user",
    ),
    *_rules(f"{READER} or rule:token_subject", ANY_SCOPE, "check_token"),
    *_rules(f"{READER} or rule:service_role or rule:token_subject", ANY_SCOPE, "validate_token"),
    *_rules(f"{ADMIN} or rule:token_subject", ANY_SCOPE, "revoke_token"),
    # the record of a token's issue is of this cloud alone; the launch's trace is joined with it
    *_rules("rule:service_or_admin or rule:token_subject", ANY_SCOPE, "get_token_issue"),
    # domains, projects
    *_rules(
        f"{READER} or domain_id:%(target.domain.id)s or project_domain_id:%(target.domain.id)s", ANY_SCOPE, "get_domain"
    ),
    *_rules(f"{READER} or {_in_domain('reader', 'domain.id')}", ANY_SCOPE, "list_domains"),
    *_rules(ADMIN, NO_DOMAIN, "create_domain update_domain delete_domain"),
    *_rules(ADMIN, NO_DOMAIN, "create_domain_config update_domain_config delete_domain_config"),
    *_rules(READER, NO_DOMAIN, "get_domain_config get_domain_config_default"),
    *_rules("", ANY_SCOPE, "get_security_compliance_domain_config"),
    *_rules(_PROJECT_READER, ANY_SCOPE, "get_project list_project_tags get_project_tag"),
    *_rules(_DOMAIN_LISTER, ANY_SCOPE, "list_projects list_users list_role_assignments list_role_assignments_for_tree"),
    *_rules(
        f"{READER} or {_in_domain('reader', 'user.domain_id')} or user_id:%(target.user.id)s",
        ANY_SCOPE,
        "list_user_projects get_user",
    ),
    *_rules(
        _PROJECT_MANAGER,
        ANY_SCOPE,
        "create_project update_project delete_project update_project_tags create_project_tag "
        "delete_project_tags delete_project_tag",
    ),
    # users, groups
    *_rules(_USER_MANAGER, ANY_SCOPE, "create_user update_user delete_user"),
    *_rules(_GROUP_READER, ANY_SCOPE, "get_group list_groups list_users_in_group"),
    *_rules(f"{READER} or {_in_domain('reader', 'user.domain_id')} or {OWNER}", ANY_SCOPE, "list_groups_for_user"),
    *_rules(_GROUP_MANAGER, ANY_SCOPE, "create_group update_group delete_group"),
    *_rules(
        f"{ADMIN} or {_in_domain('manager', 'group.domain_id', 'user.domain_id')}",
        ANY_SCOPE,
        "add_user_to_group remove_user_from_group",
    ),
    *_rules(
        f"{READER} or {_in_domain('reader', 'group.domain_id', 'user.domain_id')}", ANY_SCOPE, "check_user_in_group"
    ),
    # roles, assignments
    *_rules(f"({READER}) or (role:manager and rule:domain_managed_target_role)", ANY_SCOPE, "get_role"),
    *_rules(f"({READER}) or (role:manager and not domain_id:None)", ANY_SCOPE, "list_roles"),
    *_rules(
        ADMIN, NO_DOMAIN, "create_role update_role delete_role create_domain_role update_domain_role delete_domain_role"
    ),
    *_rules(READER, NO_DOMAIN, "get_domain_role list_domain_roles"),
    *_rules(READER, NO_DOMAIN, "get_implied_role list_implied_roles list_role_inference_rules check_implied_role"),
    *_rules(ADMIN, NO_DOMAIN, "create_implied_role delete_implied_role"),
    *_rules(f"{ADMIN} or ({SYSTEM_READER} or {_grant('reader')} and {_ROLE_OF_DOMAIN})", ANY_SCOPE, "check_grant"),
    *_rules(f"{READER} or {_grant('reader')}", ANY_SCOPE, "list_grants"),
    *_rules(_GRANTER, ANY_SCOPE, "create_grant revoke_grant"),
    *_rules(
        READER,
        NO_DOMAIN,
        "list_system_grants_for_user check_system_grant_for_user list_system_grants_for_group "
        "check_system_grant_for_group",
    ),
    *_rules(
        ADMIN,
        NO_DOMAIN,
        "create_system_grant_for_user revoke_system_grant_for_user create_system_grant_for_group "
        "revoke_system_grant_for_group",
    ),
    # delegation
    *_rules(f"{READER} or rule:owner", NO_DOMAIN, "get_application_credential list_application_credentials"),
    *_rules(OWNER, PROJECT, "create_application_credential"),
    *_rules("rule:admin_or_owner", NO_DOMAIN, "delete_application_credential"),
    *_rules(f"{SYSTEM_READER} or user_id:%(target.user.id)s", NO_DOMAIN, "get_access_rule list_access_rules"),
    *_rules("(role:admin and system_scope:all) or user_id:%(target.user.id)s", NO_DOMAIN, "delete_access_rule"),
    *_rules("user_id:%(target.trust.trustor_user_id)s", PROJECT, "create_trust"),
    *_rules(READER, NO_DOMAIN, "list_trusts"),
    *_rules(f"{READER} or user_id:%(target.trust.trustor_user_id)s", NO_DOMAIN, "list_trusts_for_trustor"),
    *_rules(f"{READER} or user_id:%(target.trust.trustee_user_id)s", NO_DOMAIN, "list_trusts_for_trustee"),
    *_rules(_TRUST_PARTY, NO_DOMAIN, "list_roles_for_trust get_role_for_trust get_trust"),
    *_rules(f"{ADMIN} or user_id:%(target.trust.trustor_user_id)s", NO_DOMAIN, "delete_trust"),
    *_rules(f"{READER} or {_CREDENTIAL_OWNER}", ANY_SCOPE, "get_credential list_credentials"),
    *_rules(f"{ADMIN} or {_CREDENTIAL_OWNER}", ANY_SCOPE, "create_credential update_credential delete_credential"),
    *_rules(f"{READER} or {_CREDENTIAL_OWNER}", NO_DOMAIN, "ec2_get_credential"),
    *_rules(f"{READER} or rule:owner", NO_DOMAIN, "ec2_list_credentials"),
    *_rules(
        f"{ADMIN} or (role:member and {_CREDENTIAL_OWNER})", NO_DOMAIN, "ec2_create_credential ec2_delete_credential"
    ),
    # catalogue
    *_rules("", ANY_SCOPE, "get_region list_regions"),
    *_rules(READER, NO_DOMAIN, "get_service list_services get_endpoint list_endpoints"),
    *_rules(ADMIN, NO_DOMAIN, "create_region update_region delete_region create_service update_service delete_service"),
    *_rules(ADMIN, NO_DOMAIN, "create_endpoint update_endpoint delete_endpoint"),
    *_rules(
        READER,
        NO_DOMAIN,
        "list_endpoint_groups get_endpoint_group list_projects_associated_with_endpoint_group "
        "list_endpoints_associated_with_endpoint_group get_endpoint_group_in_project list_endpoint_groups_for_project "
        "list_projects_for_endpoint check_endpoint_in_project list_endpoints_for_project",
    ),
    *_rules(
        ADMIN,
        NO_DOMAIN,
        "create_endpoint_group update_endpoint_group delete_endpoint_group add_endpoint_group_to_project "
        "remove_endpoint_group_from_project add_endpoint_to_project remove_endpoint_from_project",
    ),
    # the rest
    *_rules(READER, NO_DOMAIN, "get_policy list_policies get_consumer list_consumers"),
    *_rules(
        ADMIN, NO_DOMAIN, "create_policy update_policy delete_policy create_consumer update_consumer delete_consumer"
    ),
    *_rules("", ANY_SCOPE, "get_limit_model list_limits get_registered_limit list_registered_limits"),
    *_rules(
        f"{READER} or (domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s) or "
        "(project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)",
        ANY_SCOPE,
        "get_limit",
    ),
    *_rules(
        ADMIN,
        NO_DOMAIN,
        "create_limits update_limit delete_limit create_registered_limits update_registered_limit "
        "delete_registered_limit",
    ),
]

#: rules of rows whose handler looks for the thing first: one that is not there is 404 to everybody, as in the reference
DEFERRED = frozenset(
    f"identity:{name}"
    for name in (
        "update_domain",
        "delete_domain",
        "delete_group",
        "get_role",
        "update_role",
        "delete_role",
        "ec2_get_credential",
        "ec2_delete_credential",
    )
)

_TARGETS = re.compile(r"%\(([\w.]+)\)s")


class IdentityPolicy(Policy):
    """The rules of identity, with targets that have parts."""

    def __init__(self, rules: Iterable[Rule] = RULES, *, overrides: Path | None = None) -> None:
        super().__init__(rules, overrides=overrides)

    def enforce(self, name: str, context: Context, target: Mapping[str, Any]) -> None:
        if not self.allows(name, context, target):
            msg = f"You are not authorized to perform the requested action: {name}."
            raise Forbidden(msg)

    def enforce_route(self, name: str, context: Context) -> None:
        """Raise Forbidden unless the caller could do this to something of its own."""
        if name in DEFERRED:
            return
        own: dict[str, Any] = {"target.role.name": "member", "target.role.domain_id": None}
        for key in _KEYS:
            if key.endswith(("domain_id", "domain.id")) and "role" not in key:
                own[key] = context.domain_id or (context.project_domain_id if key == "target.domain.id" else None)
            elif key.endswith(("user_id", "user.id")):
                own[key] = context.user_id
            elif key.endswith(("project_id", "project.id")):
                own[key] = context.project_id
        keep = {key: value for key, value in own.items() if value is not None or key == "target.role.domain_id"}
        self.enforce(name, context, keep)

    @staticmethod
    def _scope(context: Context) -> str:
        """An unscoped token passes where a project's would, as in the reference: its holder may look at itself."""
        if context.system_scope:
            return "system"
        return "domain" if context.domain_id else "project"


_KEYS = frozenset(key for rule in RULES for key in _TARGETS.findall(rule.check))
