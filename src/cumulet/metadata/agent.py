"""The metadata service of one host: a namespace per network that has a guest here, and one loop that listens in all of them.

Who asks is told by the network the socket is in and the sender's address there, which OVN's port security vouches for; no header of
the guest is believed.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import h11
import structlog

from cumulet.compute.door import METADATA_ADDRESS, MetadataNamespaces, MetadataPort, Server
from cumulet.core.errors import CloudError
from cumulet.metadata.responder import PASSWORD_MAX, answer

__all__ = ["MetadataAgent", "NoMetadata"]

log = structlog.get_logger()

READ_MAX = 16 << 10
REQUEST_TIMEOUT_S = 10.0
#: how long a network's namespace outlives its last guest: the next launch finds it there
LINGER_S = 30.0


class NoMetadata:
    """For hosts whose network is simulated: nobody can ask."""

    def join(self, network_id: str, port_id: str) -> None:
        """Nobody can ask."""

    def leave(self, port_id: str) -> None:
        """Nobody could ask."""

    def tidy(self) -> None:
        """Nothing was made."""


class MetadataAgent:
    """Implements compute's MetadataPorts.

    port_of(network_id): the network's metadata port.  server_at(network_id, address): the server with that address there, or None.
    """

    def __init__(
        self,
        namespaces: MetadataNamespaces,
        *,
        port_of: Callable[[str], MetadataPort | None],
        server_at: Callable[[str, str], Server | None],
        set_password: Callable[[str, str], bool],
    ) -> None:
        self._namespaces = namespaces
        self._port_of = port_of
        self._server_at = server_at
        self._set_password = set_password
        self._ports: dict[str, set[str]] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(  # noqa: TID251 - sockets in network namespaces, nothing to simulate
            target=self._loop.run_forever, name="metadata", daemon=True
        )
        self._thread.start()

    def join(self, network_id: str, port_id: str) -> None:
        with self._lock:
            there = self._ports.setdefault(network_id, set())
            there.add(port_id)
            if network_id in self._servers:
                return
            port = self._port_of(network_id)
            if port is None:  # a network without DHCP has no metadata port
                return
            self._namespaces.ensure_namespace(port)
            listener = self._namespaces.listen_socket(network_id, METADATA_ADDRESS, 80)
            future = asyncio.run_coroutine_threadsafe(self._listen(network_id, listener), self._loop)
            self._servers[network_id] = future.result(timeout=5)

    def leave(self, port_id: str) -> None:
        with self._lock:
            for network_id, there in list(self._ports.items()):
                there.discard(port_id)
                if not there:
                    del self._ports[network_id]
                    self._loop.call_soon_threadsafe(self._loop.call_later, LINGER_S, self._soon_close, network_id)

    def tidy(self) -> None:
        """After a start, once every guest that runs has joined: remove the namespaces that an earlier process left behind."""
        for network_id in self._namespaces.namespaces():
            self._close(network_id)

    def _soon_close(self, network_id: str) -> None:
        """On the loop, a while after a network's last guest went."""
        self._loop.run_in_executor(None, self._close, network_id)

    def _close(self, network_id: str) -> None:
        """Take the network's namespace away, unless another guest has come."""
        with self._lock:
            if network_id in self._ports:
                return
            server = self._servers.pop(network_id, None)
            if server is not None:
                self._loop.call_soon_threadsafe(server.close)
            self._namespaces.remove_namespace(network_id)

    def stop(self) -> None:
        """Stop answering; namespaces are the host's to remove."""
        with self._lock:
            for server in self._servers.values():
                self._loop.call_soon_threadsafe(server.close)
            self._servers.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    async def _listen(self, network_id: str, listener: socket.socket) -> asyncio.Server:
        listener.setblocking(False)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await self._serve(network_id, reader, writer)
            except (TimeoutError, ConnectionError, h11.RemoteProtocolError):
                pass  # a guest that does not ask properly gets no answer
            finally:
                writer.close()

        return await asyncio.start_server(serve, sock=listener)

    async def _serve(self, network_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=READ_MAX)
        address = writer.get_extra_info("peername")[0]
        request: h11.Request | None = None
        body = b""
        while True:
            event: Any = connection.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(READ_MAX)
                connection.receive_data(data)
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
                if len(body) > PASSWORD_MAX * 2:
                    return
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                status, kind, content = await asyncio.to_thread(self._answer, network_id, address, request, body)
                headers = [("content-type", kind), ("content-length", str(len(content))), ("connection", "close")]
                writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
                if request.method != b"HEAD":
                    writer.write(connection.send(h11.Data(data=content)) or b"")
                await writer.drain()
                return
            else:
                return

    def _answer(self, network_id: str, address: str, request: h11.Request, body: bytes) -> tuple[int, str, bytes]:
        try:
            server = self._server_at(network_id, address)
            if server is None:
                return 404, "text/plain", b"not found\n"
            target = request.target.decode("ascii", "replace")
            return answer(request.method.decode(), target, body, server, set_password=self._set_password)
        except CloudError:
            log.exception("metadata request failed", network=network_id)
            return 503, "text/plain", b"try again\n"
