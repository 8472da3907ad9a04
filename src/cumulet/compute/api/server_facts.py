"""What else is known of one server: the password its guest posted, its counters, its topology, its security groups."""

from collections.abc import Generator
from typing import Any

from cumulet.compute import states
from cumulet.compute.api.subject import owned, service_of
from cumulet.core.errors import Conflict
from cumulet.core.web import Call, Delete, Get, Route
from cumulet.core.work import Slow

__all__ = ["ROUTES"]

_P = "os_compute_api:"
STATE = {
    states.NOSTATE: "pending",
    states.RUNNING: "running",
    states.POWER_PAUSED: "paused",
    states.SHUTDOWN: "shutdown",
    states.CRASHED: "crashed",
    states.POWER_SUSPENDED: "suspended",
}


def show_password(call: Call, id: str) -> Any:
    """Encrypted by the guest with the server's key: only its owner can read it."""
    return {"password": owned(call, id, f"{_P}os-server-password:show").password or ""}


def clear_password(call: Call, id: str) -> None:
    service_of(call).changes.forget_password(owned(call, id, f"{_P}os-server-password:clear"))


def show_diagnostics(call: Call, id: str) -> Generator[Slow, Any, Any]:
    server = owned(call, id, f"{_P}os-server-diagnostics")
    if server.host is None:
        raise Conflict(f"Instance {id} is not ready")
    facts = yield Slow("calls", service_of(call).host(server.host).diagnostics, (server.id,))
    if call.version < (2, 48):
        return _old_diagnostics(facts)
    return {
        "state": STATE.get(int(facts["power_state"]), "pending"),
        "driver": "libvirt",
        "hypervisor": "qemu",
        "hypervisor_os": "linux",
        "uptime": None,
        "config_drive": server.config_drive,
        "num_cpus": len(facts["cpu_time_ns"]),
        "num_disks": len(facts["disks"]),
        "num_nics": len(facts["nics"]),
        "memory_details": {"maximum": facts["memory_mib"], "used": facts["memory_used_mib"]},
        "cpu_details": [{"id": at, "time": time, "utilisation": None} for at, time in enumerate(facts["cpu_time_ns"])],
        "disk_details": [
            {
                "read_bytes": disk["read_bytes"],
                "read_requests": disk["read_requests"],
                "write_bytes": disk["write_bytes"],
                "write_requests": disk["write_requests"],
                "errors_count": None,
            }
            for disk in facts["disks"]
        ],
        "nic_details": [
            {
                "mac_address": nic["mac"],
                "rx_octets": nic["rx_bytes"],
                "rx_packets": nic["rx_packets"],
                "rx_errors": nic["rx_errors"],
                "rx_drop": nic["rx_drop"],
                "rx_rate": None,
                "tx_octets": nic["tx_bytes"],
                "tx_packets": nic["tx_packets"],
                "tx_errors": nic["tx_errors"],
                "tx_drop": nic["tx_drop"],
                "tx_rate": None,
            }
            for nic in facts["nics"]
        ],
    }


def _old_diagnostics(facts: dict[str, Any]) -> dict[str, Any]:
    """Before 2.48: flat, named for the devices."""
    shown: dict[str, Any] = {f"cpu{at}_time": time for at, time in enumerate(facts["cpu_time_ns"])}
    shown["memory"] = facts["memory_mib"] * 1024
    for disk in facts["disks"]:
        name = disk["target"]
        shown |= {
            f"{name}_read": disk["read_bytes"],
            f"{name}_read_req": disk["read_requests"],
            f"{name}_write": disk["write_bytes"],
            f"{name}_write_req": disk["write_requests"],
            f"{name}_errors": -1,
        }
    for at, nic in enumerate(facts["nics"]):
        for name in ("rx", "tx"):
            shown |= {
                f"vnet{at}_{name}": nic[f"{name}_bytes"],
                f"vnet{at}_{name}_packets": nic[f"{name}_packets"],
                f"vnet{at}_{name}_errors": nic[f"{name}_errors"],
                f"vnet{at}_{name}_drop": nic[f"{name}_drop"],
            }
    return shown


def show_topology(call: Call, id: str) -> Any:
    """Guests here have no NUMA nodes of their own, which is shown as none."""
    owned(call, id, "compute:server:topology:index")
    return {"nodes": [], "pagesize_kb": None}


def list_security_groups(call: Call, id: str) -> Any:
    service = service_of(call)
    server = owned(call, id, f"{_P}os-security-groups:list")
    return {"security_groups": service.security_groups.of(service.credentials(call.context), server)}


_S = "/v2.1/servers/{id}"

ROUTES: list[Route] = [
    Get(_S + "/os-server-password", show_password, may=f"{_P}os-server-password:show"),
    Delete(_S + "/os-server-password", clear_password, may=f"{_P}os-server-password:clear"),
    Get(_S + "/diagnostics", show_diagnostics, may=f"{_P}os-server-diagnostics"),
    Get(_S + "/topology", show_topology, may="compute:server:topology:index", since=(2, 78)),
    Get(_S + "/os-security-groups", list_security_groups, may=f"{_P}os-security-groups:list"),
]
