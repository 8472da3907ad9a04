"""What the flavor's extra specs demand of a host: traits and capabilities."""

from collections.abc import Iterator

from cumulet.compute.scheduler.columns import Columns, Mask
from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["unable", "why"]


def _demands(wanted: Wanted) -> Iterator[tuple[str, str]]:
    """What is demanded, and of what."""
    for key, value in wanted.extra_specs.items():
        scope, _, name = key.partition(":")
        if scope == "trait" and value in {"required", "forbidden"}:
            yield value, name
        elif scope == "capabilities" and name == "hypervisor_type":
            yield "hypervisor_type", value


def unable(hosts: Columns, wanted: Wanted) -> Mask | None:
    refused = None
    for demand, name in _demands(wanted):
        if demand == "hypervisor_type":
            others = [kind for kind in hosts.hypervisors if kind.lower() != name.lower()]
            lacking = sum((hosts.of_hypervisor(kind) for kind in others), hosts.nobody())
        else:
            lacking = ~hosts.with_trait(name) if demand == "required" else hosts.with_trait(name)
        refused = lacking if refused is None else refused | lacking
    return refused


def why(host: HostState, wanted: Wanted) -> str:
    for demand, name in _demands(wanted):
        if demand == "required" and name not in host.traits:
            return f"the host lacks the trait {name}"
        if demand == "forbidden" and name in host.traits:
            return f"the host has the forbidden trait {name}"
        if demand == "hypervisor_type" and name.lower() != host.hypervisor_type.lower():
            break
    return f"the host's hypervisor is {host.hypervisor_type}, the flavor asks for {name}"
