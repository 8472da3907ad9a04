"""Faults on demand: what a user sees of each kind, and that all is well, with nothing left, once it is removed."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.sim.cloud import Refused, SimCloud

from cumulet.core.clock import SystemClock
from cumulet.core.errors import BadRequest
from cumulet.core.faults import KINDS, Faults
from cumulet.core.ids import SeededIds
from cumulet.run.leaks import find_leaks
from cumulet.run.server_flows import FLOWS

pytestmark = pytest.mark.xdist_group("sim_cloud")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    """One simulated cloud with faults for the module."""
    with SimCloud(tmp_path_factory.mktemp("faults"), faults=True) as cloud:
        cloud.net = cloud.network()  # type: ignore[attr-defined]
        yield cloud


@pytest.fixture
def cloud(shared: SimCloud) -> Iterator[SimCloud]:
    """After each test, and with its faults gone: a launch works, and nothing is left without an owner."""
    yield shared
    for fault in _listed(shared):
        shared.admin("DELETE", "admin", f"/faults/{fault['id']}")
    shared.delete(shared.launched(shared.net, volume=True))  # type: ignore[attr-defined]
    shared.until(lambda: not shared.member("GET", "volume", "/v3/volumes")["volumes"], "volumes to go")
    assert find_leaks(shared.services) == []


def _add(cloud: SimCloud, kind: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = cloud.admin("POST", "admin", "/faults", {"fault": {"kind": kind, **more}})["fault"]
    return made


def _listed(cloud: SimCloud) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.admin("GET", "admin", "/faults")["faults"]
    return found


def _remove(cloud: SimCloud, fault: dict[str, Any]) -> None:
    cloud.admin("DELETE", "admin", f"/faults/{fault['id']}")


# --- kinds ---------------------------------------------------------------------------------------------------------


def test_a_dead_host_is_no_valid_host(cloud: SimCloud) -> None:
    """A launch ends in ERROR with the reason; when the fault is gone the host takes launches at once."""
    fault = _add(cloud, "host_dies")
    cloud.until(lambda: cloud.admin("GET", "compute", "/v2.1/os-services")["services"][-1]["state"] == "down", "down")
    server_id = cloud.post(cloud.body(cloud.net))  # type: ignore[attr-defined]
    shown = cloud.settled(server_id)
    assert shown["status"] == "ERROR"
    assert "No valid host was found" in shown["fault"]["message"]
    _remove(cloud, fault)
    cloud.until(lambda: cloud.admin("GET", "compute", "/v2.1/os-services")["services"][-1]["state"] == "up", "up")
    cloud.delete(server_id)


def test_a_host_that_dies_with_an_action_under_way_lets_it_fail_in_time_and_not_hang(cloud: SimCloud) -> None:
    """An action whose orders are lost is tried some times, then unwound: the server is there, idle, with a fault."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    fault = _add(cloud, "host_dies")
    cloud.until(lambda: cloud.admin("GET", "compute", "/v2.1/os-services")["services"][-1]["state"] == "down", "down")
    cloud.member("POST", "compute", f"/v2.1/servers/{server_id}/action", {"os-stop": None})
    for _ in range(6):
        cloud.jump(301)
    _remove(cloud, fault)
    for _ in range(3):
        cloud.jump(301)
    shown = cloud.settled(server_id)
    assert shown["OS-EXT-STS:task_state"] is None
    cloud.delete(server_id)


def test_a_host_that_is_back_is_told_at_once_what_it_missed(cloud: SimCloud) -> None:
    """An order that was lost on it is carried out when the fault goes, not when its deadline has passed."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    fault = _add(cloud, "host_dies")
    cloud.until(lambda: cloud.admin("GET", "compute", "/v2.1/os-services")["services"][-1]["state"] == "down", "down")
    cloud.member("POST", "compute", f"/v2.1/servers/{server_id}/action", {"os-stop": None})
    cloud.until(cloud.services.coordinator.orders.sent, "the order to be sent")
    shown = cloud.server(server_id)
    assert shown is not None
    assert shown["OS-EXT-STS:task_state"] == "powering-off"
    _remove(cloud, fault)
    assert cloud.settled(server_id)["status"] == "SHUTOFF"
    cloud.delete(server_id)


def test_a_port_that_never_comes_up_ends_the_launch_with_words(cloud: SimCloud) -> None:
    """ERROR after the launch's own patience, and nothing left; the port of another project's server comes up."""
    fault = _add(cloud, "port_never_up", project=cloud.member.project_id)
    server_id = cloud.post(cloud.body(cloud.net))  # type: ignore[attr-defined]
    cloud.until(lambda: _listed(cloud)[0]["struck"] > 0, "the port to be held down")
    cloud.until(lambda: cloud.services.host_part.worker._parked, "the launch to wait for it")
    cloud.jump(61)
    shown = cloud.settled(server_id)
    assert shown["status"] == "ERROR"
    assert "did not bring the port up in time" in shown["fault"]["message"]
    assert not cloud.admin("GET", "network", f"/v2.0/ports?device_id={server_id}")["ports"]
    _remove(cloud, fault)
    cloud.delete(server_id)


def test_a_port_that_was_held_down_comes_up_when_the_fault_goes(cloud: SimCloud) -> None:
    """A launch that still waits goes on, and ends ACTIVE."""
    fault = _add(cloud, "port_never_up")
    server_id = cloud.post(cloud.body(cloud.net))  # type: ignore[attr-defined]
    cloud.until(lambda: _listed(cloud)[0]["struck"] > 0, "the port to be held down")
    cloud.until(lambda: cloud.services.host_part.worker._parked, "the launch to wait for it")
    _remove(cloud, fault)
    assert cloud.settled(server_id)["status"] == "ACTIVE"
    cloud.delete(server_id)


def test_a_slow_image_makes_a_launch_wait_and_then_go_on(cloud: SimCloud) -> None:
    """BUILD while it lasts, then ACTIVE; the trace says why that step was slow."""
    _add(cloud, "image_slow", seconds=30, count=1)
    server_id = cloud.post(cloud.body(cloud.net))  # type: ignore[attr-defined]
    cloud.until(lambda: _listed(cloud)[0]["struck"] == 1, "the image to be slow")
    shown = cloud.server(server_id)
    assert shown is not None
    assert shown["status"] == "BUILD"
    cloud.jump(31)
    assert cloud.settled(server_id)["status"] == "ACTIVE"
    cloud.delete(server_id)


def test_a_full_back_end_makes_volumes_end_in_error_with_a_message(cloud: SimCloud) -> None:
    """The volume is in error at the first refusal, its owner finds the reason in the messages; a launch that needs one is in ERROR with
    words."""
    fault = _add(cloud, "volume_full")
    volume_id = cloud.member("POST", "volume", "/v3/volumes", {"volume": {"size": 1}})["volume"]["id"]
    path = f"/v3/volumes/{volume_id}"
    cloud.until(lambda: cloud.member("GET", "volume", path)["volume"]["status"] == "error", "the volume")
    assert _listed(cloud)[0]["struck"] == 1
    told = cloud.member("GET", "volume", "/v3/messages", OpenStack_API_Version="volume 3.3")["messages"]
    words = [one["user_message"] for one in told if one["resource_uuid"] == volume_id]
    assert words == ["create volume: There is no space left on the volume back end."]
    shown = cloud.settled(cloud.post(cloud.body(cloud.net, volume=True)))  # type: ignore[attr-defined]
    assert (shown["status"], bool(shown["fault"]["message"])) == ("ERROR", True)
    _remove(cloud, fault)
    cloud.member("DELETE", "volume", path)
    cloud.delete(shown["id"])


def test_an_api_error_has_the_service_s_own_envelope_and_strikes_only_what_was_named(cloud: SimCloud) -> None:
    """500 in the words of each API, for the named route, for as often as was said; neighbours and doors are spared."""
    _add(cloud, "api_error", service="compute", route="GET /v2.1/servers", count=1)
    with pytest.raises(Refused) as refused:
        cloud.member("GET", "compute", "/v2.1/servers")
    assert refused.value.status == 500
    assert refused.value.body["computeFault"]["code"] == 500
    assert cloud.member("GET", "compute", "/v2.1/servers")["servers"] == []
    _add(cloud, "api_error", service="network", status=503, project=cloud.member.project_id)
    with pytest.raises(Refused) as refused:
        cloud.member("GET", "network", "/v2.0/networks")
    assert refused.value.status == 503
    assert cloud.admin("GET", "network", "/v2.0/networks")["networks"]
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    cloud.delete(server_id)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [step.name for flow in FLOWS if flow.name == "launch" for step in flow.steps])
def test_a_launch_whose_step_fails_is_unwound(cloud: SimCloud, step: str, when: str) -> None:
    """Each step, before its effect and after it: ERROR with words, and nothing left behind."""
    fault = _add(cloud, "step_fails", flow="launch", step=step, when=when, count=1)
    server_id = cloud.post(cloud.body(cloud.net, volume=True))  # type: ignore[attr-defined]
    shown = cloud.settled(server_id)
    assert shown["status"] == "ERROR"
    assert shown["fault"]["message"].startswith("A fault was injected: ")
    _remove(cloud, fault)
    assert find_leaks(cloud.services) == []
    cloud.delete(server_id)


def test_an_undo_that_fails_is_tried_again(cloud: SimCloud) -> None:
    """The launch still ends in ERROR with its own reason, and leaves nothing."""
    _add(cloud, "step_fails", flow="launch", step="start_domain", when="after", count=1)
    _add(cloud, "step_fails", flow="launch", when="undo", count=3)
    server_id = cloud.post(cloud.body(cloud.net, volume=True))  # type: ignore[attr-defined]

    def struck_all() -> bool:
        cloud.jump(0.2)  # each try comes a while after the one before
        return sum(fault["struck"] for fault in _listed(cloud)) == 4

    cloud.until(struck_all, "the undos to fail")
    cloud.jump(3)
    shown = cloud.settled(server_id)
    assert (shown["status"], shown["fault"]["message"]) == ("ERROR", "A fault was injected: start the domain.")
    cloud.delete(server_id)


@pytest.mark.parametrize("step", ["connect_volume", "plug_volume"])
def test_a_volume_whose_attachment_fails_is_off_the_server_s_record(cloud: SimCloud, step: str) -> None:
    """The answer says so; what was reserved is free again, and the server does not show a volume that it does not have."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    volume_id = cloud.member("POST", "volume", "/v3/volumes", {"volume": {"size": 1}})["volume"]["id"]
    path = f"/v3/volumes/{volume_id}"
    cloud.until(lambda: cloud.member("GET", "volume", path)["volume"]["status"] == "available", "the volume")
    for when in ("before", "after"):
        _add(cloud, "step_fails", flow="attach_volume", step=step, when=when, count=1)
        ties = f"/v2.1/servers/{server_id}/os-volume_attachments"
        with pytest.raises(Refused, match="A fault was injected"):
            cloud.member("POST", "compute", ties, {"volumeAttachment": {"volumeId": volume_id}})
        cloud.until(lambda: all(fault["struck"] for fault in _listed(cloud)), "the fault to strike")
        cloud.settled(server_id)
        assert cloud.member("GET", "compute", ties)["volumeAttachments"] == []
        assert cloud.member("GET", "volume", path)["volume"]["status"] == "available"
    cloud.member("DELETE", "volume", path)
    cloud.delete(server_id)


@pytest.mark.parametrize("step", ["add_port", "plug_nic"])
def test_a_nic_whose_attachment_fails_is_off_the_server_s_record(cloud: SimCloud, step: str) -> None:
    """Its port is gone, from the network and from the server."""
    server_id = cloud.launched(cloud.net)  # type: ignore[attr-defined]
    path = f"/v2.1/servers/{server_id}/os-interface"
    for when in ("before", "after"):
        _add(cloud, "step_fails", flow="attach_interface", step=step, when=when, count=1)
        request = {"interfaceAttachment": {"net_id": cloud.net}}  # type: ignore[attr-defined]
        with pytest.raises(Refused) as refused:
            cloud.member("POST", "compute", path, request)
        assert refused.value.status == 500
        assert len(cloud.member("GET", "compute", path)["interfaceAttachments"]) == 1
        assert len(cloud.admin("GET", "network", f"/v2.0/ports?device_id={server_id}")["ports"]) == 1
        assert len(cloud.services.machine.vif.ports_of(server_id)) == 1
    cloud.delete(server_id)


# --- the interface -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "earthquake"},
        {},
        {"kind": "volume_full", "seconds": 3},
        {"kind": "image_slow"},
        {"kind": "image_slow", "seconds": "long"},
        {"kind": "image_slow", "seconds": 1e9},
        {"kind": "api_error", "rate": 2},
        {"kind": "api_error", "rate": True},
        {"kind": "api_error", "count": 0},
        {"kind": "api_error", "count": 1.5},
        {"kind": "api_error", "status": 418},
        {"kind": "api_error", "service": "bakery"},
        {"kind": "api_error", "service": "compute", "route": "GET /v2.1/cakes"},
        {"kind": "step_fails", "flow": "launch", "step": "bake"},
        {"kind": "step_fails", "when": "never"},
        {"kind": "host_dies", "host": "nowhere"},
        {"kind": "volume_full", "duration": -1},
        {"kind": "volume_full", "project": 7},
    ],
)
def test_what_is_not_known_is_refused(cloud: SimCloud, asked: dict[str, Any]) -> None:
    """400 with words, and no fault is made."""
    with pytest.raises(Refused) as refused:
        cloud.admin("POST", "admin", "/faults", {"fault": asked})
    assert refused.value.status == 400
    assert refused.value.body["badRequest"]["message"]
    assert _listed(cloud) == []


def test_faults_are_the_admin_s(cloud: SimCloud) -> None:
    """A member may neither make nor see nor remove one."""
    fault = _add(cloud, "volume_full", rate=0)
    for method, path, body in (
        ("POST", "/faults", {"fault": {"kind": "volume_full"}}),
        ("GET", "/faults", None),
        ("DELETE", f"/faults/{fault['id']}", None),
    ):
        with pytest.raises(Refused) as refused:
            cloud.member(method, "admin", path, body)
        assert refused.value.status == 403
    _remove(cloud, fault)
    with pytest.raises(Refused) as refused:
        _remove(cloud, fault)
    assert refused.value.status == 404


def test_a_fault_ends_with_its_duration(cloud: SimCloud) -> None:
    """Then it is not listed, strikes nobody, and what it held down comes up."""
    _add(cloud, "port_never_up", duration=20)
    server_id = cloud.post(cloud.body(cloud.net))  # type: ignore[attr-defined]
    cloud.until(lambda: _listed(cloud)[0]["struck"] > 0, "the port to be held down")
    cloud.jump(21)
    assert _listed(cloud) == []
    assert cloud.settled(server_id)["status"] == "ACTIVE"
    cloud.delete(server_id)


def test_without_the_option_there_is_no_such_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    """404 for an admin; and nothing of the faults is in the way of requests or steps."""
    with SimCloud(tmp_path_factory.mktemp("plain")) as plain:
        for method, path in (("GET", "/faults"), ("POST", "/faults"), ("DELETE", "/faults/1")):
            with pytest.raises(Refused) as refused:
                plain.admin(method, "admin", path, {"fault": {"kind": "volume_full"}} if method == "POST" else None)
            assert refused.value.status == 404
        assert all(app.strike is None for app in plain.services.apps.values())
        assert all(one is other for one, other in zip(plain.services.flows, FLOWS, strict=True))
        assert plain.services.network.levels.held is None


def test_the_rate_is_kept() -> None:
    """One in five of many, by the dice that a seed owns."""
    faults = Faults(clock=SystemClock(), ids=SeededIds(7))
    faults.add({"kind": "step_fails", "rate": 0.2})
    struck = sum(
        faults.strike("step_fails", None, flow="launch", step="x", when="before") is not None for _ in range(5000)
    )
    assert 900 < struck < 1100


def test_no_more_faults_than_can_be_overseen() -> None:
    """The registry has an end."""
    faults = Faults(clock=SystemClock(), ids=SeededIds(1))
    for _ in range(100):
        faults.add({"kind": "volume_full"})
    with pytest.raises(BadRequest):
        faults.add({"kind": "volume_full"})
    assert set(KINDS) == {"host_dies", "port_never_up", "image_slow", "volume_full", "api_error", "step_fails"}
