"""The volume service in one process, for its tests: database, bus, worker, a back end, and an image service on paper."""

import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
from tests.http.harness import Answer, ApiClient, authenticate

from cumulet.core.bus import LocalBus
from cumulet.core.clock import SystemClock
from cumulet.core.db import open_database
from cumulet.core.errors import Conflict, NotFound
from cumulet.core.ids import SystemIds
from cumulet.core.web.client import Client, Credentials, LocalTransport, Served
from cumulet.core.work import Pools, Worker
from cumulet.image.door import ImageInfo
from cumulet.volume.api.application import application
from cumulet.volume.assemble import Assembled, assemble
from cumulet.volume.config import VolumeConfig
from cumulet.volume.door import VolumeRest
from cumulet.volume.drivers.driver import VolumeDriver
from cumulet.volume.drivers.sim import SimVolumes
from cumulet.volume.tables import METADATA

BACKEND = ("sim", "local")
HOST = "node-1"
CONNECTOR = {
    "host": HOST,
    "ip": "127.0.0.1",
    "initiator": "iqn.1994-05.com.redhat:1",
    "multipath": False,
    "mountpoint": "/dev/vdb",
}
SERVER = "77777777-7777-4777-8777-777777777777"
WAIT_S = 60.0


_TEMPEST = next(iter(sorted(Path(__file__).parents[2].glob(".venv-conformance/lib/python3*/site-packages"))), None)


def conforms(answer: Answer, module: str, name: str) -> Any:
    """The answer's document, held against tempest's own schema (where tempest is installed)."""
    assert answer.status < 300, answer.content
    if _TEMPEST is not None:
        sys.path.append(str(_TEMPEST))
        try:
            schema = getattr(importlib.import_module(f"tempest.lib.api_schema.response.volume.{module}"), name)
        finally:
            sys.path.remove(str(_TEMPEST))
        assert answer.status in schema["status_code"]
        if "response_body" in schema:
            errors = [str(e) for e in jsonschema_rs.validator_for(schema["response_body"]).iter_errors(answer.json)]
            assert errors == []
    return answer.json if answer.content else None


class PaperImages:
    """`ImageDoor` on paper; `uploaded` has what was given to each image."""

    def __init__(self) -> None:
        self.images: dict[str, ImageInfo] = {}
        self.uploaded: dict[str, bytes] = {}
        self.seen: list[Credentials] = []

    def add(self, image_id: str, path: Path, *, disk_format: str = "raw", **more: Any) -> ImageInfo:
        facts = {
            "id": image_id, "name": "small", "status": "active", "disk_format": disk_format, "container_format": "bare",
            "size": path.stat().st_size, "virtual_size": path.stat().st_size, "checksum": "c" * 32, "os_hash_value": "h" * 128,
            "owner": None, "visibility": "public", "min_disk": 0, "min_ram": 0, "properties": {"os_distro": "plain"},
            "location": path.as_uri(), "tags": [],
        }  # fmt: skip
        self.images[image_id] = ImageInfo(**{**facts, **more})
        return self.images[image_id]

    def get(self, image_id: str, credentials: Credentials) -> ImageInfo:
        self.seen.append(credentials)
        if image_id not in self.images:
            raise NotFound(f"No image found with ID {image_id}")
        return self.images[image_id]

    def get_with_location(self, image_id: str, credentials: Credentials) -> tuple[ImageInfo, Served]:
        assert credentials.service_token == "service"
        return self.get(image_id, credentials), Served("", "")

    def create(self, credentials: Credentials, **facts: Any) -> ImageInfo:
        image_id = facts.pop("id", None) or SystemIds().uuid()
        empty = {
            "id": image_id,
            "status": "queued",
            "size": 0,
            "virtual_size": None,
            "checksum": None,
            "os_hash_value": None,
        }
        image = ImageInfo(**{**facts, **empty, "location": None, "tags": [], "owner": None})
        # in one act, as the image service's key is: the request and the saga's first step may both be here
        if self.images.setdefault(image_id, image) is not image:
            raise Conflict(f"Image ID {image_id} already exists!")
        return image

    def upload(self, credentials: Credentials, image_id: str, path: Path) -> None:
        self.uploaded[image_id] = path.read_bytes()[:64]
        self.images[image_id] = msgspec.structs.replace(
            self.images[image_id], status="active", size=path.stat().st_size
        )

    def delete(self, credentials: Credentials, image_id: str) -> None:
        if self.images.pop(image_id, None) is None:
            raise NotFound


class World:
    """A volume service that runs; `api` calls it as a member."""

    def __init__(
        self,
        folder: Path,
        driver: VolumeDriver | None = None,
        *,
        config: VolumeConfig | None = None,
        url: str | None = None,
        **wiring: Any,
    ) -> None:
        self.clock, self.ids, self.images = SystemClock(), SystemIds(), PaperImages()
        self.driver = driver or SimVolumes()
        self.db = open_database(url or f"sqlite://{folder}", "volume", METADATA)
        self.db.create()
        self.pools = Pools({"devices": (2, 100), "calls": (2, 100), "syncs": (1, 100)})
        self.worker = Worker("volume", clock=self.clock, pools=self.pools)
        self.bus = LocalBus()
        self.assembled: Assembled = assemble(
            db=self.db,
            bus=self.bus,
            worker=self.worker,
            driver=self.driver,
            host=HOST,
            image=self.images,
            service_token=lambda: "service",
            upload_folder=folder / "uploads",
            clock=self.clock,
            ids=self.ids,
            config=config,
            **wiring,
        )
        self.service = self.assembled.service
        self._changed = threading.Condition()
        self.service.on_change(self._note)
        self.worker.start()
        self.assembled.start()
        self.app = application(self.service, authenticate=authenticate, clock=self.clock, ids=self.ids)
        self.api = ApiClient(self.app, "member", "volume 3.70", base_url="http://cloud.test/volume")
        self.admin = ApiClient(self.app, "admin", "volume 3.70", base_url="http://cloud.test/volume")
        self.door = VolumeRest(
            Client("volume", LocalTransport(self.app, base_url="http://cloud.test/volume"), self.clock)
        )
        self.user = Credentials(token="member", service_token="service")
        self.own = Credentials(token="service", service_token="service")

    def _note(self, volume_id: str) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Until true; looked at after each change, and now and then for what is no volume's status."""
        deadline = self.clock.monotonic() + WAIT_S
        while True:
            if value := condition():
                return value
            left = deadline - self.clock.monotonic()
            assert left > 0, "what was waited for did not come"
            with self._changed:
                self._changed.wait(min(left, 0.01))

    def status(self, volume_id: str) -> str | None:
        answer = self.admin.get(f"/v3/volumes/{volume_id}")
        return None if answer.status == 404 else answer.json["volume"]["status"]

    def create(self, size: int = 1, **more: Any) -> str:
        """A volume, available."""
        answer = self.api.post("/v3/volumes", {"volume": {"size": size, **more}})
        assert answer.status == 202, answer.content
        volume_id: str = answer.json["volume"]["id"]
        self.until(volume_id, "available")
        return volume_id

    def until(self, volume_id: str, status: str | None) -> None:
        self.wait_for(lambda: self.status(volume_id) == status)

    def attach(self, volume_id: str, server_id: str = SERVER) -> str:
        """A completed attachment, as compute makes it."""
        attachment_id = self.door.create_attachment(self.user, volume_id=volume_id, server_id=server_id)
        self.door.connect(self.user, attachment_id, CONNECTOR, mountpoint="/dev/vdb")
        self.door.complete_attachment(self.user, attachment_id)
        return attachment_id

    def snapshot(self, volume_id: str, **more: Any) -> str:
        answer = self.api.post("/v3/snapshots", {"snapshot": {"volume_id": volume_id, **more}})
        assert answer.status == 202, answer.content
        snapshot_id: str = answer.json["snapshot"]["id"]
        self.wait_for(lambda: self.api.get(f"/v3/snapshots/{snapshot_id}").json["snapshot"]["status"] == "available")
        return snapshot_id

    def action(self, volume_id: str, name: str, value: Any = None, **more: Any) -> Any:
        return self.api.post(f"/v3/volumes/{volume_id}/action", {name: value}, **more)

    def close(self) -> None:
        self.worker.stop()
        self.pools.close()
        self.db.close()
