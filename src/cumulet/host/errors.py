"""What can be wrong with a machine that is to carry a cloud.  These reach the operator at the terminal, never a
tenant."""

__all__ = [
    "BindingUnusable",
    "BridgeTaken",
    "DaemonDidNotStart",
    "DatapathTaken",
    "HostError",
    "InstallFailed",
    "OvsdbFailed",
    "OvsdbGone",
    "ShortPathTaken",
    "StateDirectoryUnusable",
    "SubnetTaken",
]


class HostError(Exception):
    """The machine cannot do what the cloud asked of it; the text says what and where to look."""


class InstallFailed(HostError):
    """apt-get did not install the packages."""


class BindingUnusable(HostError):
    """Debian's libvirt binding does not fit this Python."""


class StateDirectoryUnusable(HostError):
    """The state directory cannot be bound at its short path."""


class ShortPathTaken(HostError):
    """Another directory already stands at this cloud's short path."""


class SubnetTaken(HostError):
    """The external subnet overlaps an address that the machine already has."""


class BridgeTaken(HostError):
    """A network interface with the name of one of our bridges belongs to something else."""


class DatapathTaken(HostError):
    """Another Open vSwitch has the machine's userspace datapath."""


class DaemonDidNotStart(HostError):
    """A daemon ended or did not answer within its time."""


class OvsdbFailed(HostError):
    """An OVSDB server refused a transaction, hung up or did not answer in time."""


class OvsdbGone(OvsdbFailed):
    """Nobody listens there, or whoever did hung up: the server ends or starts at this moment."""
