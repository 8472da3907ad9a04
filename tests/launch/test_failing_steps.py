"""Many launches at once while steps fail at random: each ends, each failure has its reason, and nothing is left."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from tests.launch.world import World

from cumulet.dev.cloud import RunningCloud

pytestmark = pytest.mark.xdist_group("failing_steps")

#: the proof is made with 200; fewer say the same in less time
LAUNCHES = int(os.environ.get("CUMULET_LAUNCHES", "50"))
CLIENTS = 20
RATE = 0.05
SETTLED_WITHIN_S = 60.0


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cloud of its own, with faults."""
    state = tmp_path_factory.mktemp("failing")
    with (
        RunningCloud(state, ["--sim", "--faults", "--bcrypt-rounds", "4"], quiet=True) as cloud,
        World(cloud) as world,
    ):
        yield world


def _faults(world: World, *asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The admin's faults; those asked for are added first."""
    url = world.admin.auth_url.removesuffix("/identity/v3") + "/admin/faults"
    headers = {"X-Auth-Token": world.admin.token}
    for fault in asked:
        assert world.admin._http.post(url, json={"fault": fault}, headers=headers).status_code == 201
    return list(world.admin._http.get(url, headers=headers).json()["faults"])


def _unlimited(world: World) -> None:
    """Let the member have as much as is asked for."""
    project = world.admin.get("identity", "/v3/projects?name=demo")["projects"][0]["id"]
    for service, path, limits in (
        ("compute", f"/os-quota-sets/{project}", {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}),
        ("block-storage", f"/os-quota-sets/{project}", {"quota_set": {"volumes": -1, "gigabytes": -1}}),
        ("network", f"/v2.0/quotas/{project}", {"quota": {"port": -1}}),
    ):
        world.admin.ask("PUT", service, path, limits)


def _servers(world: World) -> list[dict[str, Any]]:
    return list(world.admin.get("compute", "/servers/detail?all_tenants=1")["servers"])


@pytest.mark.slow
def test_launches_end_well_or_in_error_with_a_reason_while_steps_fail(world: World) -> None:
    """One step in twenty fails, before its effect or after it, and one undo in twenty, of every operation: each server is ACTIVE, or
    in ERROR with a reason in its fault; none is stuck; and when all are deleted, while steps go on failing, nothing is left."""
    _unlimited(world)
    _faults(
        world,
        {"kind": "step_fails", "rate": RATE / 2, "when": "before"},
        {"kind": "step_fails", "rate": RATE / 2, "when": "after"},
        {"kind": "step_fails", "rate": RATE, "when": "undo"},
    )
    began = monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        ids = list(clients.map(lambda n: world.post(world.with_volume() if n % 2 else world.body()), range(LAUNCHES)))
    posted = monotonic() - began
    left: list[dict[str, Any]] = []

    def settled() -> bool:
        left[:] = [one for one in _servers(world) if one["status"] == "BUILD" or one["OS-EXT-STS:task_state"]]
        return not left

    world.wait_for(settled, "every launch to end", SETTLED_WITHIN_S)
    took = monotonic() - began
    found = {one["id"]: one for one in _servers(world)}
    assert set(found) == set(ids)
    statuses = Counter(one["status"] for one in found.values())
    assert set(statuses) <= {"ACTIVE", "ERROR"}
    reasons = Counter(one["fault"]["message"] for one in found.values() if one["status"] == "ERROR")
    assert all(reasons)
    struck = sum(fault["struck"] for fault in _faults(world))
    assert struck > 0
    assert world.leaks() == []
    gone = monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(lambda one: world.member.delete("compute", f"/servers/{one}"), ids))
    world.wait_for(lambda: not _servers(world), "every server to go", SETTLED_WITHIN_S)
    world.wait_for(
        lambda: not world.member.get("block-storage", "/volumes")["volumes"], "their volumes to go", SETTLED_WITHIN_S
    )
    assert world.leaks() == []
    deleted = monotonic() - gone
    sys.stdout.write(
        f"{LAUNCHES} launches posted in {posted:.1f} s, ended within {took:.1f} s: {dict(statuses)}; {struck} steps failed; "
        f"all deleted in {deleted:.1f} s; 0 stuck, 0 leaked\n"
    )
    for words, number in reasons.most_common():
        sys.stdout.write(f"{number:4} {words}\n")
