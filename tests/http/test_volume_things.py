"""Snapshots, types, QoS specs, quotas, transfers, services: what stands beside volumes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.harness import OTHER_PROJECT, PROJECT
from tests.http.volume_world import HOST, World, conforms

from cumulet.volume.api.metadata import METADATA_MAX


@pytest.fixture
def world(tmp_path: Path, database_url: str) -> Iterator[World]:
    """A service on the simulated back end."""
    there = World(tmp_path, url=database_url)
    yield there
    there.close()


def test_snapshots_come_and_go(world: World) -> None:
    """In tempest's shapes; their metadata has a bound, and a volume made of one has its size at least."""
    volume_id = world.create(2)
    body = {"snapshot": {"volume_id": volume_id, "name": "s", "metadata": {"k": "v"}}}
    made = conforms(world.api.post("/v3/snapshots", body, version="volume 3.0"), "snapshots", "create_snapshot")[
        "snapshot"
    ]
    where = f"/v3/snapshots/{made['id']}"
    world.wait_for(lambda: world.api.get(where).json["snapshot"]["status"] == "available")
    old = {"version": "volume 3.0"}
    conforms(world.api.get(where, **old), "snapshots", "show_snapshot")
    conforms(world.api.get("/v3/snapshots", **old), "snapshots", "list_snapshots_no_detail")
    conforms(world.api.get("/v3/snapshots/detail?status=available", **old), "snapshots", "list_snapshots_with_detail")
    conforms(world.api.put(where, {"snapshot": {"name": "t"}}, **old), "snapshots", "update_snapshot")
    conforms(world.api.post(f"{where}/metadata", {"metadata": {"a": "b"}}), "snapshots", "create_snapshot_metadata")
    conforms(world.api.put(f"{where}/metadata/a", {"meta": {"a": "c"}}), "snapshots", "update_snapshot_metadata_item")
    assert world.api.get(f"{where}/metadata").json["metadata"] == {"k": "v", "a": "c"}
    assert world.api.delete(f"{where}/metadata/a").status == 200
    many = {str(number): "" for number in range(METADATA_MAX + 1)}
    assert world.api.put(f"{where}/metadata", {"metadata": many}).status == 400
    assert world.api.post("/v3/snapshots", {"snapshot": {"volume_id": volume_id, "metadata": many}}).status == 400
    assert world.api.post("/v3/volumes", {"volume": {"size": 1, "snapshot_id": made["id"]}}).status == 400
    copy = world.create(None, snapshot_id=made["id"])
    assert world.api.get(f"/v3/volumes/{copy}").json["volume"]["size"] == 2
    assert world.api.get(where, token="other").status == 404
    assert world.api.delete(where, token="reader").status == 403
    assert world.api.delete(where).status == 202
    world.wait_for(lambda: world.api.get(where).status == 404)


def test_a_snapshot_of_an_attached_volume_wants_force_or_a_new_version(world: World) -> None:
    """Before 3.66 `force`; and where there is no compute service to copy the guest's disk, the snapshot is in error."""
    volume_id = world.create()
    world.attach(volume_id)
    body = {"snapshot": {"volume_id": volume_id}}
    assert world.api.post("/v3/snapshots", body, version="volume 3.0").status == 400
    made = world.api.post("/v3/snapshots", {"snapshot": {**body["snapshot"], "force": True}}, version="volume 3.0")
    where = f"/v3/snapshots/{made.json['snapshot']['id']}"
    world.wait_for(lambda: world.api.get(where).json["snapshot"]["status"] == "error")
    reset = {"os-reset_status": {"status": "available"}}
    assert world.api.post(f"{where}/action", reset).status == 403
    assert world.admin.post(f"{where}/action", reset).status == 202
    assert world.admin.post(f"{where}/action", {"os-force_delete": None}).status == 202
    world.wait_for(lambda: world.api.get(where).status == 404)


def test_types(world: World) -> None:
    """Made by admins, seen by all who may use them; what is in use stays."""
    body = {"volume_type": {"name": "fast", "extra_specs": {"volume_backend_name": "local"}, "description": "d"}}
    assert world.api.post("/v3/types", body).status == 403
    made = conforms(world.admin.post("/v3/types", body), "volume_types", "create_volume_type")["volume_type"]
    assert world.admin.post("/v3/types", body).status == 409
    where = f"/v3/types/{made['id']}"
    conforms(world.admin.get(where), "volume_types", "show_volume_type")
    conforms(world.api.get("/v3/types"), "volume_types", "list_volume_types")
    assert world.api.get(where).json["volume_type"]["extra_specs"] == {}
    changed = world.admin.put(where, {"volume_type": {"name": "faster", "is_public": False}})
    conforms(changed, "volume_types", "update_volume_types")
    assert world.api.get(where).status == 404
    access = {"addProjectAccess": {"project": PROJECT}}
    assert world.admin.post(f"{where}/action", access).status == 202
    assert world.admin.post(f"{where}/action", access).status == 409
    conforms(world.admin.get(f"{where}/os-volume-type-access"), "volume_types", "list_type_access")
    volume_id = world.create(volume_type="faster")
    assert world.api.post("/v3/volumes", {"volume": {"size": 1, "volume_type": "faster"}}, token="other").status == 404
    assert world.admin.delete(where).status == 400
    specs = world.admin.post(f"{where}/extra_specs", {"extra_specs": {"a": "b"}})
    conforms(specs, "volume_types", "create_volume_types_extra_specs")
    conforms(world.admin.put(f"{where}/extra_specs/a", {"a": "c"}), "volume_types", "update_volume_type_extra_specs")
    assert world.admin.get(f"{where}/extra_specs/a").json == {"a": "c"}
    assert world.admin.delete(f"{where}/extra_specs/a").status == 202
    assert world.admin.get(f"{where}/extra_specs/a").status == 404
    assert world.api.delete(f"/v3/volumes/{volume_id}").status == 202
    world.until(volume_id, None)
    assert world.admin.delete(where).status == 202


def test_the_default_type(world: World) -> None:
    """The configured one, unless a project has its own."""
    assert world.api.get("/v3/types/default").json["volume_type"]["name"] == "__DEFAULT__"
    where = f"/v3/default-types/{PROJECT}"
    assert world.admin.get(where).status == 404
    assert world.admin.put(where, {"default_type": {"volume_type": "multiattach"}}).status == 200
    assert world.api.get("/v3/types/default").json["volume_type"]["name"] == "multiattach"
    assert len(world.admin.get("/v3/default-types").json["default_types"]) == 1
    assert world.admin.delete(where).status == 204


def test_a_type_that_no_back_end_offers(world: World) -> None:
    """The scheduler refuses by capability."""
    world.admin.post("/v3/types", {"volume_type": {"name": "tape", "extra_specs": {"volume_backend_name": "tape"}}})
    volume_id = world.api.post("/v3/volumes", {"volume": {"size": 1, "volume_type": "tape"}}).json["volume"]["id"]
    world.until(volume_id, "error")
    assert "Refused by: capabilities." in world.api.get("/v3/messages").json["messages"][0]["user_message"]


def test_qos_specs(world: World) -> None:
    """In tempest's shapes; tied to types; in use they stay unless forced."""
    body = {"qos_specs": {"name": "slow", "consumer": "front-end", "read_iops_sec": "100"}}
    made = conforms(world.admin.post("/v3/qos-specs", body), "qos", "show_qos")["qos_specs"]
    where = f"/v3/qos-specs/{made['id']}"
    assert world.api.get(where).status == 403
    conforms(world.admin.get("/v3/qos-specs"), "qos", "list_qos")
    conforms(world.admin.put(where, {"qos_specs": {"write_iops_sec": "5"}}), "qos", "set_qos_key")
    assert world.admin.put(f"{where}/delete_keys", {"keys": ["write_iops_sec"]}).status == 202
    assert world.admin.get(where).json["qos_specs"]["specs"] == {"read_iops_sec": "100"}
    type_id = world.api.get("/v3/types/default").json["volume_type"]["id"]
    assert world.admin.get(f"{where}/associate?vol_type_id={type_id}").status == 202
    shown = conforms(world.admin.get(f"{where}/associations"), "qos", "show_association_qos")
    assert shown["qos_associations"][0]["id"] == type_id
    assert world.admin.delete(where).status == 400
    assert world.admin.get(f"{where}/disassociate_all").status == 202
    assert world.admin.delete(where).status == 202


def test_quotas_are_kept(world: World) -> None:
    """413 with the reference's words; usage counts volumes and snapshots."""
    where = f"/v3/os-quota-sets/{PROJECT}"
    conforms(world.admin.get(where), "quotas", "show_quota_set")
    conforms(world.admin.get(f"{where}/defaults"), "quotas", "show_quota_set")
    assert world.api.put(where, {"quota_set": {"volumes": 9}}).status == 403
    limits = {"quota_set": {"volumes": 2, "gigabytes": 4, "snapshots": 1}}
    conforms(world.admin.put(where, limits), "quotas", "update_quota_set")
    volume_id = world.create(2)
    answer = world.api.post("/v3/volumes", {"volume": {"size": 3}})
    assert answer.status == 413
    assert answer.json["overLimit"]["message"].startswith(
        "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot"
    )
    assert world.action(volume_id, "os-extend", {"new_size": 9}).status == 413
    world.create(1)
    answer = world.api.post("/v3/volumes", {"volume": {"size": 1}})
    assert "Maximum number of volumes allowed (2) exceeded for quota 'volumes'" in answer.json["overLimit"]["message"]
    usage = conforms(world.admin.get(f"{where}?usage=True"), "quotas", "show_quota_set_usage")["quota_set"]
    assert (usage["volumes"]["in_use"], usage["gigabytes"]["in_use"]) == (2, 3)
    assert usage["volumes___DEFAULT__"]["in_use"] == 2
    used = conforms(world.api.get("/v3/limits"), "limits", "show_limits")["limits"]["absolute"]
    assert (used["totalVolumesUsed"], used["maxTotalVolumes"]) == (2, 2)
    assert world.api.get(f"/v3/os-quota-sets/{OTHER_PROJECT}").status == 403
    assert world.admin.put(where, {"quota_set": {"colours": 1}}).status == 400
    assert world.admin.delete(where).status == 200
    assert world.admin.get(where).json["quota_set"]["volumes"] == 10_000
    conforms(world.admin.get("/v3/os-quota-class-sets/default"), "quota_classes", "show_quota_classes")


@pytest.mark.parametrize("kind", ["os-volume-transfer", "volume-transfers"])
def test_a_volume_changes_hands(world: World, kind: str) -> None:
    """Who has the key gets the volume; nobody else does."""
    volume_id = world.create()
    body = {"transfer": {"volume_id": volume_id, "name": "gift"}}
    answer = world.api.post(f"/v3/{kind}", body, version="volume 3.57")
    made = conforms(answer, "v3_57.transfers", "create_volume_transfer")["transfer"]
    assert world.status(volume_id) == "awaiting-transfer"
    where = f"/v3/{kind}/{made['id']}"
    conforms(world.api.get(where, version="volume 3.57"), "v3_57.transfers", "show_volume_transfer")
    assert world.api.get(where, token="other").status == 404
    assert len(world.api.get(f"/v3/{kind}/detail").json["transfers"]) == 1
    accept = {"accept": {"auth_key": "wrong"}}
    assert world.api.post(f"{where}/accept", accept, token="other").status == 400
    accept = {"accept": {"auth_key": made["auth_key"]}}
    conforms(world.api.post(f"{where}/accept", accept, token="other"), "transfers", "accept_volume_transfer")
    assert world.api.get(f"/v3/volumes/{volume_id}").status == 404
    assert world.api.get(f"/v3/volumes/{volume_id}", token="other").json["volume"]["status"] == "available"
    again = world.api.post(f"/v3/{kind}", body, token="other").json["transfer"]
    assert world.api.delete(f"/v3/{kind}/{again['id']}", token="other").status == 202
    assert world.status(volume_id) == "available"


def test_what_there_is(world: World) -> None:
    """Services, pools, zones, capabilities and extensions, in tempest's shapes; a disabled service gets no volumes."""
    conforms(world.admin.get("/v3/os-services", version="volume 3.0"), "services", "list_services")
    conforms(world.admin.get("/v3/os-services", version="volume 3.7"), "v3_7.services", "list_services")
    conforms(world.admin.get("/v3/scheduler-stats/get_pools"), "scheduler_stats", "get_pools_no_detail")
    pools = conforms(
        world.admin.get("/v3/scheduler-stats/get_pools?detail=True"), "scheduler_stats", "get_pools_with_detail"
    )
    assert pools["pools"][0]["name"] == f"{HOST}@local#local"
    conforms(world.admin.get(f"/v3/capabilities/{HOST}@local"), "capabilities", "show_backend_capabilities")
    conforms(world.api.get("/v3/extensions"), "extensions", "list_extensions")
    zones = world.api.get("/v3/os-availability-zone").json["availabilityZoneInfo"]
    assert zones == [{"zoneName": "nova", "zoneState": {"available": True}}]
    assert world.api.get("/v3/os-services").status == 403
    body = {"host": f"{HOST}@local", "binary": "cinder-volume"}
    conforms(world.admin.put("/v3/os-services/disable", body), "services", "disable_service")
    volume_id = world.api.post("/v3/volumes", {"volume": {"size": 1}}).json["volume"]["id"]
    world.until(volume_id, "error")
    conforms(world.admin.put("/v3/os-services/enable", body), "services", "enable_service")
    world.create()
