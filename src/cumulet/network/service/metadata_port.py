"""Each network with DHCP has a port of the network's own, present on every host, from which guests get their metadata."""

from __future__ import annotations

from cumulet.core.db.database import Tx
from cumulet.network.records import Network, Port, Subnet
from cumulet.network.service.addressing import Addressing
from cumulet.network.service.effects import Thing
from cumulet.network.service.means import Means
from cumulet.network.store import ports, subnets

__all__ = ["OWNER", "refresh"]

OWNER = "network:distributed"


def refresh(tx: Tx, means: Means, network: Network, there: list[Subnet]) -> list[Thing]:
    """Make the metadata port fit the network's subnets: an address in each that has DHCP; what the data plane must be told."""
    served = [subnet for subnet in there if subnet.enable_dhcp]
    found = ports.of_networks(tx, [network.id], [OWNER])
    if not served and not found:
        return []
    now = means.clock.now()
    mac = found[0].mac_address if found else _free_mac(tx, means, network.id)
    before = {ip["subnet_id"]: ip for ip in found[0].fixed_ips} if found else {}
    book = Addressing(tx, network, there, means.ids, fixed_ips_max=means.config.fixed_ips_max)
    # a subnet without a free address goes without: guests there have no metadata by this way, and everything else
    addresses = [ip for ip in (before.get(s.id) or book.lowest(s, mac) for s in served) if ip is not None]
    if not found:
        port = _new(means, network, mac, addresses)
        ports.add(tx, port)
    else:
        port = found[0]
        if addresses != port.fixed_ips:
            ports.set_addresses(tx, port, addresses, now)
    things: list[Thing] = [("port", port.id)]
    by_subnet = {ip["subnet_id"]: ip["ip_address"] for ip in addresses}
    for subnet in there:
        address = by_subnet.get(subnet.id) if subnet.ip_version == 4 else None
        if address != subnet.metadata_address:
            subnets.set_metadata_address(tx, subnet.id, address)
            things.append(("subnet", subnet.id))
    return things


def _free_mac(tx: Tx, means: Means, network_id: str) -> str:
    mac = means.mac()
    while ports.mac_in_use(tx, network_id, mac):
        mac = means.mac()
    return mac


def _new(means: Means, network: Network, mac: str, addresses: list[dict[str, str]]) -> Port:
    return Port(
        **means.standard({"project_id": network.project_id}),
        network_id=network.id,
        mac_address=mac,
        admin_state_up=True,
        status="DOWN",
        device_id=f"ovnmeta-{network.id}",
        device_owner=OWNER,
        fixed_ips=addresses,
        security_groups=[],
        allowed_address_pairs=[],
        extra_dhcp_opts=[],
        port_security_enabled=False,
        binding_host_id="",
        binding_vnic_type="normal",
        binding_profile={},
        dns_name="",
        dns_domain="",
    )
