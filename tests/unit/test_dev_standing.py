"""The demonstration's cloud: what is taken for it, what is not, and how it is ended."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cumulet.dev import standing
from cumulet.dev.cloud import CloudFailed
from cumulet.dev.standing import Place, end, ensure

HOLDER = """
import fcntl, os, sys, signal
lock = open(sys.argv[1], "a+")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.truncate(0); lock.write(f"{os.getpid()}\\n"); lock.flush()
print("held", flush=True)
signal.pause()
"""


class Other:
    """A web server that says to everything what a test wants it to."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        other = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(other.status)
                self.end_headers()
                self.wfile.write(other.body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))  # noqa: TID251 - another program
        self.thread.start()


@pytest.fixture
def other() -> Iterator[Other]:
    """Ended with the test."""
    made = Other()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"", "taken by a program that is no cloud"),
        (200, b"<html>", "taken by a program that is no cloud"),
        (200, b"[]", "taken by a program that is no cloud"),
        (200, json.dumps({"hypervisor": "sim"}).encode(), "a simulated one"),
        (200, json.dumps({"hypervisor": "qemu"}).encode(), "is not that of"),
    ],
)
def test_what_else_answers_at_the_port_is_not_taken_for_the_cloud(
    other: Other, tmp_path: Path, status: int, body: bytes, said: str
) -> None:
    """Nothing is started beside it; the message says what it is and what to do."""
    other.status, other.body = status, body
    with pytest.raises(CloudFailed, match=rf"{said}.*--port and --state"):
        ensure(Place(tmp_path, other.server.server_address[1]))


def test_a_program_that_never_answers_is_no_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts, and says nothing."""
    import socket

    monkeypatch.setattr(standing, "_ANSWER_TIMEOUT_S", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(CloudFailed, match="taken by a program that is no cloud"),
    ):
        ensure(Place(tmp_path, silent.getsockname()[1]))


def test_the_process_that_holds_the_folder_is_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever started it; a second time there is nothing to end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        end(Place(tmp_path))
        assert holder.wait(10) != 0
    assert capsys.readouterr().out == "the cloud has ended\n"
    end(Place(tmp_path))
    assert capsys.readouterr().out == "the cloud does not run\n"


def test_a_folder_that_never_was_has_no_cloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made by asking."""
    end(Place(tmp_path / "none"))
    assert capsys.readouterr().out == "the cloud does not run\n"
    assert not (tmp_path / "none").exists()


def test_only_what_is_unusual_need_be_said() -> None:
    """What the closing words name as options."""
    assert Place().options == ""
    assert Place(Path("/x y"), 1).options == " --state '/x y' --port 1"
