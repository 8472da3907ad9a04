"""The leak check in the background, its number on /metrics, and `--repair`: each kind of leak made by hand, seen, mended, gone."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import insert, update
from tests.sim.cloud import Refused, SimCloud

from cumulet.compute.agent.hypervisor.driver import Domain
from cumulet.core.web.http import Request
from cumulet.network.drivers.driver import FloatingIp, Network, Port, Router, SecurityGroup, Subnet
from cumulet.network.drivers.sim import SimNetwork
from cumulet.network.tables import ports
from cumulet.placement import store as placement
from cumulet.placement.tables import ALLOCATIONS, CONSUMERS, PROVIDERS
from cumulet.run.leaks import find_leaks
from cumulet.run.repair import repair
from cumulet.volume.drivers.driver import Item, Snapshot, Volume
from cumulet.volume.tables import ATTACHMENTS

pytestmark = pytest.mark.xdist_group("sim_cloud")

LONG_AGO = "2020-01-01T00:00:00.000000"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    """One simulated cloud for the module, with a server in it that must never be touched."""
    with SimCloud(tmp_path_factory.mktemp("leaks")) as cloud:
        cloud.net = cloud.network()  # type: ignore[attr-defined]
        cloud.kept = cloud.launched(cloud.net, volume=True)  # type: ignore[attr-defined]
        yield cloud


Maker = Callable[[SimCloud, str], str]


def _domain(cloud: SimCloud, id: str) -> str:
    root: Any = ()
    cloud.machine.hypervisor.start(
        Domain(
            server_id=id, name="lost", hostname="lost", project_id="p", user_id="u", vcpus=1, memory_mib=64, disks=root, nics=(),
            boot="vda", config_drive=None, console_log="/dev/null", generation=1,
        )
    )  # fmt: skip
    return id


def _tap(cloud: SimCloud, id: str) -> str:
    cloud.machine.vif.plug(id, mac="fa:16:3e:00:00:01", server_id=id, mtu=1442)
    return str(cloud.machine.vif.tap_name(id))


def _files(cloud: SimCloud, id: str) -> str:
    cloud.services.host_part.instances._servers[id] = None  # type: ignore[attr-defined]
    return id


def _port(cloud: SimCloud, id: str) -> str:
    """A port that a launch made, of a server that is deleted."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    cloud.delete(server_id)
    made = cloud.member("POST", "network", "/v2.0/ports", {"port": {"network_id": cloud.net}})["port"]["id"]  # type: ignore[attr-defined]
    with cloud.services.network.db.write() as tx:
        tx.run(update(ports).where(ports.c.id == made).values(device_id=server_id, device_owner="compute:nova"))
    return str(made)


def _allocation(cloud: SimCloud, id: str) -> str:
    with cloud.services.placement.db.write() as tx:
        provider = tx.value(PROVIDERS.select().with_only_columns(PROVIDERS.c.id))
        tx.run(
            insert(CONSUMERS).values(
                id=id, generation=1, project_id="p", user_id="u", type="INSTANCE", created_at=LONG_AGO
            )
        )
        tx.run(insert(ALLOCATIONS).values(consumer_id=id, provider_id=provider, resource_class="VCPU", used=1))
        assert placement.take(tx, provider, {"VCPU": 1})
    return id


def _attachment(cloud: SimCloud, id: str) -> str:
    volume = cloud.member("POST", "volume", "/v3/volumes", {"volume": {"size": 1}})["volume"]["id"]
    path = f"/v3/volumes/{volume}"
    cloud.until(lambda: cloud.member("GET", "volume", path)["volume"]["status"] == "available", "the volume")
    tie = {
        "id": id, "volume_id": volume, "project_id": cloud.member.project_id, "server_id": id, "status": "attached", "mode": "rw",
        "host_name": None, "mountpoint": None, "connector": None, "connection_info": None, "created_at": LONG_AGO, "attached_at": None,
    }  # fmt: skip
    with cloud.services.volume.db.write() as tx:
        tx.run(insert(ATTACHMENTS).values(**tie))
    return id


def _volume(cloud: SimCloud, id: str) -> str:
    cloud.machine.volumes.create(Volume(id, 1))
    return id


def _snapshot(cloud: SimCloud, id: str) -> str:
    cloud.machine.volumes.create(Volume(id, 1))
    cloud.machine.volumes.create_snapshot(Snapshot(id, id))
    cloud.machine.volumes.delete(id)
    return id


def _image_file(cloud: SimCloud, id: str) -> str:
    cloud.services.image.files.path(id).write_bytes(b"lost")
    return id


def _guest_copy(cloud: SimCloud, id: str) -> str:
    """A copy of a volume that a server has: what a copying leaves that began after its undo."""
    server = cloud.server(cloud.kept)  # type: ignore[attr-defined]
    assert server is not None
    volume_id = server["os-extended-volumes:volumes_attached"][0]["id"]
    books = cloud.machine.volumes._folder
    (books / cloud.machine.volumes.place_copy(volume_id, id).name).write_bytes(b"lost")
    return id


def _root_copy(cloud: SimCloud, id: str) -> str:
    path = cloud.services.host_part.instances.snapshot_path(id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"lost")
    return id


def _upload(cloud: SimCloud, id: str) -> str:
    cloud.services.volume_parts.tools.upload_path(id).write_bytes(b"lost")
    return id


def _in_plane(act: Callable[[SimNetwork, str, str], None]) -> Maker:
    def make(cloud: SimCloud, id: str) -> str:
        act(cloud.machine.network, id, cloud.net)  # type: ignore[attr-defined]
        return id

    return make


def _router(plane: SimNetwork, id: str, net: str) -> None:
    plane.ensure_router(Router(id=id))


def _floating(plane: SimNetwork, id: str, net: str) -> None:
    plane.floating_ips[id] = FloatingIp(id=id, external_ip="172.24.4.9")


def _network(plane: SimNetwork, id: str, net: str) -> None:
    plane.ensure_network(Network(id=id))


def _subnet(plane: SimNetwork, id: str, net: str) -> None:
    plane.ensure_subnet(Subnet(id=id, network_id=net, cidr="10.9.0.0/24"))


def _plane_port(plane: SimNetwork, id: str, net: str) -> None:
    plane.ensure_port(Port(id=id, network_id=net, mac="fa:16:3e:00:00:09"))


def _group(plane: SimNetwork, id: str, net: str) -> None:
    plane.ensure_security_group(SecurityGroup(id=id))


#: kinds, and where several things are of one, which
KINDS: dict[str, Maker] = {
    "domain": _domain,
    "tap": _tap,
    "files": _files,
    "port": _port,
    "allocation": _allocation,
    "attachment": _attachment,
    "volume volume": _volume,
    "volume snapshot": _snapshot,
    "image file": _image_file,
    "copy: of a volume": _guest_copy,
    "copy: of a root disk": _root_copy,
    "copy: for an image": _upload,
    "ovn network": _in_plane(_network),
    "ovn subnet": _in_plane(_subnet),
    "ovn port": _in_plane(_plane_port),
    "ovn security_group": _in_plane(_group),
    "ovn router": _in_plane(_router),
    "ovn floating_ip": _in_plane(_floating),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_leak_is_seen_and_mended_and_nothing_else_is_touched(cloud: SimCloud, kind: str) -> None:
    """The check sees exactly what was made; repair says what it did of exactly that; afterwards there is nothing, and the
    server beside it runs as before."""
    id, kind = KINDS[kind](cloud, cloud.ids.uuid()), kind.partition(":")[0]
    assert [(leak.kind, leak.id) for leak in find_leaks(cloud.services)] == [(kind, id)]
    answer = cloud.admin("POST", "cumulet", "/repair", {})
    assert [(one["kind"], one["id"]) for one in answer["repaired"]] == [(kind, id)]
    assert "not mended" not in answer["repaired"][0]["done"]
    assert answer["leaks"] == []
    shown = cloud.server(cloud.kept)  # type: ignore[attr-defined]
    assert shown is not None
    assert shown["status"] == "ACTIVE"
    assert cloud.machine.hypervisor.record(shown["id"]) is not None


def test_a_half_made_file_of_a_volume_that_is_there_is_a_leak(cloud: SimCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless something still works on the volume; its repair leaves the volume alone."""
    server = cloud.server(cloud.kept)  # type: ignore[attr-defined]
    assert server is not None
    volume_id = server["os-extended-volumes:volumes_attached"][0]["id"]
    half = Item(kind="unfinished", owner_id=volume_id, name="half", size_bytes=None, allocated_bytes=1)
    halves, there, volumes = [half], cloud.machine.volumes.list, cloud.machine.volumes
    monkeypatch.setattr(volumes, "list", lambda: (*there(), *halves))
    monkeypatch.setattr(volumes, "drop_unfinished", lambda owner_id: halves.clear() if owner_id == volume_id else None)
    assert [(leak.kind, leak.id) for leak in find_leaks(cloud.services)] == [("volume unfinished", volume_id)]
    assert cloud.admin("POST", "cumulet", "/repair", {})["leaks"] == []
    assert halves == []
    assert volume_id in {item.owner_id for item in there()}


def test_a_port_that_may_be_anybody_s_is_given_back_and_not_deleted(cloud: SimCloud) -> None:
    """A user can write any server's id on a port: of a server that the cloud never knew it is only untied."""
    made = cloud.member("POST", "network", "/v2.0/ports", {"port": {"network_id": cloud.net}})["port"]["id"]  # type: ignore[attr-defined]
    with cloud.services.network.db.write() as tx:
        tx.run(update(ports).where(ports.c.id == made).values(device_id=cloud.ids.uuid(), device_owner="compute:nova"))
    assert [one["done"] for one in repair(cloud.services)] == ["given back to its owner"]
    assert cloud.member("GET", "network", f"/v2.0/ports/{made}")["port"]["device_id"] == ""
    cloud.member("DELETE", "network", f"/v2.0/ports/{made}")


def test_what_cannot_be_named_is_told_and_left_alone(cloud: SimCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file on the back end that is nobody's kind stays where it is, and the count stays with it."""
    strange = Item(kind="unknown", owner_id=None, name="holiday.jpg", size_bytes=None, allocated_bytes=1)
    there = cloud.machine.volumes.list
    monkeypatch.setattr(cloud.machine.volumes, "list", lambda: (*there(), strange))
    answer = cloud.admin("POST", "cumulet", "/repair", {})
    assert [(one["id"], one["done"]) for one in answer["repaired"]] == [
        ("holiday.jpg", "left alone: it cannot be told what it is")
    ]
    assert [leak["id"] for leak in answer["leaks"]] == ["holiday.jpg"]


def test_repair_is_the_admin_s(cloud: SimCloud) -> None:
    """A member is refused."""
    with pytest.raises(Refused) as refused:
        cloud.member("POST", "cumulet", "/repair", {})
    assert refused.value.status == 403


def _metrics(cloud: SimCloud) -> dict[str, float]:
    answer = cloud.services.apps["metrics"].handle(Request("GET", "/"))
    assert answer.status == 200
    assert str(answer.headers["Content-Type"]).startswith("text/plain; version=0.0.4")
    lines = [line for line in str(answer.body).splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def _look(cloud: SimCloud) -> None:
    """Let the time of a look come, and wait for its end."""
    before = cloud.services.leak_watch.looked_at
    cloud.jump(31)
    cloud.until(lambda: cloud.services.leak_watch.looked_at != before, "a look")


def test_a_leak_counts_when_two_complete_looks_agree(cloud: SimCloud) -> None:
    """In the background: nothing at first, nothing after one sight, one after two, and not while somebody does not answer."""
    _look(cloud)
    _look(cloud)
    assert _metrics(cloud)["cumulet_leaks"] == 0
    id = _domain(cloud, cloud.ids.uuid())
    _look(cloud)
    assert _metrics(cloud)["cumulet_leaks"] == 0
    cloud.machine.network.backend_down()
    _look(cloud)
    assert _metrics(cloud)["cumulet_check_complete"] == 0
    assert cloud.admin("GET", "cumulet", "/overview")["missing"] == ["network"]
    cloud.machine.network.backend_down(down=False)
    _look(cloud)
    assert _metrics(cloud)["cumulet_leaks"] == 0
    _look(cloud)
    shown = _metrics(cloud)
    assert (shown["cumulet_leaks"], shown['cumulet_leaks_by_kind{kind="domain"}']) == (1, 1)
    assert [leak["id"] for leak in cloud.admin("GET", "cumulet", "/overview")["leaks"]] == [id]
    repair(cloud.services)
    _look(cloud)
    assert _metrics(cloud)["cumulet_leaks"] == 0


def test_metrics_tell_what_goes_on(cloud: SimCloud) -> None:
    """A launch, its port and its guest are counted and timed; queues and sagas have their numbers."""
    before = _metrics(cloud)
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    _look(cloud)
    after = _metrics(cloud)
    assert after['cumulet_launches_total{outcome="done"}'] == before['cumulet_launches_total{outcome="done"}'] + 1
    assert after["cumulet_launch_seconds_count"] == before["cumulet_launch_seconds_count"] + 1
    assert after["cumulet_port_up_seconds_count"] == before["cumulet_port_up_seconds_count"] + 1
    assert after['cumulet_launch_seconds_bucket{le="+Inf"}'] == after["cumulet_launch_seconds_count"]
    assert after['cumulet_guests{state="running"}'] == 2
    assert after["cumulet_sagas_stuck"] == 0
    assert 'cumulet_queue_length{queue="work"}' in after
    cloud.delete(server_id)
