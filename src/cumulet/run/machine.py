"""Which drivers this machine gets: real where they work, simulated where not, one line of reason for each."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from cumulet.compute.agent.hypervisor.driver import Hypervisor
from cumulet.compute.agent.instances import FileInstances, Files, Instances, SimInstances
from cumulet.compute.agent.vif.driver import MetadataNamespaces, VifDriver
from cumulet.core.errors import CloudError
from cumulet.network.drivers.driver import NetworkDriver
from cumulet.run.config import UpConfig
from cumulet.volume.drivers.driver import VolumeDriver

if TYPE_CHECKING:
    from cumulet.compute.agent.hypervisor.libvirt_driver import LibvirtHypervisor
    from cumulet.host.config import HostConfig
    from cumulet.host.stack import HostStack

__all__ = ["CannotBeRealError", "Machine", "choose"]

log = structlog.get_logger()

TIB = 1 << 40


class CannotBeRealError(CloudError):
    """`--real` was asked for, and something would be simulated."""


class Machine:
    """The drivers of one host, and what runs under them.  lines: what was chosen and why."""

    def __init__(
        self,
        *,
        host: str,
        hypervisor: Hypervisor,
        virt_type: str,
        network: NetworkDriver,
        vif: VifDriver,
        namespaces: MetadataNamespaces | None,
        volumes: VolumeDriver,
        instances: Callable[[Files], Instances],
        external_cidr: str,
        physical_network: str,
        lines: list[str],
        stack: "HostStack | None" = None,
        root: Path,
        quick: bool = False,
    ) -> None:
        self.host = host
        self.hypervisor = hypervisor
        self.virt_type = virt_type
        self.network = network
        self.vif = vif
        self.namespaces = namespaces
        self.volumes = volumes
        self.instances = instances
        self.external_cidr = external_cidr
        self.physical_network = physical_network
        self.lines = lines
        self.stack = stack
        #: the state directory under the name that daemons and guests use
        self.root = root
        #: what is done to guests and taps takes no time
        self.quick = quick

    @property
    def real(self) -> bool:
        return self.stack is not None

    def stop(self, *, keep_guests: bool) -> None:
        """Let go of the drivers; take the daemons down unless guests are kept."""
        self.hypervisor.close()
        self.network.close()
        if self.stack is not None:
            self.stack.stop(keep_guests=keep_guests)

    def abandon(self) -> None:
        """Let go after a start that failed."""
        self.hypervisor.close()
        self.network.close()
        if self.stack is not None:
            self.stack.abandon()


def choose(config: UpConfig, cloud_id: str) -> Machine:
    """The machine's drivers, with its daemons running.  Raises CannotBeRealError, HostError."""
    if config.drivers == "sim":
        return _sim(config, ["hypervisor: sim (asked for)", "network: sim (asked for)", "volumes: sim (asked for)"])
    from cumulet.host.config import HostConfig
    from cumulet.host.confines import Confines, look
    from cumulet.host.packages import link_libvirt_binding
    from cumulet.host.probe import choose_hypervisor, choose_network

    host_config = HostConfig.for_state_dir(str(config.state_dir))
    try:
        link_libvirt_binding()
    except Exception as error:  # noqa: BLE001 - the probe names what is missing, with its reason
        log.debug("libvirt binding not linked", error=repr(error))
    # without root nothing can be tried, and nothing will be real
    confines = look() if os.geteuid() == 0 else Confines()
    hypervisor = choose_hypervisor(host_config, confines)
    network = choose_network(hypervisor, confines)
    lines = [str(hypervisor), str(network)]
    if not (hypervisor.real and network.real):
        if config.drivers == "real":
            reasons = "; ".join(str(choice) for choice in (hypervisor, network) if not choice.real)
            raise CannotBeRealError(f"{reasons}. `cumulet up --sim` needs none of that")
        return _sim(config, [*lines, "volumes: sim (the hypervisor is simulated)"])
    host_config = msgspec.structs.replace(host_config, kvm=hypervisor.acceleration == "kvm")
    return _real(cloud_id, host_config, [*lines, "volumes: files of this host (qcow2)"])


def _sim(config: UpConfig, lines: list[str]) -> Machine:
    from cumulet.compute.agent.hypervisor.sim import SimHypervisor
    from cumulet.compute.agent.vif.sim import SimVif
    from cumulet.network.drivers.sim import SimNetwork
    from cumulet.volume.drivers.sim import SimVolumes

    host = socket.gethostname()
    books = config.state_dir / "sim"
    books.mkdir(parents=True, exist_ok=True)
    return Machine(
        host=host,
        hypervisor=SimHypervisor(
            hostname=host, memory_mib=16 * TIB >> 20, disk_gib=16 * TIB >> 30, book=books / "guests.book"
        ),
        virt_type="sim",
        network=SimNetwork(hosts=(host,)),
        vif=SimVif(),
        namespaces=None,
        volumes=SimVolumes(folder=books / "volumes"),
        instances=lambda files: SimInstances(config.state_dir / "instances"),  # noqa: ARG005 - no config drive is written
        external_cidr="172.24.4.0/24",
        physical_network="public",
        lines=lines,
        root=config.state_dir,
        quick=True,
    )


def _real(cloud_id: str, host_config: "HostConfig", lines: list[str]) -> Machine:
    from cumulet.host.stack import HostStack
    from cumulet.host.supervisor import HostEvent

    hypervisors: list[LibvirtHypervisor] = []

    def event(happened: HostEvent) -> None:
        log.warning("daemon", daemon=happened.daemon, what=happened.what, pid=happened.pid, detail=happened.detail)
        if happened.daemon == "libvirtd" and happened.what == "restarted":
            for hypervisor in hypervisors:
                hypervisor.daemon_started()

    stack = HostStack(host_config, event)
    try:
        started = stack.start()
        counts = f"{len(started.started)} started, {len(started.adopted)} adopted, in {started.seconds:.1f} s"
        lines.append(f"daemons: {counts} ({stack.endpoints.datapath} datapath)")
        machine, hypervisor = _drivers(cloud_id, host_config, stack, lines)
    except BaseException:  # raised again: whatever it is, the daemons must not outlive it
        stack.abandon()
        raise
    hypervisors.append(hypervisor)
    return machine


def _drivers(
    cloud_id: str, host_config: "HostConfig", stack: "HostStack", lines: list[str]
) -> "tuple[Machine, LibvirtHypervisor]":
    from cumulet.compute.agent.hypervisor.image_cache import ImageCache
    from cumulet.compute.agent.hypervisor.libvirt_driver import LibvirtHypervisor
    from cumulet.compute.agent.vif.netns import OvsNamespaces
    from cumulet.compute.agent.vif.ovs import OvsVif
    from cumulet.network.drivers.ovn import OvnNetwork
    from cumulet.volume.drivers.local import LocalVolumes

    endpoints = stack.endpoints
    root = Path(host_config.short)
    host = host_config.hostname
    virt_type = "kvm" if host_config.kvm else "qemu"
    cache = ImageCache(root / "base", virtual_bytes_max=2 * TIB)
    hypervisor = LibvirtHypervisor(
        endpoints.libvirt_uri, cloud_id=cloud_id, virt_type=virt_type, hostname=host, disk_directory=root
    )
    machine = Machine(
        host=host,
        hypervisor=hypervisor,
        virt_type=virt_type,
        network=OvnNetwork(
            northbound=endpoints.nb, southbound=endpoints.sb, cloud=cloud_id, gateway_chassis=(endpoints.chassis,)
        ),
        vif=OvsVif(ovsdb=endpoints.ovs, cloud=cloud_id, bridge=host_config.bridge_int, name=host_config.tap_name),
        namespaces=OvsNamespaces(
            ovsdb=endpoints.ovs,
            cloud=cloud_id,
            bridge=host_config.bridge_int,
            name=host_config.netns_name,
            veth=host_config.veth_name,
        ),
        volumes=LocalVolumes(root / "volumes", host=host),
        instances=lambda files: FileInstances(root / "instances", cache=cache, files=files),
        external_cidr=host_config.external_cidr,
        physical_network=endpoints.physical_network,
        lines=lines,
        stack=stack,
        root=root,
    )
    return machine, hypervisor
