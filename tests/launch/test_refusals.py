"""A launch that cannot be: what is said, and that nothing is left of it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.launch.world import World

from cumulet.dev.cloud import Refused

pytestmark = pytest.mark.xdist_group("launch")

UNKNOWN = "00000000-0000-4000-8000-000000000000"
#: more than a simulated host has: 10,000 vCPU, 16 TiB of memory, 16 TiB of disk
TOO_LARGE = {
    "VCPU": {"vcpus": 20_000, "ram": 128, "disk": 1},
    "MEMORY_MB": {"vcpus": 1, "ram": 32 << 20, "disk": 1},
    "DISK_GB": {"vcpus": 1, "ram": 128, "disk": 32 << 10},
}


@pytest.fixture
def quota_of_all(world: World) -> Any:
    """Quotas that let any flavor in, so that the scheduler is the one to refuse."""
    project = world.member.get("identity", "/v3/auth/projects")["projects"][0]["id"]
    limits = {"cores": -1, "ram": -1, "instances": -1}
    world.admin.ask("PUT", "compute", f"/os-quota-sets/{project}", {"quota_set": limits})
    yield
    world.admin.delete("compute", f"/os-quota-sets/{project}")


@pytest.mark.parametrize("resource", TOO_LARGE)
def test_a_flavor_that_no_host_can_hold(world: World, quota_of_all: None, resource: str) -> None:
    """ERROR; the fault says which resource was short, with the host's name for the admin only; nothing is held."""
    size = TOO_LARGE[resource]
    made = world.admin.post("compute", "/flavors", {"flavor": {"name": f"huge-{resource}"} | size})
    flavor = made["flavor"]["id"]
    held = world.holdings()
    server_id = world.post(world.with_volume(flavorRef=flavor))
    assert world.settled(server_id)["status"] == "ERROR"
    fault, admins = world.server(server_id)["fault"], world.server(server_id, admin=True)["fault"]
    host = world.admin.get("compute", "/os-hypervisors")["hypervisors"][0]["hypervisor_hostname"]
    assert fault["code"] == 500
    assert "No valid host was found" in fault["message"]
    assert resource in fault["message"]
    assert f"{host}:" not in str(fault)
    assert host in admins["details"]
    assert resource in admins["details"]
    now = world.holdings()
    assert now["servers"] - held["servers"] == {server_id}
    assert {key: now[key] for key in ("ports", "volumes", "allocations")} == {
        key: held[key] for key in ("ports", "volumes", "allocations")
    }
    assert world.leaks() == []
    world.delete(server_id)
    world.admin.delete("compute", f"/flavors/{flavor}")


def test_a_busy_server_refuses_a_second_action(world: World) -> None:
    """Of many actions at once some begin; every other one is told the task that is under way, with 409."""
    with world.launched(world.body()) as server_id, ThreadPoolExecutor(8) as pool:

        def reboot(_: int) -> Refused | None:
            try:
                world.act(server_id, {"reboot": {"type": "HARD"}})
            except Refused as refused:
                return refused
            return None

        answers = list(pool.map(reboot, range(24)))
        refused = [answer for answer in answers if answer is not None]
        assert None in answers
        assert refused
        for answer in refused:
            assert answer.status == 409
            words, task = world.words(answer).rsplit(" ", 1)
            assert words == f"Cannot 'reboot' instance {server_id} while it is in task_state"
            assert task in {"rebooting_hard", "reboot_started_hard", "reboot_started"}
        assert world.settled(server_id)["status"] == "ACTIVE"


def test_a_building_server_refuses_other_actions(world: World) -> None:
    """While a server builds, an action is 409 and names its task state."""
    for _ in range(10):
        server_id = world.post(world.with_volume())
        refused = None
        try:
            world.act(server_id, {"os-stop": None})
        except Refused as answer:
            refused = answer
        world.settled(server_id)
        world.delete(server_id)
        if refused is not None:
            assert refused.status == 409
            assert "while it is in task_state " in world.words(refused)
            return
    pytest.fail("ten launches were each over before the next request came")


@pytest.mark.parametrize("stage", ["scheduling", "networking", "block_device_mapping", "spawning"])
def test_a_server_deleted_while_it_builds_leaves_nothing(world: World, stage: str) -> None:
    """Whatever stage the launch is at, DELETE is taken, the launch turns back, and nothing is left (the fixture looks)."""
    for _ in range(5):
        server_id = world.post(world.with_volume())
        shown = world.server(server_id)
        while shown["OS-EXT-STS:task_state"] != stage and shown["status"] == "BUILD":
            shown = world.server(server_id)
        world.member.delete("compute", f"/servers/{server_id}")
        world.wait_for(lambda gone=server_id: world.is_gone(gone), f"server {server_id} to go")
        assert world.leaks() == []


def refusal(world: World, status: int, **more: Any) -> str:
    """The words with which a launch is refused, and that it wrote nothing."""
    before = world.holdings()
    with pytest.raises(Refused) as caught:
        world.post(world.body(**more))
    assert caught.value.status == status
    assert world.holdings() == before
    return world.words(caught.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"imageRef": UNKNOWN}, f"Image {UNKNOWN} could not be found."),
        ({"flavorRef": UNKNOWN}, f"Flavor {UNKNOWN} could not be found."),
        ({"networks": [{"uuid": UNKNOWN}]}, f"Network {UNKNOWN} could not be found."),
        ({"networks": [{"port": UNKNOWN}]}, f"Port id {UNKNOWN} could not be found."),
        ({"key_name": "no-such-key"}, "Invalid key_name provided."),
        ({"security_groups": [{"name": "no-such-group"}]}, "Security group no-such-group not found for project "),
    ],
    ids=["image", "flavor", "network", "port", "key", "security group"],
)
def test_what_is_not_there(world: World, asked: dict[str, Any], words: str) -> None:
    """Unknown image, flavor, network, port, key, security group: 400 with the reference's words, nothing written."""
    assert words in refusal(world, 400, **asked)


def test_a_port_in_use(world: World) -> None:
    """A second server on a port is 409; the port stays with the first, and with its owner when the first is gone."""
    made = world.member.post("network", "/v2.0/ports", {"port": {"network_id": world.network}})
    port = made["port"]["id"]
    with world.launched(world.body(networks=[{"port": port}])) as server_id:
        assert refusal(world, 409, networks=[{"port": port}]) == f"Port {port} is still in use."
        assert world.member.get("network", f"/v2.0/ports/{port}")["port"]["device_id"] == server_id
    kept = world.member.get("network", f"/v2.0/ports/{port}")["port"]
    assert (kept["device_id"], kept["device_owner"]) == ("", "")
    world.member.delete("network", f"/v2.0/ports/{port}")


def test_a_fixed_address_in_use(world: World) -> None:
    """A fixed address that another server has is 409."""
    nic = {"uuid": world.network, "fixed_ip": "10.30.0.77"}
    with world.launched(world.body(networks=[nic])) as server_id:
        addresses = world.server(server_id)["addresses"]
        assert [address["addr"] for one in addresses.values() for address in one] == ["10.30.0.77"]
        assert "10.30.0.77" in refusal(world, 409, networks=[nic])


def test_a_volume_in_use(world: World) -> None:
    """A volume that another server has is refused, and stays with it."""
    made = world.member.post("block-storage", "/volumes", {"volume": {"name": "mine", "size": 1}})
    volume = made["volume"]["id"]

    def status() -> str:
        return str(world.member.get("block-storage", f"/volumes/{volume}")["volume"]["status"])

    world.wait_for(lambda: status() == "available", "the volume")
    root = {"boot_index": 0, "uuid": world.image, "source_type": "image", "destination_type": "local"}
    mine = {"boot_index": -1, "uuid": volume, "source_type": "volume", "destination_type": "volume"}
    with world.launched(world.body(block_device_mapping_v2=[root, mine])):
        assert status() == "in-use"
        refusal(world, 409, block_device_mapping_v2=[root, mine])
    world.wait_for(lambda: status() == "available", "the volume to be free again")
    world.member.delete("block-storage", f"/volumes/{volume}")
    world.wait_for(lambda: volume not in world.holdings()["volumes"], "the volume to go")
