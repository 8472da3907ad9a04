"""Repair reaches every host that the leak check looks at."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from cumulet.compute.agent.hypervisor.driver import Domain
from cumulet.compute.tables import USAGE
from cumulet.dev.chaos.agenda import Life
from cumulet.dev.chaos.outside import HOSTS
from cumulet.dev.chaos.proofs import Stage
from cumulet.dev.chaos.world import token_of
from cumulet.placement.tables import INVENTORIES
from cumulet.run.leaks import look
from cumulet.run.repair import mend


@pytest.mark.parametrize("name", HOSTS)
def test_what_nobody_owns_is_taken_from_the_host_that_has_it(stage: Stage, name: str) -> None:
    """A guest, a tap, files and a root disk's copy of no server go from this host; a server of the cloud stays where it is."""
    kept = stage.server()
    world, lost = stage.world, "99999999-9999-4999-8999-999999999999"
    host = world.outside.hosts[name]
    before = {one.name: [state.server_id for state in one.hypervisor.list()] for one in world.outside.hosts.values()}
    host.hypervisor.start(Domain(server_id=lost, name="lost", vcpus=1, memory_mib=64, console_log="/dev/null"))
    host.vif.plug(lost, mac="fa:16:3e:00:00:01", server_id=lost, mtu=1442)
    host.instances._servers[lost] = None
    host.instances.snapshot_path(lost).write_bytes(b"lost")
    services = world.services
    assert services is not None
    leaks = look(services, strict=True).leaks
    assert sorted((leak.kind, leak.host) for leak in leaks) == [
        ("copy", name),
        ("domain", name),
        ("files", name),
        ("tap", name),
    ]
    told = mend(services, leaks)
    assert sorted((one["host"], one["done"]) for one in told) == [
        (name, "destroyed"),
        (name, "removed"),
        (name, "removed"),
        (name, "unplugged"),
    ]
    assert look(services, strict=True).leaks == frozenset()
    after = {one.name: [state.server_id for state in one.hypervisor.list()] for one in world.outside.hosts.values()}
    assert after == before
    assert [state.server_id for one in world.outside.hosts.values() for state in one.hypervisor.list()] == [kept]


def test_a_sum_that_went_astray_is_counted_anew(stage: Stage) -> None:
    """What a project's quota and a host's inventory say is in use is what servers take, whatever wrote the numbers."""
    stage.server()
    services = stage.world.services
    assert services is not None
    assert look(services, strict=True).leaks == frozenset()

    def inventories() -> list[dict[str, Any]]:
        with services.placement.db.read() as tx:
            return tx.all(select(INVENTORIES))

    before = inventories()
    with services.compute_db.write() as tx:
        tx.run(update(USAGE).values(cores=USAGE.c.cores + 1))
    with services.placement.db.write() as tx:
        tx.run(update(INVENTORIES).where(INVENTORIES.c.resource_class == "VCPU").values(used=INVENTORIES.c.used + 1))
    leaks = look(services, strict=True).leaks
    assert sorted(leak.kind for leak in leaks) == ["inventory"] * len(HOSTS) + ["usage"]
    assert {one["done"] for one in mend(services, leaks)} == {"counted anew", "to be counted anew"}
    assert look(services, strict=True).leaks == frozenset()
    assert inventories() == before


def test_a_port_that_a_user_brought_later_is_given_back(stage: Stage) -> None:
    """Its binding came after its attachment was undone: it is untied, and not deleted."""
    server_id = stage.server()
    world = stage.world
    token = token_of(world, "demo")
    body = {"port": {"network_id": stage.ids["green"], "name": "mine"}}
    port_id = world.ask("network", "POST", "/v2.0/ports", token=token, body=body).json["port"]["id"]
    attachment = {"interfaceAttachment": {"port_id": port_id}}
    held: list[Callable[[], Any]] = []

    def late(life: Life, where: str, effect: Callable[[], Any]) -> bool:
        if f"network PUT /v2.0/ports/{port_id}" in where and life.name != "control":
            held.append(effect)
            return True
        return False

    world.perils.late = late
    stage.send("compute", "POST", f"/v2.1/servers/{server_id}/os-interface", attachment)
    stage.settle()
    world.perils.late = None
    assert [one["vm_state"] for one in stage.story.servers()] == ["active"]
    held[0]()
    services = world.services
    assert services is not None
    leaks = look(services, strict=True).leaks
    assert [(leak.kind, leak.id) for leak in leaks] == [("port", port_id)]
    assert [one["done"] for one in mend(services, leaks)] == ["given back to its owner"]
    shown = world.ask("network", "GET", f"/v2.0/ports/{port_id}", token=token).json["port"]
    assert (shown["name"], shown["device_id"]) == ("mine", "")


def test_a_copy_stays_while_its_volume_is_copied(stage: Stage) -> None:
    """What is being copied now must not be cut for an older copy that nobody owns: it is left until that is done."""
    _, volume_id = stage.attached()
    world, lost = stage.world, "99999999-9999-4999-8999-999999999999"
    left = world.outside.volume_folder / world.outside.volumes.place_copy(volume_id, lost).name
    left.write_bytes(b"lost")
    services = world.services
    assert services is not None
    leaks = look(services, strict=True).leaks
    assert [(leak.kind, leak.id) for leak in leaks] == [("copy", lost)]
    stage.keep(volume_id, force=True)
    world.agenda.run(until_s=world.agenda.now_s + 60, done=lambda: bool(stage.court.live()))
    assert [one["done"] for one in mend(services, leaks)] == ["left alone while the volume is copied"]
    stage.settle()
    assert [one["done"] for one in mend(services, leaks)] == ["removed from the back end"]
    assert not left.exists()
    assert [one["status"] for one in stage.story.snapshots()] == ["available"]
