"""/v3/projects: projects, their tree, their tags."""

from typing import Any

from cumulet.core.errors import BadRequest
from cumulet.core.web import Call, Delete, Get, Patch, Post, Put, Response
from cumulet.identity.api.collection import flag, in_own_domain, links, page, where
from cumulet.identity.api.judge import changes, judge, need
from cumulet.identity.records import Limit, Project
from cumulet.identity.resources import PROJECT, TAGS, show
from cumulet.identity.service.projects import TAGS_MAX
from cumulet.identity.service.realm import missing

__all__ = ["ROUTES", "project_view"]

TAG_MAX = 255


def project_view(call: Call, project: Project) -> dict[str, Any]:
    return show(call, PROJECT, project, links=links(call, f"/v3/projects/{project.id}"))


def list_projects(call: Call) -> dict[str, Any]:
    judge(call, "list_projects", domain_id=call.context.domain_id)
    chosen = where(call, "name", "parent_id", "domain_id", flags=("enabled", "is_domain"))
    chosen.setdefault("is_domain", False)
    return page(
        call, "projects", Project, project_view, keep=tag_test(call), path="/v3/projects", **in_own_domain(call, chosen)
    )


def create_project(call: Call) -> dict[str, Any]:
    judge(call, "create_project", project={"domain_id": call.body.get("domain_id")})
    default = call.context.domain_id or call.context.project_domain_id or "default"
    made = call.service.projects.create(call.body, default_domain_id=default)
    return {"project": project_view(call, made)}


def show_project(call: Call, project_id: str) -> dict[str, Any]:
    project = need(call, "get_project", Project, project_id, word="project")
    return {"project": project_view(call, project) | _relatives(call, project)}


def update_project(call: Call, project_id: str) -> dict[str, Any]:
    need(call, "update_project", Project, project_id, word="project")
    return {"project": project_view(call, call.service.projects.update(project_id, changes(call, project_id)))}


def delete_project(call: Call, project_id: str) -> None:
    need(call, "delete_project", Project, project_id, word="project")
    call.service.projects.delete(project_id)


def _relatives(call: Call, project: Project) -> dict[str, Any]:
    """What lies above and below, as lists or as ids, where the query asks for it."""
    asked = {
        name: flag_without_value(call, name)
        for name in ("parents_as_list", "parents_as_ids", "subtree_as_list", "subtree_as_ids")
    }
    for side in ("parents", "subtree"):
        if asked[f"{side}_as_list"] and asked[f"{side}_as_ids"]:
            msg = f"Cannot use {side}_as_list and {side}_as_ids query params at the same time."
            raise BadRequest(msg)
    found: dict[str, Any] = {}
    if asked["parents_as_list"] or asked["parents_as_ids"]:
        above = call.service.projects.ancestors(project)
        if asked["parents_as_ids"]:
            chain: Any = None
            for ancestor in reversed(above):
                chain = {ancestor.id: chain}
            found["parents"] = chain
        else:
            found["parents"] = _visible(call, [ancestor for ancestor in above if not ancestor.is_domain])
    if asked["subtree_as_list"] or asked["subtree_as_ids"]:
        below = call.service.projects.subtree(project)
        found["subtree"] = _ids_below(project.id, below) if asked["subtree_as_ids"] else _visible(call, below)
    if flag_without_value(call, "include_limits"):
        limits = call.service.realm.find(Limit, project_id=project.id)
        found["limits"] = [{"id": limit.id, "resource_limit": limit.resource_limit} for limit in limits]
    return found


def flag_without_value(call: Call, name: str) -> bool:
    """A query key that counts when it is just there."""
    return bool(flag(call, name)) if call.one(name) else name in call.query


def _visible(call: Call, projects: list[Project]) -> list[dict[str, Any]]:
    """The projects among them on which the caller has a role."""
    own = {project.id for project in call.service.assignments.projects_of(call.context.user_id)}
    return [{"project": project_view(call, project)} for project in projects if project.id in own]


def _ids_below(project_id: str, below: list[Project]) -> dict[str, Any] | None:
    children = [project for project in below if project.parent_id == project_id]
    return {child.id: _ids_below(child.id, below) for child in children} or None


def tag_test(call: Call) -> Any:
    """The query's tag filters as one test; None without any."""
    tests = {
        name: set((call.one(name) or "").split(","))
        for name in ("tags", "tags-any", "not-tags", "not-tags-any")
        if call.one(name)
    }
    if not tests:
        return None

    def keep(project: Project) -> bool:
        tags = set(project.tags)
        return (
            ("tags" not in tests or tests["tags"] <= tags)
            and ("tags-any" not in tests or bool(tests["tags-any"] & tags))
            and ("not-tags" not in tests or not tests["not-tags"] <= tags)
            and ("not-tags-any" not in tests or not tests["not-tags-any"] & tags)
        )

    return keep


def list_tags(call: Call, project_id: str) -> dict[str, Any]:
    project = need(call, "list_project_tags", Project, project_id, word="project")
    return {"tags": project.tags, "links": links(call, f"/v3/projects/{project_id}/tags")}


def set_tags(call: Call, project_id: str) -> dict[str, Any]:
    need(call, "update_project_tags", Project, project_id, word="project")
    tags = call.service.projects.set_tags(project_id, call.body["tags"])
    return {"tags": tags, "links": links(call, f"/v3/projects/{project_id}/tags")}


def delete_tags(call: Call, project_id: str) -> None:
    need(call, "delete_project_tags", Project, project_id, word="project")
    call.service.projects.set_tags(project_id, [])


def check_tag(call: Call, project_id: str, tag: str) -> None:
    project = need(call, "get_project_tag", Project, project_id, word="project")
    if tag not in project.tags:
        raise missing("project tag", tag)


def add_tag(call: Call, project_id: str, tag: str) -> Response:
    need(call, "create_project_tag", Project, project_id, word="project")
    if len(tag) > TAG_MAX or not tag or "," in tag or "/" in tag:
        msg = f"A tag has 1 to {TAG_MAX} characters and no comma or slash; a project has at most {TAGS_MAX}."
        raise BadRequest(msg)
    call.service.projects.add_tag(project_id, tag)
    return Response(201, None, {"Location": call.url(call.request.path)})


def remove_tag(call: Call, project_id: str, tag: str) -> None:
    need(call, "delete_project_tag", Project, project_id, word="project")
    call.service.projects.remove_tag(project_id, tag)


ROUTES = [
    Get("/v3/projects", list_projects, may="identity:list_projects"),
    Post("/v3/projects", create_project, may="identity:create_project", takes=PROJECT),
    Get("/v3/projects/{project_id}", show_project, may="identity:get_project"),
    Patch("/v3/projects/{project_id}", update_project, may="identity:update_project", takes=PROJECT),
    Delete("/v3/projects/{project_id}", delete_project, may="identity:delete_project"),
    Get("/v3/projects/{project_id}/tags", list_tags, may="identity:list_project_tags"),
    Put("/v3/projects/{project_id}/tags", set_tags, may="identity:update_project_tags", takes=TAGS),
    Delete("/v3/projects/{project_id}/tags", delete_tags, may="identity:delete_project_tags"),
    Get("/v3/projects/{project_id}/tags/{tag}", check_tag, may="identity:get_project_tag", status=204),
    Put("/v3/projects/{project_id}/tags/{tag}", add_tag, may="identity:create_project_tag", body="none"),
    Delete("/v3/projects/{project_id}/tags/{tag}", remove_tag, may="identity:delete_project_tag"),
]
