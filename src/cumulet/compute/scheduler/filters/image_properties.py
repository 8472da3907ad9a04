"""What the image's properties demand of a host."""

from cumulet.compute.scheduler.columns import Columns, Mask
from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["unfit", "why"]


def _foreign(wanted: Wanted) -> str | None:
    """The architecture that the image is for, if none of our hosts has it."""
    architecture = wanted.image_properties.get("hw_architecture") or wanted.image_properties.get("architecture")
    return None if architecture in (None, "", "x86_64") else str(architecture)


def _runs(kind: str, hypervisor_type: str) -> bool:
    return kind.lower() in {hypervisor_type.lower(), "kvm" if hypervisor_type == "QEMU" else ""}


def unfit(hosts: Columns, wanted: Wanted) -> Mask | None:
    if _foreign(wanted):
        return ~hosts.nobody()
    kind = wanted.image_properties.get("img_hv_type")
    if not kind:
        return None
    others = [each for each in hosts.hypervisors if not _runs(kind, each)]
    return sum((hosts.of_hypervisor(each) for each in others), hosts.nobody())


def why(host: HostState, wanted: Wanted) -> str:
    if architecture := _foreign(wanted):
        return f"the image is for {architecture}, the host is x86_64"
    kind = wanted.image_properties["img_hv_type"]
    return f"the image asks for the hypervisor {kind}, the host's is {host.hypervisor_type}"
