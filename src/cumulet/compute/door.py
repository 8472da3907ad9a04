"""What others may use of the compute service: its records, a host's tools, its own doors, a host's queue and metadata ports.

The flows stand above the services: they import doors only.  Another service asks by `ComputeDoor`.
"""

from typing import Protocol

import msgspec

from cumulet.compute.agent.hypervisor.driver import Domain
from cumulet.compute.agent.hypervisor.image_cache import CachedImage
from cumulet.compute.agent.instances import DirectBoot
from cumulet.compute.agent.tools import HostTools
from cumulet.compute.agent.vif.driver import METADATA_ADDRESS, MetadataNamespaces, MetadataPort
from cumulet.compute.conductor.tools import ConductorTools
from cumulet.compute.messages import ComputeHost
from cumulet.compute.records import (
    BlockDevice,
    Fault,
    FixedAddress,
    FlavorSnapshot,
    Interface,
    KeySnapshot,
    NetworkRequest,
    SecurityGroupRef,
    Server,
)
from cumulet.compute.scheduler.messages import NoValidHostError, RefitRequest, Selected, SelectRequest
from cumulet.core.errors import NotFound
from cumulet.core.web.client import Client, Credentials, path

__all__ = [
    "METADATA_ADDRESS",
    "BlockDevice",
    "CachedImage",
    "ComputeDoor",
    "ComputeHost",
    "ComputeRest",
    "ConductorTools",
    "DirectBoot",
    "Domain",
    "Fault",
    "FixedAddress",
    "FlavorSnapshot",
    "HostTools",
    "Interface",
    "KeySnapshot",
    "MetadataNamespaces",
    "MetadataPort",
    "NetworkRequest",
    "NoValidHostError",
    "RefitRequest",
    "SecurityGroupRef",
    "SelectRequest",
    "Selected",
    "Server",
    "VolumeCopyInfo",
]


class VolumeCopyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of an attached volume.  status: copying, done, failed; message: why, in words for the volume's owner."""

    status: str
    message: str


class ComputeDoor(Protocol):
    """Servers, to another service."""

    def copy_volume(self, credentials: Credentials, server_id: str, copy_id: str, *, volume_id: str, file: str) -> None:
        """Begin to copy an attached volume into a new file beside its own; asked twice, once.  Raises NotFound, BadRequest,
        Conflict.
        """

    def volume_copy(self, credentials: Credentials, server_id: str, copy_id: str) -> VolumeCopyInfo | None:
        """How far a copy is; None where none was begun."""

    def stop_copying_volume(self, credentials: Credentials, server_id: str, copy_id: str) -> None:
        """Turn back a copy that is under way; a request for it that comes later is refused.  Raises NotFound for a server that is gone."""


class ComputeRest:
    """The door, by the API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def copy_volume(self, credentials: Credentials, server_id: str, copy_id: str, *, volume_id: str, file: str) -> None:
        body = {"copy": {"volume_id": volume_id, "file": file}}
        self._client.call("PUT", _copy(server_id, copy_id), credentials, json=body)

    def volume_copy(self, credentials: Credentials, server_id: str, copy_id: str) -> VolumeCopyInfo | None:
        try:
            document = self._client.call("GET", _copy(server_id, copy_id), credentials)
        except NotFound:
            return None
        return VolumeCopyInfo(status=document["copy"]["status"], message=document["copy"]["message"])

    def stop_copying_volume(self, credentials: Credentials, server_id: str, copy_id: str) -> None:
        self._client.call("DELETE", _copy(server_id, copy_id), credentials)


def _copy(server_id: str, copy_id: str) -> str:
    return path("v2.1", "servers", server_id, "volume-copies", copy_id)
