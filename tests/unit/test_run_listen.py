"""The cloud's address: taken before the daemons start, and listened on only when there are answers."""

import socket

import pytest

from cumulet.dev.cloud import free_port
from cumulet.run.listen import CannotListenError, take_address


def test_an_address_is_taken_but_refuses_until_somebody_listens() -> None:
    """A client that comes too early learns it at once, and nobody else gets the port meanwhile."""
    port = free_port()
    (taken,) = take_address("127.0.0.1", port)
    with taken:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        taken.listen()
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_port_that_another_program_has_is_said_with_the_way_out() -> None:
    """The operator reads which port, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListenError, match=rf"127\.0\.0\.1 port {port}: another program listens .* --port"):
            take_address("127.0.0.1", port)


def test_an_address_of_no_interface_here_is_said() -> None:
    """192.0.2.0/24 is kept for documents."""
    with pytest.raises(CannotListenError, match=r"192\.0\.2\.77 port"):
        take_address("192.0.2.77", free_port())
