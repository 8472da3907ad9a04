"""The security groups of a server: those of its ports, which the network service owns."""

from typing import Any

from cumulet.compute.doors import Doors
from cumulet.compute.records import SecurityGroupRef, Server
from cumulet.compute.store import servers
from cumulet.core.clock import Clock
from cumulet.core.db import Database
from cumulet.core.errors import BadRequest, Conflict, NotFound
from cumulet.core.web.client import Credentials
from cumulet.network.door import SecurityGroupInfo

__all__ = ["ServerSecurityGroups"]


class ServerSecurityGroups:
    """Reads and changes them, at the network service and on the server's record."""

    def __init__(self, db: Database, *, doors: Doors, clock: Clock) -> None:
        self._db = db
        self._network = doors.network
        self._clock = clock

    def change(self, credentials: Credentials, server: Server, name: str, *, add: bool) -> None:
        """Add a group to every port of a server, or take it from each.  name: its name or id."""
        known = self._network.security_groups(credentials, server.project_id)
        group = self._named(known, name, server.project_id)
        ports = self._network.list_ports(credentials, device_id=server.id)
        if not ports:
            raise BadRequest(f"instance_id {server.id} could not be found as device id on any ports")
        if not add and all(group.id not in port.security_group_ids for port in ports):
            raise NotFound(f"Security group {name} not associated with the instance {server.id}")
        kept: set[str] = set()
        for port in ports:
            others = [one for one in port.security_group_ids if one != group.id]
            wanted = [*others, group.id] if add else others
            kept |= set(wanted)
            if set(wanted) != set(port.security_group_ids):
                self._network.set_security_groups(credentials, port.id, wanted)
        refs = [SecurityGroupRef(id=one.id, name=one.name) for one in known if one.id in kept]
        with self._db.write() as tx:
            servers.set_fields(tx, server.id, security_groups=refs, at=self._clock.now())

    @staticmethod
    def _named(known: list[SecurityGroupInfo], name: str, project_id: str) -> SecurityGroupInfo:
        matches = [one for one in known if name in (one.id, one.name)]
        if not matches:
            raise NotFound(f"Security group {name} not found for project {project_id}.")
        exact = [one for one in matches if one.id == name]
        if len(matches) > 1 and not exact:
            raise Conflict(f"Multiple security groups found matching '{name}'. Use an ID to be more specific.")
        return (exact or matches)[0]

    def of(self, credentials: Credentials, server: Server) -> list[dict[str, Any]]:
        """The groups of a server's ports with their rules for what may come in, as the API shows them."""
        ports = self._network.list_ports(credentials, device_id=server.id)
        ids = {one for port in ports for one in port.security_group_ids}
        known = self._network.security_groups(credentials, server.project_id)
        names = {one.id: one.name for one in known}
        rules: dict[str, list[dict[str, Any]]] = {}
        for rule in self._network.security_group_rules(credentials, sorted(ids)):
            if rule.direction != "ingress":
                continue
            group = (
                {"tenant_id": server.project_id, "name": names.get(rule.remote_group_id, "")}
                if rule.remote_group_id
                else {}
            )
            rules.setdefault(rule.security_group_id, []).append(
                {
                    "id": rule.id,
                    "parent_group_id": rule.security_group_id,
                    "ip_protocol": rule.protocol.upper() if rule.protocol else None,
                    "from_port": rule.port_range_min,
                    "to_port": rule.port_range_max,
                    "group": group,
                    "ip_range": {"cidr": rule.remote_ip_prefix} if rule.remote_ip_prefix else {},
                }
            )
        return [
            {
                "id": one.id,
                "name": one.name,
                "description": one.description,
                "tenant_id": one.project_id,
                "rules": rules.get(one.id, []),
            }
            for one in known
            if one.id in ids
        ]
