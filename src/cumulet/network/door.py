"""What other services may do with networks: read them, make and bind ports, know when one is up, find who holds an address.

The one implementation calls the public API.  Attributes that say where a port is (`binding:*`) take the service role, by the caller's
own token or by the service token that comes with a user's (`Credentials.service_token`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from cumulet.core.errors import NotFound
from cumulet.core.web.client import Client, Credentials, path
from cumulet.network import addresses
from cumulet.network.config import MAC_PREFIX

__all__ = [
    "FixedIpInfo",
    "FloatingIpInfo",
    "NetworkDoor",
    "NetworkInfo",
    "NetworkRest",
    "PortInfo",
    "QuotaInfo",
    "SecurityGroupInfo",
    "SecurityGroupRuleInfo",
    "SubnetInfo",
    "UnknownLevelsError",
    "mac_of",
]

#: (port id, up)
Listener = Callable[[str, bool], None]
Subscribe = Callable[[Listener], Callable[[], None]]


def mac_of(port_id: str) -> str:
    """The MAC that a port of this id will have, unless another port of its network has it already."""
    return addresses.mac_of(MAC_PREFIX, port_id)


class UnknownLevelsError(RuntimeError):
    """Levels of ports were subscribed to through a door that leads to another process."""


class NetworkInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A network."""

    id: str
    name: str
    project_id: str
    mtu: int
    subnet_ids: tuple[str, ...]
    shared: bool
    external: bool
    dns_domain: str
    port_security_enabled: bool


class SubnetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet."""

    id: str
    network_id: str
    name: str
    ip_version: int
    cidr: str
    gateway_ip: str | None
    enable_dhcp: bool
    dns_nameservers: tuple[str, ...]
    #: (destination, next hop)
    host_routes: tuple[tuple[str, str], ...]
    ipv6_ra_mode: str | None
    ipv6_address_mode: str | None


class FixedIpInfo(msgspec.Struct, frozen=True):
    """An address of a port."""

    subnet_id: str
    ip_address: str


class PortInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A port.  What the caller may not see is empty."""

    id: str
    network_id: str
    project_id: str
    name: str
    mac_address: str
    fixed_ips: tuple[FixedIpInfo, ...]
    device_id: str
    device_owner: str
    security_group_ids: tuple[str, ...]
    status: str
    port_security_enabled: bool
    dns_name: str
    host: str
    vif_type: str
    vnic_type: str
    profile: dict[str, Any]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(ip.ip_address for ip in self.fixed_ips)


class SecurityGroupInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A security group, without its rules."""

    id: str
    name: str
    project_id: str
    description: str


class SecurityGroupRuleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of a security group."""

    id: str
    security_group_id: str
    direction: str
    protocol: str | None
    port_range_min: int | None
    port_range_max: int | None
    remote_ip_prefix: str | None
    remote_group_id: str | None


class FloatingIpInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A floating IP and where it leads."""

    id: str
    address: str
    network_id: str
    port_id: str | None
    fixed_ip: str | None


class QuotaInfo(msgspec.Struct, frozen=True):
    """How much of something a project may have (-1: any) and has."""

    limit: int
    used: int


class NetworkDoor(Protocol):
    """Networks, to another service."""

    def get_network(self, credentials: Credentials, network_id: str) -> NetworkInfo:
        """Raises NotFound."""

    def networks_for(self, credentials: Credentials, project_id: str) -> list[NetworkInfo]:
        """The networks that a project's servers may be on without being asked: its own and the shared ones."""

    def get_subnets(self, credentials: Credentials, network_id: str) -> list[SubnetInfo]: ...

    def get_port(self, credentials: Credentials, port_id: str) -> PortInfo:
        """Raises NotFound."""

    def list_ports(
        self, credentials: Credentials, *, device_id: str | None = None, network_id: str | None = None
    ) -> list[PortInfo]:
        """In order of creation."""

    def create_port(
        self,
        credentials: Credentials,
        *,
        network_id: str,
        project_id: str,
        id: str | None = None,
        device_id: str = "",
        device_owner: str = "",
        host: str | None = None,
        fixed_ip: str | None = None,
        security_groups: Sequence[str] | None = None,
        name: str = "",
        dns_name: str = "",
    ) -> PortInfo:
        """A new port, bound to `host` where one is given.  security_groups: ids; None is the project's default group.

        id: chosen by the caller, a service; its MAC then is known before (`mac_of`).
        Raises Conflict (id or address in use, no address left, quota), NotFound (network, group), BadRequest, Unavailable.
        """

    def bind_port(
        self,
        credentials: Credentials,
        port_id: str,
        *,
        device_id: str,
        device_owner: str,
        host: str,
        profile: dict[str, Any] | None = None,
        dns_name: str | None = None,
    ) -> PortInfo:
        """Give a port that is there to a device on a host.  May be repeated."""

    def unbind_port(self, credentials: Credentials, port_id: str) -> None:
        """Take a port from its device and its host.  A port that is gone is fine."""

    def delete_port(self, credentials: Credentials, port_id: str) -> None:
        """A port that is gone is fine."""

    def port_is_up(self, credentials: Credentials, port_id: str) -> bool:
        """Whether the port's host has bound it and its flows are in place; False for a port that is gone."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Be told of every change of a port's level; the way to stop it.  Subscribe first, then read `port_is_up`.

        Only in the process of the network service: raises UnknownLevelsError elsewhere.
        """

    def port_by_address(self, credentials: Credentials, network_id: str, address: str) -> PortInfo | None:
        """Who holds an address on a network: the identity behind a request for metadata.  Asks for the service role."""

    def address_in_use(self, credentials: Credentials, network_id: str, address: str) -> bool:
        """Whether the caller can see that an address is taken; the creation of a port decides."""

    def security_groups(self, credentials: Credentials, project_id: str) -> list[SecurityGroupInfo]:
        """A project's groups, its default one among them, and those shown to it."""

    def set_security_groups(self, credentials: Credentials, port_id: str, group_ids: Sequence[str]) -> None:
        """Make these a port's security groups.  Raises NotFound."""

    def security_group_rules(self, credentials: Credentials, group_ids: Sequence[str]) -> list[SecurityGroupRuleInfo]:
        """The rules of groups."""

    def floating_ips(self, credentials: Credentials, *, port_ids: Sequence[str]) -> list[FloatingIpInfo]:
        """Floating IPs that lead to ports."""

    def quotas(self, credentials: Credentials, project_id: str) -> dict[str, QuotaInfo]:
        """By resource: `network`, `port`, `floatingip`, `security_group`, `security_group_rule` and the like."""


class NetworkRest:
    """The door, by the public API.

    subscribe: `NetworkService.levels.subscribe`, where the service is in this process.
    """

    def __init__(self, client: Client, *, subscribe: Subscribe | None = None) -> None:
        self._client = client
        self._subscribe = subscribe

    # Networks

    def get_network(self, credentials: Credentials, network_id: str) -> NetworkInfo:
        return _network(self._client.call("GET", path("v2.0", "networks", network_id), credentials)["network"])

    def networks_for(self, credentials: Credentials, project_id: str) -> list[NetworkInfo]:
        own = self._all(credentials, "networks", {"project_id": project_id})
        shared = self._all(credentials, "networks", {"shared": "true"})
        found = {document["id"]: _network(document) for document in [*own, *shared]}
        return [network for network in found.values() if network.shared or not network.external]

    def get_subnets(self, credentials: Credentials, network_id: str) -> list[SubnetInfo]:
        return [_subnet(document) for document in self._all(credentials, "subnets", {"network_id": network_id})]

    # Ports

    def get_port(self, credentials: Credentials, port_id: str) -> PortInfo:
        return _port(self._client.call("GET", path("v2.0", "ports", port_id), credentials)["port"])

    def list_ports(
        self, credentials: Credentials, *, device_id: str | None = None, network_id: str | None = None
    ) -> list[PortInfo]:
        query: dict[str, str | list[str]] = {
            key: value for key, value in (("device_id", device_id), ("network_id", network_id)) if value is not None
        }
        return [_port(document) for document in self._all(credentials, "ports", query)]

    def create_port(
        self,
        credentials: Credentials,
        *,
        network_id: str,
        project_id: str,
        id: str | None = None,
        device_id: str = "",
        device_owner: str = "",
        host: str | None = None,
        fixed_ip: str | None = None,
        security_groups: Sequence[str] | None = None,
        name: str = "",
        dns_name: str = "",
    ) -> PortInfo:
        wanted: dict[str, Any] = {"network_id": network_id, "project_id": project_id}
        wanted |= {
            key: value
            for key, value in (
                ("id", id),
                ("device_id", device_id),
                ("device_owner", device_owner),
                ("name", name),
                ("dns_name", dns_name),
                ("binding:host_id", host),
            )
            if value
        }
        if fixed_ip is not None:
            wanted["fixed_ips"] = [{"ip_address": fixed_ip}]
        if security_groups is not None:
            wanted["security_groups"] = list(security_groups)
        return _port(self._client.call("POST", "/v2.0/ports", credentials, json={"port": wanted})["port"])

    def bind_port(
        self,
        credentials: Credentials,
        port_id: str,
        *,
        device_id: str,
        device_owner: str,
        host: str,
        profile: dict[str, Any] | None = None,
        dns_name: str | None = None,
    ) -> PortInfo:
        changes: dict[str, Any] = {"device_id": device_id, "device_owner": device_owner, "binding:host_id": host}
        if profile is not None:
            changes["binding:profile"] = profile
        if dns_name is not None:
            changes["dns_name"] = dns_name
        return self._update(credentials, port_id, changes)

    def unbind_port(self, credentials: Credentials, port_id: str) -> None:
        try:
            self._update(
                credentials,
                port_id,
                {"device_id": "", "device_owner": "", "binding:host_id": "", "binding:profile": {}, "dns_name": ""},
            )
        except NotFound:
            return

    def _update(self, credentials: Credentials, port_id: str, changes: dict[str, Any]) -> PortInfo:
        return _port(
            self._client.call("PUT", path("v2.0", "ports", port_id), credentials, json={"port": changes})["port"]
        )

    def delete_port(self, credentials: Credentials, port_id: str) -> None:
        try:
            self._client.call("DELETE", path("v2.0", "ports", port_id), credentials)
        except NotFound:
            return

    def port_is_up(self, credentials: Credentials, port_id: str) -> bool:
        try:
            answer = self._client.call("GET", path("v2.0", "ports", port_id), credentials, query={"fields": "status"})
        except NotFound:
            return False
        return bool(answer["port"]["status"] == "ACTIVE")

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        if self._subscribe is None:
            msg = "the network service is in another process"
            raise UnknownLevelsError(msg)
        return self._subscribe(listener)

    def port_by_address(self, credentials: Credentials, network_id: str, address: str) -> PortInfo | None:
        query: dict[str, str | list[str]] = {"network_id": network_id, "fixed_ips": f"ip_address={address}"}
        found = [_port(document) for document in self._all(credentials, "ports", query)]
        # the address is unique on its network; the caller's word for it is not trusted further than this
        return found[0] if len(found) == 1 and address in found[0].addresses else None

    def address_in_use(self, credentials: Credentials, network_id: str, address: str) -> bool:
        query: dict[str, str | list[str]] = {
            "network_id": network_id,
            "fixed_ips": f"ip_address={address}",
            "fields": "id",
        }
        return bool(self._all(credentials, "ports", query))

    # The rest

    def security_groups(self, credentials: Credentials, project_id: str) -> list[SecurityGroupInfo]:
        query: dict[str, str | list[str]] = {
            "project_id": project_id,
            "fields": ["id", "name", "project_id", "description"],
        }
        own = self._all(credentials, "security-groups", query)
        shown = self._all(credentials, "security-groups", {**query, "project_id": [], "shared": "true"})
        found = {document["id"]: document for document in [*own, *shown]}
        return [msgspec.convert(document, SecurityGroupInfo) for document in found.values()]

    def set_security_groups(self, credentials: Credentials, port_id: str, group_ids: Sequence[str]) -> None:
        body = {"port": {"security_groups": list(group_ids)}}
        self._client.call("PUT", path("v2.0", "ports", port_id), credentials, json=body)

    def security_group_rules(self, credentials: Credentials, group_ids: Sequence[str]) -> list[SecurityGroupRuleInfo]:
        if not group_ids:
            return []
        found = self._all(credentials, "security-group-rules", {"security_group_id": list(group_ids)})
        return [
            SecurityGroupRuleInfo(**{name: document[name] for name in SecurityGroupRuleInfo.__struct_fields__})
            for document in found
        ]

    def floating_ips(self, credentials: Credentials, *, port_ids: Sequence[str]) -> list[FloatingIpInfo]:
        if not port_ids:
            return []
        return [
            FloatingIpInfo(
                id=document["id"],
                address=document["floating_ip_address"],
                network_id=document["floating_network_id"],
                port_id=document["port_id"],
                fixed_ip=document["fixed_ip_address"],
            )
            for document in self._all(credentials, "floatingips", {"port_id": list(port_ids)})
        ]

    def quotas(self, credentials: Credentials, project_id: str) -> dict[str, QuotaInfo]:
        answer = self._client.call("GET", path("v2.0", "quotas", project_id, "details"), credentials)
        return {resource: QuotaInfo(entry["limit"], entry["used"]) for resource, entry in answer["quota"].items()}

    def _all(
        self, credentials: Credentials, collection: str, query: dict[str, str | list[str]]
    ) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        key, found = collection.replace("-", "_"), list[dict[str, Any]]()
        asked: dict[str, str | list[str]] = dict(query)
        if "fields" in asked:
            fields = asked["fields"]
            asked["fields"] = sorted({"id", *([fields] if isinstance(fields, str) else fields)})
        while True:
            page = self._client.call("GET", path("v2.0", collection), credentials, query=asked)
            found += page[key]
            if not any(link["rel"] == "next" for link in page.get(f"{key}_links", [])):
                return found
            asked["marker"] = found[-1]["id"]


def _network(document: dict[str, Any]) -> NetworkInfo:
    return NetworkInfo(
        id=document["id"],
        name=document["name"],
        project_id=document["project_id"],
        mtu=document["mtu"],
        subnet_ids=tuple(document["subnets"]),
        shared=document["shared"],
        external=document["router:external"],
        dns_domain=document["dns_domain"],
        port_security_enabled=document["port_security_enabled"],
    )


def _subnet(document: dict[str, Any]) -> SubnetInfo:
    return SubnetInfo(
        id=document["id"],
        network_id=document["network_id"],
        name=document["name"],
        ip_version=document["ip_version"],
        cidr=document["cidr"],
        gateway_ip=document["gateway_ip"],
        enable_dhcp=document["enable_dhcp"],
        dns_nameservers=tuple(document["dns_nameservers"]),
        host_routes=tuple((route["destination"], route["nexthop"]) for route in document["host_routes"]),
        ipv6_ra_mode=document["ipv6_ra_mode"],
        ipv6_address_mode=document["ipv6_address_mode"],
    )


def _port(document: dict[str, Any]) -> PortInfo:
    return PortInfo(
        id=document["id"],
        network_id=document["network_id"],
        project_id=document["project_id"],
        name=document["name"],
        mac_address=document["mac_address"],
        fixed_ips=tuple(FixedIpInfo(ip["subnet_id"], ip["ip_address"]) for ip in document["fixed_ips"]),
        device_id=document["device_id"],
        device_owner=document["device_owner"],
        security_group_ids=tuple(document["security_groups"]),
        status=document["status"],
        port_security_enabled=document["port_security_enabled"],
        dns_name=document["dns_name"],
        host=document.get("binding:host_id", ""),
        vif_type=document.get("binding:vif_type", ""),
        vnic_type=document["binding:vnic_type"],
        profile=document.get("binding:profile", {}),
    )
