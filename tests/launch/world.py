"""A simulated cloud as its users see it: `cumulet up --sim` in a process of its own, and what launches need in it."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from cumulet.dev.cloud import Refused, RunningCloud, Session

__all__ = ["World"]

T = TypeVar("T")

#: with the events' details (2.84), and the fault of a server that is building
VERSION = {"OpenStack_API_Version": "compute 2.96"}
TIMEOUT_S = 30.0
POLL_S = 0.001


class World:
    """A member and an admin of one running cloud, with a network, an image and a small flavor at hand."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self.member: Session = cloud.session("cumulet")
        self.admin: Session = cloud.session("cumulet-admin")
        self.image = self.member.get("image", "/v2/images?visibility=public&status=active")["images"][0]["id"]
        flavors = self.member.get("compute", "/flavors")["flavors"]
        self.flavor = next(flavor["id"] for flavor in flavors if flavor["name"] == "m1.nano")
        made = self.member.post("network", "/v2.0/networks", {"network": {"name": "launch"}})
        self.network = made["network"]["id"]
        subnet = {"network_id": self.network, "ip_version": 4, "cidr": "10.30.0.0/24"}
        self.subnet = self.member.post("network", "/v2.0/subnets", {"subnet": subnet})["subnet"]["id"]

    def close(self) -> None:
        self.member.close()
        self.admin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- servers ---------------------------------------------------------------------------------------------------

    def body(self, **more: Any) -> dict[str, Any]:
        """A launch request with one port."""
        server = {"name": "one", "imageRef": self.image, "flavorRef": self.flavor, "networks": [{"uuid": self.network}]}
        return {"server": server | more}

    def with_volume(self, **more: Any) -> dict[str, Any]:
        """A launch request with one port and a second, blank volume that ends with the server."""
        root = {"boot_index": 0, "uuid": self.image, "source_type": "image", "destination_type": "local"}
        data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
        devices = [root | {"delete_on_termination": True}, data | {"delete_on_termination": True}]
        return self.body(block_device_mapping_v2=devices, **more)

    def post(self, body: dict[str, Any]) -> str:
        """Ask for a server; its id."""
        return str(self.member.post("compute", "/servers", body, **VERSION)["server"]["id"])

    def act(self, server_id: str, action: dict[str, Any]) -> None:
        self.member.post("compute", f"/servers/{server_id}/action", action, **VERSION)

    def server(self, server_id: str, *, admin: bool = False) -> dict[str, Any]:
        session = self.admin if admin else self.member
        shown: dict[str, Any] = session.get("compute", f"/servers/{server_id}", **VERSION)["server"]
        return shown

    def task_states(self, server_id: str) -> list[str | None]:
        """The task states that a client sees, each once, until the server is no longer building."""
        seen: list[str | None] = []
        ends = time.monotonic() + TIMEOUT_S
        while time.monotonic() < ends:
            shown = self.server(server_id)
            if not seen or seen[-1] != shown["OS-EXT-STS:task_state"]:
                seen.append(shown["OS-EXT-STS:task_state"])
            if shown["status"] != "BUILD":
                return seen
        raise AssertionError(f"server {server_id} still builds; seen: {seen}")

    def settled(self, server_id: str) -> dict[str, Any]:
        """The server once it is idle and no longer building."""

        def look() -> dict[str, Any] | None:
            shown = self.server(server_id)
            return shown if shown["status"] != "BUILD" and shown["OS-EXT-STS:task_state"] is None else None

        found: dict[str, Any] = self.wait_for(look, f"server {server_id} to settle")
        return found

    def is_gone(self, server_id: str) -> bool:
        try:
            self.server(server_id)
        except Refused as refused:
            if refused.status == 404:
                return True
            raise
        return False

    def delete(self, server_id: str) -> None:
        """Delete a server and wait until it is gone.  One that is gone is fine."""
        if not self.is_gone(server_id):
            self.member.delete("compute", f"/servers/{server_id}")
        self.wait_for(lambda: self.is_gone(server_id), f"server {server_id} to go")

    @contextmanager
    def launched(self, body: dict[str, Any]) -> Iterator[str]:
        """A server that has settled, deleted afterwards."""
        server_id = self.post(body)
        try:
            self.settled(server_id)
            yield server_id
        finally:
            self.delete(server_id)

    def events(self, server_id: str, action: str = "create") -> list[dict[str, Any]]:
        """The recorded events of an action, by their start, with what an admin may see."""
        path = f"/servers/{server_id}/os-instance-actions"
        actions = self.admin.get("compute", path, **VERSION)["instanceActions"]
        found = next(one for one in actions if one["action"] == action)
        shown = self.admin.get("compute", f"{path}/{found['request_id']}", **VERSION)["instanceAction"]
        events: list[dict[str, Any]] = sorted(shown["events"], key=lambda event: event["start_time"])
        return events

    # --- what is left ----------------------------------------------------------------------------------------------

    def holdings(self) -> dict[str, set[str]]:
        """What the member has: servers, ports, volumes; and who holds resources of the hosts."""
        servers = self.member.get("compute", "/servers")["servers"]
        ports = self.member.get("network", "/v2.0/ports")["ports"]
        volumes = self.member.get("block-storage", "/volumes")["volumes"]
        consumers: set[str] = set()
        for provider in self.admin.get("placement", "/resource_providers")["resource_providers"]:
            path = f"/resource_providers/{provider['uuid']}/allocations"
            consumers |= set(self.admin.get("placement", path)["allocations"])
        return {
            "servers": {server["id"] for server in servers},
            "ports": {port["id"] for port in ports if port["device_owner"].startswith("compute:")},
            "volumes": {volume["id"] for volume in volumes},
            "allocations": consumers,
        }

    def until_holdings_are(self, expected: dict[str, set[str]]) -> None:
        """A volume that ends with its server goes in its own time."""
        self.wait_for(lambda: self.holdings() == expected, f"what there was before: {expected}")

    def leaks(self) -> list[dict[str, str]]:
        """What `cumulet check` prints: everything without an owner."""
        found: list[dict[str, str]] = self.admin.operator("/check")["leaks"]
        return found

    def remove_networks(self, name: str) -> None:
        """All of this name, whosever they are."""
        for network in self.admin.get("network", f"/v2.0/networks?name={name}")["networks"]:
            self.admin.delete("network", f"/v2.0/networks/{network['id']}")

    def words(self, refused: Refused) -> str:
        """The message of an error answer."""
        found = re.search(r'"message":\s*"((?:[^"\\]|\\.)*)"', refused.text)
        return found.group(1) if found else refused.text

    @staticmethod
    def wait_for(look: Callable[[], T | None], what: str, timeout_s: float = TIMEOUT_S) -> T:
        """Ask until the answer is true.  There is no event to wait for on a public API."""
        ends = time.monotonic() + timeout_s
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > ends:
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
            threading.Event().wait(POLL_S)
