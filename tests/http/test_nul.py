"""The NUL character is refused at the door of every service: no database has to."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.compute_world import World as Compute
from tests.http.harness import ApiClient, authenticate
from tests.http.identity_cloud import Cloud as Identity
from tests.http.image_cloud import ImageCloud
from tests.http.network_world import NetworkWorld
from tests.http.volume_world import World as Volume

from cumulet.core.clock import SystemClock
from cumulet.core.db import open_database
from cumulet.core.ids import SystemIds
from cumulet.placement import tables
from cumulet.placement.api import application
from cumulet.placement.service import PlacementService


class Service:
    """A client of one service, a list it has, something that it makes, and the words of a refusal."""

    def __init__(self, client: ApiClient, path: str, body: Any, words: Callable[[Any], str], *more: Any) -> None:
        self.client, self.path, self.body, self.words = client, path, body, words
        self.closing = more


def _compute(folder: Path) -> Service:
    world = Compute(f"sqlite://{folder}")
    body = {"server": {"name": "a\0b", "flavorRef": "42", "imageRef": world.image.id}}
    return Service(world.client(), "/v2.1/servers", body, lambda json: str(json["badRequest"]["message"]), world)


def _identity(folder: Path) -> Service:
    cloud = Identity(folder)
    body = {"user": {"name": "u", "description": {"deep": ["a\0b"]}}}
    return Service(cloud.admin, "/v3/users", body, lambda json: str(json["error"]["message"]), cloud)


def _network(folder: Path) -> Service:
    world = NetworkWorld.at(folder)
    body = {"network": {"name": "a\0"}}
    return Service(world.member, "/v2.0/networks", body, lambda json: str(json["NeutronError"]["message"]), world)


def _volume(folder: Path) -> Service:
    world = Volume(folder)
    body = {"volume": {"size": 1, "metadata": {"k\0": "v"}}}
    return Service(world.api, "/v3/volumes", body, lambda json: str(json["badRequest"]["message"]), world)


def _image(folder: Path) -> Service:
    cloud = ImageCloud(folder)
    client = ApiClient(cloud.app, "member")
    return Service(client, "/v2/images", {"name": "\0"}, lambda json: str(json["message"]), cloud)


def _placement(folder: Path) -> Service:
    db = open_database(f"sqlite://{folder}", "placement", tables.METADATA)
    db.create()
    clock, ids = SystemClock(), SystemIds()
    app = application(PlacementService(db, clock=clock, ids=ids), authenticate=authenticate, clock=clock, ids=ids)
    client = ApiClient(app, "admin", "placement 1.39")
    return Service(client, "/resource_providers", {"name": "a\0b"}, lambda json: str(json["errors"][0]["detail"]), db)


@pytest.fixture(params=[_compute, _identity, _network, _volume, _image, _placement])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """Each service in turn."""
    made = request.param(tmp_path)
    yield made
    for thing in made.closing:
        if hasattr(thing, "close"):
            thing.close()


def test_a_nul_is_refused_wherever_it_stands(service: Service) -> None:
    """In a body's texts and keys, in a query's, in a path: 400 in the service's own envelope."""
    json = {"accept": "application/json"}
    client, path = service.client, service.path
    for answer in (
        client.post(path, service.body, headers=dict(json)),
        client.get(f"{path}?name=a%00b", headers=dict(json)),
        client.get(f"{path}?a%00b=name", headers=dict(json)),
        client.get(f"{path}/a%00b", headers=dict(json)),
    ):
        assert (answer.status, "NUL" in service.words(answer.json)) == (400, True)


def test_what_only_looks_like_one_is_text(service: Service) -> None:
    """A backslash before "u0000" is a backslash."""
    name = {"description": "a\\u0000b"}
    if service.path.endswith("networks"):
        made = service.client.post(service.path, {"network": name})
        assert (made.status, made.json["network"]["description"]) == (201, "a\\u0000b")
    refused = service.client.post(service.path, name, headers={"accept": "application/json"})
    assert b"NUL" not in refused.content
