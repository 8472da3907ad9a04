"""Every state that should pass has a row, and each row cures what a crash would have left: a thing in that state, and no saga."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, insert, select, update
from tests.sim.cloud import SimCloud

import cumulet
from cumulet.compute import states
from cumulet.compute.tables import SAGAS, SERVERS
from cumulet.core.saga import Flow
from cumulet.core.work import Until
from cumulet.image.records import IMPORTING, SAVING, UPLOADING
from cumulet.image.tables import IMAGES, TASKS
from cumulet.network.tables import owed, ports
from cumulet.run.deadlines import ROWS
from cumulet.run.server_flows import FLOWS
from cumulet.volume.tables import ATTACHMENTS, SNAPSHOTS, VOLUMES

pytestmark = pytest.mark.xdist_group("sim_cloud")

LONG_AGO = "2020-01-01T00:00:00.000000"
STATES = {kind: {row.state for row in ROWS if row.kind == kind} for kind in {row.kind for row in ROWS}}
SOURCE = Path(cumulet.__file__).parent

#: where things may stay for as long as their owner likes
AT_REST = {
    "volume": {
        "available", "in-use", "error", "error_extending", "error_restoring", "error_deleting", "awaiting-transfer",
        "maintenance",
    },
    "snapshot": {"available", "error"},
}  # fmt: skip


# --- the table is complete -----------------------------------------------------------------------------------------


def _task_states() -> set[str]:
    """What a server may be busy with: by the actions, the flows' stages, and every text written to `task_state`."""
    found = {task for _, task in states.ACTIONS.values() if task is not None}
    found |= {step.stage for flow in FLOWS for step in flow.steps if step.stage is not None}
    by_flow = {"confirmResize": "confirm_resize"}
    found |= {by_flow.get(action, action) for action, (_, task) in states.ACTIONS.items() if task is None}
    for node in _nodes("compute"):
        if isinstance(node, ast.keyword) and node.arg == "task_state" and isinstance(node.value, ast.Constant):
            found.add(node.value.value)
    return {state for state in found if state is not None} - {"get_console"}


def _nodes(room: str) -> Iterator[ast.AST]:
    for path in sorted((SOURCE / room).rglob("*.py")):
        yield from ast.walk(ast.parse(path.read_text()))


def _written_states(room: str) -> set[str]:
    """Every status that a room's code gives a thing: the last text argument of a `move`, and `status="..."`."""
    found: set[str] = set()
    for node in _nodes(room):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in {"move", "_move"}:
                texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                found |= set(texts[-1:])
            found |= {
                word.value.value
                for word in node.keywords
                if word.arg == "status" and isinstance(word.value, ast.Constant) and isinstance(word.value.value, str)
            }
    return found


def test_every_task_state_of_a_server_has_a_row() -> None:
    """The table has a row for each task state that the code can write, and for a server that builds; and no other."""
    assert STATES["server"] == _task_states() | {"BUILD"}


def test_every_state_of_volumes_snapshots_and_attachments_has_a_row() -> None:
    """Each status that the volume service writes is at rest by a list kept here, or has a row."""
    ties = {"reserved", "attaching", "attached", "detaching"}
    written = _written_states("volume")
    assert {"creating", "deleting", "extending", "uploading", "reverting", "restoring", "downloading"} <= written
    rest = AT_REST["volume"] | AT_REST["snapshot"] | {"attached"}
    missing = written - rest - STATES["volume"] - STATES["snapshot"] - STATES["attachment"]
    assert not missing
    assert STATES["attachment"] == ties - {"attached"}
    assert STATES["volume"] >= {"reserved", "attaching", "detaching"}


def test_every_state_of_images_ports_sagas_and_orders_has_a_row() -> None:
    """Bytes on their way, debts of the data plane, ports that are not up, sagas that are not at their end, orders without an answer."""
    from cumulet.core.saga.journal import LIVE

    assert STATES["image"] == {SAVING, IMPORTING, UPLOADING}
    assert STATES["debt"] == {"owed"}
    assert STATES["port"] == {"BUILD", "DOWN"}
    assert STATES["saga"] == STATES["volume saga"] == set(LIVE)
    assert STATES["order"] == STATES["volume order"] == {"unheard"}


def test_every_row_names_a_cure_that_its_keeper_has(cloud: SimCloud) -> None:
    """No row without a keeper, no cure that is not there, no two rows for one state."""
    keepers = {kind: keeper for keeper, _, _ in cloud.services.reconciler._parts for kind in keeper.kinds}
    for row in ROWS:
        assert callable(getattr(keepers[row.kind], row.cure)), row
    assert len({(row.kind, row.state) for row in ROWS}) == len(ROWS)


def test_a_look_at_many_servers_at_rest_reads_the_index_of_busy_ones(cloud: SimCloud) -> None:
    """With nothing due a look costs no scan of the servers: the engine's plan uses the small index."""
    db = cloud.services.compute_db
    with db.read() as tx:
        cursor = tx._connection.cursor()
        cursor.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM servers WHERE (task_state IS NOT NULL OR vm_state = 'building') "
            "AND updated_at < '2030'"
        )
        plan = " ".join(str(row) for row in cursor.fetchall())
    assert "ix_servers_task" in plan


# --- each row cures ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    """One simulated cloud for the module."""
    with SimCloud(tmp_path_factory.mktemp("deadlines")) as cloud:
        cloud.net = cloud.network()  # type: ignore[attr-defined]
        yield cloud


@pytest.fixture
def cloud(shared: SimCloud) -> Iterator[SimCloud]:
    """The cloud; a test leaves nothing without an owner in it."""
    yield shared
    from cumulet.run.leaks import find_leaks

    assert find_leaks(shared.services) == []


def _cured(cloud: SimCloud, kind: str, state: str) -> None:
    """Let the reconciler look, and wait until it has cured one thing in this state."""
    done = cloud.services.reconciler.cured
    before = done.get((kind, state), 0)
    cloud.services.reconciler.look_everywhere()
    cloud.until(lambda: done.get((kind, state), 0) > before, f"{kind} {state} to be cured")


def _lose_server(cloud: SimCloud, server_id: str, **values: Any) -> None:
    """What a row changed past its saga looks like."""
    with cloud.services.compute_db.write() as tx:
        tx.run(delete(SAGAS.sagas).where(SAGAS.sagas.c.subject_id == server_id))
        tx.run(update(SERVERS).where(SERVERS.c.id == server_id).values(updated_at=LONG_AGO, **values))


@pytest.mark.parametrize("state", ["BUILD", "scheduling", "networking", "block_device_mapping", "spawning"])
def test_a_launch_without_a_saga_is_unwound(cloud: SimCloud, state: str) -> None:
    """ERROR with words for its owner; port, volume, guest and claim are gone."""
    server_id = cloud.launched(cloud.net, volume=True)  # type: ignore[attr-defined]
    task = None if state == "BUILD" else state
    _lose_server(cloud, server_id, vm_state=states.BUILDING, task_state=task)
    _cured(cloud, "server", state)
    shown = cloud.settled(server_id)
    assert shown["status"] == "ERROR"
    assert "nothing worked on it any more" in shown["fault"]["message"]
    assert all(guest.server_id != server_id for guest in cloud.machine.hypervisor.list())
    assert not cloud.admin("GET", "network", f"/v2.0/ports?device_id={server_id}")["ports"]
    cloud.until(lambda: not cloud.member("GET", "volume", "/v3/volumes")["volumes"], "the volume to go")
    cloud.delete(server_id)


def test_a_deletion_without_a_saga_is_begun_again(cloud: SimCloud) -> None:
    """It ends as a deletion ends."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    _lose_server(cloud, server_id, task_state="deleting")
    _cured(cloud, "server", "deleting")
    cloud.gone(server_id)


FORMAT = {"disk_format": "raw", "container_format": "bare"}
SETTLED = sorted(row.state for row in ROWS if row.kind == "server" and row.cure == "settle")


def test_other_tasks_without_a_saga_end_in_what_the_host_says(cloud: SimCloud) -> None:
    """For each task that has nothing to resume: no task, a fault in words, and the state by the host's word."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    for state in SETTLED:
        off = state in {"powering-off", "suspending"}
        _lose_server(cloud, server_id, task_state=state, power_state=4 if off else 1, vm_state="active")
        _cured(cloud, "server", state)
        shown = cloud.server(server_id)
        assert shown is not None
        assert shown["OS-EXT-STS:task_state"] is None, state
        assert shown["OS-EXT-STS:vm_state"] == ("stopped" if off else "active"), state
    with cloud.services.compute_db.read() as tx:
        fault = tx.value(select(SERVERS.c.fault).where(SERVERS.c.id == server_id))
    assert f"'{SETTLED[-1]}'" in fault["message"]
    cloud.delete(server_id)


@pytest.mark.parametrize("state", ["attach_volume", "detach_volume", "attach_interface", "detach_interface"])
def test_a_change_of_devices_without_a_saga_leaves_what_is_on_record(cloud: SimCloud, state: str) -> None:
    """Where nobody knows what was meant, the guest has the NIC and the volume that its record says, and the task is over."""
    server_id = cloud.launched(cloud.net, volume=True)  # type: ignore[attr-defined]
    before = cloud.machine.hypervisor.record(server_id)
    volume_id = next(disk.key for disk in before.disks if disk.target != "vda")
    if state == "detach_volume":
        cloud.machine.hypervisor.detach_disk(server_id, volume_id)
    elif state == "detach_interface":
        cloud.machine.hypervisor.detach_nic(server_id, before.nics[0].port_id)
    _lose_server(cloud, server_id, task_state=state)
    _cured(cloud, "server", state)
    assert cloud.settled(server_id)["status"] == "ACTIVE"
    after = cloud.machine.hypervisor.record(server_id)
    assert {disk.key for disk in after.disks} == {disk.key for disk in before.disks}
    assert after.nics == before.nics
    cloud.delete(server_id)


def test_an_image_on_its_way_without_a_saga_is_given_up(cloud: SimCloud) -> None:
    """The queued image of the server goes, another's stays; without one the task is only ended."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    for state in ("image_snapshot", "image_pending_upload", "image_uploading"):
        made = {
            name: cloud.member("POST", "image", "/v2/images", {"name": name, "instance_uuid": of, **FORMAT})["id"]
            for name, of in (("mine", server_id), ("other", cloud.ids.uuid()))
        }
        _lose_server(cloud, server_id, task_state=state)
        _cured(cloud, "server", state)
        assert cloud.settled(server_id)["status"] == "ACTIVE"
        left = {image["id"] for image in cloud.member("GET", "image", "/v2/images?status=queued")["images"]}
        assert left == {made["other"]}
        cloud.member("DELETE", "image", f"/v2/images/{made['other']}")
    _lose_server(cloud, server_id, task_state="image_uploading")
    _cured(cloud, "server", "image_uploading")
    assert cloud.settled(server_id)["status"] == "ACTIVE"
    cloud.delete(server_id)


@pytest.mark.parametrize("state", ["rebuilding", "rebuild_block_device_mapping", "rebuild_spawning"])
def test_a_rebuild_without_a_saga_is_begun_again(cloud: SimCloud, state: str) -> None:
    """It ends ACTIVE, with a guest."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    _lose_server(cloud, server_id, task_state=state)
    _cured(cloud, "server", state)
    assert cloud.settled(server_id)["status"] == "ACTIVE"
    cloud.delete(server_id)


@pytest.mark.parametrize("state", ["resize_prep", "resize_migrating"])
def test_a_resize_without_a_saga_goes_back(cloud: SimCloud, state: str) -> None:
    """The flavor on record is claimed and runs; the fault says that the resize was lost."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    before = cloud.server(server_id)
    _lose_server(cloud, server_id, task_state=state)
    _cured(cloud, "server", state)
    after = cloud.settled(server_id)
    assert before is not None
    assert (after["status"], after["flavor"]) == ("ACTIVE", before["flavor"])
    cloud.delete(server_id)


def test_confirming_and_reverting_without_a_saga_are_begun_again(cloud: SimCloud) -> None:
    """The one ends with the new flavor, the other with the old one."""
    flavors = {one["name"]: one["id"] for one in cloud.member("GET", "compute", "/v2.1/flavors")["flavors"]}
    for state, name in (("confirm_resize", "m1.micro"), ("resize_reverting", "m1.nano")):
        server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
        path = f"/v2.1/servers/{server_id}/action"
        cloud.member("POST", "compute", path, {"resize": {"flavorRef": flavors["m1.micro"]}})
        cloud.until(lambda one=server_id: cloud.settled(one)["status"] == "VERIFY_RESIZE", "the resize")
        values = {"old_flavor": None} if state == "confirm_resize" else {}
        _lose_server(cloud, server_id, task_state=state, **values)
        _cured(cloud, "server", state)
        shown = cloud.settled(server_id)
        assert (shown["status"], shown["flavor"]["id"]) == ("ACTIVE", flavors[name])
        cloud.delete(server_id)


def _volume(cloud: SimCloud, **more: Any) -> str:
    made = cloud.member("POST", "volume", "/v3/volumes", {"volume": {"size": 1, **more}})["volume"]["id"]
    _volume_is(cloud, made, "available")
    return str(made)


def _volume_is(cloud: SimCloud, volume_id: str, *status: str) -> None:
    def look() -> bool:
        return cloud.member("GET", "volume", f"/v3/volumes/{volume_id}")["volume"]["status"] in status

    cloud.until(look, f"volume {volume_id} to be {status}")


def _no_volumes(cloud: SimCloud) -> None:
    for one in cloud.member("GET", "volume", "/v3/volumes")["volumes"]:
        cloud.member("DELETE", "volume", f"/v3/volumes/{one['id']}?cascade=true")
    cloud.until(lambda: not cloud.member("GET", "volume", "/v3/volumes")["volumes"], "volumes to go")


def _lose(cloud: SimCloud, table: Any, id: str, **values: Any) -> None:
    stamp = "created_at" if table is ATTACHMENTS else "updated_at"
    with cloud.services.volume.db.write() as tx:
        tx.run(update(table).where(table.c.id == id).values(**{stamp: LONG_AGO}, **values))


@pytest.mark.parametrize(
    ("state", "previous", "after"),
    [
        ("creating", None, "error"),
        ("downloading", None, "error"),
        ("extending", "available", "error_extending"),
        ("reverting", "available", "error_restoring"),
        ("uploading", "available", "available"),
        ("reserved", None, "available"),
        ("attaching", None, "available"),
        ("detaching", None, "available"),
    ],
)
def test_a_volume_that_nothing_works_on_is_unwound(
    cloud: SimCloud, state: str, previous: str | None, after: str
) -> None:
    """Each state ends in one where its owner can use or delete the volume."""
    volume_id = _volume(cloud)
    _lose(cloud, VOLUMES, volume_id, status=state, previous_status=previous)
    _cured(cloud, "volume", state)
    _volume_is(cloud, volume_id, after)
    _no_volumes(cloud)


def test_a_volume_s_deletion_without_a_saga_is_begun_again(cloud: SimCloud) -> None:
    """It goes, and so do its bytes."""
    volume_id = _volume(cloud)
    _lose(cloud, VOLUMES, volume_id, status="deleting")
    _cured(cloud, "volume", "deleting")
    cloud.until(lambda: not cloud.member("GET", "volume", "/v3/volumes")["volumes"], "the volume to go")


def test_snapshots_that_nothing_works_on_are_unwound(cloud: SimCloud) -> None:
    """One in creation ends in error without bytes, one in deletion goes, one being restored is available."""
    volume_id = _volume(cloud)

    def made() -> str:
        body = {"snapshot": {"volume_id": volume_id}}
        snapshot_id = str(cloud.member("POST", "volume", "/v3/snapshots", body)["snapshot"]["id"])
        cloud.until(lambda: status(snapshot_id) == "available", "the snapshot")
        return snapshot_id

    def status(snapshot_id: str) -> str | None:
        every = cloud.member("GET", "volume", "/v3/snapshots/detail")["snapshots"]
        return next((one["status"] for one in every if one["id"] == snapshot_id), None)

    for state, after in (("creating", "error"), ("deleting", None), ("restoring", "available")):
        snapshot_id = made()
        _lose(cloud, SNAPSHOTS, snapshot_id, status=state)
        _cured(cloud, "snapshot", state)
        cloud.until(lambda one=snapshot_id, end=after: status(one) == end, f"snapshot {state} → {after}")
    assert len([item for item in cloud.machine.volumes.list() if item.kind == "snapshot"]) == 1
    _no_volumes(cloud)


def test_a_revert_that_was_lost_goes_on_with_its_snapshot(cloud: SimCloud) -> None:
    """The volume is available again, and so is the snapshot that was being restored."""
    volume_id = _volume(cloud)
    body = {"snapshot": {"volume_id": volume_id}}
    snapshot_id = cloud.member("POST", "volume", "/v3/snapshots", body)["snapshot"]["id"]
    path = f"/v3/snapshots/{snapshot_id}"
    cloud.until(lambda: cloud.member("GET", "volume", path)["snapshot"]["status"] == "available", "the snapshot")
    with cloud.services.volume.db.write() as tx:
        tx.run(update(SNAPSHOTS).where(SNAPSHOTS.c.id == snapshot_id).values(status="restoring"))
    _lose(cloud, VOLUMES, volume_id, status="reverting", previous_status="available")
    _cured(cloud, "volume", "reverting")
    _volume_is(cloud, volume_id, "available")
    assert cloud.member("GET", "volume", path)["snapshot"]["status"] == "available"
    _no_volumes(cloud)


@pytest.mark.parametrize("state", ["reserved", "attaching", "detaching"])
def test_an_attachment_of_no_server_is_let_go(cloud: SimCloud, state: str) -> None:
    """The volume it held is available again."""
    volume_id = _volume(cloud)
    body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": cloud.ids.uuid()}}
    tie = cloud.admin("POST", "volume", "/v3/attachments", body, OpenStack_API_Version="volume 3.27")["attachment"]
    _lose(cloud, ATTACHMENTS, tie["id"], status=state)
    _cured(cloud, "attachment", state)
    _volume_is(cloud, volume_id, "available")
    _no_volumes(cloud)


def test_an_attachment_whose_server_has_the_volume_is_completed(cloud: SimCloud) -> None:
    """The server's record decides: the volume is in use."""
    server_id = cloud.launched(cloud.net, volume=True)  # type: ignore[attr-defined]
    with cloud.services.volume.db.read() as tx:
        tie = tx.one(select(ATTACHMENTS).where(ATTACHMENTS.c.server_id == server_id))
    assert tie is not None
    _lose(cloud, ATTACHMENTS, tie["id"], status="attaching")
    _cured(cloud, "attachment", "attaching")
    _volume_is(cloud, tie["volume_id"], "in-use")
    cloud.delete(server_id)
    cloud.until(lambda: not cloud.member("GET", "volume", "/v3/volumes")["volumes"], "the volume to go")


def test_a_volume_on_its_way_to_a_server_is_taken_back(cloud: SimCloud) -> None:
    """An attachment that was lost half way: the disk is off the guest and the record, the volume available."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    volume_id = _volume(cloud)
    path = f"/v2.1/servers/{server_id}/os-volume_attachments"
    cloud.member("POST", "compute", path, {"volumeAttachment": {"volumeId": volume_id}})
    _volume_is(cloud, volume_id, "in-use")
    cloud.settled(server_id)
    with cloud.services.volume.db.write() as tx:
        tx.run(update(ATTACHMENTS).where(ATTACHMENTS.c.volume_id == volume_id).values(status="attaching"))
    _lose_server(cloud, server_id, task_state="attach_volume")
    _cured(cloud, "server", "attach_volume")
    _volume_is(cloud, volume_id, "available")
    cloud.settled(server_id)
    assert cloud.member("GET", "compute", path)["volumeAttachments"] == []
    cloud.delete(server_id)
    _no_volumes(cloud)


@pytest.mark.parametrize("state", [SAVING, IMPORTING, UPLOADING])
def test_an_image_whose_bytes_are_not_coming_is_queued_again(cloud: SimCloud, state: str) -> None:
    """Its bytes are gone and its import is told to have failed."""
    body = {"name": "half", "disk_format": "raw", "container_format": "bare"}
    made = cloud.member("POST", "image", "/v2/images", body)
    image_id = made["id"] if isinstance(made, dict) else made.id
    service = cloud.services.image
    service.files.staged(image_id).write_bytes(b"half")
    task = {"id": cloud.ids.uuid(), "image_id": image_id, "status": "processing", "owner": None, "user_id": "", "request_id": "",
            "input": {}, "message": "", "created_at": LONG_AGO, "updated_at": LONG_AGO}  # fmt: skip
    with service.db.write() as tx:
        tx.run(update(IMAGES).where(IMAGES.c.id == image_id).values(status=state, updated_at=LONG_AGO))
        tx.run(insert(TASKS).values(**task))
    _cured(cloud, "image", state)
    with service.db.read() as tx:
        assert tx.value(select(IMAGES.c.status).where(IMAGES.c.id == image_id)) == "queued"
        assert tx.value(select(TASKS.c.status).where(TASKS.c.image_id == image_id)) == "failure"
    assert not service.files.staged(image_id).exists()
    cloud.member("DELETE", "image", f"/v2/images/{image_id}")


def test_what_the_data_plane_is_owed_is_told(cloud: SimCloud) -> None:
    """A port's row whose effect never came has it, and the debt is paid."""
    port = cloud.member("POST", "network", "/v2.0/ports", {"port": {"network_id": cloud.net}})["port"]["id"]  # type: ignore[attr-defined]
    cloud.machine.network.remove_port(port)
    db = cloud.services.network.db
    with db.write() as tx:
        tx.run(insert(owed).values(kind="port", id=port, stamp="lost", since=LONG_AGO))
    _cured(cloud, "debt", "owed")
    assert port in cloud.machine.network.ports
    with db.read() as tx:
        assert tx.all(select(owed)) == []
    cloud.member("DELETE", "network", f"/v2.0/ports/{port}")


@pytest.mark.parametrize("state", ["BUILD", "DOWN"])
def test_a_port_whose_event_was_missed_is_read_again(cloud: SimCloud, state: str) -> None:
    """It is ACTIVE, as the data plane says."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    port = cloud.admin("GET", "network", f"/v2.0/ports?device_id={server_id}")["ports"][0]["id"]
    with cloud.services.network.db.write() as tx:
        tx.run(update(ports).where(ports.c.id == port).values(status=state, updated_at=LONG_AGO))
    _cured(cloud, "port", state)
    assert cloud.admin("GET", "network", f"/v2.0/ports/{port}")["port"]["status"] == "ACTIVE"
    cloud.delete(server_id)


def _short(flow: Flow, subject: str, state: str) -> dict[str, Any]:
    return {
        "id": f"lost-{flow.name}-{state}", "flow": flow.name, "subject_id": subject, "project_id": None, "request_id": "req-lost",
        "context": {"user_id": ""}, "input": {}, "state": state, "generation": 1, "owner": "conductor", "host": None, "attempts": 0,
        "deadline": None, "failure": None, "requested_at": LONG_AGO, "started_at": LONG_AGO, "finished_at": None,
    }  # fmt: skip


@pytest.mark.parametrize("state", ["running", "unwinding", "stuck"])
def test_a_saga_whose_every_hint_was_lost_goes_on(cloud: SimCloud, state: str) -> None:
    """A saga's row that no message, timer or start has told anybody of comes to its end: forward, or back."""
    flows = {flow.name: flow for flow in FLOWS}
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    flow = flows["delete"] if state == "running" else flows["launch"]
    task = {"task_state": "deleting"} if state == "running" else {"task_state": "spawning", "vm_state": "building"}
    with cloud.services.compute_db.write() as tx:
        tx.run(update(SERVERS).where(SERVERS.c.id == server_id).values(**task))
        saga = {**_short(flow, server_id, state), "host": cloud.machine.host}
        tx.insert(SAGAS.sagas, saga)
        if state != "running":
            for step in flow.steps:
                cloud.services.coordinator.journal.begin_step(
                    tx, saga["id"], step.name, row=step.row, host=saga["host"], at=LONG_AGO
                )
    _cured(cloud, "saga", state)
    if state == "running":
        cloud.gone(server_id)
    else:
        assert cloud.settled(server_id)["status"] == "ERROR"
        cloud.delete(server_id)


@pytest.mark.parametrize("state", ["running", "unwinding", "stuck"])
def test_a_volume_saga_whose_every_hint_was_lost_goes_on(cloud: SimCloud, state: str) -> None:
    """The same for the volume service's sagas."""
    from cumulet.volume.flows import CREATE, DELETE
    from cumulet.volume.tables import SAGAS as VOLUME_SAGAS

    volume_id = _volume(cloud)
    flow = DELETE if state == "running" else CREATE
    with cloud.services.volume.db.write() as tx:
        tx.run(
            update(VOLUMES).where(VOLUMES.c.id == volume_id).values(status="deleting" if flow is DELETE else "creating")
        )
        host = tx.value(select(VOLUMES.c.host).where(VOLUMES.c.id == volume_id)).partition("#")[0]
        tx.insert(VOLUME_SAGAS.sagas, {**_short(flow, volume_id, state), "host": host})
    _cured(cloud, "volume saga", state)
    if state == "running":
        cloud.until(lambda: not cloud.member("GET", "volume", "/v3/volumes")["volumes"], "the volume to go")
    else:
        _volume_is(cloud, volume_id, "error")
        _no_volumes(cloud)


def test_a_step_that_hangs_at_the_coordinator_is_given_up(cloud: SimCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch whose first step never answers is unwound when that step's own time is over, and what the step says later is not
    heard."""
    flows = cloud.services.coordinator.flows
    launch = flows["launch"]
    said: list[str] = []

    def hang(run: Any) -> Any:
        yield Until(("never", run.saga_id), 5000.0)
        said.append(run.saga_id)

    first = msgspec.structs.replace(launch.steps[0], do=hang, hands_over=False)
    broken = msgspec.structs.replace(launch, steps=(first, *launch.steps[1:]))
    with monkeypatch.context() as patch:
        patch.setitem(flows, "launch", broken)
        server_id = cloud.post(cloud.body(cloud.net))  # type: ignore[attr-defined]
        saga_id = cloud.until(lambda: next(iter(cloud.services.coordinator._busy), None), "the step to begin")
        cloud.jump(301)
        shown = cloud.settled(server_id)
    assert shown["status"] == "ERROR"
    assert "did not end in time" in shown["fault"]["message"]
    cloud.services.coordinator._worker.signal(("never", saga_id))
    cloud.until(lambda: said, "the step to end at last")
    after = cloud.server(server_id)
    assert after is not None
    assert after["status"] == "ERROR"
    cloud.delete(server_id)
