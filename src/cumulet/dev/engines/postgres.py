"""A private PostgreSQL: one cluster in a folder of its own, reached by a socket in that folder only.

Nothing is kept longer than the test run, so it never waits for the disk (fsync off).  A test gets a database of its
own, cloned from a template: 20 to 50 ms instead of making all tables again.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from cumulet.dev.engines.process import Daemon, EngineFailed, as_user, folder_of, remove

__all__ = ["PrivatePostgres"]

_USER = "postgres"
_ROLE = "cumulet"
_INSTALLED = Path("/usr/lib/postgresql")
_START_TIMEOUT_S = 30.0
_INITDB_TIMEOUT_S = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "jit": "off",
    "log_min_messages": "warning",
    "max_wal_size": "256MB",
    "timezone": "UTC",
}


class PrivatePostgres:
    """A running PostgreSQL.  A context manager; `stop` may be repeated."""

    def __init__(self) -> None:
        """Make the cluster and start it.  Raises EngineFailed."""
        self._programs = _programs()
        self.folder = folder_of("pg", _USER)
        self._names = itertools.count(1)
        try:
            self._initialise()
            self._daemon = self._start()
        except BaseException:
            remove(self.folder)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, database: str = "postgres") -> str:
        """A libpq URL of one of its databases."""
        return f"postgresql://{_ROLE}@/{database}?host={self.folder}"

    def create_database(self, *, template: str = "template1") -> str:
        """A new database, a copy of `template`; returns its name."""
        name = f"db{next(self._names)}"
        with psycopg.connect(self.url(), autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'.encode())
        return name

    def drop_database(self, name: str) -> None:
        """Remove it, and whoever is still connected to it with it.  May be repeated."""
        with psycopg.connect(self.url(), autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def template(self, name: str, fill: Callable[[str], None]) -> str:
        """A database to clone from: made on first use by `fill(url)`, which closes its connections before it
        returns."""
        with psycopg.connect(self.url(), autocommit=True) as admin:
            known = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if known is None:
                admin.execute(f'CREATE DATABASE "{name}"'.encode())
        if known is None:
            try:
                fill(self.url(name))
            except BaseException:
                self.drop_database(name)
                raise
        return name

    def restart(self) -> None:
        """Crash it and start it again on the same data: what a client sees of a failing database."""
        self._daemon.kill()
        self._daemon = self._start()

    def stop(self) -> None:
        """End it and remove its folder."""
        self._daemon.stop()
        remove(self.folder)

    def _initialise(self) -> None:
        command = [
            str(self._programs / "initdb"),
            f"--pgdata={self.folder / 'data'}",
            f"--username={_ROLE}",
            "--auth=trust",
        ]
        command += ["--no-sync", "--no-instructions", "--locale=C.UTF-8", "--encoding=UTF8"]
        made = subprocess.run(
            [*as_user(_USER), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=_INITDB_TIMEOUT_S,
            check=False,
        )
        if made.returncode != 0:
            raise EngineFailed(f"initdb failed:\n{made.stdout}{made.stderr}")

    def _start(self) -> Daemon:
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return Daemon(
            [str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *settings],
            user=_USER,
            folder=self.folder,
            environment={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stop_signal=signal.SIGINT,  # "fast": open connections are closed, not waited for
            start_timeout_s=_START_TIMEOUT_S,
        )


def _programs() -> Path:
    """The folder of the newest installed server's programs.  Raises EngineFailed."""
    found = [path.parent for path in _INSTALLED.glob("*/bin/postgres")]
    if not found:
        raise EngineFailed("PostgreSQL is not installed (Debian package postgresql)")
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
