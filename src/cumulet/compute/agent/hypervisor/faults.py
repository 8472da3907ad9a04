"""libvirt's errors, named for what was met.

The words of libvirt go to `detail`: they name paths and processes of the host.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from cumulet.compute.agent.hypervisor.driver import (
    DomainBusy,
    DomainGone,
    DomainNotRunning,
    HostFull,
    HypervisorDown,
    HypervisorFault,
    NoFreeSlot,
)
from cumulet.core.errors import CloudError

__all__ = ["named", "translated"]

#: errors made on this side of the socket, whatever their code: the daemon did not answer
_LINK_DOMAINS = {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE, libvirt.VIR_FROM_STREAMS}

_BY_CODE: dict[int, type[CloudError]] = {
    libvirt.VIR_ERR_NO_DOMAIN: DomainGone,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: DomainBusy,
    libvirt.VIR_ERR_RESOURCE_BUSY: DomainBusy,
    libvirt.VIR_ERR_INVALID_CONN: HypervisorDown,
    libvirt.VIR_ERR_NO_MEMORY: HostFull,
}

#: libvirt has few codes and many sentences; these have been stable for a decade
_BY_WORDS: tuple[tuple[str, type[CloudError]], ...] = (
    ("domain is not running", DomainNotRunning),
    ("No more available PCI slots", NoFreeSlot),
    ("No more available PCI addresses", NoFreeSlot),
    ("Cannot allocate memory", HostFull),
    ("cannot set up guest memory", HostFull),
    ("No space left on device", HostFull),
    ("Failed to terminate process", DomainBusy),
)


def named(error: libvirt.libvirtError, otherwise: type[CloudError] = HypervisorFault) -> CloudError:
    """The error to raise instead."""
    words = str(error)
    detail = f"libvirt {error.get_error_code()}/{error.get_error_domain()}: {words}"
    if error.get_error_domain() in _LINK_DOMAINS:
        return HypervisorDown(detail=detail)
    found = _BY_CODE.get(error.get_error_code())
    if found is None:
        found = next((kind for fragment, kind in _BY_WORDS if fragment in words), otherwise)
    return found(detail=detail)


@contextmanager
def translated(otherwise: type[CloudError] = HypervisorFault) -> Iterator[None]:
    """Let no libvirt error out; what has no name of its own becomes `otherwise`."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise named(error, otherwise) from error
