"""What the image's properties demand of a host."""

from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["refuse"]


def refuse(host: HostState, wanted: Wanted) -> str | None:
    architecture = wanted.image_properties.get("hw_architecture") or wanted.image_properties.get("architecture")
    if architecture not in (None, "", "x86_64"):
        return f"the image is for {architecture}, the host is x86_64"
    kind = wanted.image_properties.get("img_hv_type")
    if kind and kind.lower() not in {host.hypervisor_type.lower(), "kvm" if host.hypervisor_type == "QEMU" else ""}:
        return f"the image asks for the hypervisor {kind}, the host's is {host.hypervisor_type}"
    return None
