"""What others may use of the compute service: its records, a host's tools, its own doors, a host's queue and metadata ports.

The flows stand above the services: they import doors only.
"""

from cumulet.compute.agent.tools import HostTools
from cumulet.compute.agent.vif.driver import METADATA_ADDRESS, MetadataNamespaces, MetadataPort
from cumulet.compute.conductor.tools import ConductorTools
from cumulet.compute.messages import ComputeHost
from cumulet.compute.records import (
    BlockDevice,
    Fault,
    FixedAddress,
    FlavorSnapshot,
    Interface,
    KeySnapshot,
    NetworkRequest,
    SecurityGroupRef,
    Server,
)
from cumulet.compute.scheduler.messages import NoValidHostError, RefitRequest, Selected, SelectRequest

__all__ = [
    "METADATA_ADDRESS",
    "BlockDevice",
    "ComputeHost",
    "ConductorTools",
    "Fault",
    "FixedAddress",
    "FlavorSnapshot",
    "HostTools",
    "Interface",
    "KeySnapshot",
    "MetadataNamespaces",
    "MetadataPort",
    "NetworkRequest",
    "NoValidHostError",
    "RefitRequest",
    "SecurityGroupRef",
    "SelectRequest",
    "Selected",
    "Server",
]
