"""One compute host of a cloud: its agent, its steps' tools, its drivers.  A cloud in one process has one; a simulated world has several."""

from collections.abc import Callable, Sequence
from typing import Any

from cumulet.compute.agent.instances import Instances
from cumulet.compute.agent.service import Agent
from cumulet.compute.agent.tools import HostTools, MetadataPorts
from cumulet.compute.messages import ComputeHost, Conductor, HostReport
from cumulet.core.bus import Bus
from cumulet.core.clock import Clock
from cumulet.core.ids import Ids
from cumulet.core.saga import Executor, Flow
from cumulet.core.work import HERE, Worker
from cumulet.launch.networking import unplug
from cumulet.metadata.door import config_drive_files
from cumulet.run.faulty import MortalHost
from cumulet.run.machine import Machine

__all__ = ["HostPart", "HostThings"]


class HostThings:
    """What a host has: its drivers and its servers' files."""

    def __init__(self, machine: Machine, instances: Instances) -> None:
        self.machine = machine
        self.instances = instances

    def unplug(self, port_id: str) -> None:
        """Take a port's tap away."""
        self.machine.vif.unplug(port_id)


class HostPart(HostThings):
    """See the module's docstring.  It serves the queue `compute.HOST` from its making on."""

    def __init__(
        self,
        machine: Machine,
        *,
        flows: Sequence[Flow],
        bus: Bus,
        worker: Worker,
        doors: dict[str, Any],
        metadata: MetadataPorts,
        clock: Clock,
        ids: Ids,
        failpoint: Callable[[str], None],
        mortal: MortalHost | None = None,
    ) -> None:
        """mortal: stands before the agent where faults are injected."""
        super().__init__(machine, machine.instances(config_drive_files))
        host = machine.host
        self.worker = worker
        conductor = bus.client(Conductor)
        self._conductor = conductor
        tools = self.tools = HostTools(
            host=host,
            hypervisor=machine.hypervisor,
            vif=machine.vif,
            metadata=metadata,
            instances=self.instances,
            connector={"host": host, "ip": "127.0.0.1", "os_type": "linux", "platform": "x86_64", "multipath": False},
            virt_type=machine.virt_type,
            pool=HERE if machine.quick else "devices",
            **doors,
        )
        executor = Executor(
            host,
            flows=flows,
            journal=conductor,
            tools=tools,
            worker=worker,
            clock=clock,
            ids=ids,
            failpoint=failpoint,
        )
        self.agent = Agent(
            host,
            executor=executor,
            tools=tools,
            hypervisor=machine.hypervisor,
            conductor=conductor,
            worker=worker,
            report=self.report if mortal is None else mortal.report,
            clock=clock,
        )
        bus.serve(ComputeHost, self.agent if mortal is None else mortal.before(self.agent), worker, host=host)

    def unplug(self, port_id: str) -> None:
        unplug(self.tools, port_id)

    def report_now(self) -> None:
        """The host is heard of between two beats."""
        self._conductor.report_host(self.report())

    def report(self) -> HostReport:
        """The host as it is now."""
        stats = self.machine.hypervisor.host_stats()
        return HostReport(
            host=self.machine.host,
            host_ip="127.0.0.1",
            hypervisor_type=stats.hypervisor_type,
            hypervisor_version=stats.hypervisor_version,
            vcpus=stats.vcpus,
            memory_mb=stats.memory_mib,
            local_gb=stats.disk_gib,
            cpu_info={
                "arch": stats.cpu_info.arch,
                "model": stats.cpu_info.model,
                "vendor": stats.cpu_info.vendor,
                "topology": stats.cpu_info.topology,
                "features": stats.cpu_info.features,
            },
            traits=["COMPUTE_NODE"],
        )
