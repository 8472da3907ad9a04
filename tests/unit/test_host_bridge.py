"""Somebody else's switch: seen before ours would start in vain."""

from typing import Self

import pytest

from cumulet.host import bridge
from cumulet.host.bridge import check_datapath_free
from cumulet.host.errors import DatapathTaken


class FalseNetlink:
    """A machine with the interface that each userspace datapath makes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def link(self, name: str) -> str:
        return name


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Which process has the interface open: pid and program."""
    found: dict[int, str] = {}
    monkeypatch.setattr(bridge, "Netlink", FalseNetlink)
    monkeypatch.setattr(bridge, "every_process", lambda: iter(found))
    monkeypatch.setattr(bridge, "executable_of", found.__getitem__)
    monkeypatch.setattr(bridge, "_holds_tap", lambda _pid, name: name == "ovs-netdev")
    return found


def test_a_userspace_datapath_of_somebody_else_is_named(holder: dict[int, str]) -> None:
    """With the process, so that the operator can end it."""
    holder[4711] = "ovs-vswitchd"
    with pytest.raises(DatapathTaken, match="process 4711"):
        check_datapath_free()


def test_an_interface_that_a_killed_switch_left_is_no_obstacle(holder: dict[int, str]) -> None:
    """The next switch makes its own."""
    holder[4711] = "bash"
    check_datapath_free()
