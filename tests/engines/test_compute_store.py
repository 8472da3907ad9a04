"""The compute service's SQL on both engines: servers, hosts, groups, flavors, keypairs."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from sqlalchemy import MetaData

from cumulet.compute.records import FlavorSnapshot, Server
from cumulet.compute.store import flavors, groups, hosts, keypairs, servers, usages
from cumulet.compute.tables import METADATA, SERVERS
from cumulet.core.db import Database, Duplicate


@pytest.fixture
def db(database: Callable[[MetaData], Database]) -> Database:
    """Compute's tables, empty."""
    return database(METADATA)


def at(second: int) -> str:
    """A time."""
    return f"2026-01-31T12:00:{second:02}.000000"


def server(id: str, **fields: Any) -> Server:
    """A server as it is asked for."""
    empty: dict[str, Any] = dict.fromkeys(Server.__struct_fields__)
    values = {
        "name": id,
        "hostname": id,
        "project_id": "p",
        "user_id": "u",
        "reservation_id": "r",
        "launch_index": 0,
        "vm_state": "building",
        "power_state": 0,
        "flavor": FlavorSnapshot(id="f1", name="small", vcpus=2, ram_mb=512, disk_gb=1),
        "image_properties": {},
        "config_drive": False,
        "disk_config": "MANUAL",
        "locked": False,
        "progress": 0,
        "hints": {},
        "metadata": {},
        "tags": [],
        "security_groups": [],
        "interfaces": [],
        "block_devices": [],
        "created_at": at(0),
        "updated_at": at(0),
        "deleted": False,
    }
    return Server(**{**empty, "id": id, **values, **fields})


def add(db: Database, *rows: Server) -> None:
    """Add servers."""
    with db.write() as tx:
        for row in rows:
            servers.add(tx, row)


def ids(db: Database, **how: Any) -> list[str]:
    """A page of servers, by id."""
    with db.read() as tx:
        wanted = servers.Page(**{"project_id": None, **how})
        found = servers.page(tx, wanted)
        assert servers.names(tx, wanted) == [(row.id, row.name) for row in found]
        return [row.id for row in found]


def test_a_server_comes_back_as_it_went(db: Database) -> None:
    """Children included; one of another project or a deleted one is not found."""
    row = server("a", metadata={"k": "100%"}, tags=["x"], config_drive=True, requested_networks=[])
    add(db, row, server("b", deleted=True))
    with db.read() as tx:
        assert servers.get(tx, "a", project_id="p") == row
        assert servers.get(tx, "a", project_id="q") is None
        assert servers.get(tx, "b") is None
        assert servers.get(tx, "b", deleted=True) is not None


def test_a_state_moves_by_compare_and_set(db: Database) -> None:
    """From what was seen, NULL as the task state included."""
    add(db, server("a"))
    with db.write() as tx:
        old = servers.get(tx, "a")
        assert old is not None
        assert servers.change(tx, old, at=at(1), task_state="scheduling")
        assert not servers.change(tx, old, at=at(2), task_state="other")
        assert servers.set_fields(tx, "a", progress=5)
        new = servers.get(tx, "a")
    assert new is not None
    assert (new.task_state, new.updated_at, new.progress) == ("scheduling", at(1), 5)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("created_at", [at(3), at(1), at(1), at(2), at(1)]),
        ("name", ["b", "B", "a", "a-", "a"]),
        ("host", ["n2", None, "n1", None, "n1"]),
        ("launched_at", [None, at(2), None, at(1), at(1)]),
        ("launch_index", [10, 9, 2, 1, 1]),
        ("locked", [True, False, False, True, False]),
        ("config_drive", [True, False, True, True, False]),
    ],
)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_join_without_gap_or_double(db: Database, key: str, values: list[Any], direction: str) -> None:
    """Walking by marker gives the same order as one long page, with equal and with empty values; empty sorts first."""
    field = {"config_drive": "config_drive"}.get(key, key)
    add(db, *[server(f"s{number}", **{field: value}) for number, value in enumerate(values)])
    sort = [(key, direction)]
    whole = ids(db, sort=sort)
    by_key = sorted(range(len(values)), key=lambda n: (values[n] is not None, values[n] or 0, f"s{n}"))
    assert whole == [f"s{n}" for n in (by_key if direction == "asc" else reversed(by_key))]
    walked: list[str] = []
    marker = None
    while True:
        with db.read() as tx:
            page = servers.page(tx, servers.Page("p", sort=sort, marker=marker, limit=2))
        if not page:
            break
        walked += [row.id for row in page]
        marker = page[-1]
    assert walked == whole


def test_servers_are_filtered_and_counted(db: Database) -> None:
    """By text within JSON, by lists; deleted ones only on request; sums are whole numbers."""
    add(
        db,
        server("a", tags=["red", "blue"], name="Web_1"),
        server("b", tags=["redder"], name="web-1", host="n1"),
        server("c", deleted=True, host="n1"),
        server("d", project_id="q", host="n1"),
    )
    assert ids(db, where=[SERVERS.c.tags.like('%"red"%')]) == ["a"]
    assert ids(db, where=[SERVERS.c.flavor.like('%"id":"f1"%', escape="\\")], project_id="p") == ["b", "a"]
    assert ids(db, where=[SERVERS.c.name.like("%eb\\_1%", escape="\\")]) == ["a"]
    assert ids(db, deleted=True, where=[SERVERS.c.id.in_(["c", "d"])]) == ["d", "c"]
    with db.read() as tx:
        assert servers.count(tx, project_id="p") == 2
        assert usages.of_project(tx, "p") == {"instances": 2, "cores": 4, "ram": 1024}
        assert usages.of_project(tx, "nobody") == {"instances": 0, "cores": 0, "ram": 0}
        assert {row.id for row in servers.live_on_host(tx, "n1")} == {"b", "d"}
        assert servers.hosts_of(tx, ["a", "b", "c"]) == {"a": None, "b": "n1"}
        assert len(servers.of_reservation(tx, "r")) == 3


def test_what_is_taken_is_counted_once_and_then_kept(db: Database) -> None:
    """Added, resized and deleted servers are in it, of the project and of each user, whenever it was counted first."""

    def counted(user_id: str | None = None) -> dict[str, int]:
        """As a reader finds it, who keeps nothing."""
        with db.read() as tx:
            return usages.of_project(tx, "p", user_id)

    add(db, server("a"), server("b", user_id="v"))
    with db.write() as tx:
        assert usages.of_project(tx, "p") == {"instances": 2, "cores": 4, "ram": 1024}
    add(db, server("c", user_id="w"), server("d", project_id="q"), server("e"))
    assert counted() == {"instances": 4, "cores": 8, "ram": 2048}
    assert counted("w") == {"instances": 1, "cores": 2, "ram": 512}
    with db.write() as tx:
        assert servers.set_fields(tx, "a", vcpus=4, memory_mb=4096)
        assert servers.change(tx, server("b", user_id="v"), at=at(1), vm_state="deleted", deleted=True)
        assert not servers.change(tx, server("b", user_id="v"), at=at(1), vm_state="deleted", deleted=True)
        assert servers.set_fields(tx, "b", deleted=True)
        assert servers.set_fields(tx, "e", name="f")
        assert not servers.set_fields(tx, "nobody", deleted=True)
    assert counted() == {"instances": 3, "cores": 8, "ram": 5120}
    assert counted("v") == {"instances": 0, "cores": 0, "ram": 0}
    assert counted("u") == {"instances": 2, "cores": 6, "ram": 4608}
    assert counted("nobody") == {"instances": 0, "cores": 0, "ram": 0}


def test_hosts(db: Database) -> None:
    """Put twice is one row; fields are set."""
    host = hosts.Host(
        host="n1",
        service_id="s",
        hypervisor_id="h",
        hypervisor_type="QEMU",
        hypervisor_version=7_002_000,
        vcpus=4,
        memory_mb=2**33,
        local_gb=10,
        cpu_info={"arch": "x86_64"},
        host_ip="::1",
        zone="nova",
        disabled=False,
        disabled_reason=None,
        forced_down=False,
        traits=["T"],
        seen_at=at(0),
        created_at=at(0),
        updated_at=None,
    )
    with db.write() as tx:
        hosts.put(tx, host)
        hosts.put(tx, msgspec.structs.replace(host, disabled=True))
        assert hosts.set_fields(tx, "n1", disabled_reason="x")
        assert not hosts.set_fields(tx, "n2", disabled=True)
        assert hosts.all_hosts(tx) == [msgspec.structs.replace(host, disabled=True, disabled_reason="x")]
        assert hosts.get(tx, "n2") is None


def test_groups(db: Database) -> None:
    """Listed by page, counted, their members found, removed once."""
    add(db, server("a", group_id="g0", host="n1"), server("b", group_id="g0"), server("c", group_id="g0", deleted=True))
    with db.write() as tx:
        for n in range(3):
            groups.add(
                tx,
                groups.ServerGroup(
                    id=f"g{n}",
                    project_id="p",
                    user_id="u",
                    name="g",
                    policy="affinity",
                    rules={"x": n},
                    created_at=at(n),
                ),
            )
        assert [group.id for group in groups.page(tx, project_id="p", limit=2, offset=1)] == ["g1", "g2"]
        assert [group.rules for group in groups.page(tx, project_id=None, limit=1, offset=0)] == [{"x": 0}]
        assert (groups.count(tx, "p"), groups.count(tx, "p", "other")) == (3, 0)
        assert groups.members(tx, "g0") == {"a": "n1", "b": None}
        assert (groups.get(tx, "g0", project_id="q"), groups.get(tx, None)) == (None, None)
        assert [groups.remove(tx, "g0"), groups.remove(tx, "g0")] == [True, False]


def test_flavors(db: Database) -> None:
    """Private ones show to their projects; pages join; names and ids are unique."""

    def flavor(id: str, **fields: Any) -> flavors.Flavor:
        values = {
            "name": f"name-{id}",
            "description": None,
            "vcpus": 1,
            "ram_mb": 512,
            "disk_gb": 1,
            "ephemeral_gb": 0,
            "swap_mb": 0,
            "rxtx_factor": 1.5,
            "is_public": True,
            "disabled": False,
            "extra_specs": {"hw:x": "1"},
            "created_at": at(0),
        }
        return flavors.Flavor(id=id, **{**values, **fields})

    with db.write() as tx:
        for row in (flavor("1"), flavor("2", is_public=False), flavor("3", ram_mb=64), flavor("4", disabled=True)):
            flavors.add(tx, row)
        with pytest.raises(Duplicate):
            flavors.add(tx, flavor("5", name="name-1"))
        assert flavors.get(tx, "1") == flavor("1")
        assert flavors.get(tx, "2", project_id="p") is None
        flavors.add_access(tx, "2", "p")
        with pytest.raises(Duplicate):
            flavors.add_access(tx, "2", "p")
        assert flavors.access(tx, "2") == ["p"]

        def page(**how: Any) -> list[str]:
            return [row.id for row in flavors.page(tx, **{"project_id": None, "is_public": None, **how})]

        assert page() == ["1", "2", "3"]
        assert page(project_id="q") == ["1", "3"]
        assert page(project_id="p") == ["1", "2", "3"]
        assert page(is_public=False) == ["2"]
        assert page(min_ram=100, descending=True) == ["2", "1"]
        assert page(sort_key="memory_mb", marker=flavor("3", ram_mb=64)) == ["1", "2"]
        assert page(sort_key="is_public", marker=flavor("2", is_public=False)) == ["1", "3"]
        assert flavors.set_fields(tx, "1", description="d")
        assert [flavors.remove_access(tx, "2", "p"), flavors.remove_access(tx, "2", "p")] == [True, False]
        assert [flavors.remove(tx, "1"), flavors.remove(tx, "1")] == [True, False]


def test_keypairs(db: Database) -> None:
    """A user's own, by name, in pages."""

    def keypair(user: str, name: str, id: int) -> keypairs.Keypair:
        return keypairs.Keypair(
            user_id=user, name=name, id=id, type="ssh", fingerprint="f", public_key="k", created_at=at(0)
        )

    with db.write() as tx:
        assert keypairs.next_id(tx) == 1
        for name in ("b", "B", "a"):
            keypairs.add(tx, keypair("u", name, keypairs.next_id(tx)))
        keypairs.add(tx, keypair("other", "a", keypairs.next_id(tx)))
        with pytest.raises(Duplicate):
            keypairs.add(tx, keypair("u", "a", 9))
        assert [one.name for one in keypairs.page(tx, "u")] == ["B", "a", "b"]
        assert [one.name for one in keypairs.page(tx, "u", marker="B", limit=1)] == ["a"]
        assert (keypairs.count(tx, "u"), keypairs.next_id(tx)) == (3, 5)
        assert keypairs.get(tx, "u", "z") is None
        assert [keypairs.remove(tx, "u", "a"), keypairs.remove(tx, "u", "a")] == [True, False]
