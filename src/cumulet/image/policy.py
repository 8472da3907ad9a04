"""The image service's rules, by the reference's names and defaults; `get_image_location` is for services alone."""

from cumulet.core.policy import Rule

__all__ = ["RULES"]

_ADMIN = "role:admin"
_MEMBER = "role:admin or (role:member and project_id:%(project_id)s)"
_READER = "role:admin or (role:reader and project_id:%(project_id)s)"
_SEEN = (
    "project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s"
    " or 'shared':%(visibility)s"
)
_SHARED_MEMBER = "role:admin or (role:member and project_id:%(member_id)s)"
_READER_OR_SHARED = "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))"

RULES = [
    Rule("add_image", _MEMBER),
    Rule("get_images", _READER),
    Rule("get_image", f"role:admin or (role:reader and ({_SEEN}))"),
    Rule("modify_image", _MEMBER),
    Rule("delete_image", _MEMBER),
    Rule("publicize_image", _ADMIN),
    Rule("communitize_image", _MEMBER),
    Rule("upload_image", _MEMBER),
    Rule("download_image", f"role:admin or (role:member and ({_SEEN}))"),
    Rule("deactivate", _MEMBER),
    Rule("reactivate", _MEMBER),
    Rule("get_image_location", "role:service or service_roles:service"),
    Rule("add_member", _MEMBER),
    Rule("delete_member", _MEMBER),
    Rule("get_member", _READER_OR_SHARED),
    Rule("get_members", _READER_OR_SHARED),
    Rule("modify_member", _SHARED_MEMBER),
    Rule("get_task", _READER),
    Rule("stores_info", "role:admin or role:reader"),
]
