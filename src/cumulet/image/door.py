"""What other services may do with images: read one (with the place of its bytes), make one of a file, remove one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from cumulet.core.web.client import Client, Credentials, Served, path

__all__ = ["ImageDoor", "ImageInfo", "ImageRest"]

#: bytes per read of a file that is uploaded
CHUNK = 1 << 20


class ImageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An image.  Sizes are bytes, min_disk GiB, min_ram MiB; size is 0 before there is data."""

    id: str
    name: str
    status: str
    disk_format: str | None
    container_format: str | None
    size: int
    virtual_size: int | None
    checksum: str | None
    os_hash_value: str | None
    owner: str | None
    visibility: str
    min_disk: int
    min_ram: int
    properties: dict[str, str]
    #: `file:///…`, for callers with a service token only
    location: str | None
    tags: list[str]


class ImageDoor(Protocol):
    """Images, to another service."""

    def get(self, image_id: str, credentials: Credentials) -> ImageInfo:
        """An image that the caller may see.  Raises NotFound."""

    def get_with_location(self, image_id: str, credentials: Credentials) -> tuple[ImageInfo, Served]:
        """The same, with how long the image service took."""

    def queued_of(self, credentials: Credentials, server_id: str, *, owner: str) -> list[str]:
        """Ids of the owner's images without bytes that a server is to become."""

    def create(
        self,
        credentials: Credentials,
        *,
        name: str,
        disk_format: str,
        container_format: str = "bare",
        properties: dict[str, str],
        min_disk: int = 0,
        min_ram: int = 0,
        visibility: str = "private",
        owner: str | None = None,
        id: str | None = None,
    ) -> ImageInfo:
        """A queued image without data; `owner` differs from the caller's project for admins only.

        id: chosen before, so that it can be found again; an id that was ever used raises Conflict.
        """

    def upload(self, credentials: Credentials, image_id: str, path: Path) -> None:
        """Give a queued image the bytes of a file; returns when it is active.

        Raises the gate's refusal as RemoteError, Conflict when there is data already.
        """

    def set_properties(self, credentials: Credentials, image_id: str, properties: dict[str, str]) -> None:
        """Add properties to an image, or replace them.  Raises NotFound."""

    def activate_empty(self, credentials: Credentials, image_id: str) -> None:
        """Make a queued image, of format raw, active without a byte: it is there for its properties alone.

        Raises Conflict when there is data already.
        """

    def delete(self, credentials: Credentials, image_id: str) -> None:
        """Remove an image and its bytes.  Raises NotFound."""


class _FileStream:
    """A file as a request's body."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def chunks(self) -> Iterator[bytes]:
        with self._file.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                yield chunk


class ImageRest:
    """The door, by the public API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, image_id: str, credentials: Credentials) -> ImageInfo:
        return _info(self._client.call("GET", path("v2", "images", image_id), credentials))

    def get_with_location(self, image_id: str, credentials: Credentials) -> tuple[ImageInfo, Served]:
        document, served = self._client.timed("GET", path("v2", "images", image_id), credentials)
        return _info(document), served

    def queued_of(self, credentials: Credentials, server_id: str, *, owner: str) -> list[str]:
        query = {"instance_uuid": server_id, "owner": owner, "status": "queued"}
        return [image["id"] for image in self._client.call("GET", "/v2/images", credentials, query=query)["images"]]

    def create(
        self,
        credentials: Credentials,
        *,
        name: str,
        disk_format: str,
        container_format: str = "bare",
        properties: dict[str, str],
        min_disk: int = 0,
        min_ram: int = 0,
        visibility: str = "private",
        owner: str | None = None,
        id: str | None = None,
    ) -> ImageInfo:
        body = {
            **properties,
            "name": name,
            "disk_format": disk_format,
            "container_format": container_format,
            "min_disk": min_disk,
            "min_ram": min_ram,
            "visibility": visibility,
            **({} if owner is None else {"owner": owner}),
            **({} if id is None else {"id": id}),
        }
        return _info(self._client.call("POST", "/v2/images", credentials, json=body))

    def upload(self, credentials: Credentials, image_id: str, path: Path) -> None:
        headers = {"content-type": "application/octet-stream"}
        where = _file_of(image_id)
        self._client.send("PUT", where, credentials, headers=headers, stream=_FileStream(path))

    def set_properties(self, credentials: Credentials, image_id: str, properties: dict[str, str]) -> None:
        headers = {"content-type": "application/openstack-images-v2.1-json-patch"}
        steps = [{"op": "add", "path": f"/{name}", "value": value} for name, value in properties.items()]
        self._client.call("PATCH", path("v2", "images", image_id), credentials, headers=headers, json=steps)

    def activate_empty(self, credentials: Credentials, image_id: str) -> None:
        headers = {"content-type": "application/octet-stream"}
        self._client.send("PUT", _file_of(image_id), credentials, headers=headers)

    def delete(self, credentials: Credentials, image_id: str) -> None:
        self._client.call("DELETE", path("v2", "images", image_id), credentials)


def _file_of(image_id: str) -> str:
    return path("v2", "images", image_id, "file")


#: the keys of an image's document that are no free properties
_ATTRIBUTES = frozenset(
    {
        "id",
        "name",
        "status",
        "visibility",
        "protected",
        "os_hidden",
        "owner",
        "container_format",
        "disk_format",
        "min_disk",
        "min_ram",
        "tags",
        "size",
        "virtual_size",
        "checksum",
        "os_hash_algo",
        "os_hash_value",
        "created_at",
        "updated_at",
        "self",
        "file",
        "schema",
        "stores",
        "direct_url",
        "locations",
    }
)


def _info(document: dict[str, Any]) -> ImageInfo:
    known = {
        name: document[name]
        for name in ImageInfo.__struct_fields__
        if name in document and name not in {"properties", "location"}
    }
    return ImageInfo(
        **{**known, "name": document["name"] or "", "size": document["size"] or 0},
        properties={name: value for name, value in document.items() if name not in _ATTRIBUTES},
        location=document.get("direct_url"),
    )
