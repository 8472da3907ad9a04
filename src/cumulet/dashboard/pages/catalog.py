"""Lists to look at: images, volumes."""

from starlette.responses import Response

from cumulet.dashboard.client import IMAGE, VOLUME
from cumulet.dashboard.visit import Visit

__all__ = ["list_images", "list_volumes"]

SHOWN_MAX = 200


async def list_images(visit: Visit) -> Response:
    found = await visit.api.get(f"{IMAGE}/images", limit=str(SHOWN_MAX), sort="name:asc")
    return visit.page("images.html", here="images", images=found["images"], more="next" in found)


async def list_volumes(visit: Visit) -> Response:
    found = await visit.api.get(f"{VOLUME}/volumes/detail", limit=str(SHOWN_MAX))
    return visit.page("volumes.html", here="volumes", volumes=found["volumes"], more=bool(found.get("volumes_links")))
