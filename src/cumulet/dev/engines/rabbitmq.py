"""A private RabbitMQ: one node with its own folder, ports, name server (epmd) and cookie.

The management plugin is on, for two things that AMQP cannot do: a virtual host for each test (10 ms by HTTP, a second
by rabbitmqctl), and cutting a client's connection as a failing network would.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import secrets
import signal
import subprocess
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from cumulet.dev.engines.process import Daemon, EngineFailed, as_user, folder_of, free_ports, give_to, remove

__all__ = ["PrivateRabbitMQ"]

_USER = "rabbitmq"
_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_HTTP_TIMEOUT_S = 20.0
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
management_agent.disable_metrics_collector = true
default_user = {user}
default_pass = {password}
default_vhost = {vhost}
loopback_users.none = true
log.console = true
log.console.level = warning
log.file = false
disk_free_limit.absolute = 10MB
vm_memory_high_watermark.relative = 0.9
cluster_name = {user}
"""


class PrivateRabbitMQ:
    """A running RabbitMQ.  A context manager; `stop` may be repeated."""

    def __init__(self) -> None:
        """Make the node and start it.  Raises EngineFailed."""
        if not os.path.exists(_SERVER):  # noqa: PTH110 - a constant, not a path to work with
            raise EngineFailed("RabbitMQ is not installed (Debian package rabbitmq-server)")
        self.folder = folder_of("mq", _USER)
        self.user = "cumulet"
        self.password = secrets.token_hex(16)
        self._amqp, self._http, self._distribution, self._epmd_port = free_ports(4)
        self._names = itertools.count(1)
        try:
            self._configure()
            self._epmd = subprocess.Popen(
                [
                    *as_user(_USER, at_parents_death=signal.SIGTERM),
                    "epmd",
                    "-port",
                    str(self._epmd_port),
                    "-address",
                    "127.0.0.1",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
            )
        except BaseException:
            remove(self.folder)
            raise
        try:
            self._daemon = self._start()
        except BaseException:
            self._end_epmd()
            remove(self.folder)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, vhost: str = "main") -> str:
        """An AMQP URL of one of its virtual hosts."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self._amqp}/{quote(vhost, safe='')}"

    def create_vhost(self) -> str:
        """A new virtual host, empty; returns its name."""
        name = f"v{next(self._names)}"
        self._ask("PUT", f"/api/vhosts/{name}")
        self._ask("PUT", f"/api/permissions/{name}/{self.user}", {"configure": ".*", "write": ".*", "read": ".*"})
        return name

    def delete_vhost(self, name: str) -> None:
        """Remove it with its queues and connections.  May be repeated."""
        self._ask("DELETE", f"/api/vhosts/{name}", absent_is_fine=True)

    def restart(self) -> None:
        """Crash it and start it again on the same data: durable things survive, connections do not."""
        self._daemon.kill()
        self._daemon = self._start()

    def pause(self) -> None:
        """Stop the broker in its tracks: connections stay open and nothing answers."""
        os.kill(self._daemon.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        os.kill(self._daemon.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its folder.  Not gracefully: that takes six seconds, to save what is then removed."""
        self._daemon.kill()
        self._end_epmd()
        remove(self.folder)

    def _end_epmd(self) -> None:
        self._epmd.terminate()
        self._epmd.wait(_STOP_TIMEOUT_S)

    def _configure(self) -> None:
        settings = _CONFIGURATION.format(
            amqp=self._amqp, http=self._http, user=self.user, password=self.password, vhost="main"
        )
        for name, text in {
            "rabbitmq.conf": settings,
            "enabled_plugins": "[rabbitmq_management].\n",
            "env.conf": "",
            ".erlang.cookie": secrets.token_hex(20),
        }.items():
            file = self.folder / name
            file.write_text(text)
            file.chmod(0o400 if name == ".erlang.cookie" else 0o600)
            give_to(file, _USER)

    def _start(self) -> Daemon:
        folder = str(self.folder)
        environment = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": folder,  # where Erlang looks for its cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"cumulet{self._amqp}@localhost",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/env.conf",  # not the machine's own
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/config",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        return Daemon(
            [_SERVER],
            user=_USER,
            folder=self.folder,
            environment=environment,
            stop_signal=signal.SIGTERM,
            start_timeout_s=_START_TIMEOUT_S,
            stop_timeout_s=_STOP_TIMEOUT_S,
        )

    def _ask(self, method: str, path: str, body: Any = None, *, absent_is_fine: bool = False) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._http, timeout=_HTTP_TIMEOUT_S)
        try:
            secret = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            headers = {"Authorization": f"Basic {secret}", "Content-Type": "application/json"}
            connection.request(method, path, body=json.dumps(body or {}), headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400 and not (absent_is_fine and answer.status == 404):
            raise EngineFailed(f"{method} {path}: {answer.status} {text[:200]!r}\n{self._daemon.log_tail()}")
        return json.loads(text) if text else None
