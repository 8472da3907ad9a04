"""Two things done to one server at once: what each writes of the server's record, the other does not undo."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.http.compute_world import World

from cumulet.compute.conductor.outcomes import DeviceOutcome
from cumulet.compute.records import Interface
from cumulet.compute.store import servers
from cumulet.core.errors import Conflict
from cumulet.core.saga import Saga


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A compute API of its own."""
    world = World(database_url)
    yield world
    world.close()


def attach(world: World, server: str, volume: str, **more: Any) -> int:
    """Ask for an attachment; the answer's status."""
    where = f"/v2.1/servers/{server}/os-volume_attachments"
    return world.client(version="2.89").post(where, {"volumeAttachment": {"volumeId": volume, **more}}).status


def in_between(world: World, monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Let something happen once, between the request's first look at the record and the transaction that begins its flow."""
    look = world.volumes.get

    def slow(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(world.volumes, "get", look)
        act()
        return look(*args, **more)

    monkeypatch.setattr(world.volumes, "get", slow)


def test_two_attachments_at_once_both_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume that was attached while another one was being looked for is still on the record, and each has its own name."""
    server, first, second = world.boot(), world.volumes.add(), world.volumes.add()

    def other() -> None:
        assert attach(world, server, first.id) == 200
        world.settle(server)

    in_between(world, monkeypatch, other)
    assert attach(world, server, second.id) == 200
    devices = {one.volume_id: one.device_name for one in world.settle(server).block_devices if one.volume_id}
    assert devices == {first.id: "vdb", second.id: "vdc"}


def test_a_device_name_taken_meanwhile_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is judged by the record that is written, and no volume is reserved for nothing."""
    server, first, second = world.boot(), world.volumes.add(), world.volumes.add()

    def other() -> None:
        assert attach(world, server, first.id, device="/dev/vdb") == 200
        world.settle(server)

    in_between(world, monkeypatch, other)
    assert attach(world, server, second.id, device="/dev/vdb") == 409
    assert world.volumes.volumes[second.id].status == "available"
    assert [one.volume_id for one in world.settle(server).block_devices if one.volume_id] == [first.id]


def test_a_detachment_meanwhile_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume detached while another one was being looked for does not come back."""
    server, first, second = world.boot(), world.volumes.add(), world.volumes.add()
    assert attach(world, server, first.id) == 200
    world.settle(server)

    def other() -> None:
        where = f"/v2.1/servers/{server}/os-volume_attachments/{first.id}"
        assert world.client(version="2.89").delete(where).status == 202
        world.settle(server)

    in_between(world, monkeypatch, other)
    assert attach(world, server, second.id) == 200
    assert [one.volume_id for one in world.settle(server).block_devices if one.volume_id] == [second.id]


def test_an_attachment_that_failed_leaves_the_record_as_it_was(world: World) -> None:
    """The answer says what it failed with, and once all is undone no device of it is shown."""
    server, volume = world.boot(), world.volumes.add()
    world.broken("attach_volume", Conflict("No place left."))
    assert attach(world, server, volume.id) == 409
    assert [one.volume_id for one in world.settle(server).block_devices if one.volume_id] == []


def saga(world: World, server: str, flow: str, values: dict[str, Any]) -> Saga:
    """A flow of a server as the log has it."""
    with world.db.read() as tx:
        launch = world.coordinator.journal.of_subject(tx, server)[0]
    return msgspec.structs.replace(launch, flow=flow, input=values)


def test_a_step_writes_its_own_device_only(world: World) -> None:
    """What else has changed on the record since the step began stays: a floating address, what goes with the server."""
    server = world.boot(networks=[{"uuid": world.networks.network.id}])
    volume = world.volumes.add()
    assert attach(world, server, volume.id) == 200
    before = world.settle(server)
    nic = before.interfaces[0]
    device = next(one for one in before.block_devices if one.volume_id == volume.id)
    # meanwhile
    world.service.devices.keep_on_termination(before, volume.id, delete=True)
    with world.db.write() as tx:
        servers.set_floating(tx, before, nic.port_id, {nic.addresses[0].address: ["172.24.4.9"]})
    new = msgspec.structs.replace(nic, port_id=world.ids.uuid())
    outcome, step = DeviceOutcome(world.clock), world.coordinator.flows["attach_volume"].steps[0]
    plugging = saga(world, server, "attach_volume", {"device": msgspec.to_builtins(device)})
    joining = saga(world, server, "attach_interface", {})
    leaving = saga(world, server, "detach_interface", {"port_id": new.port_id})
    connected = msgspec.structs.replace(device, connection={"a": 1})
    with world.db.write() as tx:
        outcome.recorded(tx, plugging, step, msgspec.to_builtins({"devices": [connected]}))
        outcome.recorded(tx, joining, step, msgspec.to_builtins({"interfaces": [nic, new]}))
    after = world.settle(server)
    kept = next(one for one in after.block_devices if one.volume_id == volume.id)
    assert (kept.delete_on_termination, kept.connection) == (True, {"a": 1})
    assert [(one.port_id, floating(one)) for one in after.interfaces] == [
        (nic.port_id, ("172.24.4.9",)),
        (new.port_id, ()),
    ]
    with world.db.write() as tx:
        outcome.recorded(tx, leaving, step, {"interfaces": []})
    assert [one.port_id for one in world.settle(server).interfaces] == [nic.port_id]


def floating(nic: Interface) -> tuple[str, ...]:
    """The floating addresses that lead to a NIC's first."""
    return nic.addresses[0].floating
