"""What the flavor's extra specs demand of a host: traits and capabilities."""

from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["refuse"]


def refuse(host: HostState, wanted: Wanted) -> str | None:
    for key, value in wanted.extra_specs.items():
        scope, _, name = key.partition(":")
        if scope == "trait" and value == "required" and name not in host.traits:
            return f"the host lacks the trait {name}"
        if scope == "trait" and value == "forbidden" and name in host.traits:
            return f"the host has the forbidden trait {name}"
        if scope == "capabilities" and name == "hypervisor_type" and value.lower() != host.hypervisor_type.lower():
            return f"the host's hypervisor is {host.hypervisor_type}, the flavor asks for {value}"
    return None
