"""What the metadata service asks its neighbours: a network's own port, the server behind an address, the password a guest has set."""

from collections.abc import Callable

from cumulet.compute.agent.vif.driver import MetadataPort
from cumulet.compute.records import Server
from cumulet.compute.store import servers
from cumulet.core.db import Database
from cumulet.core.web.client import Credentials
from cumulet.metadata.door import MetadataAgent, NoMetadata
from cumulet.network.door import NetworkDoor
from cumulet.run.machine import Machine

__all__ = ["metadata_agent"]


def metadata_agent(
    machine: Machine, *, network: NetworkDoor, compute_db: Database, credentials: Callable[[], Credentials]
) -> MetadataAgent | NoMetadata:
    """The host's metadata service; none where no guest could reach it."""
    if machine.namespaces is None:
        return NoMetadata()

    def port_of(network_id: str) -> MetadataPort | None:
        ports = network.list_ports(credentials(), device_id=f"ovnmeta-{network_id}")
        if not ports:
            return None
        its_network = network.get_network(credentials(), network_id)
        prefixes = {
            subnet.id: subnet.cidr.partition("/")[2] for subnet in network.get_subnets(credentials(), network_id)
        }
        addresses = tuple(f"{ip.ip_address}/{prefixes[ip.subnet_id]}" for ip in ports[0].fixed_ips)
        return MetadataPort(
            network_id=network_id,
            port_id=ports[0].id,
            mac=ports[0].mac_address,
            addresses=addresses,
            mtu=its_network.mtu,
        )

    def server_at(network_id: str, address: str) -> Server | None:
        port = network.port_by_address(credentials(), network_id, address)
        if port is None or not port.device_id:
            return None
        with compute_db.read() as tx:
            return servers.get(tx, port.device_id)

    def set_password(server_id: str, text: str) -> bool:
        with compute_db.write() as tx:
            server = servers.get(tx, server_id)
            if server is None or server.password:
                return False
            return servers.set_fields(tx, server_id, password=text)

    return MetadataAgent(machine.namespaces, port_of=port_of, server_at=server_at, set_password=set_password)
