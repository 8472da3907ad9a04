"""A copy of one of a server's volumes, for the volume service: made on the server's host, beside whatever the server does.

It moves nothing of the server's record.  The host does one thing at a time with a server, so a start, a stop or a detach that comes
meanwhile takes its turn.
"""

from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import HostTools, Server
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.work import Slow

__all__ = ["VOLUME_COPY", "VolumeCopyRequest"]


class VolumeCopyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """copy_id: what the volume service knows the copy by; file: its name beside the volume's own file."""

    copy_id: str
    volume_id: str
    file: str


def copy_volume(run: Run) -> Generator[Any, Any, None]:
    """Copy the disk; begun anew when it is repeated."""
    tools: HostTools = run.tools
    request = run.input(VolumeCopyRequest)
    yield Slow("devices", tools.copy_volume, (run.subject_as(Server), request.volume_id, request.file))


def drop_copy(run: Run) -> Generator[Any, Any, None]:
    """End the copying, wherever it is, and remove its file."""
    tools: HostTools = run.tools
    request, server = run.input(VolumeCopyRequest), run.subject_as(Server)
    if any(device.volume_id == request.volume_id for device in server.block_devices):  # else it was never begun
        yield Slow("devices", tools.drop_volume_copy, (server, request.volume_id, request.file))


VOLUME_COPY = Flow(
    name="volume_copy",
    action="volume_copy",
    input=VolumeCopyRequest,
    steps=(
        Step(
            name="copy_volume",
            where="host",
            what="copy a volume's disk",
            do=copy_volume,
            undo=drop_copy,
            timeout_s=3600,
        ),
    ),
)
