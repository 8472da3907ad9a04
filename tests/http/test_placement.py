"""Placement over HTTP: books of capacity, atomic claims, generations."""

from collections.abc import Iterator

import pytest
from tests.http.harness import ApiClient, authenticate

from cumulet.core.clock import SystemClock
from cumulet.core.db import open_database
from cumulet.core.ids import SystemIds
from cumulet.placement import api
from cumulet.placement.service import PlacementService
from cumulet.placement.tables import METADATA

HOST = "11111111-1111-4111-8111-111111111111"
CONSUMER = "22222222-2222-4222-8222-222222222222"
LATEST = "placement 1.39"


@pytest.fixture
def client(database_url: str) -> Iterator[ApiClient]:
    """A placement service with one provider of 4 VCPU and 1,000 MB, called by a service."""
    db = open_database(database_url, "placement", METADATA)
    db.create()
    clock, ids = SystemClock(), SystemIds()
    app = api.application(PlacementService(db, clock=clock, ids=ids), authenticate=authenticate, clock=clock, ids=ids)
    client = ApiClient(app, "service", LATEST)
    client.post("/resource_providers", {"name": "node", "uuid": HOST})
    inventories = {"VCPU": {"total": 2, "allocation_ratio": 2.0}, "MEMORY_MB": {"total": 1024, "reserved": 24}}
    body = {"resource_provider_generation": 0, "inventories": inventories}
    assert client.put(f"/resource_providers/{HOST}/inventories", body).status == 200
    yield client
    db.close()


def claim(client: ApiClient, consumer: str, vcpus: int, generation: int | None = None) -> int:
    """The status of a claim of `vcpus` and 100 MB."""
    body = {
        "allocations": {HOST: {"resources": {"VCPU": vcpus, "MEMORY_MB": 100}}},
        "project_id": "p",
        "user_id": "u",
        "consumer_generation": generation,
        "consumer_type": "INSTANCE",
    }
    return client.put(f"/allocations/{consumer}", body).status


def test_a_claim_beyond_capacity_is_refused_and_takes_nothing(client: ApiClient) -> None:
    """Capacity is (total - reserved) times the ratio; a claim that does not fit in one class takes of no class."""
    assert claim(client, CONSUMER, 5) == 409
    assert client.get(f"/resource_providers/{HOST}/usages").json["usages"] == {"VCPU": 0, "MEMORY_MB": 0}
    assert claim(client, CONSUMER, 4) == 204
    assert client.get(f"/resource_providers/{HOST}/usages").json["usages"] == {"VCPU": 4, "MEMORY_MB": 100}


def test_a_consumer_changes_only_under_its_generation(client: ApiClient) -> None:
    """Who has not seen the newest generation is refused; who has may exchange the whole claim."""
    assert claim(client, CONSUMER, 1) == 204
    assert claim(client, CONSUMER, 2) == 409
    seen = client.get(f"/allocations/{CONSUMER}").json
    assert claim(client, CONSUMER, 2, seen["consumer_generation"]) == 204
    assert client.get(f"/resource_providers/{HOST}/usages").json["usages"]["VCPU"] == 2


def test_release_gives_all_back_once(client: ApiClient) -> None:
    """A second release finds nothing."""
    claim(client, CONSUMER, 1)
    assert client.delete(f"/allocations/{CONSUMER}").status == 204
    assert client.delete(f"/allocations/{CONSUMER}").status == 404
    assert client.get(f"/resource_providers/{HOST}/usages").json["usages"] == {"VCPU": 0, "MEMORY_MB": 0}


def test_candidates_are_those_with_room(client: ApiClient) -> None:
    """A provider without room is no candidate; one with room shows all its resources."""
    assert client.get("/allocation_candidates?resources=VCPU:5").json["allocation_requests"] == []
    found = client.get("/allocation_candidates?resources=VCPU:1").json
    assert found["provider_summaries"][HOST]["resources"]["MEMORY_MB"] == {"capacity": 1000, "used": 0}


def test_inventory_in_use_cannot_go(client: ApiClient) -> None:
    """An inventory with allocations is kept, and a stale generation is refused."""
    claim(client, CONSUMER, 1)
    assert client.delete(f"/resource_providers/{HOST}/inventories/VCPU").status == 409
    body = {"resource_provider_generation": 0, "inventories": {}}
    assert client.put(f"/resource_providers/{HOST}/inventories", body).status == 409


def test_only_admins_and_services_may(client: ApiClient) -> None:
    """A member is refused; its own project's usage it may read."""
    assert client.get("/resource_providers", token="member").status == 403
    assert client.get("/usages?project_id=" + "1" * 32, token="member").status == 200
    assert client.get("/usages?project_id=other", token="member").status == 403
