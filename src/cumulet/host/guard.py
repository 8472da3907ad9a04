"""The guard: guests' frames reach Open vSwitch only, never this machine's own network stack.

In the userspace datapath Open vSwitch merely copies frames off a tap, and the kernel handles the same frames as its
own, around every security group.  One rule by name prefix, in place before the first tap exists, ends that: nothing per
port, no race, nothing to clean up.  The tables also carry the rules of the way out (`outside.py`).
"""

import json
import subprocess
from collections.abc import Sequence

from cumulet.host.config import HostConfig
from cumulet.host.errors import HostError

__all__ = ["lower_guard", "nft_tables", "raise_guard", "ruleset"]

_NFT_S_MAX = 5.0


def ruleset(config: HostConfig, *, uplink: str | None, opened: Sequence[str]) -> str:
    """The whole of our tables.  Applying it again replaces them in one transaction: there is no moment without the
    guard.

    `uplink` is the interface that guests leave by, `opened` are interfaces on which forwarding was off before a cloud
    came.
    """
    name = config.nft_table
    guests = f'iifname {{ "{config.tap_prefix}*", "{config.veth_prefix}*" }} counter drop'
    chains = [f"chain guests {{ type filter hook prerouting priority -450; {guests}; }}"]
    if uplink is not None:
        leaving = f'ip saddr {config.external_cidr} oifname "{uplink}" masquerade'
        chains.append(f"chain leaving {{ type nat hook postrouting priority 100; {leaving}; }}")
    if opened:
        # opened for the answers to guests, and for nothing else
        names = ", ".join(f'"{link}"' for link in opened)
        entering = f'iifname {{ {names} }} oifname != {{ "br-ex", "br-ex-*" }} counter drop'
        chains.append(f"chain entering {{ type filter hook forward priority -10; {entering}; }}")
    body = "\n".join(chains)
    arp = f"chain guests {{ type filter hook input priority -450; {guests}; }}"
    return "\n".join(
        f"table {family} {name}\ndelete table {family} {name}\ntable {family} {name} {{\n{content}\n}}\n"
        for family, content in (("inet", body), ("arp", arp))
    )


def raise_guard(config: HostConfig, *, uplink: str | None, opened: Sequence[str]) -> None:
    """Put the tables in place.  May be repeated.  Raises HostError when the kernel refuses."""
    _nft(ruleset(config, uplink=uplink, opened=opened))


def lower_guard(config: HostConfig) -> None:
    """Take the tables away.  May be repeated."""
    name = config.nft_table
    _nft("".join(f"table {family} {name}\ndelete table {family} {name}\n" for family in ("inet", "arp")))


def nft_tables(config: HostConfig) -> list[str]:
    """Our tables that exist, as `family name`."""
    try:
        listing = subprocess.run(
            ["nft", "-j", "list", "tables"], capture_output=True, timeout=_NFT_S_MAX, check=True
        ).stdout
    except FileNotFoundError:  # never installed, so never used
        return []
    tables = [item["table"] for item in json.loads(listing)["nftables"] if "table" in item]
    return [f"{table['family']} {table['name']}" for table in tables if table["name"] == config.nft_table]


def _nft(text: str) -> None:
    try:
        subprocess.run(["nft", "-f", "-"], input=text.encode(), capture_output=True, timeout=_NFT_S_MAX, check=True)
    except subprocess.CalledProcessError as error:
        raise HostError(f"nft refused the guard: {error.stderr.decode(errors='replace').strip()}") from error
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise HostError(f"nft cannot be run: {error}") from error
