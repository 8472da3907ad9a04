"""Why a server is where it is: asked of a cloud that runs, by its owner, by an admin, by a stranger, and by `cumulet why`."""

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.launch.world import VERSION, World

from cumulet.dev.cloud import Refused
from cumulet.run.cli import main

pytestmark = pytest.mark.xdist_group("launch")

HUGE = {"vcpus": 20_000, "ram": 128, "disk": 1}


@pytest.fixture
def host(world: World) -> str:
    """The only host's name."""
    return str(world.admin.get("compute", "/os-hypervisors")["hypervisors"][0]["hypervisor_hostname"])


@pytest.fixture
def project(world: World) -> str:
    """The member's project."""
    return str(world.member.get("identity", "/v3/auth/projects")["projects"][0]["id"])


@pytest.fixture
def huge(world: World, project: str) -> Iterator[str]:
    """A flavor that the quota lets in and no host can hold."""
    flavor = world.admin.post("compute", "/flavors", {"flavor": {"name": "huge", **HUGE}})["flavor"]["id"]
    world.admin.ask("PUT", "compute", f"/os-quota-sets/{project}", {"quota_set": {"cores": -1}})
    yield flavor
    world.admin.delete("compute", f"/os-quota-sets/{project}")
    world.admin.delete("compute", f"/flavors/{flavor}")


def why(world: World, *arguments: str) -> Result:
    """`cumulet why …` on this cloud; an admin's view unless another cloud is named."""
    return CliRunner().invoke(main, ["why", "--state", str(world.cloud.state), *arguments], env={"OS_CLOUD": ""})


def scheduling(world: World, server_id: str, *, admin: bool = False) -> list[dict[str, Any]]:
    """What the API tells."""
    session = world.admin if admin else world.member
    found: list[dict[str, Any]] = session.get("compute", f"/servers/{server_id}/scheduling", **VERSION)["scheduling"]
    return found


def details(world: World, server_id: str, event: str, action: str = "create") -> str:
    """An event's details as the owner reads them."""
    path = f"/servers/{server_id}/os-instance-actions"
    actions = world.member.get("compute", path, **VERSION)["instanceActions"]
    request_id = next(one["request_id"] for one in actions if one["action"] == action)
    shown = world.member.get("compute", f"{path}/{request_id}", **VERSION)["instanceAction"]
    return str(next(one["details"] for one in shown["events"] if one["event"] == event))


def test_a_server_that_runs_is_explained(world: World, host: str) -> None:
    """The owner reads counts and words, in the event too; the admin the host and its weights; a deleted server keeps it."""
    with world.launched(world.body(name="explained")) as server_id:
        (owners,) = scheduling(world, server_id)
        assert owners["words"] == "1 host looked at, it fits"
        assert (owners["action"], owners["found"], owners["considered"], owners["fitting"]) == ("create", True, 1, 1)
        assert owners["resources"]["MEMORY_MB"] > 0
        assert not {"host", "weighed", "refused"} & set(owners)
        assert details(world, server_id, "claim_host") == owners["words"]
        (admins,) = scheduling(world, server_id, admin=True)
        assert admins == {**owners, "host": host, "weighed": admins["weighed"], "refused": []}
        assert [one["host"] for one in admins["weighed"]] == [host]
        assert set(admins["weighed"][0]["by"]) == {"RAMWeigher", "CPUWeigher", "DiskWeigher"}
        assert world.admin.operator(f"/why/{server_id}")["scheduling"] == [admins]
        told = why(world, "explained")
        assert told.exit_code == 0, told.output
        assert f"create of explained at {admins['decided_at']}: on {host}" in told.output
        assert "RAMWeigher" in told.output
        for safe in (why(world, "--as-owner", "explained"), why(world, "--cloud", "cumulet", server_id)):
            assert safe.exit_code == 0, safe.output
            assert owners["words"] in safe.output
            assert "Weigher" not in safe.output
            assert f"on {host}" not in safe.output
    assert scheduling(world, server_id, admin=True)[0]["host"] == host


def test_a_launch_that_failed_is_explained(world: World, host: str, huge: str) -> None:
    """The fault, the event and the owner's endpoint say the same words; the admin is told the host and what it lacks."""
    server_id = world.post(world.body(flavorRef=huge))
    assert world.settled(server_id)["status"] == "ERROR"
    (owners,) = scheduling(world, server_id)
    assert owners["words"].startswith("No valid host was found.")
    assert "VCPU: not enough on 1 of 1 hosts" in owners["words"]
    assert (owners["found"], owners["reasons"]) == (False, {"VCPU": 1})
    assert world.server(server_id)["fault"]["message"] == owners["words"]
    assert details(world, server_id, "ask_scheduler") == owners["words"]
    (admins,) = scheduling(world, server_id, admin=True)
    assert admins["refused"][0] == {
        "host": host,
        "by": "VCPU",
        "reason": f"20000 asked for, one server may have {admins['refused'][0]['reason'].rsplit(' ', 1)[1]}",
    }
    told = why(world, server_id)
    assert told.exit_code == 1
    assert f"- {host}  VCPU: 20000 asked for" in told.output
    safe = why(world, "--as-owner", server_id)
    assert safe.exit_code == 1
    assert f"- {host}" not in safe.output
    world.delete(server_id)


def test_a_resize_is_explained(world: World, host: str, huge: str) -> None:
    """One that fits and one that does not stand beside the launch, newest first; the failed one leaves the server as it was."""
    flavors = {one["name"]: one["id"] for one in world.member.get("compute", "/flavors")["flavors"]}
    with world.launched(world.body()) as server_id:
        world.act(server_id, {"resize": {"flavorRef": huge}})
        assert world.settled(server_id)["status"] == "ACTIVE"
        assert "VCPU: not enough on 1 of 1 hosts" in details(world, server_id, "claim_both", "resize")
        world.act(server_id, {"resize": {"flavorRef": flavors["m1.tiny"]}})
        assert world.settled(server_id)["status"] == "VERIFY_RESIZE"
        newest, failed, first = scheduling(world, server_id, admin=True)
        assert [one["action"] for one in (newest, failed, first)] == ["resize", "resize", "create"]
        assert (newest["host"], newest["flavor"]) == (host, "m1.tiny")
        assert (failed["host"], failed["flavor"], failed["reasons"]) == (None, "huge", {"VCPU": 1})
        world.act(server_id, {"confirmResize": None})
        world.settled(server_id)


def test_who_may_not_ask_is_not_told(world: World) -> None:
    """The operator's endpoints are for admins; a server that is not there is 404 for both."""
    with world.launched(world.body()) as server_id:
        for path in (f"/why/{server_id}", "/fit?flavor=1"):
            with pytest.raises(Refused) as refused:
                world.member.operator(path)
            assert refused.value.status == 403
    unknown = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(Refused) as missing:
        scheduling(world, unknown)
    assert missing.value.status == 404
    with pytest.raises(Refused) as missing:
        world.admin.operator(f"/why/{unknown}")
    assert missing.value.status == 404


def test_what_would_fit_is_told_without_a_launch(world: World, host: str, huge: str, project: str) -> None:
    """By flavor, image, zone and project; how many, where the next would go, why not; nothing is launched or held."""
    before = world.holdings()
    fit = world.admin.operator(f"/fit?flavor={world.flavor}&image={world.image}&zone=nova&project={project}")["fit"]
    assert fit["fits"] == fit["rooms"][host] > 1
    assert fit["decision"]["host"] == host
    assert fit["quota"] > 1
    nowhere = world.admin.operator(f"/fit?flavor={world.flavor}&zone=elsewhere")["fit"]
    assert (nowhere["fits"], nowhere["decision"]["reasons"], nowhere["quota"]) == (
        0,
        {"AvailabilityZoneFilter": 1},
        None,
    )
    told = why(world, "--flavor", "m1.nano", "--project", "demo")
    assert told.exit_code == 0, told.output
    assert f"would fit: {fit['fits']}, on 1 of 1 hosts" in told.output
    assert f"the next would go to: {host}" in told.output
    assert "the project's quota lets in:" in told.output
    told = why(world, "--flavor", "huge")
    assert told.exit_code == 1
    assert f"- {host}  VCPU: 20000 asked for" in told.output
    assert world.holdings() == before


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("flavor=none-such", 404), ("flavor=1&image=none-such", 400), ("flavor=1&colour=red", 400)],
)
def test_a_question_that_makes_no_sense_is_refused(world: World, query: str, status: int) -> None:
    """In words, like any request."""
    with pytest.raises(Refused) as refused:
        world.admin.operator(f"/fit?{query}")
    assert refused.value.status == status


@pytest.mark.parametrize(
    "arguments", [[], ["vm", "--flavor", "m1.nano"], ["vm", "--zone", "nova"], ["--flavor", "m1.nano", "--as-owner"]]
)
def test_a_command_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    """Before any cloud is asked."""
    told = CliRunner().invoke(main, ["why", *arguments])
    assert told.exit_code == 2
    assert "Error: " in told.output


@pytest.mark.parametrize(("flavor", "words"), [("none-such", "no flavor none-such"), ("m1.nano", "no image none-such")])
def test_a_name_that_is_not_there_is_said(world: World, flavor: str, words: str) -> None:
    """In one line."""
    told = why(world, "--flavor", flavor, "--image", "none-such")
    assert told.exit_code == 1
    assert told.output.strip() == words
