"""The cloud's address, taken before anything else is: a cloud that cannot be reached need not start its daemons."""

import contextlib
import errno
import os
import socket

__all__ = ["CannotListenError", "take_address"]


class CannotListenError(Exception):
    """The address is taken, or not this machine's."""


def take_address(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to all that the name stands for, not listening yet: clients are refused until there are answers.

    The caller closes them.  Raises CannotListenError.
    """
    with contextlib.ExitStack() as taken:
        sockets = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                made = taken.enter_context(socket.socket(family, kind, protocol))
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind(address)
                sockets.append(made)
        except OSError as error:
            reason = error.strerror or os.strerror(error.errno or 0)
            if error.errno == errno.EADDRINUSE:
                reason = "another program listens there; end it, or choose another --port"
            raise CannotListenError(f"cannot listen on {host} port {port}: {reason}") from error
        taken.pop_all()
        return sockets
