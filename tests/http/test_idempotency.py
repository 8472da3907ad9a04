"""`Idempotency-Key` on each service that takes it: the same objects, in every form of the request, and nothing left of a refused one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select
from tests.http.compute_world import World as ComputeWorld
from tests.http.harness import OTHER_PROJECT, PROJECT, Answer, ApiClient
from tests.http.image_cloud import ImageCloud
from tests.http.network_world import NetworkWorld
from tests.http.volume_world import World as VolumeWorld

from cumulet.compute.tables import KEYS as COMPUTE_KEYS
from cumulet.core.db import Database, Tx
from cumulet.image.tables import KEYS as IMAGE_KEYS
from cumulet.network.drivers.driver import NetworkBackendDown
from cumulet.network.tables import keys as network_keys
from cumulet.volume.tables import KEYS as VOLUME_KEYS

KEY = {"idempotency-key": "6e1f7a52-0c1f-4c6e-9d43-c1de3f0f5d5c"}


class Killed(BaseException):
    """The process died."""


def keys_in(db: Database, table: Table) -> list[list[str]]:
    """What the service has made with keys."""
    with db.read() as tx:
        return tx.values(select(table.c.ids))


@pytest.fixture
def compute(tmp_path: Path) -> Iterator[ComputeWorld]:
    """A compute API of its own."""
    world = ComputeWorld(f"sqlite://{tmp_path}")
    yield world
    world.close()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[NetworkWorld]:
    """A network API of its own."""
    world = NetworkWorld(f"sqlite://{tmp_path}")
    yield world
    world.close()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[VolumeWorld]:
    """A volume API of its own."""
    world = VolumeWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[ImageCloud]:
    """An image API of its own."""
    cloud = ImageCloud(tmp_path)
    yield cloud
    cloud.db.close()


def server(world: ComputeWorld, **more: Any) -> dict[str, Any]:
    """A launch request."""
    networks = [{"uuid": world.networks.network.id}]
    return {"server": {"name": "one", "imageRef": world.image.id, "flavorRef": "1", "networks": networks, **more}}


def launch(world: ComputeWorld, path: str = "/v2.1/servers", version: str = "2.96", **more: Any) -> Answer:
    """A launch with the key."""
    return world.client(version=version).post(path, server(world, **more), headers=dict(KEY))


def count(world: ComputeWorld) -> int:
    """How many servers there are."""
    return len(world.client().get("/v2.1/servers").json["servers"])


def stored(folder: Path) -> bytes:
    """All that is on disk of the service's database."""
    return b"".join(path.read_bytes() for path in folder.glob("compute.sqlite*"))


def test_a_server_is_launched_once(compute: ComputeWorld, tmp_path: Path) -> None:
    """The same id, links and Location in each form of the URL; the password was shown once; one server, with one saga."""
    first = launch(compute)
    assert first.status == 202
    expected = first.json
    password = expected["server"].pop("adminPass")
    compute.settle(expected["server"]["id"])
    for path, version in (
        ("/v2.1/servers", "2.96"),
        (f"/v2.1/{PROJECT}/servers", "2.96"),
        (f"/v2/{PROJECT}/servers", "2.1"),
    ):
        again = launch(compute, path, version)
        assert again.status == 202
        assert again.json == expected
        assert again.headers["location"] == first.headers["location"]
    assert count(compute) == 1
    assert len(compute.service.flows.sagas_of(expected["server"]["id"])) == 1
    assert password.encode() not in stored(tmp_path)


def test_a_password_of_the_callers_is_not_stored_either(compute: ComputeWorld, tmp_path: Path) -> None:
    """It stands in the request of both, and in no file; with another one it is another request."""
    given = "correct-horse-battery"
    first = launch(compute, adminPass=given)
    assert first.json["server"]["adminPass"] == given
    again = launch(compute, adminPass=given)
    assert again.json["server"]["id"] == first.json["server"]["id"]
    assert "adminPass" not in again.json["server"]
    assert launch(compute, adminPass="another").status == 409
    assert given.encode() not in stored(tmp_path)


def test_several_servers_are_launched_once(compute: ComputeWorld) -> None:
    """By min_count: the first one's id; with return_reservation_id, in any word for yes: that id."""
    first = launch(compute, min_count=2, max_count=3)
    again = launch(compute, min_count=2, max_count=3)
    assert again.json["server"]["id"] == first.json["server"]["id"]
    assert count(compute) == 3
    assert len(keys_in(compute.db, COMPUTE_KEYS)[0]) == 3
    body = server(compute, max_count=2, return_reservation_id="yes")
    one, two = (compute.client().post("/v2.1/servers", body, headers={"idempotency-key": "other"}) for _ in range(2))
    assert one.json == two.json
    assert set(one.json) == {"reservation_id"}
    assert count(compute) == 5


def test_a_server_that_was_deleted_is_not_launched_again(compute: ComputeWorld) -> None:
    """409 in clear words."""
    first = launch(compute).json["server"]["id"]
    compute.settle(first)
    assert compute.client().delete(f"/v2.1/servers/{first}").status == 204
    compute.settle(first)
    refused = launch(compute)
    assert refused.status == 409
    assert "is gone" in refused.json["conflictingRequest"]["message"]
    assert count(compute) == 0


def test_a_launch_killed_before_its_answer_is_answered_later(
    compute: ComputeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is committed with its key, so whoever asks again gets that server."""
    flows = compute.service.flows
    do = flows.launch

    def killed(*given: Any, **more: Any) -> Any:
        do(*given, **more)
        raise Killed

    monkeypatch.setattr(flows, "launch", killed)
    with pytest.raises(Killed):
        launch(compute)
    monkeypatch.undo()
    (there,) = compute.client().get("/v2.1/servers").json["servers"]
    assert launch(compute).json["server"]["id"] == there["id"]
    assert count(compute) == 1


def test_a_launch_killed_inside_its_transaction_leaves_no_key(
    compute: ComputeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither server nor key; the next one launches."""

    def killed(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr("cumulet.core.keys.Key.keep", killed)
    with pytest.raises(Killed):
        launch(compute)
    monkeypatch.undo()
    assert count(compute) == 0
    assert keys_in(compute.db, COMPUTE_KEYS) == []
    assert launch(compute).status == 202


def test_a_refused_launch_leaves_no_key(compute: ComputeWorld) -> None:
    """400, 403 by quota: nothing is made, and the same key launches when the cause is gone."""
    assert launch(compute, flavorRef="none-such").status == 400
    limits = {"quota_set": {"instances": 0}}
    assert compute.client("admin").put(f"/v2.1/os-quota-sets/{PROJECT}", limits).status == 200
    assert launch(compute).status == 403
    assert keys_in(compute.db, COMPUTE_KEYS) == []
    assert compute.client("admin").delete(f"/v2.1/os-quota-sets/{PROJECT}").status == 202
    assert launch(compute).status == 202


def test_a_request_without_a_key_asks_the_database_for_none(
    compute: ComputeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement names the keys' table; with a key there are two: a look and the row."""
    seen: list[str] = []
    run = Tx._bound

    def watched(self: Tx, ready: Any, values: Any) -> Any:
        if "idempotency_keys" in ready.text:
            seen.append(ready.text)
        return run(self, ready, values)

    monkeypatch.setattr(Tx, "_bound", watched)
    assert compute.client().post("/v2.1/servers", server(compute)).status == 202
    assert seen == []
    assert launch(compute).status == 202
    assert [text.split()[0] for text in seen] == ["SELECT", "INSERT"]


def test_an_action_takes_no_notice_of_a_key(compute: ComputeWorld) -> None:
    """Only what makes things may be repeated with a key."""
    made = launch(compute).json["server"]["id"]
    compute.settle(made)
    path, body = f"/v2.1/servers/{made}/action", {"os-stop": None}
    assert compute.client().post(path, body, headers=dict(KEY)).status == 202
    compute.settle(made)
    assert compute.client().post(path, body, headers=dict(KEY)).status == 409


def test_a_network_and_its_ports_are_made_once(network: NetworkWorld) -> None:
    """One at a time and many in one request; the same key serves each kind of thing."""

    def post(path: str, body: Any) -> Answer:
        answer = network.member.post(path, body, headers=dict(KEY))
        assert answer.status == 201, answer.content
        return answer

    first, again = (post("/v2.0/networks", {"network": {"name": "n"}}) for _ in range(2))
    assert again.json == first.json
    assert again.headers["idempotent-replayed"] == "true"
    network_id = first.json["network"]["id"]
    network.subnet(network_id)
    port = {"network_id": network_id, "fixed_ips": [{"ip_address": "10.0.0.77"}]}
    one, two = (post("/v2.0/ports", {"port": port}) for _ in range(2))
    assert one.json["port"]["id"] == two.json["port"]["id"]
    many = {"ports": [{"network_id": network_id, "name": str(number)} for number in range(3)]}
    left, right = (network.member.post("/v2.0/ports.json", many, headers={"idempotency-key": "many"}) for _ in range(2))
    assert [port["id"] for port in left.json["ports"]] == [port["id"] for port in right.json["ports"]]
    assert [port["name"] for port in right.json["ports"]] == ["0", "1", "2"]
    assert len(network.listed(f"ports?network_id={network_id}&device_owner=")) == 4


@pytest.mark.parametrize("kind", ["network", "port"])
def test_what_the_data_plane_refused_leaves_no_key(network: NetworkWorld, kind: str) -> None:
    """The row is taken back with its key, and the same request makes it when the data plane is well again."""
    body = {"network": {"name": "n"}} if kind == "network" else {"port": {"network_id": network.network()["id"]}}
    network.driver.fail(f"ensure_{kind}", NetworkBackendDown())
    assert network.member.post(f"/v2.0/{kind}s", body, headers=dict(KEY)).status == 503
    assert keys_in(network.db, network_keys) == []
    made = network.member.post(f"/v2.0/{kind}s", body, headers=dict(KEY))
    assert made.status == 201
    assert "idempotent-replayed" not in made.headers


def test_a_volume_is_made_once(volume: VolumeWorld) -> None:
    """With and without the project in the URL; the second answer shows the volume as it is by then."""
    body = {"volume": {"size": 1, "name": "data"}}
    first = volume.api.post("/v3/volumes", body, headers=dict(KEY))
    made = first.json["volume"]["id"]
    volume.until(made, "available")
    for path in ("/v3/volumes", f"/v3/{PROJECT}/volumes"):
        again = volume.api.post(path, body, headers=dict(KEY))
        assert (again.status, again.json["volume"]["id"]) == (202, made)
        assert again.json["volume"]["status"] == "available"
    assert len(volume.api.get("/v3/volumes").json["volumes"]) == 1
    assert volume.api.post("/v3/volumes", {"volume": {"size": 2}}, headers=dict(KEY)).status == 409
    assert volume.api.post(f"/v3/{OTHER_PROJECT}/volumes", body, headers=dict(KEY)).status == 400
    assert keys_in(volume.db, VOLUME_KEYS) == [[made]]


def test_an_image_is_made_once(image: ImageCloud) -> None:
    """Also one with an id of the caller's choice, which a second request would find taken."""
    body = {"name": "i", "disk_format": "raw", "container_format": "bare", "id": "12121212-1212-4212-8212-121212121212"}
    first, again = (image.member.post("/v2/images", body, headers=dict(KEY)) for _ in range(2))
    assert first.status == again.status == 201
    assert again.json == first.json
    assert again.headers["location"] == first.headers["location"]
    assert keys_in(image.db, IMAGE_KEYS) == [[body["id"]]]


@pytest.mark.parametrize("kind", ["server", "network", "volume", "image"])
def test_each_error_stands_in_its_services_envelope(request: pytest.FixtureRequest, kind: str) -> None:
    """400 for a key that is none, and 409 for another body, in the words of each API."""
    world = request.getfixturevalue("compute" if kind == "server" else kind)
    posts: dict[str, tuple[Callable[[], ApiClient], str, Callable[[str], Any]]] = {
        "server": (lambda: world.client(version="2.96"), "/v2.1/servers", lambda name: server(world, name=name)),
        "network": (lambda: world.member, "/v2.0/networks", lambda name: {"network": {"name": name}}),
        "volume": (lambda: world.api, "/v3/volumes", lambda name: {"volume": {"size": 1, "name": name}}),
        "image": (lambda: world.member, "/v2/images", lambda name: {"name": name}),
    }
    client, path, body = posts[kind]
    assert client().post(path, body("a"), headers={"idempotency-key": "two words"}).status == 400
    assert client().post(path, body("a"), headers=dict(KEY)).status in {201, 202}
    refused = client().post(path, body("b"), headers=dict(KEY))
    assert refused.status == 409
    assert b"with another request body" in refused.content
