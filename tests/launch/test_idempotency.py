"""A launch that is asked for again and again with one `Idempotency-Key`, of a cloud that runs, and of one that is killed."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.launch.world import World

from cumulet.dev.cloud import RunningCloud, Session

pytestmark = pytest.mark.xdist_group("launch")

TWINS = 50


def launch(session: Session, body: dict[str, Any], key: str) -> dict[str, Any]:
    """One request with a key; the server of its answer."""
    named = {"Idempotency_Key": key, "OpenStack_API_Version": "compute 2.96"}
    server: dict[str, Any] = session.post("compute", "/servers", body, **named)["server"]
    return server


def test_fifty_at_once_make_one_server(world: World) -> None:
    """Fifty threads with a connection each: one server, fifty answers with its id, one of them with the password."""
    sessions = [world.cloud.session("cumulet") for _ in range(TWINS)]
    before = len(world.member.get("compute", "/servers")["servers"])
    body = world.body(name="twins")
    with ThreadPoolExecutor(TWINS) as pool:
        answers = list(pool.map(lambda session: launch(session, body, "fifty-at-once"), sessions))
    for session in sessions:
        session.close()
    (server_id,) = {answer["id"] for answer in answers}
    assert len([answer for answer in answers if "adminPass" in answer]) == 1
    assert len(world.member.get("compute", "/servers")["servers"]) == before + 1
    assert world.settled(server_id)["status"] == "ACTIVE"
    assert world.member.get("compute", f"/servers/{server_id}")["server"]["name"] == "twins"
    world.delete(server_id)


@pytest.mark.slow
def test_a_killed_cloud_gives_the_same_server_to_the_retry(tmp_path: Path) -> None:
    """SIGKILL right after the launch is committed: the next process answers the same request with the server that is there."""
    arguments = ["--sim", "--bcrypt-rounds", "4"]
    with RunningCloud(tmp_path, arguments, quiet=True) as cloud, World(cloud) as world:
        port, body = cloud.port, world.body(name="killed")
    failing = [*arguments, "--failpoint", "launch.ask_scheduler.before"]
    with RunningCloud(tmp_path, failing, port=port, quiet=True) as cloud:
        with cloud.session("cumulet") as session, suppress(httpx.TransportError):  # it may be killed while it answers
            launch(session, body, "killed")
        assert cloud.wait_until_killed(30.0)
    with RunningCloud(tmp_path, arguments, port=port, quiet=True) as cloud, cloud.session("cumulet") as session:
        answer = launch(session, body, "killed")
        (there,) = session.get("compute", "/servers")["servers"]
        assert answer["id"] == there["id"]
        assert "adminPass" not in answer
