"""A server's root disk becomes an image: a flat copy made on the host, uploaded through the image service's gate."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from cumulet.compute.door import ConductorTools, HostTools, Server
from cumulet.core.errors import Conflict, NotFound
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.web.client import Credentials
from cumulet.core.work import Slow
from cumulet.image.door import ImageDoor

__all__ = ["OWN_IMAGE", "SNAPSHOT", "SnapshotRequest", "make_image"]


class SnapshotRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The image, whose id is the action's answer: chosen here, so that there is no image without a saga that owns it."""

    image_id: str
    name: str = ""
    disk_format: str = "qcow2"
    properties: dict[str, str] = {}
    min_disk: int = 0
    min_ram: int = 0


def make_image(
    image: ImageDoor, credentials: Credentials, request: SnapshotRequest, *, owner: str | None = None
) -> None:
    """The queued image.  The request makes it before it answers, the step makes sure of it: whoever is second finds it there."""
    with contextlib.suppress(Conflict):
        image.create(
            credentials,
            name=request.name,
            disk_format=request.disk_format,
            properties=request.properties,
            min_disk=request.min_disk,
            min_ram=request.min_ram,
            owner=owner,
            id=request.image_id,
        )


def own_image(run: Run) -> None:
    """The queued image, if the request did not come to it."""
    tools: ConductorTools = run.tools
    project_id = run.subject_as(Server).project_id
    make_image(tools.image, tools.own(run), run.input(SnapshotRequest), owner=project_id)


def give_up_image(run: Run) -> None:
    """Remove the image that was to be.  It is made first if it is not there: a used id is refused to a creation that comes late."""
    tools: ConductorTools = run.tools
    own_image(run)
    with contextlib.suppress(NotFound):  # gone already: an undo may run twice
        tools.image.delete(tools.own(run), run.input(SnapshotRequest).image_id)


#: begun with the saga itself: from the request's first moment on the image has an owner
OWN_IMAGE = Step(name="own_image", where="conductor", what="make the image", do=own_image, undo=give_up_image)


def copy(run: Run) -> Generator[Any, Any, None]:
    """A flat qcow2 of the root disk, whose format is a fact of ours and never probed."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    yield Slow("devices", tools.snapshot_to, (server, run.input(SnapshotRequest).image_id))


def remove_copy(run: Run) -> Generator[Any, Any, None]:
    """Remove the copy; a copying whose caller has died ends first."""
    tools: HostTools = run.tools
    yield Slow("devices", tools.hypervisor.stop_copying, (run.subject_id,))
    tools.instances.snapshot_path(run.input(SnapshotRequest).image_id).unlink(missing_ok=True)


def upload(run: Run) -> Generator[Any, Any, None]:
    """Send the copy to the image service, and remove it here."""
    tools: HostTools = run.tools
    image_id = run.input(SnapshotRequest).image_id
    path: Path = tools.instances.snapshot_path(image_id)
    if tools.image.get(image_id, tools.own(run)).status == "queued":  # else an earlier run of the step has done it
        yield Slow("devices", tools.image.upload, (tools.credentials(run), image_id, path))
    path.unlink(missing_ok=True)


SNAPSHOT = Flow(
    name="snapshot",
    action="createImage",
    input=SnapshotRequest,
    steps=(
        OWN_IMAGE,
        Step(
            name="copy_root",
            where="host",
            what="copy the root disk",
            do=copy,
            undo=remove_copy,
            stage="image_pending_upload",
            timeout_s=1800,
        ),
        Step(
            name="upload_image",
            where="host",
            what="upload the image",
            do=upload,
            undo=None,
            stage="image_uploading",
            timeout_s=1800,
        ),
    ),
)
