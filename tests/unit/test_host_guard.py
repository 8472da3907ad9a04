"""The guard's rules as text; a real test applies them."""

from cumulet.host.config import HostConfig
from cumulet.host.guard import ruleset

CONFIG = HostConfig.for_state_dir("/srv/one")


def test_the_guard_covers_both_kinds_of_interface_in_both_families() -> None:
    """IP and ARP, taps and metadata veths, by prefix."""
    text = ruleset(CONFIG, uplink=None, opened=[])
    inet, arp = text.split(f"table arp {CONFIG.nft_table}", 1)
    for part in (inet, arp):
        assert f'"{CONFIG.tap_prefix}*"' in part
        assert f'"{CONFIG.veth_prefix}*"' in part
        assert "drop" in part


def test_tables_are_replaced_in_one_transaction() -> None:
    """Applying the rules to a machine that has them leaves no moment without a guard, and no second copy."""
    lines = ruleset(CONFIG, uplink=None, opened=[]).splitlines()
    for family in ("inet", "arp"):
        name = f"{family} {CONFIG.nft_table}"
        begin = lines.index(f"table {name}")
        assert lines[begin + 1 : begin + 3] == [f"delete table {name}", f"table {name} {{"]


def test_without_a_way_out_nothing_is_masqueraded() -> None:
    """A cloud that is told to stay inside forwards nothing."""
    text = ruleset(CONFIG, uplink=None, opened=[])
    assert "masquerade" not in text
    assert "forward" not in text


def test_guests_leave_behind_this_machines_address() -> None:
    """Only the external subnet, only by the default route's interface."""
    text = ruleset(CONFIG, uplink="eth0", opened=[])
    assert f'ip saddr {CONFIG.external_cidr} oifname "eth0" masquerade' in text
    assert "hook forward" not in text


def test_an_uplink_that_we_opened_lets_nothing_else_through() -> None:
    """Forwarding that was off before stays off for everything but the external bridges."""
    text = ruleset(CONFIG, uplink="eth0", opened=["eth0"])
    assert 'iifname { "eth0" } oifname != { "br-ex", "br-ex-*" } counter drop' in text
