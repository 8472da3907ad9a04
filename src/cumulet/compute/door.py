"""What the launch and the other flows may use of the compute service: its records, a host's tools, and its own doors.

The flows stand above the services: they import doors only.
"""

from cumulet.compute.agent.tools import HostTools
from cumulet.compute.conductor.tools import ConductorTools
from cumulet.compute.records import (
    BlockDevice,
    Fault,
    FixedAddress,
    FlavorSnapshot,
    Interface,
    KeySnapshot,
    NetworkRequest,
    Server,
)
from cumulet.compute.scheduler.messages import NoValidHostError, Selected, SelectRequest

__all__ = [
    "BlockDevice",
    "ConductorTools",
    "Fault",
    "FixedAddress",
    "FlavorSnapshot",
    "HostTools",
    "Interface",
    "KeySnapshot",
    "NetworkRequest",
    "NoValidHostError",
    "SelectRequest",
    "Selected",
    "Server",
]
