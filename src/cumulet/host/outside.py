"""The guests' way to the world: this machine forwards what comes from the external bridge, behind its own address.

Forwarding is switched on for two interfaces only, the external bridge and the one of the default route.  Where it was
off on the latter, a record in the folder of all short paths says so: every cloud then limits what may enter there
(`guard.py`), and the last one to stop switches it off again.
"""

import contextlib
import os
from pathlib import Path

from cumulet.host.config import RUN_ROOT, HostConfig
from cumulet.host.guard import lower_guard, raise_guard
from cumulet.host.links import Netlink
from cumulet.host.namespace import holding_run_root, other_clouds

__all__ = ["close_outside", "forward_from", "open_outside"]

_RECORD = ".opened-"


def open_outside(config: HostConfig) -> None:
    """Raise the guard, and with it the way out, if the cloud is to have one and the machine has a default route.

    May be repeated.  Raises HostError.
    """
    uplink = None
    if config.reach_outside:
        with Netlink() as netlink:
            uplink = netlink.default_route_link()
        if uplink is not None and not os.access(_forwarding(uplink), os.W_OK):
            uplink = None  # a container: not ours to switch
    with holding_run_root():
        if uplink is not None and _forwarding(uplink).read_text().strip() == "0":
            Path(RUN_ROOT, _RECORD + uplink).touch()
        opened = _opened()
        raise_guard(config, uplink=uplink, opened=opened)
        if uplink in opened:  # after the rules that limit it
            _forwarding(uplink).write_text("1")


def close_outside(config: HostConfig) -> None:
    """Lower the guard; the last cloud also closes what was opened.  May be repeated."""
    with holding_run_root():
        lower_guard(config)
        if other_clouds(config):
            return
        for link in _opened():
            with contextlib.suppress(FileNotFoundError):  # the interface is gone
                _forwarding(link).write_text("0")
            Path(RUN_ROOT, _RECORD + link).unlink()


def forward_from(link: str) -> None:
    """Let packets that arrive on this interface be forwarded.  The setting goes with the interface."""
    if os.access(_forwarding(link), os.W_OK):
        _forwarding(link).write_text("1")


def _opened() -> list[str]:
    return sorted(path.name.removeprefix(_RECORD) for path in Path(RUN_ROOT).glob(f"{_RECORD}*"))


def _forwarding(link: str) -> Path:
    return Path("/proc/sys/net/ipv4/conf", link, "forwarding")
