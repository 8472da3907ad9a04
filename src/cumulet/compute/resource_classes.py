"""What a server takes of a host, in placement's resource classes."""

from cumulet.compute.records import FlavorSnapshot, Server

__all__ = ["resources_of", "resources_of_flavor"]


def resources_of(server: Server) -> dict[str, int]:
    """What a server takes, in placement's resource classes.  A server that boots from a volume has no root disk."""
    volume_backed = any(device.boot_index == 0 and device.destination == "volume" for device in server.block_devices)
    return resources_of_flavor(server.flavor, volume_backed=volume_backed)


def resources_of_flavor(flavor: FlavorSnapshot, *, volume_backed: bool = False) -> dict[str, int]:
    """Likewise, of a server that is not there."""
    disk = (0 if volume_backed else flavor.disk_gb) + flavor.ephemeral_gb + (flavor.swap_mb + 1023) // 1024
    resources = {"VCPU": flavor.vcpus, "MEMORY_MB": flavor.ram_mb, "DISK_GB": disk}
    for key, value in flavor.extra_specs.items():
        scope, _, name = key.partition(":")
        if scope == "resources" and name and value.isdigit():
            resources[name] = int(value)
    return {name: amount for name, amount in resources.items() if amount > 0}
