"""A cloud under test: `cumulet up` as a user runs it, in a process of its own, spoken to over its public API."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from cumulet.dev import apt
from cumulet.dev.checkout import APT_LOG, program

__all__ = ["CloudFailed", "Refused", "RunningCloud", "Session", "free_port", "read_cloud"]

_READY = re.compile(r"\bready in ([0-9.]+) s\b")
_START_TIMEOUT_S = 600.0  # the first start of a real cloud installs Debian packages and builds the guest image
_STOP_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 60.0
_LINES_SHOWN = 30


class CloudFailed(Exception):
    """The cloud did not start or stop as it should; the message holds the end of its output."""


class Refused(Exception):
    """A request was answered with an error."""

    def __init__(self, method: str, url: str, status: int, text: str) -> None:
        super().__init__(f"{method} {url}: {status} {text[:500]}")
        self.status = status
        self.text = text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def read_cloud(file: Path, name: str) -> dict[str, Any]:
    """One entry of a clouds.yaml."""
    known: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["clouds"]
    if name not in known:
        raise CloudFailed(f"{file} knows {', '.join(known) or 'no cloud'}, not {name}")
    return known[name]


class RunningCloud:
    """`cumulet up`, from its start until its end.  A context manager that ends it."""

    def __init__(
        self,
        state: Path,
        arguments: Sequence[str] = (),
        *,
        port: int | None = None,
        quiet: bool = False,
        wait: bool = True,
        through: Sequence[str] = (),
    ) -> None:
        """Start it, and wait until it says that it is ready unless told not to.  Raises CloudFailed.

        `through`: what to start in place of the program `cumulet`.
        """
        self.state = state
        self.port = port or free_port()
        self.ready_in_s: float | None = None
        self._lines: list[str] = []
        self._quiet = quiet
        self._told = threading.Event()
        if "--sim" not in arguments and os.geteuid() == 0:
            apt.ensure_real_host(log=APT_LOG)
        # The clouds.yaml that it merges its clouds into is the user's own file: here that is one in the state folder.
        environment = os.environ | {"XDG_CONFIG_HOME": str(state / "config"), "PYTHONUNBUFFERED": "1"}
        self._command = [
            *(through or [program("cumulet")]),
            "up",
            "--state",
            str(state),
            "--port",
            str(self.port),
            *arguments,
        ]
        state.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, name="cumulet-up", daemon=True)
        self._reader.start()
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> float:
        """How many seconds it says that it took.  Raises CloudFailed."""
        self._told.wait(_START_TIMEOUT_S)
        if self.ready_in_s is None:
            self.kill()
            raise CloudFailed(f"{' '.join(self._command)} did not become ready:\n{self.output()}")
        return self.ready_in_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def session(self, name: str = "cumulet-admin") -> Session:
        """Logged in as one of the clouds of its clouds.yaml."""
        return Session(read_cloud(self.state / "clouds.yaml", name))

    def output(self) -> str:
        """The end of what it printed."""
        return "\n".join(self._lines[-_LINES_SHOWN:])

    def stop(self) -> None:
        """SIGTERM, and wait.  Raises CloudFailed when it does not end well.  May be repeated."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise CloudFailed(f"still running {_STOP_TIMEOUT_S} s after SIGTERM:\n{self.output()}") from None
            self._reader.join()
            if self._process.returncode not in {0, -signal.SIGTERM}:
                raise CloudFailed(f"ended with status {self._process.returncode}:\n{self.output()}")

    def kill(self) -> None:
        """SIGKILL, and wait.  May be repeated."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def wait_until_killed(self, timeout_s: float) -> bool:
        """Whether it was killed by a signal within this time."""
        try:
            return self._process.wait(timeout_s) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def _read(self) -> None:
        pipe = self._process.stdout
        if pipe is None:  # never: it was asked for
            return
        with pipe:
            for line in pipe:
                self._lines.append(line.rstrip("\n"))
                if not self._quiet:
                    sys.stdout.write(f"  {line}")
                    sys.stdout.flush()
                if found := _READY.search(line):
                    self.ready_in_s = float(found.group(1))
                    self._told.set()
        self._told.set()  # it ended: nobody need wait any longer


class Session:
    """A token, its catalogue, and one kept-alive connection.  Answers are JSON as it came."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        """Log in with an entry of a clouds.yaml.  Raises Refused."""
        self.auth: Mapping[str, Any] = entry["auth"]
        self.region = str(entry.get("region_name", "RegionOne"))
        self._http = httpx.Client(timeout=_REQUEST_TIMEOUT_S, verify=entry.get("verify", True))
        self.auth_url = str(self.auth["auth_url"]).rstrip("/")
        if not self.auth_url.endswith("/v3"):
            self.auth_url += "/v3"
        user = {"name": self.auth["username"], "password": self.auth["password"]}
        user["domain"] = {"name": self.auth.get("user_domain_name", "Default")}
        project = {
            "name": self.auth["project_name"],
            "domain": {"name": self.auth.get("project_domain_name", "Default")},
        }
        body = {
            "auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": project}}
        }
        answer = self._http.post(f"{self.auth_url}/auth/tokens", json=body)
        if answer.status_code != 201:
            self._http.close()
            raise Refused("POST", f"{self.auth_url}/auth/tokens", answer.status_code, answer.text)
        self.token = answer.headers["X-Subject-Token"]
        self.catalogue = {
            service["type"]: next(
                one["url"].rstrip("/") for one in service["endpoints"] if one["interface"] == "public"
            )
            for service in answer.json()["token"]["catalog"]
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back.  The token lives on."""
        self._http.close()

    def get(self, service: str, path: str, **headers: str) -> Any:
        return self.ask("GET", service, path, **headers).json()

    def post(self, service: str, path: str, body: Any, **headers: str) -> Any:
        answer = self.ask("POST", service, path, body, **headers)
        return answer.json() if answer.content else None

    def delete(self, service: str, path: str) -> None:
        self.ask("DELETE", service, path)

    def operator(self, path: str) -> Any:
        """What the operator's own commands ask, which is in no catalogue.  Raises Refused."""
        url = self.auth_url.removesuffix("/identity/v3") + "/cumulet" + path
        answer = self._http.get(url, headers={"X-Auth-Token": self.token})
        if answer.status_code >= 400:
            raise Refused("GET", url, answer.status_code, answer.text)
        return answer.json()

    def ask(self, method: str, service: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request to a service of the catalogue.  Underscores in header names stand for dashes.  Raises Refused."""
        url = self.catalogue[service] + path
        named = {"X-Auth-Token": self.token} | {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._http.request(method, url, json=body, headers=named)
        if answer.status_code >= 400:
            raise Refused(method, url, answer.status_code, answer.text)
        return answer

    def download(self, service: str, path: str, to: Path) -> None:
        """Stream an answer's body into a file.  Raises Refused."""
        url = self.catalogue[service] + path
        with self._http.stream("GET", url, headers={"X-Auth-Token": self.token}) as answer, to.open("wb") as file:
            if answer.status_code >= 400:
                raise Refused("GET", url, answer.status_code, "")
            for chunk in answer.iter_bytes():
                file.write(chunk)
