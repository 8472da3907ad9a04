"""A cloud under test is started, waited for and ended as a user would; here a stand-in program takes its place."""

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cumulet.dev import cloud
from cumulet.dev.bench import limits
from cumulet.dev.cloud import CloudFailed, Refused, RunningCloud, Session

_READY = 'print("using sim drivers"); print("ready in 0.3 s"); signal.pause()'
_ENDS_EARLY = 'print("no root"); sys.exit(3)'
_IGNORES_SIGTERM = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {_READY}"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program that is started in place of `cumulet`; a test writes what it does."""
    file = tmp_path / "stand-in"
    monkeypatch.setattr(cloud, "program", lambda _name: str(file))
    return file


def _does(file: Path, code: str) -> None:
    file.write_text(f"#!{sys.executable}\nimport signal, sys\n{code}\n")
    file.chmod(0o755)


def test_it_is_ready_when_it_says_so(stand_in: Path, tmp_path: Path) -> None:
    """The time it names is kept, and at the end it is gone."""
    _does(stand_in, _READY)
    with RunningCloud(tmp_path / "state", quiet=True) as running:
        assert running.ready_in_s == 0.3
        folder = Path(f"/proc/{running.pid}")
        assert folder.exists()
    assert not folder.exists()


def test_what_ends_while_starting_is_told_with_its_words(stand_in: Path, tmp_path: Path) -> None:
    """Nobody waits for a process that is gone."""
    _does(stand_in, _ENDS_EARLY)
    with pytest.raises(CloudFailed, match="no root"):
        RunningCloud(tmp_path / "state", quiet=True)


def test_what_does_not_end_is_killed_and_told(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud that ignores SIGTERM is a failure, and does not stay behind."""
    monkeypatch.setattr(cloud, "_STOP_TIMEOUT_S", 0.2)
    _does(stand_in, _IGNORES_SIGTERM)
    running = RunningCloud(tmp_path / "state", quiet=True)
    with pytest.raises(CloudFailed, match="after SIGTERM"):
        running.stop()
    assert not Path(f"/proc/{running.pid}").exists()


class _Identity(http.server.BaseHTTPRequestHandler):
    """Knows one password, and a compute service in the same place."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = asked["auth"]["identity"]["password"]["user"]["password"] == "right"
        here = f"http://127.0.0.1:{self.server.server_address[1]}"
        compute = {"type": "compute", "endpoints": [{"interface": "public", "url": f"{here}/compute/v2.1/"}]}
        self._answer(201 if right else 401, {"token": {"catalog": [compute]}})

    def do_GET(self) -> None:
        known = self.path == "/compute/v2.1/servers" and self.headers["X-Auth-Token"] == "the-token"
        self._answer(200 if known else 404, {"servers": []})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-Subject-Token", "the-token")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def identity_url() -> Iterator[str]:
    """A stand-in for the cloud's API."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Identity) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)  # noqa: TID251 - a server beside the test
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/identity"
        server.shutdown()
        thread.join()


def _entry(url: str, password: str) -> dict[str, object]:
    return {"auth": {"auth_url": url, "username": "demo", "password": password, "project_name": "demo"}}


def test_a_session_finds_services_in_the_catalogue(identity_url: str) -> None:
    """It logs in once, and asks with its token where the catalogue says."""
    with Session(_entry(identity_url, "right")) as session:
        assert session.get("compute", "/servers") == {"servers": []}
        with pytest.raises(Refused) as refused:
            session.get("compute", "/nothing")
        assert refused.value.status == 404
        limits.first_answer(f"{session.catalogue['compute']}/servers", session.token)


def test_a_wrong_password_is_told(identity_url: str) -> None:
    """And the password is not in the message."""
    with pytest.raises(Refused, match="401") as refused:
        Session(_entry(identity_url, "wr0ng-secret"))
    assert "wr0ng-secret" not in str(refused.value)


def test_a_figure_is_judged_by_its_median() -> None:
    """One slow run among five does not fail it; a slow median does."""
    assert limits.Figure("start", "s", [1, 1, 1, 1, 9], limit=1.5).good
    slow = limits.Figure("start", "s", [1, 2, 2, 2, 1], limit=1.5)
    assert not slow.good
    assert str(slow).split() == ["start", "2", "1", "2", "5", "s", "1.5", "TOO", "MUCH"]
