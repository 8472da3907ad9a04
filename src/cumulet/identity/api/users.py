"""/v3/users and /v3/groups."""

from collections.abc import Generator
from typing import Any

from cumulet.core.errors import BadRequest
from cumulet.core.web import PUBLIC, Call, Delete, Get, Patch, Post, Put
from cumulet.identity.api.collection import collected, flag, in_own_domain, links, page, where
from cumulet.identity.api.judge import changes, judge, need
from cumulet.identity.api.projects import project_view
from cumulet.identity.records import Group, User
from cumulet.identity.resources import GROUP, PASSWORD, USER, show

__all__ = ["ROUTES"]

Work = Generator[Any, Any, Any]


def user_view(call: Call, user: User) -> dict[str, Any]:
    more: dict[str, Any] = {"links": links(call, f"/v3/users/{user.id}")}
    if user.default_project_id is not None:
        more["default_project_id"] = user.default_project_id
    return show(call, USER, user, **more)


def group_view(call: Call, group: Group) -> dict[str, Any]:
    return show(call, GROUP, group, links=links(call, f"/v3/groups/{group.id}"))


def list_users(call: Call) -> dict[str, Any]:
    judge(call, "list_users", domain_id=call.context.domain_id)
    chosen = where(call, "name", "domain_id", "default_project_id", flags=("enabled",))
    return page(call, "users", User, user_view, path="/v3/users", **in_own_domain(call, chosen))


def create_user(call: Call) -> Work:
    judge(call, "create_user", user={"domain_id": call.body.get("domain_id")})
    user = yield from call.service.users.create(_with_domain(call))
    return {"user": user_view(call, user)}


def show_user(call: Call, user_id: str) -> dict[str, Any]:
    return {"user": user_view(call, need(call, "get_user", User, user_id, word="user"))}


def update_user(call: Call, user_id: str) -> Work:
    need(call, "update_user", User, user_id, word="user")
    user = yield from call.service.users.update(user_id, changes(call, user_id))
    return {"user": user_view(call, user)}


def delete_user(call: Call, user_id: str) -> None:
    need(call, "delete_user", User, user_id, word="user")
    call.service.users.delete(user_id)


def change_password(call: Call, user_id: str) -> Work:
    """Needs the password, not a token: one that has expired can still be changed."""
    given = call.body["user"]
    yield from call.service.users.change_password(user_id, given["original_password"], given["password"])


def list_user_groups(call: Call, user_id: str) -> dict[str, Any]:
    need(call, "list_groups_for_user", User, user_id, word="user", path_user_id=user_id)
    groups = call.service.users.groups(user_id)
    name, own = call.one("name"), call.context.domain_id
    kept = [group for group in groups if name in {None, group.name} and own in {None, group.domain_id}]
    return collected(call, "groups", kept, group_view)


def list_user_projects(call: Call, user_id: str) -> dict[str, Any]:
    need(call, "list_user_projects", User, user_id, word="user")
    enabled, name, domain_id = flag(call, "enabled"), call.one("name"), call.one("domain_id")
    kept = [
        project
        for project in call.service.assignments.projects_of(user_id)
        if enabled in {None, project.enabled}
        and name in {None, project.name}
        and domain_id in {None, project.domain_id}
    ]
    return collected(call, "projects", kept, project_view)


def list_groups(call: Call) -> dict[str, Any]:
    own = call.context.domain_id
    judge(call, "list_groups", group=None if own is None else {"domain_id": own})
    chosen = where(call, "name", "domain_id")
    return page(call, "groups", Group, group_view, path="/v3/groups", **in_own_domain(call, chosen))


def create_group(call: Call) -> dict[str, Any]:
    judge(call, "create_group", group={"domain_id": call.body.get("domain_id")})
    return {"group": group_view(call, call.service.groups.create(_with_domain(call)))}


def show_group(call: Call, group_id: str) -> dict[str, Any]:
    return {"group": group_view(call, need(call, "get_group", Group, group_id, word="group"))}


def update_group(call: Call, group_id: str) -> dict[str, Any]:
    need(call, "update_group", Group, group_id, word="group")
    return {"group": group_view(call, call.service.groups.update(group_id, changes(call, group_id)))}


def delete_group(call: Call, group_id: str) -> None:
    judge(call, "delete_group", group=call.service.groups.group(group_id))
    call.service.groups.delete(group_id)


def list_members(call: Call, group_id: str) -> dict[str, Any]:
    need(call, "list_users_in_group", Group, group_id, word="group")
    enabled, name, own = flag(call, "enabled"), call.one("name"), call.context.domain_id
    kept = [
        user
        for user in call.service.groups.members(group_id)
        if enabled in {None, user.enabled} and name in {None, user.name} and own in {None, user.domain_id}
    ]
    return collected(call, "users", kept, user_view)


def add_member(call: Call, group_id: str, user_id: str) -> None:
    _both(call, "add_user_to_group", group_id, user_id)
    call.service.groups.add(group_id, user_id)


def check_member(call: Call, group_id: str, user_id: str) -> None:
    _both(call, "check_user_in_group", group_id, user_id)
    call.service.groups.check(group_id, user_id)


def remove_member(call: Call, group_id: str, user_id: str) -> None:
    _both(call, "remove_user_from_group", group_id, user_id)
    call.service.groups.remove(group_id, user_id)


def _both(call: Call, rule: str, group_id: str, user_id: str) -> None:
    realm = call.service.realm
    groups, users = realm.find(Group, id=group_id), realm.find(User, id=user_id)
    judge(call, rule, group=groups[0] if groups else None, user=users[0] if users else None)


def _with_domain(call: Call) -> dict[str, Any]:
    """The attributes of a new user or group; without a domain, the caller's."""
    given = dict(call.body)
    if not given.get("domain_id"):
        own = call.context.domain_id or call.context.project_domain_id
        if own is None and call.context.system_scope is None:
            msg = "Expecting to find domain_id."
            raise BadRequest(msg)
        given["domain_id"] = own or "default"
    return given


_MEMBER = "/v3/groups/{group_id}/users/{user_id}"

ROUTES = [
    Get("/v3/users", list_users, may="identity:list_users"),
    Post("/v3/users", create_user, may="identity:create_user", takes=USER),
    Get("/v3/users/{user_id}", show_user, may="identity:get_user"),
    Patch("/v3/users/{user_id}", update_user, may="identity:update_user", takes=USER),
    Delete("/v3/users/{user_id}", delete_user, may="identity:delete_user"),
    Post("/v3/users/{user_id}/password", change_password, may=PUBLIC, takes=PASSWORD, status=204),
    Get("/v3/users/{user_id}/groups", list_user_groups, may="identity:list_groups_for_user"),
    Get("/v3/users/{user_id}/projects", list_user_projects, may="identity:list_user_projects"),
    Get("/v3/groups", list_groups, may="identity:list_groups"),
    Post("/v3/groups", create_group, may="identity:create_group", takes=GROUP),
    Get("/v3/groups/{group_id}", show_group, may="identity:get_group"),
    Patch("/v3/groups/{group_id}", update_group, may="identity:update_group", takes=GROUP),
    Delete("/v3/groups/{group_id}", delete_group, may="identity:delete_group"),
    Get("/v3/groups/{group_id}/users", list_members, may="identity:list_users_in_group"),
    Put(_MEMBER, add_member, may="identity:add_user_to_group", body="none", status=204),
    Get(_MEMBER, check_member, may="identity:check_user_in_group", status=204),
    Delete(_MEMBER, remove_member, may="identity:remove_user_from_group"),
]
