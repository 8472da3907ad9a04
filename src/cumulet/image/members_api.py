"""Routes for an image's members."""

from typing import Any

from cumulet.core.web import ANYONE, Call, Delete, Get, Post, Put, Response
from cumulet.image.records import MemberNotFound, Sight
from cumulet.image.resources import MEMBER, MEMBER_CREATE, MEMBER_UPDATE
from cumulet.image.sight import seen

__all__ = ["ROUTES"]


def _is_owners(call: Call, sight: Sight) -> bool:
    return call.context.is_admin or call.context.project_id == sight.image.owner


def list_members(call: Call, id: str) -> dict[str, Any]:
    """All of them for the owner; a member sees itself."""
    sight = seen(call, id)
    call.authorize("get_members", **sight.target)
    found = call.service.members.list(sight.image)
    if not _is_owners(call, sight):
        found = [member for member in found if member.member_id == call.context.project_id]
    return {"members": [MEMBER.view(member, call) for member in found], "schema": "/v2/schemas/members"}


def show_member(call: Call, id: str, member_id: str) -> dict[str, Any]:
    sight = seen(call, id)
    if member_id != call.context.project_id and not _is_owners(call, sight):
        raise MemberNotFound(member_id=member_id, id=id)
    call.authorize("get_member", **sight.target)
    return MEMBER.view(call.service.members.get(sight.image, member_id), call)


def add_member(call: Call, id: str) -> dict[str, Any]:
    sight = seen(call, id)
    call.authorize("add_member", **sight.target)
    return MEMBER.view(call.service.members.add(sight.image, call.body["member"]), call)


def update_member(call: Call, id: str, member_id: str) -> dict[str, Any]:
    """Only the member itself accepts or rejects."""
    sight = seen(call, id)
    if member_id != call.context.project_id and not _is_owners(call, sight):
        raise MemberNotFound(member_id=member_id, id=id)
    call.authorize("modify_member", **{**sight.target, "member_id": member_id})
    return MEMBER.view(call.service.members.set_status(sight.image, member_id, call.body["status"]), call)


def remove_member(call: Call, id: str, member_id: str) -> Response:
    sight = seen(call, id)
    call.authorize("delete_member", **sight.target)
    call.service.members.remove(sight.image, member_id)
    return Response(204)


ROUTES = [
    Get("/v2/images/{id}/members", list_members, may="get_members"),
    Post("/v2/images/{id}/members", add_member, may="add_member", takes=MEMBER_CREATE, status=200),
    Get("/v2/images/{id}/members/{member_id}", show_member, may="get_member"),
    # judged by the member alone, which `modify_member` names and a first look cannot know
    Put("/v2/images/{id}/members/{member_id}", update_member, may=ANYONE, takes=MEMBER_UPDATE),
    Delete("/v2/images/{id}/members/{member_id}", remove_member, may="delete_member"),
]
