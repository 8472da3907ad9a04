"""A server's root disk becomes an image: a flat copy made on the host, uploaded through the image service's gate."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from cumulet.compute.door import HostTools, Server
from cumulet.core.errors import NotFound
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.work import Slow

__all__ = ["SNAPSHOT", "SnapshotRequest"]


class SnapshotRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The image was created (queued) when the request was answered; its id is the action's answer."""

    image_id: str


def copy(run: Run) -> Generator[Any, Any, None]:
    """A flat qcow2 of the root disk, whose format is a fact of ours and never probed."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    yield Slow("devices", tools.snapshot_to, (server, run.input(SnapshotRequest).image_id))


def remove_copy(run: Run) -> Generator[Any, Any, None]:
    """Remove the copy and the image that was to be; a copying whose caller has died ends first."""
    tools: HostTools = run.tools
    image_id = run.input(SnapshotRequest).image_id
    yield Slow("devices", tools.hypervisor.stop_copying, (run.subject_id,))
    tools.instances.snapshot_path(image_id).unlink(missing_ok=True)
    try:
        tools.image.delete(tools.own(run), image_id)
    except NotFound:  # gone already: an undo may run twice
        return


def upload(run: Run) -> Generator[Any, Any, None]:
    """Send the copy to the image service, and remove it here."""
    tools: HostTools = run.tools
    image_id = run.input(SnapshotRequest).image_id
    path: Path = tools.instances.snapshot_path(image_id)
    yield Slow("devices", tools.image.upload, (tools.credentials(run), image_id, path))
    path.unlink(missing_ok=True)


SNAPSHOT = Flow(
    name="snapshot",
    action="createImage",
    input=SnapshotRequest,
    steps=(
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
