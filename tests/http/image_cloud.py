"""An image service over a folder of its own, for the tests of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.http.harness import ApiClient, authenticate

from cumulet.core.clock import SystemClock
from cumulet.core.db import open_database
from cumulet.core.ids import SystemIds
from cumulet.core.web import App, Request
from cumulet.core.web.client import Client, LocalTransport
from cumulet.image import api
from cumulet.image.door import ImageRest
from cumulet.image.records import ImageConfig
from cumulet.image.service import ImageService
from cumulet.image.tables import METADATA

STREAM = {"content-type": "application/octet-stream"}
PATCH = {"content-type": "application/openstack-images-v2.1-json-patch"}


class Chunks:
    """A body that arrives in pieces, and may break off."""

    def __init__(self, *pieces: bytes, then: Exception | None = None) -> None:
        self._pieces = pieces
        self._then = then

    def chunks(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._then is not None:
            raise self._then


class ImageCloud:
    """The service, its application, a door to it, and a client for each caller."""

    def __init__(self, folder: Path, url: str | None = None, **config: Any) -> None:
        self.folder = folder / "images"
        self.clock, self.ids = SystemClock(), SystemIds()
        self.db = open_database(url or f"sqlite://{folder}", "image", METADATA)
        self.db.create()
        settings = ImageConfig(folder=self.folder, **config)
        self.service = ImageService(self.db, clock=self.clock, ids=self.ids, config=settings)
        self.app: App = api.application(self.service, authenticate=authenticate, clock=self.clock, ids=self.ids)
        self.door = ImageRest(Client("image", LocalTransport(self.app), self.clock))
        self.member, self.other, self.reader, self.admin = (
            ApiClient(self.app, name) for name in ("member", "other", "reader", "admin")
        )

    def create(self, client: ApiClient | None = None, **body: Any) -> str:
        """A queued image's id."""
        whole = {"name": "i", "disk_format": "raw", "container_format": "bare", "visibility": "private", **body}
        answer = (client or self.member).post("/v2/images", whole)
        assert answer.status == 201, answer.content
        return str(answer.json["id"])

    def active(self, content: bytes = b"data", client: ApiClient | None = None, **body: Any) -> str:
        """An active image's id."""
        image_id = self.create(client, **body)
        self.put(image_id, content, client)
        assert self.status(image_id) == "active"
        return image_id

    def put(self, image_id: str, content: bytes, client: ApiClient | None = None, where: str = "file") -> int:
        path = f"/v2/images/{image_id}/{where}"
        return (client or self.member).put(path, body=content, headers=dict(STREAM)).status

    def stream(self, image_id: str, body: Chunks) -> int:
        """Upload a body that arrives."""
        headers = {**STREAM, "x-auth-token": "member"}
        return self.app.handle(Request("PUT", f"/v2/images/{image_id}/file", headers=headers, stream=body)).status

    def patch(self, image_id: str, *steps: dict[str, Any], client: ApiClient | None = None) -> int:
        path = f"/v2/images/{image_id}"
        return (client or self.member).patch(path, list(steps), headers=dict(PATCH)).status

    def status(self, image_id: str) -> str:
        return str(self.admin.get(f"/v2/images/{image_id}").json["status"])

    def listed(self, query: str = "", client: ApiClient | None = None) -> list[str]:
        answer = (client or self.member).get(f"/v2/images?{query}")
        assert answer.status == 200, answer.content
        return [image["id"] for image in answer.json["images"]]

    def left(self) -> list[str]:
        """Every file there is."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
