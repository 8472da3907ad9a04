"""The volume service's long work, cut off and taken up again; its scheduler; how fast it is on paper."""

import threading
from pathlib import Path

import msgspec
import pytest
from tests.http.volume_world import SERVER, World

from cumulet.volume.drivers.driver import Volume
from cumulet.volume.drivers.sim import SimVolumes
from cumulet.volume.messages import SelectRequest
from cumulet.volume.records import Pool
from cumulet.volume.scheduler.filters import FILTERS, Candidate
from cumulet.volume.service.attachments import status_of

POOL = Pool(
    host="h@b", id="i", pool="p", backend="b", protocol="file", vendor="v", zone="nova", total_gib=10, free_gib=10, thin=False,
    multiattach=True, disabled=False, disabled_reason=None, seen_at="s", created_at="c",
)  # fmt: skip
REQUEST = SelectRequest(volume_id="v", size_gib=4, type_name="t", extra_specs={}, zone=None, multiattach=False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the death that is meant
@pytest.mark.parametrize("boundary", ["schedule.before", "schedule.after", "create.before", "create.after"])
def test_a_creation_cut_off_anywhere_is_finished_by_the_next_start(
    tmp_path: Path, database_url: str, boundary: str
) -> None:
    """Whatever boundary the process dies at, the volume is available after the next start, and is there once."""
    driver, died = SimVolumes(), threading.Event()

    def failpoint(name: str) -> None:
        if name == f"volume_create.{boundary}" and not died.is_set():
            died.set()
            raise SystemExit  # ends the worker's thread, quietly, with whatever was committed

    first = World(tmp_path, driver, failpoint=failpoint, url=database_url)
    volume_id = first.api.post("/v3/volumes", {"volume": {"size": 1}}).json["volume"]["id"]
    assert died.wait(5)
    first.close()
    second = World(tmp_path, driver, url=database_url)
    try:
        second.until(volume_id, "available")
        assert [item.owner_id for item in driver.list()] == [volume_id]
    finally:
        second.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the death that is meant
@pytest.mark.parametrize("boundary", ["settle_others.before", "delete.before", "delete.after"])
def test_a_deletion_cut_off_anywhere_is_finished_by_the_next_start(
    tmp_path: Path, database_url: str, boundary: str
) -> None:
    """There is no way back: the volume is gone, and its bytes."""
    driver, died = SimVolumes(), threading.Event()

    def failpoint(name: str) -> None:
        if name == f"volume_delete.{boundary}" and not died.is_set():
            died.set()
            raise SystemExit  # as above

    first = World(tmp_path, driver, failpoint=failpoint, url=database_url)
    volume_id = first.create()
    assert first.api.delete(f"/v3/volumes/{volume_id}").status == 202
    assert died.wait(5)
    first.close()
    second = World(tmp_path, driver, url=database_url)
    try:
        second.until(volume_id, None)
        assert driver.list() == ()
    finally:
        second.close()


def test_a_creation_deleted_by_force_leaves_nothing(tmp_path: Path, database_url: str) -> None:
    """Force deletion of a volume that is being made turns the making back first."""
    driver, begun, go_on = SimVolumes(), threading.Event(), threading.Event()

    def pause(verb: str) -> None:
        if verb == "create":
            begun.set()
            assert go_on.wait(5)

    slow = SimVolumes(pause=pause)
    world = World(tmp_path, slow, url=database_url)
    try:
        volume_id = world.api.post("/v3/volumes", {"volume": {"size": 1}}).json["volume"]["id"]
        assert begun.wait(5)
        for _ in range(2):
            assert world.admin.post(f"/v3/volumes/{volume_id}/action", {"os-force_delete": None}).status == 202
        go_on.set()
        world.until(volume_id, None)
        assert slow.list() == driver.list() == ()
    finally:
        world.close()


def test_listeners_hear_of_every_status(tmp_path: Path, database_url: str) -> None:
    """A launch that waits for a volume is woken when it is available."""
    world = World(tmp_path, url=database_url)
    try:
        heard: list[str] = []
        world.service.on_change(heard.append)
        volume_id = world.create()
        assert set(heard) == {volume_id}
        before = len(heard)
        world.door.delete_attachment(world.own, world.attach(volume_id))
        assert len(heard) >= before + 4
    finally:
        world.close()


def test_bootstrap_may_be_repeated(tmp_path: Path, database_url: str) -> None:
    """Types are made once, and a volume that exists already on the back end is taken as it is."""
    world = World(tmp_path, url=database_url)
    try:
        names = {kind["name"] for kind in world.api.get("/v3/types").json["volume_types"]}
        world.service.bootstrap()
        assert (
            names
            == {kind["name"] for kind in world.api.get("/v3/types").json["volume_types"]}
            == {"__DEFAULT__", "multiattach"}
        )
        world.driver.create(Volume(SERVER, 1))
    finally:
        world.close()


@pytest.mark.parametrize(
    ("pool", "request_", "by"),
    [
        ({}, {}, None),
        ({"disabled": True}, {}, "in_service"),
        ({"up": False}, {}, "in_service"),
        ({}, {"zone": "other"}, "availability_zone"),
        ({}, {"beside": "h@b#q"}, "beside_source"),
        ({}, {"extra_specs": {"volume_backend_name": "c"}}, "capabilities"),
        ({}, {"extra_specs": {"volume_backend_name": "b", "multiattach": "<is> True"}}, None),
        ({}, {"extra_specs": {"storage_protocol": "<or> nfs <or> file"}}, None),
        ({}, {"extra_specs": {"hw:anything": "x"}}, None),
        ({}, {"extra_specs": {"colour": "x"}}, "capabilities"),
        ({"promised_gib": 7}, {}, "capacity"),
        ({"promised_gib": 7, "thin": True}, {}, None),
        ({"promised_gib": 199, "thin": True}, {}, "capacity"),
    ],
)
def test_filters(pool: dict[str, object], request_: dict[str, object], by: str | None) -> None:
    """Each refusal comes from the filter whose matter it is."""
    kept = dict(pool)
    up, promised = bool(kept.pop("up", True)), int(str(kept.pop("promised_gib", 0)))
    candidate = Candidate(
        pool=msgspec.structs.replace(POOL, **kept),
        up=up,
        promised_gib=promised,
        oversubscription=20,
        reserved_percentage=0,
    )
    request = msgspec.structs.replace(REQUEST, **request_)
    refused = [judge.__name__ for judge in FILTERS if judge(candidate, request) is not None]
    assert refused == ([by] if by else [])


def test_a_volume_without_attachments_is_available() -> None:
    """The strongest tie decides."""
    assert status_of([]) == "available"
