"""The bridges as the kernel sees them: ours by a mark, the external one with this machine's address on it."""

import contextlib
import ipaddress
from pathlib import Path

from cumulet.host.config import HostConfig
from cumulet.host.errors import BridgeTaken, DatapathTaken, HostError, SubnetTaken
from cumulet.host.links import Netlink
from cumulet.host.outside import forward_from
from cumulet.host.process import every_process, executable_of

_DATAPATH_LINK = "ovs-netdev"

__all__ = ["address_bridges", "check_datapath_free", "check_free", "is_ours", "own_datapath_link", "remove_links"]


def check_free(config: HostConfig, netlink: Netlink, *, first_start: bool) -> None:
    """Refuse names and addresses that belong to something else, before anything is changed.

    Raises BridgeTaken (on a first start only: later a bridge of that name is in our own database) and SubnetTaken.
    """
    links = {link.index: link for link in netlink.links()}
    ours = (config.bridge_int, config.bridge_ex)
    if first_start:
        for link in links.values():
            if link.name in ours and link.alias != config.link_alias:
                raise BridgeTaken(
                    f"the interface {link.name} exists and is not this cloud's; give the cloud another state directory"
                )
    network = ipaddress.ip_network(config.external_cidr)
    for address in netlink.addresses():
        holder = links.get(address.index)
        name = holder.name if holder is not None else str(address.index)
        if name != config.bridge_ex and ipaddress.ip_interface(address.address).network.overlaps(network):
            raise SubnetTaken(
                f"the external subnet {network} overlaps {address.address} on {name}; choose another external subnet"
            )


def address_bridges(config: HostConfig) -> None:
    """Mark both bridges, raise the external one and give it its address.  May be repeated."""
    with Netlink() as netlink:
        internal, external = netlink.link(config.bridge_int), netlink.link(config.bridge_ex)
        if internal is None or external is None:
            raise HostError(
                f"ovs-vswitchd did not make {config.bridge_int} and {config.bridge_ex}; see {config.log_dir}"
            )
        netlink.mark(internal.index, alias=config.link_alias, up=False)
        netlink.mark(external.index, alias=config.link_alias, up=True)
        netlink.set_address(external.index, f"{config.external_gateway}/{config.external_prefix}")
    if config.reach_outside:
        forward_from(config.bridge_ex)


def own_datapath_link(config: HostConfig, switch_pid: int) -> None:
    """Give the interface `ovs-netdev` of our switch a name of our own, so that another cloud's switch can make its own.

    Every userspace datapath opens an interface of that one name, which nothing uses; a second switch cannot.  The open
    descriptor decides whose it is.  A killed switch leaves the interface behind; its successor makes a new one.
    """
    if not _holds_tap(switch_pid, _DATAPATH_LINK):
        return
    with Netlink() as netlink:
        left = netlink.link(config.datapath_link)
        if left is not None:
            netlink.delete(left.index)
        link = netlink.link(_DATAPATH_LINK)
        if link is not None:
            netlink.rename(link.index, config.datapath_link, alias=config.link_alias)


def check_datapath_free() -> None:
    """Refuse to start a userspace datapath beside somebody else's: it would run without ever having one.

    Every switch of a cloud has given its interface another name, so whoever holds this one is no cloud's.  Raises
    DatapathTaken.
    """
    with Netlink() as netlink:
        if netlink.link(_DATAPATH_LINK) is None:
            return
    for pid in every_process():
        if executable_of(pid) == "ovs-vswitchd" and _holds_tap(pid, _DATAPATH_LINK):
            raise DatapathTaken(
                f"another Open vSwitch (process {pid}) has this machine's userspace datapath (the interface {_DATAPATH_LINK});"
                " stop it first"
            )


def _holds_tap(pid: int, name: str) -> bool:
    for info in Path("/proc", str(pid), "fdinfo").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if f"iff:\t{name}\n" in info.read_text():
                return True
    return False


def remove_links(config: HostConfig) -> None:
    """Delete whatever interface of ours is still there: taps and veths by prefix, bridges by their mark."""
    with Netlink() as netlink:
        for link in netlink.links():
            if is_ours(config, link.name, link.alias):
                netlink.delete(link.index)


def is_ours(config: HostConfig, name: str, alias: str) -> bool:
    return name.startswith((config.tap_prefix, config.veth_prefix)) or alias == config.link_alias
