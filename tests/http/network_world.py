"""A network service on a simulated data plane, and short words for what tests of it do again and again."""

from pathlib import Path
from typing import Any

from tests.http.harness import ApiClient, authenticate

from cumulet.core.clock import SystemClock
from cumulet.core.db import open_database
from cumulet.core.ids import SystemIds
from cumulet.core.web.client import Client, Credentials, LocalTransport
from cumulet.network import api
from cumulet.network.config import NetworkConfig
from cumulet.network.door import NetworkRest
from cumulet.network.drivers.sim import SimNetwork
from cumulet.network.service import NetworkService
from cumulet.network.tables import METADATA

HOST = "node-1"
ADMIN_PROJECT = "9" * 32
ABSENT = "00000000-0000-4000-8000-000000000000"


class NetworkWorld:
    """A service, its data plane, and callers."""

    def __init__(self, url: str, config: NetworkConfig | None = None) -> None:
        clock, ids = SystemClock(), SystemIds()
        self.db = open_database(url, "network", METADATA)
        self.db.create()
        self.driver = SimNetwork(hosts=(HOST,), clock=clock)
        self.service = NetworkService(
            self.db, self.driver, clock=clock, ids=ids, config=config or NetworkConfig(external_cidr="172.24.4.0/24")
        )
        self.public = self.service.bootstrap(ADMIN_PROJECT)
        self.app = api.application(self.service, authenticate=authenticate, clock=clock, ids=ids)
        self.member = ApiClient(self.app, "member")
        self.admin = ApiClient(self.app, "admin")
        self.reader = ApiClient(self.app, "reader")
        self.other = ApiClient(self.app, "other")
        self.agent = ApiClient(self.app, "service")
        self.door = NetworkRest(
            Client("network", LocalTransport(self.app), clock), subscribe=self.service.levels.subscribe
        )

    @classmethod
    def at(cls, folder: Path, config: NetworkConfig | None = None) -> "NetworkWorld":
        return cls(f"sqlite://{folder}", config)

    def close(self) -> None:
        self.service.close()
        self.db.close()

    # Making things

    def made(self, kind: str, who: ApiClient | None = None, **attributes: Any) -> dict[str, Any]:
        """A new thing; the test fails when it is refused."""
        path = {"security_group": "security-groups", "security_group_rule": "security-group-rules"}.get(
            kind, f"{kind}s"
        )
        answer = (who or self.member).post(f"/v2.0/{path}", {kind: attributes})
        assert answer.status == 201, answer.json
        thing: dict[str, Any] = answer.json[kind]
        return thing

    def network(self, who: ApiClient | None = None, **attributes: Any) -> dict[str, Any]:
        return self.made("network", who, **{"name": "blue", **attributes})

    def subnet(self, network_id: str, cidr: str = "10.0.0.0/24", **attributes: Any) -> dict[str, Any]:
        return self.made("subnet", network_id=network_id, cidr=cidr, ip_version=6 if ":" in cidr else 4, **attributes)

    def joined(self, cidr: str = "10.0.0.0/24") -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """A network, its subnet, and a router that joins it to the external network."""
        network = self.network()
        subnet = self.subnet(network["id"], cidr)
        router = self.made("router", name="gate", external_gateway_info={"network_id": self.public.id})
        assert (
            self.member.put(f"/v2.0/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]}).status
            == 200
        )
        return network, subnet, router

    # Looking

    def show(self, path: str, who: ApiClient | None = None) -> dict[str, Any]:
        answer = (who or self.member).get(f"/v2.0/{path}")
        assert answer.status == 200, answer.json
        thing: dict[str, Any] = next(iter(answer.json.values()))
        return thing

    def listed(self, path: str, who: ApiClient | None = None) -> list[dict[str, Any]]:
        answer = (who or self.member).get(f"/v2.0/{path}")
        assert answer.status == 200, answer.json
        things: list[dict[str, Any]] = next(value for key, value in answer.json.items() if not key.endswith("_links"))
        return things

    def addresses(self, network_id: str) -> dict[str, str]:
        """Every address given out on a network, and its port: from the rows that make it unique."""
        from sqlalchemy import select

        from cumulet.network.tables import ip_allocations as table

        with self.db.read() as tx:
            rows = tx.all(select(table.c.ip_address, table.c.port_id).where(table.c.network_id == network_id))
        return {row["ip_address"]: row["port_id"] for row in rows}


def refused(answer: Any, status: int, kind: str) -> str:
    """The words of a refusal of this status and type."""
    assert answer.status == status, (answer.status, answer.content)
    error = answer.json["NeutronError"]
    assert error["type"] == kind, error
    return str(error["message"])


def credentials(token: str = "member", *, service: bool = False) -> Credentials:
    """What a door is called with: a caller's token, and a service's beside it."""
    return Credentials(token=token, service_token="service" if service else None)
