"""How a handler comes to the image that its path names: as the caller sees it, or not at all."""

from cumulet.core.web import Call
from cumulet.image.records import Sight, Viewer

__all__ = ["seen", "viewer_of"]


def viewer_of(call: Call) -> Viewer:
    return Viewer(call.context.project_id, call.context.is_admin)


def seen(call: Call, id: str) -> Sight:
    """Raises ImageNotFound for what the caller may not even know of."""
    sight: Sight = call.service.seen(viewer_of(call), id)
    return sight
