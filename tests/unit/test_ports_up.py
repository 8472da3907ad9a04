"""A port's level comes with the event that it changed, and is asked for where the event did not come."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cumulet.compute.agent import tools
from cumulet.compute.agent.tools import HostTools, PortsUp
from cumulet.core.saga import Run
from cumulet.core.web.client import Credentials
from cumulet.core.work import Until
from cumulet.launch.networking import unplug, wait_up

PORT = "port-1"


class Host:
    """A host whose steps wait for one port."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = [True]
        nothing = SimpleNamespace(unplug=lambda _: None, leave=lambda _: None)
        network = SimpleNamespace(port_is_up=self._port_is_up)
        self.ports_up = PortsUp()
        self.tools = SimpleNamespace(ports_up=self.ports_up, network=network, vif=nothing, metadata=nothing)

    def _port_is_up(self, _: Credentials, port_id: str) -> bool:
        self.asked.append(port_id)
        return self.answers.pop(0)

    def waits(self) -> list[Any]:
        """What a step waits for until its port is up."""
        run = cast("Run", SimpleNamespace(tools=self.tools))
        interface: Any = SimpleNamespace(port_id=PORT)
        return list(wait_up(run, Credentials(token="t"), [interface]))


@pytest.fixture
def host() -> Host:
    """A host that has heard of nothing."""
    return Host()


def test_what_was_heard_is_not_asked(host: Host) -> None:
    """The word that the port is up is enough, once: the next who waits may wait for another plugging."""
    host.ports_up.heard(PORT, True)
    assert (host.waits(), host.asked) == ([], [])
    assert (host.waits(), host.asked) == ([], [PORT])


def test_what_was_not_heard_is_read_before_it_is_waited_for(host: Host) -> None:
    """Also when the port went down again, or was unplugged, since it was heard to be up."""
    host.ports_up.heard(PORT, True)
    host.ports_up.heard(PORT, False)
    assert (host.waits(), host.asked) == ([], [PORT])
    host.ports_up.heard(PORT, True)
    unplug(cast("HostTools", host.tools), PORT)
    host.answers = [False, True]
    assert [type(one) for one in host.waits()] == [Until]
    assert host.asked == [PORT] * 3


def test_no_more_are_remembered_than_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest make room, and are asked for then."""
    monkeypatch.setattr(tools, "PORTS_UP_MAX", 2)
    ports_up = PortsUp()
    for port in ("a", "b", "c"):
        ports_up.heard(port, True)
    assert [ports_up.take(port) for port in ("a", "b", "c")] == [False, True, True]
