"""A launch request, resolved: every name in it found, every conflict seen, before anything is written.

What is not found is 400 (404 where the reference says so) with the reference's words; what is in use is 409.
"""

import base64
import binascii
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from cumulet.compute.doors import Doors
from cumulet.compute.records import BlockDevice, NetworkRequest, NewPort, SecurityGroupRef
from cumulet.compute.service.image_devices import MAPPING_KEYS, has_devices, with_devices
from cumulet.compute.service.keypairs import snapshot_of
from cumulet.compute.service.servers import NewServers
from cumulet.compute.store import flavors, groups, hosts
from cumulet.compute.truth import TRUE
from cumulet.core.context import Context
from cumulet.core.db import Database
from cumulet.core.errors import BadRequest, Conflict, Forbidden, NotFound
from cumulet.core.ids import Ids
from cumulet.core.web.client import Credentials
from cumulet.image.door import ImageInfo
from cumulet.network.door import NetworkInfo

__all__ = ["Resolver", "canonical_v6"]

#: what a kernel or a ramdisk may be; each server that boots from it has a copy of its own
KERNEL_FORMATS = ("aki", "ari", "raw")
KERNEL_BYTES_MAX = 256 << 20
GIB = 1 << 30
BAD_BOOT = "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not valid."


class Resolver:
    """Turns the body of POST /servers into `NewServers`."""

    def __init__(self, db: Database, doors: Doors, *, zones: Sequence[str], ids: Ids) -> None:
        self._db = db
        self._doors = doors
        self._zones = tuple(zones)
        self._ids = ids

    def new_servers(
        self, context: Context, credentials: Credentials, body: Mapping[str, Any], hints: Mapping[str, Any]
    ) -> NewServers:
        """Raises BadRequest, NotFound, Conflict, Forbidden as the reference answers."""
        count_min, count_max = self._counts(body)
        flavor = self._flavor(context, str(body["flavorRef"]))
        body, looked, mapped = self._with_image_devices(credentials, body, flavor)
        devices = self._devices(credentials, body, count_max, looked)
        image = self._image(credentials, body, devices, flavor, looked)
        told = looked if mapped else image
        networks = self._networks(credentials, context, body, count_max)
        zone, host = self._zone(context, body)
        if networks == [] and body.get("networks") not in ("none", [], None):
            networks = None
        return NewServers(
            name=body["name"],
            count_min=count_min,
            count_max=count_max,
            flavor=flavor.snapshot(),
            image_id=image.id if image else None,
            image_properties={k: v for k, v in told.properties.items() if k not in MAPPING_KEYS} if told else {},
            key=snapshot_of(self._db, context.user_id, body.get("key_name")),
            user_data=self._user_data(body.get("user_data")),
            config_drive=body.get("config_drive") in TRUE,
            description=body.get("description"),
            hostname=body.get("hostname"),
            zone=zone,
            host=body.get("host") or body.get("hypervisor_hostname") or host,
            networks=networks,
            security_groups=self._security_groups(credentials, context, body.get("security_groups") or []),
            block_devices=devices,
            metadata=body.get("metadata") or {},
            tags=body.get("tags") or [],
            hints=dict(hints),
            group_id=self._group(context, hints.get("group")),
            disk_config=body.get("OS-DCF:diskConfig", "MANUAL"),
            access_ip_v4=body.get("accessIPv4") or None,
            access_ip_v6=canonical_v6(body.get("accessIPv6")),
        )

    @staticmethod
    def _counts(body: Mapping[str, Any]) -> tuple[int, int]:
        low = int(body.get("min_count", 1))
        high = int(body.get("max_count", low))
        if low > high:
            raise BadRequest("min_count must be <= max_count")
        return low, high

    def _flavor(self, context: Context, flavor_id: str) -> flavors.Flavor:
        with self._db.read() as tx:
            flavor = flavors.get(tx, flavor_id, project_id=None if context.is_admin else context.project_id)
        if flavor is None:
            raise BadRequest(f"Flavor {flavor_id} could not be found.")
        return flavor

    def _with_image_devices(
        self, credentials: Credentials, body: Mapping[str, Any], flavor: flavors.Flavor
    ) -> tuple[Mapping[str, Any], ImageInfo | None, bool]:
        """The request with the disks that its image names; the image that was looked at, and whether it names any."""
        entries = _entries(body)
        boots = (
            entry for entry in entries if entry.get("source_type") == "image" and entry.get("boot_index") in (0, "0")
        )
        image_id = body.get("imageRef") or next((entry.get("uuid") for entry in boots), None)
        if not image_id:
            return body, None, False
        image = self.image(credentials, image_id)
        if not has_devices(image):
            return body, image, False
        entries, boots_volume = with_devices(image, entries)
        kept = {key: value for key, value in body.items() if not key.startswith("block_device_mapping")}
        if boots_volume:
            kept.pop("imageRef", None)
            self.check_fits(image, flavor, volume_backed=True)
        return {**kept, "block_device_mapping_v2": entries}, image, True

    def _image(
        self,
        credentials: Credentials,
        body: Mapping[str, Any],
        devices: list[BlockDevice],
        flavor: flavors.Flavor,
        looked: ImageInfo | None,
    ) -> ImageInfo | None:
        """The image of the root disk.  looked: one that was looked at for this request."""
        root = next((device for device in devices if device.boot_index == 0), None)
        image_id = body.get("imageRef") or (
            root.source_id if root and root.source == "image" and root.destination == "local" else None
        )
        if not image_id:
            if root is None:
                raise BadRequest("Invalid imageRef provided.")
            return None
        if root is not None and root.destination == "volume" and not body.get("imageRef"):
            return None
        image = looked if looked is not None and looked.id == image_id else self.image(credentials, image_id)
        if root is None and not any(device.boot_index == 0 for device in devices):
            devices.insert(
                0,
                BlockDevice(
                    id=self._ids.uuid(),
                    source="image",
                    destination="local",
                    source_id=image.id,
                    boot_index=0,
                    delete_on_termination=True,
                ),
            )
        self.check_fits(image, flavor, volume_backed=False)
        return image

    def image(self, credentials: Credentials, image_id: str) -> ImageInfo:
        """An image that can be booted, with the kernel and the ramdisk that it may name."""
        image = self._active(credentials, image_id)
        for part in ("kernel_id", "ramdisk_id"):
            if named := image.properties.get(part):
                loaded = self._active(credentials, named)
                if loaded.disk_format not in KERNEL_FORMATS or loaded.size > KERNEL_BYTES_MAX:
                    raise BadRequest(
                        f"Image {image_id} is unacceptable: its {part} {named} must be {', '.join(KERNEL_FORMATS)} "
                        f"of at most {KERNEL_BYTES_MAX} bytes."
                    )
        return image

    def _active(self, credentials: Credentials, image_id: str) -> ImageInfo:
        try:
            image = self._doors.image.get(image_id, credentials)
        except NotFound:
            raise BadRequest(f"Image {image_id} could not be found.") from None
        if image.status != "active":
            raise BadRequest(f"Image {image_id} is not active.")
        return image

    @staticmethod
    def check_fits(image: ImageInfo, flavor: flavors.Flavor, *, volume_backed: bool) -> None:
        if flavor.ram_mb < (image.min_ram or 0):
            raise BadRequest("Flavor's memory is too small for requested image.")
        if not volume_backed and image.size == 0:
            raise BadRequest(f"Image {image.id} is unacceptable: it has no data that a server could boot from.")
        if volume_backed or flavor.disk_gb == 0:
            return
        if image.virtual_size and image.virtual_size > flavor.disk_gb * GIB:
            raise BadRequest(
                "Flavor's disk is too small for requested image. "
                f"Flavor disk is {flavor.disk_gb * GIB} bytes, image is {image.virtual_size} bytes."
            )
        if flavor.disk_gb < (image.min_disk or 0):
            raise BadRequest(
                "Flavor's disk is smaller than the minimum size specified in image metadata. "
                f"Flavor disk is {flavor.disk_gb * GIB} bytes, minimum size is {(image.min_disk or 0) * GIB} bytes."
            )

    @staticmethod
    def _user_data(text: str | None) -> str | None:
        if not text:
            return None
        try:
            base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("User data needs to be valid base 64.") from None
        return text

    def _zone(self, context: Context, body: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """(zone, host): admins may write ZONE:HOST."""
        text = body.get("availability_zone")
        if not text:
            return None, None
        zone, _, rest = text.partition(":")
        host = rest.partition(":")[0] or None
        if host is not None and not context.is_admin:
            raise Forbidden("Policy doesn't allow os_compute_api:servers:create:forced_host to be performed.")
        if zone and zone not in self._zones and not self._is_zone(zone):
            raise BadRequest("The requested availability zone is not available")
        return zone or None, host

    def _is_zone(self, zone: str) -> bool:
        """Whether a host is in a zone: an aggregate may have made it."""
        with self._db.read() as tx:
            return hosts.any_in_zone(tx, zone)

    def _group(self, context: Context, group_id: str | None) -> str | None:
        if group_id is None:
            return None
        with self._db.read() as tx:
            group = groups.get(tx, group_id, project_id=None if context.is_admin else context.project_id)
        if group is None:
            raise BadRequest(f"Instance group {group_id} could not be found.")
        return group.id

    # --- networks ------------------------------------------------------------------------------------------------------------------

    def _networks(
        self, credentials: Credentials, context: Context, body: Mapping[str, Any], count: int
    ) -> list[NetworkRequest] | None:
        wanted = body.get("networks")
        if wanted == "none":
            return []
        if wanted in (None, "auto", []):
            return self._only_network(credentials, context, auto=wanted == "auto")
        requests = [self.network_request(credentials, entry) for entry in wanted]
        for request in requests:
            if count > 1 and request.port_id is not None:
                raise BadRequest(
                    "Unable to launch multiple instances with a single configured port ID. "
                    "Please launch your instance one by one with different ports."
                )
            if count > 1 and request.fixed_ip is not None:
                raise BadRequest("max_count cannot be greater than 1 if an fixed_ip is specified.")
        return requests

    def _only_network(self, credentials: Credentials, context: Context, *, auto: bool) -> list[NetworkRequest]:
        found = self._doors.network.networks_for(credentials, context.project_id or "")
        if len(found) > 1:
            raise Conflict("Multiple possible networks found, use a Network ID to be more specific.")
        if not found and auto:
            raise BadRequest("Unable to automatically allocate a network for project")
        return [NetworkRequest(network_id=network.id, new=self._new_port(network)) for network in found]

    def network_request(self, credentials: Credentials, entry: Mapping[str, Any]) -> NetworkRequest:
        """One NIC that was asked for, checked."""
        if entry.get("port"):
            return NetworkRequest(port_id=self._port(credentials, entry["port"]), tag=entry.get("tag"))
        network_id, fixed_ip = entry.get("uuid"), entry.get("fixed_ip")
        if not network_id:
            raise BadRequest("Missing network uuid: use 'uuid' or 'port' to name a network.")
        try:
            network = self._doors.network.get_network(credentials, network_id)
        except NotFound:
            raise BadRequest(f"Network {network_id} could not be found.") from None
        if not network.subnet_ids:
            raise BadRequest(f"Network {network_id} requires a subnet in order to boot instances on.")
        if fixed_ip and self._doors.network.address_in_use(credentials, network_id, fixed_ip):
            raise Conflict(f"Fixed IP address {fixed_ip} is already in use on instance.")
        return NetworkRequest(
            network_id=network_id, new=self._new_port(network), fixed_ip=fixed_ip, tag=entry.get("tag")
        )

    def _new_port(self, network: NetworkInfo) -> NewPort:
        return NewPort(id=self._ids.uuid(), network_name=network.name, mtu=network.mtu)

    def _port(self, credentials: Credentials, port_id: str) -> str:
        try:
            port = self._doors.network.get_port(credentials, port_id)
        except NotFound:
            raise BadRequest(f"Port id {port_id} could not be found.") from None
        if port.device_id:
            raise Conflict(f"Port {port_id} is still in use.")
        return port_id

    def _security_groups(
        self, credentials: Credentials, context: Context, wanted: Sequence[Mapping[str, Any]]
    ) -> list[SecurityGroupRef]:
        """By name or id; none named means the project's default group, which the network service gives."""
        names = [entry["name"] for entry in wanted if "name" in entry]
        if not names or names == ["default"]:
            return []
        known = self._doors.network.security_groups(credentials, context.project_id or "")
        found: dict[str, SecurityGroupRef] = {}
        for name in names:
            matches = [group for group in known if name in (group.id, group.name)]
            if not matches:
                raise BadRequest(f"Security group {name} not found for project {context.project_id}.")
            if len(matches) > 1 and not any(group.id == name for group in matches):
                raise Conflict(f"Multiple security groups found matching '{name}'. Use an ID to be more specific.")
            group = next((group for group in matches if group.id == name), matches[0])
            found[group.id] = SecurityGroupRef(id=group.id, name=group.name)
        return list(found.values())

    # --- block devices -------------------------------------------------------------------------------------------------------------

    def _devices(
        self, credentials: Credentials, body: Mapping[str, Any], count: int, looked: ImageInfo | None
    ) -> list[BlockDevice]:
        devices = [self._device(credentials, entry, looked) for entry in _entries(body) if not entry.get("no_device")]
        boot = [device.boot_index for device in devices if device.boot_index is not None and device.boot_index >= 0]
        if sorted(boot) != list(range(len(boot))) and not (
            body.get("imageRef") and sorted(boot) == list(range(1, len(boot) + 1))
        ):
            raise BadRequest(BAD_BOOT)
        if body.get("imageRef") and 0 in boot:
            root = next(device for device in devices if device.boot_index == 0)
            if root.source != "image" or root.source_id != body["imageRef"]:
                raise BadRequest(BAD_BOOT)
        names = [device.device_name for device in devices if device.device_name]
        if len(names) != len(set(names)):
            raise BadRequest("Block Device Mapping is Invalid: the same device name is used twice.")
        if count > 1 and any(device.source == "volume" for device in devices):
            raise BadRequest("Cannot attach one or more volumes to multiple instances")
        return devices

    def _device(self, credentials: Credentials, entry: Mapping[str, Any], looked: ImageInfo | None) -> BlockDevice:
        """looked: an image that was looked at for this request."""
        source = entry.get("source_type", "blank")
        destination = entry.get("destination_type") or ("local" if source in {"blank", "image"} else "volume")
        source_id = entry.get("uuid") or None
        size = int(entry["volume_size"]) if entry.get("volume_size") else None
        if source != "blank" and source_id is None:
            raise BadRequest("Block Device Mapping is Invalid: Missing device UUID.")
        if source in {"volume", "snapshot"} and destination == "local":
            raise BadRequest("Block Device Mapping is Invalid: Mapping a volume to local is not supported.")
        boot = entry.get("boot_index")
        if source == "volume":
            size = self._volume(credentials, source_id or "")
        elif source == "image" and destination == "volume":
            if size is None:
                raise BadRequest(
                    "Block Device Mapping is Invalid: Images with destination_type 'volume' need to have a non-zero size specified"
                )
            if looked is None or looked.id != source_id:
                self.image(credentials, source_id or "")
        elif source == "snapshot":
            try:
                self._doors.volume.get_snapshot(credentials, source_id or "")
            except NotFound:
                raise BadRequest(f"Block Device Mapping is Invalid: failed to get snapshot {source_id}.") from None
        elif source == "blank" and destination == "volume" and size is None:
            raise BadRequest(
                "Block Device Mapping is Invalid: Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size"
            )
        return BlockDevice(
            id=self._ids.uuid(),
            source=source,
            destination=destination,
            source_id=source_id,
            boot_index=int(boot) if boot not in (None, "") else None,
            size_gb=size,
            volume_type=entry.get("volume_type") or None,
            delete_on_termination=entry.get("delete_on_termination", destination == "local") in TRUE,
            device_name=(entry.get("device_name") or "").removeprefix("/dev/") or None,
            bus=entry.get("disk_bus") or "virtio",
            device_type=entry.get("device_type") or "disk",
            guest_format=entry.get("guest_format"),
            tag=entry.get("tag"),
            volume_id=source_id if source == "volume" else None,
        )

    def _volume(self, credentials: Credentials, volume_id: str) -> int:
        try:
            volume = self._doors.volume.get(credentials, volume_id)
        except NotFound:
            raise BadRequest(f"Block Device Mapping is Invalid: failed to get volume {volume_id}.") from None
        if volume.status == "in-use" and volume.multiattach:
            return volume.size
        if volume.status != "available":
            raise Conflict(
                f"Invalid volume: volume '{volume_id}' status must be 'available'. Currently in '{volume.status}'"
            )
        return volume.size


def canonical_v6(text: str | None) -> str | None:
    """An IPv6 address as RFC 5952 writes it; the schema has let only addresses through."""
    return str(ipaddress.IPv6Address(text)) if text else None


def _entries(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The disks that a request names, in the words of mapping v2."""
    if body.get("block_device_mapping") and body.get("block_device_mapping_v2"):
        raise BadRequest("Using different block_device_mapping syntaxes is not allowed in the same request.")
    if body.get("block_device_mapping"):
        return [_from_v1(entry) for entry in body["block_device_mapping"]]
    return list(body.get("block_device_mapping_v2") or [])


def _from_v1(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Block device mapping v1 in the words of v2: the device's name tells whether it is the root."""
    name = (entry.get("device_name") or "").removeprefix("/dev/")
    new = {
        key: entry.get(key)
        for key in ("device_name", "volume_size", "delete_on_termination", "no_device")
        if key in entry
    }
    if entry.get("volume_id"):
        new |= {"source_type": "volume", "destination_type": "volume", "uuid": entry["volume_id"]}
    elif entry.get("snapshot_id"):
        new |= {"source_type": "snapshot", "destination_type": "volume", "uuid": entry["snapshot_id"]}
    else:
        new |= {"source_type": "blank", "destination_type": "local"}
    new["boot_index"] = 0 if name in {"vda", "sda"} else None
    return new
