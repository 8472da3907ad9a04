"""Names, ranges and paths of a cloud, derived from its state directory."""

import ipaddress

from cumulet.host.config import INTERFACE_NAME_MAX, HostConfig

PORT = "0f9e8d7c-6b5a-4938-2716-051423324150"


def test_the_default_directory_gets_the_names_of_every_tutorial() -> None:
    """br-int, br-ex and 172.24.4.1, as documentation has them."""
    config = HostConfig.for_state_dir("/var/lib/cumulet")
    assert (config.bridge_int, config.bridge_ex) == ("br-int", "br-ex")
    assert config.external_cidr == "172.24.4.0/24"
    assert config.external_gateway == "172.24.4.1"


def test_the_same_directory_always_gets_the_same_names() -> None:
    """A restart must find what the start before it made, by whatever path the directory was named."""
    assert HostConfig.for_state_dir("/srv/a", hostname="h") == HostConfig.for_state_dir("/srv/b/../a/", hostname="h")


def test_two_clouds_share_no_name() -> None:
    """Whatever is given to the machine differs between two state directories."""
    one, two = HostConfig.for_state_dir("/srv/one"), HostConfig.for_state_dir("/srv/two")
    for name in ("short", "bridge_int", "bridge_ex", "external_cidr", "tap_prefix", "veth_prefix", "netns_prefix"):
        assert getattr(one, name) != getattr(two, name)
    assert one.nft_table != two.nft_table
    assert one.link_alias != two.link_alias


def test_names_fit_into_the_kernel() -> None:
    """Interface names end at 15 characters, unix socket addresses at 107, however long the directory's path is."""
    config = HostConfig.for_state_dir("/srv/" + "long/" * 40)
    names = (config.bridge_int, config.bridge_ex, config.datapath_link, config.tap_name(PORT), config.veth_name(PORT))
    assert all(len(name) <= INTERFACE_NAME_MAX for name in names)
    assert len(f"{config.libvirt_dir}/lib/qemu/channel/target/domain-10000-instance-00000000/x.sock") <= 107


def test_taps_of_a_cloud_begin_with_its_prefix() -> None:
    """The guard knows guests' interfaces by their prefix alone, also in the default directory."""
    config = HostConfig.for_state_dir("/var/lib/cumulet")
    assert config.tap_name(PORT).startswith(config.tap_prefix)
    assert config.veth_name(PORT).startswith(config.veth_prefix)
    assert not config.tap_name(PORT).startswith("tap")


def test_console_ports_of_a_derived_cloud_are_two_separate_ranges() -> None:
    """VNC and websocket ports never overlap, and keep below the ports of outgoing connections."""
    for number in range(50):
        config = HostConfig.for_state_dir(f"/srv/{number}")
        assert config.vnc_ports.last < config.websocket_ports.first
        assert config.vnc_ports.first >= 5900
        assert config.websocket_ports.last < 32768


def test_an_external_subnet_of_ones_own_is_kept() -> None:
    """The operator's choice wins over the derived subnet."""
    config = HostConfig.for_state_dir("/srv/one", external_cidr="10.9.0.0/16")
    assert ipaddress.ip_network(config.external_cidr).prefixlen == config.external_prefix == 16
    assert config.external_gateway == "10.9.0.1"
