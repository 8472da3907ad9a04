"""The compute API with everything behind it honest but small: doors that keep their things in memory, one host, and flows that end
at once in what the real ones end in.  Real launches are tested elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from tests.http.harness import PROJECT, ApiClient, authenticate

from cumulet.compute.api.application import application
from cumulet.compute.api.oracle import checks_asked_for
from cumulet.compute.conductor.outcomes import DeviceOutcome
from cumulet.compute.doors import Doors
from cumulet.compute.messages import ComputeHost
from cumulet.compute.records import BlockDevice, FixedAddress, Interface, Server
from cumulet.compute.service.compute import ComputeConfig, ComputeService
from cumulet.compute.service.resolve import Resolver
from cumulet.compute.service.servers import ServerFlows
from cumulet.compute.store import hosts, servers
from cumulet.compute.tables import METADATA, SAGAS
from cumulet.core.clock import SystemClock
from cumulet.core.db import Tx, open_database
from cumulet.core.errors import BadRequest, Conflict, NotFound, Unavailable
from cumulet.core.ids import SystemIds
from cumulet.core.saga import Coordinator, Flow, Run, Step
from cumulet.core.saga.journal import Journal
from cumulet.core.web.client import Credentials
from cumulet.core.work import Pools, Worker, drive
from cumulet.flows.devices import (
    AttachInterfaceRequest,
    AttachVolumeRequest,
    DetachInterfaceRequest,
    DetachVolumeRequest,
)
from cumulet.identity.door import IdentityDoor, Named
from cumulet.image.door import ImageDoor, ImageInfo
from cumulet.network.door import (
    FixedIpInfo,
    NetworkDoor,
    NetworkInfo,
    PortInfo,
    SecurityGroupInfo,
    SecurityGroupRuleInfo,
)
from cumulet.placement.door import PlacementDoor
from cumulet.run.server_flows import FLOWS, outcomes
from cumulet.volume.door import VolumeDoor, VolumeInfo

HOST = "host-1"
UPTIME = " 12:00:00 up 3 days,  4:05,  0 users,  load average: 0.10, 0.20, 0.30"
CREDENTIALS = Credentials(token="service")


class Images:
    """Image service."""

    def __init__(self, ids: SystemIds) -> None:
        self._ids = ids
        self.images: dict[str, ImageInfo] = {}

    def add(self, **values: Any) -> ImageInfo:
        image = ImageInfo(
            **{
                "id": self._ids.uuid(),
                "name": "guest",
                "status": "active",
                "disk_format": "qcow2",
                "container_format": "bare",
                "size": 1 << 20,
                "virtual_size": 1 << 30,
                "checksum": None,
                "os_hash_value": None,
                "owner": PROJECT,
                "visibility": "public",
                "min_disk": 0,
                "min_ram": 0,
                "properties": {},
                "location": None,
                "tags": [],
                **values,
            }
        )
        self.images[image.id] = image
        return image

    def get(self, image_id: str, credentials: Credentials) -> ImageInfo:
        if image_id not in self.images:
            raise NotFound
        return self.images[image_id]

    def create(self, credentials: Credentials, *, name: str, **more: Any) -> ImageInfo:
        kept = {key: more[key] for key in ("disk_format", "min_disk", "min_ram") if key in more}
        return self.add(name=name, status="queued", properties=dict(more.get("properties", {})), id=more["id"], **kept)

    def delete(self, credentials: Credentials, image_id: str) -> None:
        del self.images[image_id]


class Networks:
    """Network service: one network, ports, two security groups."""

    def __init__(self, ids: SystemIds) -> None:
        self._ids = ids
        self.network = NetworkInfo(
            id=ids.uuid(),
            name="private",
            project_id=PROJECT,
            mtu=1442,
            subnet_ids=(ids.uuid(),),
            shared=False,
            external=False,
            dns_domain="",
            port_security_enabled=True,
        )
        self.groups = [
            SecurityGroupInfo(id=ids.uuid(), name=name, project_id=PROJECT, description="")
            for name in ("default", "web")
        ]
        self.ports: dict[str, PortInfo] = {}

    def add_port(self, device_id: str = "") -> PortInfo:
        number = len(self.ports) + 10
        port = PortInfo(
            id=self._ids.uuid(),
            network_id=self.network.id,
            project_id=PROJECT,
            name="",
            mac_address=f"fa:16:3e:00:00:{number:02x}",
            fixed_ips=(FixedIpInfo(self.network.subnet_ids[0], f"10.0.0.{number}"),),
            device_id=device_id,
            device_owner="",
            security_group_ids=(self.groups[0].id,),
            status="ACTIVE",
            port_security_enabled=True,
            dns_name="",
            host=HOST if device_id else "",
            vif_type="ovs",
            vnic_type="normal",
            profile={},
        )
        self.ports[port.id] = port
        return port

    def get_network(self, credentials: Credentials, network_id: str) -> NetworkInfo:
        if network_id != self.network.id:
            raise NotFound
        return self.network

    def networks_for(self, credentials: Credentials, project_id: str) -> list[NetworkInfo]:
        return [self.network]

    def get_port(self, credentials: Credentials, port_id: str) -> PortInfo:
        if port_id not in self.ports:
            raise NotFound
        return self.ports[port_id]

    def list_ports(
        self, credentials: Credentials, *, device_id: str | None = None, network_id: str | None = None
    ) -> list[PortInfo]:
        return [port for port in self.ports.values() if device_id in (None, port.device_id)]

    def address_in_use(self, credentials: Credentials, network_id: str, address: str) -> bool:
        return any(address in port.addresses for port in self.ports.values())

    def security_groups(self, credentials: Credentials, project_id: str) -> list[SecurityGroupInfo]:
        return self.groups

    def set_security_groups(self, credentials: Credentials, port_id: str, group_ids: Sequence[str]) -> None:
        self.ports[port_id] = msgspec.structs.replace(self.ports[port_id], security_group_ids=tuple(group_ids))

    def security_group_rules(self, credentials: Credentials, group_ids: Sequence[str]) -> list[SecurityGroupRuleInfo]:
        return [
            SecurityGroupRuleInfo(
                id=self._ids.uuid(),
                security_group_id=group_id,
                direction="ingress",
                protocol="tcp",
                port_range_min=22,
                port_range_max=22,
                remote_ip_prefix="0.0.0.0/0",
                remote_group_id=None,
            )
            for group_id in group_ids
        ]


class Volumes:
    """Volume service: volumes and who has reserved them.  left: how many snapshots the quota still allows."""

    left: int | None = None

    def __init__(self, ids: SystemIds) -> None:
        self._ids = ids
        self.volumes: dict[str, VolumeInfo] = {}
        self.attachments: dict[str, str] = {}

    def add(self, **values: Any) -> VolumeInfo:
        volume = VolumeInfo(
            **{
                "id": self._ids.uuid(),
                "name": "data",
                "status": "available",
                "size": 1,
                "bootable": False,
                "multiattach": False,
                "encrypted": False,
                "project_id": PROJECT,
                "volume_type": None,
                "availability_zone": "nova",
                "attachments": [],
                "image_metadata": {},
                "metadata": {},
                **values,
            }
        )
        self.volumes[volume.id] = volume
        return volume

    def _status(self, volume_id: str, status: str) -> None:
        self.volumes[volume_id] = msgspec.structs.replace(self.volumes[volume_id], status=status)

    def get(self, credentials: Credentials, volume_id: str) -> VolumeInfo:
        if volume_id not in self.volumes:
            raise NotFound
        return self.volumes[volume_id]

    def snapshots_left(self, credentials: Credentials) -> int | None:
        return self.left

    def create_attachment(self, credentials: Credentials, *, volume_id: str, server_id: str) -> str:
        if self.volumes[volume_id].status != "available":
            raise BadRequest("Invalid volume: not available.")
        self._status(volume_id, "reserved")
        attachment_id = self._ids.uuid()
        self.attachments[attachment_id] = volume_id
        return attachment_id

    def complete_attachment(self, credentials: Credentials, attachment_id: str) -> None:
        self._status(self.attachments[attachment_id], "in-use")

    def delete_attachment(self, credentials: Credentials, attachment_id: str) -> None:
        self._status(self.attachments.pop(attachment_id), "available")


class Projects:
    """Identity: every project with 32 hexadecimal digits exists."""

    def project(self, project_id: str) -> Named | None:
        return Named(id=project_id, name="p", domain_id="default", enabled=True) if len(project_id) == 32 else None


class OneHost:
    """The host's queue.  answers: whether it says how long it has been up."""

    answers = True

    def console_output(self, server_id: str, lines: int | None) -> str:
        text = [f"line {number}" for number in range(100)]
        return "\n".join(text[-lines:] if lines is not None else text)

    def uptime(self) -> str:
        if not self.answers:
            raise Unavailable
        return UPTIME

    def diagnostics(self, server_id: str) -> dict[str, Any]:
        nic = {"mac": "fa:16:3e:00:00:01"}
        nic |= {f"{way}_{what}": 1 for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "drop")}  # type: ignore[misc]
        disk = {"target": "vda", "read_bytes": 1, "read_requests": 1, "write_bytes": 1, "write_requests": 1}
        return {
            "power_state": 1,
            "cpu_time_ns": [5],
            "memory_mib": 128,
            "memory_used_mib": None,
            "disks": [disk],
            "nics": [nic],
        }


class World:
    """The whole.  fail: by flow name, what its only step raises."""

    def __init__(self, url: str) -> None:
        self.clock, self.ids = SystemClock(), SystemIds()
        self.db = open_database(url, "compute", METADATA)
        self.db.create()
        self.images, self.networks, self.volumes = Images(self.ids), Networks(self.ids), Volumes(self.ids)
        self.fail: dict[str, Exception] = {}
        self.host = OneHost()
        self.worker = Worker(
            "work", clock=self.clock, pools=Pools({"calls": (2, 10), "devices": (2, 10), "syncs": (1, 10)})
        )
        self.worker.start()
        doors = Doors(
            image=cast("ImageDoor", self.images),
            network=cast("NetworkDoor", self.networks),
            volume=cast("VolumeDoor", self.volumes),
            placement=cast("PlacementDoor", None),
            service_token=lambda: "service",
        )
        self.coordinator = Coordinator(
            self.db,
            Journal(SAGAS),
            flows=[self._short(flow) for flow in FLOWS],
            outcomes=outcomes(self.clock),
            describe=lambda tx, saga: servers.get(tx, saga.subject_id, deleted=True),
            order=lambda *_: None,
            tools=None,
            worker=self.worker,
            clock=self.clock,
            ids=self.ids,
            owner="conductor",
        )
        assert isinstance(outcomes(self.clock)["attach_volume"], DeviceOutcome)
        self.service = ComputeService(
            self.db,
            flows=ServerFlows(
                self.db,
                self.coordinator,
                limits=self._limits,
                default_zone="nova",
                clock=self.clock,
                ids=self.ids,
            ),
            resolver=Resolver(self.db, doors, zones=("nova",), ids=self.ids),
            doors=doors,
            identity=cast("IdentityDoor", Projects()),
            host=lambda _: cast("ComputeHost", self.host),
            service_token=lambda: "service",
            clock=self.clock,
            ids=self.ids,
            config=ComputeConfig(controller="controller"),
        )
        self.app = application(
            self.service, authenticate=authenticate, clock=self.clock, ids=self.ids, checks=checks_asked_for()
        )
        self.service.bootstrap_flavors()
        self._host_comes()
        self.image = self.images.add()

    def _limits(self, tx: Tx, project_id: str, user_id: str) -> Mapping[str, int]:
        """The service's own, which is made after the flows that ask for them."""
        return self.service.limits(tx, project_id, user_id)

    def close(self) -> None:
        self.worker.stop()
        self.db.close()

    def client(self, token: str | None = "member", version: str | None = None) -> ApiClient:
        return ApiClient(
            self.app, token, f"compute {version}" if version else None, base_url="http://cloud.test/compute"
        )

    def _host_comes(self) -> None:
        now = self.clock.now()
        host = hosts.Host(
            host=HOST,
            service_id=self.ids.uuid(),
            hypervisor_id=self.ids.uuid(),
            hypervisor_type="QEMU",
            hypervisor_version=7002022,
            vcpus=8,
            memory_mb=16_000,
            local_gb=100,
            cpu_info={"arch": "x86_64"},
            host_ip="127.0.0.1",
            zone="nova",
            disabled=False,
            disabled_reason=None,
            forced_down=False,
            traits=[],
            seen_at=now,
            created_at=now,
            updated_at=None,
        )
        with self.db.write() as tx:
            hosts.put(tx, host)

    def _short(self, flow: Flow) -> Flow:
        """The flow with one step, at the conductor, that leaves behind what the real steps leave."""
        act: Mapping[str, Callable[[Run], Any]] = {
            "launch": self._launch,
            "attach_interface": self._attach_interface,
            "detach_interface": self._detach_interface,
            "attach_volume": self._attach_volume,
            "detach_volume": self._detach_volume,
        }

        def do(run: Run) -> Any:
            if flow.name in self.fail:
                raise self.fail[flow.name]
            return act[flow.name](run) if flow.name in act else None

        step = Step(name=f"do_{flow.name}", where="conductor", what=flow.name, do=do, undo=None)
        return msgspec.structs.replace(flow, steps=(step,), hops=None, forward_only=False)

    def _interface(self, server_id: str) -> Interface:
        port = self.networks.add_port(server_id)
        return self._nic(port)

    def _nic(self, port: PortInfo) -> Interface:
        addresses = tuple(
            FixedAddress(address=ip.ip_address, version=4, subnet_id=ip.subnet_id) for ip in port.fixed_ips
        )
        return Interface(
            port_id=port.id,
            network_id=port.network_id,
            network_name="private",
            mac=port.mac_address,
            mtu=1442,
            addresses=addresses,
            created=True,
            tap=f"tap{port.id[:11]}",
        )

    def _launch(self, run: Run) -> dict[str, Any]:
        with self.db.write() as tx:
            servers.set_fields(tx, run.subject_id, host=HOST, node=HOST, availability_zone="nova")
        return {"interfaces": [self._interface(run.subject_id)]}

    def _attach_interface(self, run: Run) -> dict[str, Any]:
        request = run.input(AttachInterfaceRequest).network
        server = run.subject_as(Server)
        if request.port_id:
            port = msgspec.structs.replace(self.networks.ports[request.port_id], device_id=server.id)
            self.networks.ports[port.id] = port
            nic = self._nic(port)
        else:
            nic = self._interface(server.id)
        return {"interfaces": [*server.interfaces, msgspec.structs.replace(nic, tag=request.tag)]}

    def _detach_interface(self, run: Run) -> dict[str, Any]:
        port_id = run.input(DetachInterfaceRequest).port_id
        del self.networks.ports[port_id]
        return {"interfaces": [nic for nic in run.subject_as(Server).interfaces if nic.port_id != port_id]}

    def _attach_volume(self, run: Run) -> dict[str, list[BlockDevice]]:
        device = run.input(AttachVolumeRequest).device
        attachment_id = self.volumes.create_attachment(
            CREDENTIALS, volume_id=device.volume_id or "", server_id=run.subject_id
        )
        self.volumes.complete_attachment(CREDENTIALS, attachment_id)
        device = msgspec.structs.replace(device, attachment_id=attachment_id)
        others = [one for one in run.subject_as(Server).block_devices if one.id != device.id]
        return {"devices": [*others, msgspec.structs.replace(device, connection={"driver_volume_type": "local"})]}

    def _detach_volume(self, run: Run) -> dict[str, list[BlockDevice]]:
        volume_id = run.input(DetachVolumeRequest).volume_id
        kept = []
        for one in run.subject_as(Server).block_devices:
            if one.volume_id == volume_id:
                self.volumes.delete_attachment(CREDENTIALS, one.attachment_id or "")
            else:
                kept.append(one)
        return {"devices": kept}

    # --- what tests say ------------------------------------------------------------------------------------------------------------

    def settle(self, server_id: str) -> Server:
        """Wait until no flow of a server is under way; the server then."""
        with self.db.read() as tx:
            live = self.coordinator.journal.live_of(tx, server_id)
        for saga in live:
            ended = drive(self.service.devices.wait_for(saga.id, 20))
            assert ended is not None, f"{saga.flow} did not end"
        with self.db.read() as tx:
            server = servers.get(tx, server_id, deleted=True)
        assert server is not None
        return server

    def boot(self, token: str = "member", **more: Any) -> str:
        """A server that runs; its id."""
        body = {"name": "vm", "flavorRef": "42", "imageRef": self.image.id, **more}
        answer = self.client(token).post("/v2.1/servers", {"server": body})
        assert answer.status == 202, answer.content
        server_id: str = answer.json["server"]["id"]
        self.settle(server_id)
        return server_id

    def broken(self, flow: str, error: Exception | None = None) -> None:
        self.fail[flow] = error or Conflict("It broke.")
