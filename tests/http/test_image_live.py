"""The image service behind real sockets: streaming both ways, the official client, a sender that goes away."""

import contextlib
import gc
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openstack
import pytest
import uvicorn
from tests.http.image_cloud import ImageCloud
from tests.unit import disk_images

from cumulet.core.web.client import Client, Credentials, HttpTransport
from cumulet.core.web.edge import Edge, Patience
from cumulet.core.web.protocol import DroppableHttp
from cumulet.core.work import Gate, Pools, Worker
from cumulet.image.door import ImageRest

MIB = 1 << 20


class Live(ImageCloud):
    """The cloud behind an edge at `url`."""

    url = ""


@contextlib.contextmanager
def served(folder: Path, patience: Patience = Patience()) -> Iterator[Live]:  # noqa: B008 - frozen
    """A server of its own, on a free port."""
    cloud = Live(folder, size_max=64 * MIB)
    gate, pools = Gate(), Pools({"uploads": (2, 8), "devices": (1, 8)})
    worker = Worker("api", clock=cloud.clock, pools=pools, gate=gate)
    worker.start()
    listener = socket.create_server(("127.0.0.1", 0))
    cloud.url = f"http://127.0.0.1:{listener.getsockname()[1]}/image"
    edge = Edge({"image": cloud.app}, worker=worker, clock=cloud.clock, gate=gate, patience=patience)
    http: Any = DroppableHttp.answering(edge)
    server = uvicorn.Server(uvicorn.Config(edge, log_level="error", lifespan="off", http=http))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(server.run, [listener])
        # answered once it runs; until then the connection waits in the listener's queue
        assert httpx.get(f"{cloud.url}/versions", timeout=30).status_code == 200
        yield cloud
        server.should_exit = True
        running.result(timeout=30)
    listener.close()
    worker.stop()
    pools.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A service as it is, behind sockets."""
    with served(tmp_path) as cloud:
        yield cloud


def test_chunks_stream_in_and_a_range_streams_out(live: Live) -> None:
    """A body without a length is taken as it arrives; all of it, and a part of it, come back."""
    content = disk_images.noise(5 * MIB + 3)
    image_id = live.create()
    where = f"{live.url}/v2/images/{image_id}/file"
    headers = {"x-auth-token": "member", "content-type": "application/octet-stream"}
    pieces = (content[at : at + 70_001] for at in range(0, len(content), 70_001))
    assert httpx.put(where, content=pieces, headers=headers).status_code == 204
    assert httpx.get(where, headers=headers).content == content
    part = httpx.get(where, headers={**headers, "range": "bytes=1000000-3000000"})
    assert (part.status_code, part.content) == (206, content[1_000_000:3_000_001])


def test_a_refused_upload_is_answered_before_it_ends(live: Live) -> None:
    """The gate's verdict comes while the sender still sends, and nothing stays."""
    image_id = live.create(disk_format="qcow2")
    with connected(live) as sender:
        sender.sendall(_head(image_id, 50 * MIB) + disk_images.qcow2(backing=b"/etc/passwd"))
        sender.sendall(bytes(2 * MIB))
        assert sender.recv(4096).startswith(b"HTTP/1.1 415")
    assert (live.status(image_id), live.left()) == ("queued", [])


def test_a_sender_that_goes_away_leaves_nothing(live: Live) -> None:
    """The connection closing midway ends the upload: the image may be uploaded anew, and no half file is there."""
    image_id = live.create()
    with connected(live) as sender:
        sender.sendall(_head(image_id, 50 * MIB) + bytes(3 * MIB))
        wait_for(lambda: live.status(image_id) == "saving")
    wait_for(lambda: live.status(image_id) == "queued")
    assert live.left() == []
    assert live.put(image_id, b"anew") == 204


def test_a_sender_that_stalls_is_let_go(tmp_path: Path) -> None:
    """More of them than there are threads: each is told 408 in its time, nothing of theirs stays, and others can upload."""
    with served(tmp_path, Patience(stall_s=0.2)) as live, contextlib.ExitStack() as senders:
        images = [live.create() for _ in range(3)]
        stalled = [senders.enter_context(connected(live)) for _ in images]
        for image_id, sender in zip(images, stalled, strict=True):
            sender.sendall(_head(image_id, 50 * MIB) + bytes(3 * MIB // 2))
        for sender in stalled:
            answer = sender.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"connection: close" in answer.lower()
        wait_for(lambda: all(live.status(image_id) == "queued" for image_id in images))
        assert live.left() == []
        assert live.put(images[0], b"anew") == 204


def test_a_trickle_is_no_upload(tmp_path: Path) -> None:
    """A byte now and then keeps no thread for ever: so much must have come in so much time."""
    with served(tmp_path, Patience(stall_s=10.0, chunk_s=0.5)) as live, connected(live) as sender:
        image_id = live.create()
        sender.sendall(_head(image_id, 50 * MIB))
        sender.settimeout(0.05)
        answer, tries = b"", 0
        while not answer and tries < 400:
            tries += 1
            with contextlib.suppress(TimeoutError):
                sender.sendall(b".")
                answer = sender.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 408")
        wait_for(lambda: live.status(image_id) == "queued")
        assert live.left() == []


def test_a_document_that_stalls_is_refused(tmp_path: Path) -> None:
    """The same for a body that is read whole."""
    with served(tmp_path, Patience(stall_s=0.2)) as live, connected(live) as sender:
        head = "POST /image/v2/images HTTP/1.1\r\nHost: cloud\r\nX-Auth-Token: member\r\nContent-Type: application/json\r\n"
        sender.sendall(head.encode() + b'Content-Length: 100\r\n\r\n{"name": ')
        assert sender.recv(65_536).startswith(b"HTTP/1.1 408")


def connected(live: Live) -> socket.socket:
    """A connection to the server."""
    host, _, port = live.url.removeprefix("http://").removesuffix("/image").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask until it holds, for half a minute at most."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end


def _head(image_id: str, length: int) -> bytes:
    return (
        f"PUT /image/v2/images/{image_id}/file HTTP/1.1\r\nHost: cloud\r\nX-Auth-Token: member\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_the_door_streams_over_http(live: Live, tmp_path: Path) -> None:
    """From another process the same door sends a file without reading it whole."""
    source = tmp_path / "snapshot"
    source.write_bytes(disk_images.noise(3 * MIB))
    transport = HttpTransport(live.url)
    door = ImageRest(Client("image", transport, live.clock))
    credentials = Credentials(token="member", service_token="service")
    made = door.create(credentials, name="snap", disk_format="raw", properties={})
    door.upload(credentials, made.id, source)
    image, _ = door.get_with_location(made.id, credentials)
    assert (image.status, image.size) == ("active", 3 * MIB)
    assert (live.folder / made.id).read_bytes() == source.read_bytes()
    door.delete(credentials, made.id)
    assert live.left() == []
    transport.close()


@pytest.mark.filterwarnings("ignore")  # the client's own warnings are no claim of ours
def test_the_official_client_does_its_round(live: Live, tmp_path: Path) -> None:
    """openstacksdk: upload, list by pages, update, tag, share, deactivate, download, import, delete."""
    cloud: Any = openstack.connect(
        auth_type="admin_token",
        auth={"endpoint": live.url, "token": "member"},
        image_endpoint_override=live.url,
        image_api_version="2",
    )
    source = tmp_path / "file"
    source.write_bytes(disk_images.noise(2 * MIB))
    formats = {"disk_format": "raw", "container_format": "bare"}
    made = cloud.image.create_image("a", data=source.read_bytes(), **formats, wait=True)
    made = cloud.image.get_image(made.id)
    assert (made.status, made.size) == ("active", 2 * MIB)
    others = [cloud.image.create_image(f"n{n}", **formats).id for n in range(3)]
    assert {image.id for image in cloud.image.images(limit=2)} == {made.id, *others}
    cloud.image.update_image(made, name="renamed", hw_disk_bus="virtio", visibility="shared")
    cloud.image.add_tag(made, "t")
    found = cloud.image.find_image("renamed")
    assert (found.id, found.hw_disk_bus, found.tags) == (made.id, "virtio", ["t"])
    cloud.image.add_member(made, member_id="5" * 32)
    assert [member.member_id for member in cloud.image.members(made)] == ["5" * 32]
    cloud.image.deactivate_image(made)
    cloud.image.reactivate_image(made)
    target = tmp_path / "back"
    with target.open("wb") as file:
        cloud.image.download_image(made, stream=False, output=file)
    assert target.read_bytes() == source.read_bytes()
    staged = cloud.image.get_image(others[0])
    cloud.image.stage_image(staged, data=b"staged")
    cloud.image.import_image(staged, method="glance-direct")
    assert cloud.image.get_image(staged.id).status == "active"
    for image_id in (made.id, *others):
        cloud.image.delete_image(image_id)
    assert (list(cloud.image.images()), live.left()) == ([], [])
    cloud.close()
    gc.collect()  # what the client forgot to close is not to be found during another test
