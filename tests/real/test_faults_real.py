"""Faults on demand on real drivers: what they say is what a user meets, and nothing is left of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.real.test_launch_real import ACTIVE_TIMEOUT_S, VERSION, wait_for

from cumulet.dev.cloud import Refused, RunningCloud, Session

pytestmark = [pytest.mark.real, pytest.mark.slow]

REQUESTS = 100


class Faults:
    """The admin's side."""

    def __init__(self, admin: Session) -> None:
        self._url = admin.auth_url.removesuffix("/identity/v3") + "/admin/faults"
        self._headers = {"X-Auth-Token": admin.token}

    def add(self, kind: str, **more: Any) -> str:
        answer = httpx.post(self._url, json={"fault": {"kind": kind, **more}}, headers=self._headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["fault"]["id"])

    def struck(self) -> int:
        return sum(one["struck"] for one in httpx.get(self._url, headers=self._headers).json()["faults"])

    def remove(self, fault_id: str) -> None:
        assert httpx.delete(f"{self._url}/{fault_id}", headers=self._headers).status_code == 204


class User:
    """Someone with a network."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.network = session.post("network", "/v2.0/networks", {"network": {"name": "net"}})["network"]["id"]
        subnet = {"network_id": self.network, "ip_version": 4, "cidr": "10.44.0.0/24"}
        session.post("network", "/v2.0/subnets", {"subnet": subnet})
        self.image = session.get("image", "/v2/images?visibility=public&status=active")["images"][0]["id"]
        flavors = session.get("compute", "/flavors")["flavors"]
        self.flavor = next(one["id"] for one in flavors if one["name"] == "m1.nano")

    def launch(self) -> str:
        body = {
            "name": "one",
            "flavorRef": self.flavor,
            "imageRef": self.image,
            "networks": [{"uuid": self.network}],
        }
        return str(self.session.post("compute", "/servers", {"server": body}, **VERSION)["server"]["id"])

    def show(self, server_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.session.get("compute", f"/servers/{server_id}")["server"]
        return shown

    def settled(self, server_id: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            shown = self.show(server_id)
            return shown if shown["status"] != "BUILD" and shown["OS-EXT-STS:task_state"] is None else None

        found: dict[str, Any] = wait_for(look, f"server {server_id} to settle", ACTIVE_TIMEOUT_S)
        return found


def _volume_full(user: User, faults: Faults) -> None:
    fault = faults.add("volume_full")
    volume = user.session.post("block-storage", "/volumes", {"volume": {"size": 1}})["volume"]["id"]
    where = f"/volumes/{volume}"
    wait_for(lambda: user.session.get("block-storage", where)["volume"]["status"] == "error", "error", ACTIVE_TIMEOUT_S)
    told = user.session.get("block-storage", "/messages", OpenStack_API_Version="volume 3.66")["messages"]
    assert [one["user_message"] for one in told] == ["create volume: There is no space left on the volume back end."]
    faults.remove(fault)
    user.session.delete("block-storage", where)


def _api_error(user: User, faults: Faults) -> None:
    fault = faults.add("api_error", service="compute", rate=0.3)
    answers = []
    for _ in range(REQUESTS):
        try:
            user.session.get("compute", "/servers")
        except Refused as error:
            answers.append(error.status)
    assert answers == [500] * faults.struck()
    assert REQUESTS * 0.1 < len(answers) < REQUESTS * 0.5
    faults.remove(fault)


def _port_held(user: User, faults: Faults) -> str:
    """A server that waits for its port, and runs once that comes up."""
    fault = faults.add("port_never_up")
    server_id = user.launch()
    wait_for(faults.struck, "the port to be held down", ACTIVE_TIMEOUT_S)
    wait_for(lambda: user.show(server_id)["OS-EXT-STS:task_state"] == "spawning", "the guest", ACTIVE_TIMEOUT_S)
    faults.remove(fault)
    assert user.settled(server_id)["status"] == "ACTIVE"
    return server_id


def _host_dead(user: User, faults: Faults, host_state: Callable[[], str], server_id: str) -> None:
    fault = faults.add("host_dies")
    wait_for(lambda: host_state() == "down", "the host to be down", ACTIVE_TIMEOUT_S)
    shown = user.settled(user.launch())
    assert shown["status"] == "ERROR"
    assert "No valid host was found" in shown["fault"]["message"]
    user.session.delete("compute", f"/servers/{shown['id']}")
    user.session.post("compute", f"/servers/{server_id}/action", {"pause": None})
    assert user.show(server_id)["OS-EXT-STS:task_state"] == "pausing"
    faults.remove(fault)
    wait_for(lambda: host_state() == "up", "the host to be up", ACTIVE_TIMEOUT_S)
    assert user.settled(server_id)["status"] == "PAUSED"


def test_what_an_admin_breaks_is_broken_and_heals(tmp_path: Path) -> None:
    """A full back end, an API that answers 500 at a rate, a port that does not come up, a host that is dead: each as a user meets it, each
    gone with its fault, the missed order carried out; and no leak.
    """
    with (
        RunningCloud(tmp_path / "state", ["--real", "--no-merge-clouds", "--faults"], quiet=True) as cloud,
        cloud.session("cumulet-admin") as admin,
        cloud.session("cumulet") as session,
    ):
        user, faults = User(session), Faults(admin)

        def host_state() -> str:
            services = admin.get("compute", "/os-services")["services"]
            return next(str(one["state"]) for one in services if one["binary"] == "nova-compute")

        _volume_full(user, faults)
        _api_error(user, faults)
        server_id = _port_held(user, faults)
        _host_dead(user, faults, host_state, server_id)
        assert admin.operator("/check")["leaks"] == []
