"""The simulated back end: failures on demand, time on demand, and books that outlive it."""

from pathlib import Path

import pytest

from cumulet.volume.drivers.driver import (
    Connector,
    Snapshot,
    Volume,
    VolumeBackendDown,
    VolumeBackendFull,
    VolumeDriver,
    VolumeInUse,
)
from cumulet.volume.drivers.sim import SimVolumes

V1, V2 = (f"{digit * 8}-aaaa-4aaa-8aaa-{digit * 12}" for digit in "12")
S1 = "11111111-bbbb-4bbb-8bbb-111111111111"


def test_a_verb_fails_as_often_as_told_and_without_effect() -> None:
    """The failure comes first; afterwards the verb works again."""
    sim = SimVolumes()
    sim.fail("create", times=2)
    sim.fail("create", VolumeBackendFull())
    for error in (VolumeBackendDown, VolumeBackendDown, VolumeBackendFull):
        with pytest.raises(error):
            sim.create(Volume(V1, 1))
        assert sim.list() == ()
    sim.create(Volume(V1, 1))
    assert [item.owner_id for item in sim.list()] == [V1]


def test_a_verb_whose_answer_is_lost_has_had_its_effect() -> None:
    """As with a call that timed out: repeating it changes nothing."""
    sim = SimVolumes()
    sim.fail("create", after=True)
    with pytest.raises(VolumeBackendDown):
        sim.create(Volume(V1, 1))
    sim.create(Volume(V1, 1))
    assert [item.owner_id for item in sim.list()] == [V1]


def test_time_is_spent_by_whoever_owns_it() -> None:
    """Each verb is announced before it acts."""
    spent: list[str] = []
    sim = SimVolumes(pause=spent.append)
    sim.create(Volume(V1, 1))
    sim.connection_info(V1, Connector(host="host-1"))
    sim.delete(V1)
    assert spent == sim.calls == ["create", "connection_info", "delete"]


def test_the_books_outlive_the_process(tmp_path: Path) -> None:
    """A simulation over the same folder knows the same things, and drops what was half written."""
    sim = SimVolumes(folder=tmp_path / "books")
    sim.create(Volume(V1, 3))
    sim.write(V1, "a")
    sim.create_snapshot(Snapshot(S1, V1))
    sim.extend(V1, 4)
    sim.create(Volume(V2, 1))
    sim.delete(V2)
    (tmp_path / "books" / "volume-x.json.1-1.part").write_text("{")
    again = SimVolumes(folder=tmp_path / "books")
    assert again.list() == sim.list()
    assert again.read(V1) == "a"
    assert len(list((tmp_path / "books").iterdir())) == 2


def test_room_is_taken_by_what_is_promised() -> None:
    """A simulated disk is as large as it says, snapshots and growth included."""
    sim = SimVolumes(total_gib=4)
    sim.create(Volume(V1, 2))
    sim.create_snapshot(Snapshot(S1, V1))
    with pytest.raises(VolumeBackendFull):
        sim.extend(V1, 3)
    sim.delete_snapshot(S1)
    sim.extend(V1, 4)
    assert sim.capacity().free_gib == 0


def test_who_is_connected_can_be_seen() -> None:
    """Connections are kept until they are ended."""
    sim = SimVolumes()
    sim.create(Volume(V1, 1))
    sim.connection_info(V1, Connector(host="host-1"))
    assert sim.connections == {(V1, "host-1")}
    sim.open_by_guest.add(V1)
    with pytest.raises(VolumeInUse):
        sim.delete(V1)
    sim.open_by_guest.clear()
    sim.terminate_connection(V1, Connector(host="host-1"))
    assert sim.connections == set()


def test_both_back_ends_are_drivers() -> None:
    """The type checker agrees that the simulation is one of them."""
    driver: VolumeDriver = SimVolumes()
    assert driver.capacity().total_gib == 16 * 1024
