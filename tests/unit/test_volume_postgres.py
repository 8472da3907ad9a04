"""The volume service on PostgreSQL: the same answers."""

from pathlib import Path

import pytest
from tests.http.harness import PROJECT
from tests.http.volume_world import World


@pytest.mark.engines
def test_volumes_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """A volume with everything on it comes, is listed page by page, counted, and goes."""
    world = World(tmp_path, url=postgres_url)
    try:
        ids = [world.create(name=f"v{n}", metadata={"n": str(n)}) for n in range(3)]
        first = world.api.get("/v3/volumes/detail?limit=2&sort=name:asc&with_count=1").json
        assert ([volume["id"] for volume in first["volumes"]], first["count"]) == (ids[:2], 3)
        rest = world.api.get(first["volumes_links"][0]["href"].partition("/volume")[2]).json
        assert [volume["id"] for volume in rest["volumes"]] == ids[2:]
        assert [volume.id for volume in world.door.list_marked(world.own, {"n": "1"})] == [ids[1]]
        world.snapshot(ids[0])
        usage = world.admin.get(f"/v3/os-quota-sets/{PROJECT}?usage=True").json["quota_set"]
        assert (usage["volumes"]["in_use"], usage["gigabytes"]["in_use"], usage["snapshots"]["in_use"]) == (3, 4, 1)
        world.door.delete_attachment(world.own, world.attach(ids[1]))
        assert world.api.delete(f"/v3/volumes/{ids[0]}?cascade=True").status == 202
        world.until(ids[0], None)
        assert len(world.api.get("/v3/types").json["volume_types"]) == 2
    finally:
        world.close()
