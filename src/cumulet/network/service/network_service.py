"""The network service: its parts, its start, and its agreement with the data plane."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from cumulet.core.clock import Clock
from cumulet.core.db import Database
from cumulet.core.errors import CloudError
from cumulet.core.ids import Ids
from cumulet.network import addresses, errors, projection, tables
from cumulet.network.config import NetworkConfig
from cumulet.network.drivers.driver import Agent, NetworkDriver, Owned, OwnedKind
from cumulet.network.records import Network, Viewer
from cumulet.network.service.accounts import Accounts
from cumulet.network.service.effects import Effects, Thing
from cumulet.network.service.floating_ips import FloatingIps
from cumulet.network.service.keeper import NetworkKeeper
from cumulet.network.service.levels import Listener, PortLevels
from cumulet.network.service.means import Means
from cumulet.network.service.networks import Networks
from cumulet.network.service.ports import Ports
from cumulet.network.service.rbac import RbacPolicies
from cumulet.network.service.routers import Routers
from cumulet.network.service.security_groups import SecurityGroupRules, SecurityGroups
from cumulet.network.service.subnetpools import AddressScopes, SubnetPools
from cumulet.network.service.subnets import Subnets
from cumulet.network.store import ports, standard
from cumulet.network.store.listing import Search

__all__ = ["NetworkService", "Resynced"]

log = structlog.get_logger()

_ALL = Viewer(project_id=None, sees_all=True)
#: the name space of the ids of metadata agents, by the id of their host's part of the data plane
_METADATA_AGENTS = uuid.UUID("5c0c1d6a-8f0e-4a57-9d0c-2d3c0c5f1b11")


class Resynced(msgspec.Struct, frozen=True):
    """What `resync` did."""

    ensured: int
    removed: int
    failed: int


class NetworkService:
    """Networks of one cloud.

    post: runs a function on a thread that may write the database, for port events; without it they are handled where they are heard.
    """

    def __init__(
        self,
        db: Database,
        driver: NetworkDriver,
        *,
        clock: Clock,
        ids: Ids,
        config: NetworkConfig,
        post: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.config = config
        self.driver = driver
        self.db = db
        self._effects = Effects(db, driver, clock=clock, ids=ids, config=config)
        means = Means(db=db, effects=self._effects, clock=clock, ids=ids, config=config)
        self.networks = Networks(means)
        self.address_scopes = AddressScopes(means)
        self.subnetpools = SubnetPools(means)
        self.subnets = Subnets(means, self.subnetpools)
        self.security_groups = SecurityGroups(means)
        self.security_group_rules = SecurityGroupRules(means, self.security_groups)
        self.ports = Ports(means, self.security_groups)
        self.routers = Routers(means, self.ports)
        self.floating_ips = FloatingIps(means, self.ports)
        self.rbac_policies = RbacPolicies(means)
        self.accounts = Accounts(means)
        self.levels = PortLevels(db, driver, post=post)
        self.keeper = NetworkKeeper(db, self._effects, self.levels, driver)

    # Start

    def bootstrap(self, project_id: str = "") -> Network:
        """Make the external network and its subnet where they are not there; `project_id` owns them.  May be repeated."""
        config = self.config
        found = self.networks.lists(Search(viewer=_ALL, filters={"external": [True], "name": [config.external_name]}))
        network = found[0] if found else self.networks.create(_ALL, [_external(config, project_id)])[0]
        if not network.subnets:
            self.subnets.create(_ALL, [_external_subnet(config, network)])
        return self.networks.get(_ALL, network.id)

    # Port levels

    def port_status(self, port_id: str, up: bool) -> bool:
        """What the data plane says of a port; whether it was news."""
        return self.levels.port_status(port_id, up)

    def on_port_up(self, listener: Listener) -> Callable[[], None]:
        """Be told (port id, up) of every change of a port's level; the way to stop it."""
        return self.levels.subscribe(listener)

    def port_is_up(self, port_id: str) -> bool:
        """The level as the data plane has it now."""
        return self.driver.port_up(port_id)

    def project_of_port(self, port_id: str) -> str | None:
        with self.db.read() as tx:
            port = ports.get(tx, port_id)
        return None if port is None else port.project_id

    def changed_at(self, port_id: str) -> str | None:
        """When a port was last changed by somebody, not by the data plane."""
        with self.db.read() as tx:
            return ports.changed_at(tx, port_id)

    # Agreement with the data plane

    def resync(self) -> Resynced:
        """Put every row into the data plane, and take out of it what no row knows: at a start, or when its databases were lost.

        What is in the data plane is read before the rows: a row is committed before its effect, so what is found there without one
        has lost it.
        """
        there = self.driver.owned()
        things = self._things()
        failed = 0
        for thing in things:
            failed += not self._put(thing)
        kept = set(things) | self._held()
        gone = [(owned.kind, owned.id) for owned in there if (owned.kind, owned.id) not in kept]
        # what stands on others first
        for thing in sorted(gone, key=lambda thing: _TAKEN_OUT.index(thing[0])):
            failed += not self._put(thing)
        if not failed:
            self._effects.pay_debts()
        self.levels.reread()
        return Resynced(len(things), len(gone), failed)

    def _put(self, thing: Thing) -> bool:
        try:
            self._effects.put(thing)
        except CloudError as error:  # one thing that the data plane refuses must not keep the others out
            log.warning("network_resync_failed", kind=thing[0], id=thing[1], reason=error.detail or error.message)
            return False
        return True

    def unowned(self) -> list[Owned]:
        """What carries this cloud's id in the data plane and has no row: for the leak check."""
        there = self.driver.owned()
        kept = set(self._things()) | self._held()
        return [owned for owned in there if (owned.kind, owned.id) not in kept]

    def put_again(self, kind: OwnedKind, id: str) -> None:
        """Make the data plane agree with one row, or with its absence."""
        self._effects.put((kind, id))

    def _things(self) -> list[Thing]:
        """Every row that has a place in the data plane, in the order in which they stand on each other."""
        without = projection.IN_ROUTERS | projection.WITHOUT_PORT
        with self.db.read() as tx:
            return [
                *(("network", id) for id in standard.ids(tx, tables.networks)),
                *(("subnet", id) for id in standard.ids(tx, tables.subnets)),
                *(("security_group", id) for id in standard.ids(tx, tables.security_groups)),
                *(("port", id) for id in standard.ids(tx, tables.ports, tables.ports.c.device_owner.not_in(without))),
                *(("router", id) for id in standard.ids(tx, tables.routers)),
                *(("floating_ip", id) for id in standard.ids(tx, tables.floating_ips)),
            ]

    def _held(self) -> set[Thing]:
        """Routers' feet, which the driver makes with their router."""
        feet = tables.ports.c.device_owner.in_(projection.IN_ROUTERS)
        with self.db.read() as tx:
            return {("port", id) for id in standard.ids(tx, tables.ports, feet)}

    def upkeep(self) -> int:
        """What is due now and then: a sign of life of every agent, and debts paid; how many debts stay."""
        self.driver.heartbeat()
        return self._effects.pay_debts()

    # The data plane's own

    def agents(self) -> tuple[Agent, ...]:
        """The hosts' parts of the data plane, and beside each the one that answers for metadata there: it is a part of the host's
        own process and has no life of its own."""
        hosts = self.driver.agents()
        return (*hosts, *(_metadata_agent(host) for host in hosts))

    def agent(self, id: str) -> Agent:
        for agent in self.agents():
            if agent.id == id:
                return agent
        raise errors.AgentNotFound(id=id)

    def close(self) -> None:
        self.levels.close()


def _metadata_agent(host: Agent) -> Agent:
    return Agent(
        id=str(uuid.uuid5(_METADATA_AGENTS, host.id)),
        host=host.host,
        agent_type="OVN Metadata agent",
        alive=host.alive,
        seen_at=host.seen_at,
    )


_TAKEN_OUT = ("floating_ip", "router", "port", "subnet", "security_group", "network")


def _external(config: NetworkConfig, project_id: str) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "name": config.external_name,
        "description": "",
        "admin_state_up": True,
        "shared": False,
        "router:external": True,
        "is_default": True,
        "mtu": 0,
        "port_security_enabled": True,
        "dns_domain": "",
        "availability_zone_hints": [],
        "provider:network_type": "flat",
        "provider:physical_network": config.external_physical_network,
    }


def _external_subnet(config: NetworkConfig, network: Network) -> dict[str, Any]:
    gateway = config.external_gateway or addresses.default_gateway(config.external_cidr)
    wanted: dict[str, Any] = {
        "project_id": network.project_id,
        "name": f"{config.external_name}-subnet",
        "description": "",
        "network_id": network.id,
        "ip_version": addresses.version(config.external_cidr),
        "cidr": config.external_cidr,
        "gateway_ip": gateway,
        "enable_dhcp": False,
        "dns_nameservers": [],
        "host_routes": [],
        "service_types": [],
        "dns_publish_fixed_ip": False,
        "use_default_subnetpool": False,
    }
    if config.external_pool is not None:
        start, end = config.external_pool
        wanted["allocation_pools"] = [{"start": start, "end": end}]
    return wanted
