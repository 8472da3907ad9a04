"""The event stream of a whole cloud: nothing lost, doubled or reordered, whatever connections and processes do."""

import json
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from sqlalchemy import select
from tests.launch.world import World

from cumulet.compute.tables import METADATA as COMPUTE
from cumulet.compute.tables import SAGAS
from cumulet.core.db import open_database
from cumulet.dev.checkout import program
from cumulet.dev.cloud import RunningCloud, Session, free_port, read_cloud
from cumulet.dev.watch_proof import dense, every_event_once
from cumulet.events.tables import EVENTS
from cumulet.events.tables import METADATA as STREAM
from cumulet.run.watch import Message, Watch, line_of

pytestmark = pytest.mark.xdist_group("launch")

ARGUMENTS = ["--sim", "--bcrypt-rounds", "4"]
TIMEOUT_S = 60.0


class Seen:
    """What `cumulet watch` of one user sees, in a thread of its own, until a network of a name is created."""

    def __init__(self, entry: dict[str, Any], until: str, query: dict[str, str] | None = None) -> None:
        self.messages: list[Message] = []
        self.said: list[str] = []
        self._until = until
        self._news = threading.Condition()
        self._watch = Watch(entry, query or {}, since=0, say=self.said.append)
        self._thread = threading.Thread(target=self._read, daemon=True)  # noqa: TID251 - no pool: one that never sees its end must not hold the tests up

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "the end was never seen"

    def _read(self) -> None:
        for message in self._watch.messages():
            with self._news:
                self.messages.append(message)
                self._news.notify_all()
            if (message.kind, message.change, message.data.get("name")) == ("network", "created", self._until):
                return

    def count(self, kind: str, change: str) -> int:
        """How many events like this were seen."""
        return sum((one.kind, one.change) == (kind, change) for one in self.messages)

    def wait_for(self, count: int, kind: str, change: str) -> None:
        """Until so many events like this were seen."""
        with self._news:
            assert self._news.wait_for(lambda: self.count(kind, change) >= count, TIMEOUT_S), f"{count} {kind} {change}"


def end(session: Session, name: str) -> None:
    """What readers wait for."""
    session.post("network", "/v2.0/networks", {"network": {"name": name}})


@contextmanager
def another_project(admin: Session, base: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entry of a clouds.yaml for a user of a project made for a test."""
    project = admin.post("identity", "/v3/projects", {"project": {"name": "strangers"}})["project"]["id"]
    user = {"name": "stranger", "password": "a-long-one", "default_project_id": project}
    user_id = admin.post("identity", "/v3/users", {"user": user})["user"]["id"]
    roles = admin.get("identity", "/v3/roles?name=member")["roles"]
    admin.ask("PUT", "identity", f"/v3/projects/{project}/users/{user_id}/roles/{roles[0]['id']}")
    auth = {**base["auth"], "username": "stranger", "password": "a-long-one", "project_name": "strangers"}
    yield {**base, "auth": auth}
    admin.delete("identity", f"/v3/users/{user_id}")
    admin.delete("identity", f"/v3/projects/{project}")


@pytest.mark.slow
def test_a_reader_that_loses_its_connection_sees_every_event_once(tmp_path: Path) -> None:
    """In order, through forty launches and deletions, as many reconnections as one has time for; `./dev watch-proof` does more."""
    said = every_event_once(tmp_path, launches=40, reconnects=20, seed=20)
    assert said.startswith("40 launches and deletions")


@pytest.mark.slow
def test_a_killed_cloud_loses_and_doubles_no_event(tmp_path: Path) -> None:
    """SIGKILL amid launches, three times; the reader comes back by itself and has then seen every event of its project once,
    the last of each server and of each step being what the cloud's records say.
    """
    rng = random.Random(3)  # noqa: S311 - dice that a seed owns
    port, databases = free_port(), f"sqlite://{tmp_path}/db"
    with RunningCloud(tmp_path, ARGUMENTS, port=port, quiet=True) as cloud, World(cloud) as world:
        body = world.body(min_count=8, max_count=8)
        seen = Seen(read_cloud(tmp_path / "clouds.yaml", "cumulet"), "the end")
        seen.__enter__()
        world.member.post("compute", "/servers", body)
        seen.wait_for(rng.randrange(3, 30), "server.step", "done")
        cloud.kill()
    for _ in range(2):
        with RunningCloud(tmp_path, ARGUMENTS, port=port, quiet=True) as cloud, cloud.session("cumulet") as member:
            member.post("compute", "/servers", body)
            seen.wait_for(seen.count("server.step", "done") + rng.randrange(1, 20), "server.step", "done")
            cloud.kill()
    with RunningCloud(tmp_path, ARGUMENTS, port=port, quiet=True) as cloud, cloud.session("cumulet") as member:

        def settled() -> dict[str, str]:
            servers = member.get("compute", "/servers/detail")["servers"]
            found = {one["id"]: one["OS-EXT-STS:vm_state"] for one in servers}
            return {} if "building" in found.values() else found

        states = World.wait_for(settled, "all servers to settle")
        project_id = member.get("compute", "/servers/detail")["servers"][0]["tenant_id"]
        end(member, "the end")
        seen.__exit__()
    dense(databases)
    assert len(states) == 24
    with closing(open_database(databases, "events", STREAM)) as db, db.read() as tx:
        kept = tx.values(
            select(EVENTS.c.number)
            .where((EVENTS.c.project_id == project_id) | (EVENTS.c.viewers == "*"))
            .order_by(EVENTS.c.number)
        )
    numbers = [one.number for one in seen.messages]
    assert numbers == kept[: len(numbers)]
    last_state = {one.id: one.data["vm_state"] for one in seen.messages if one.kind == "server"}
    assert last_state == states
    last_word = {
        (one.id, one.data["flow"], one.data["name"]): one.change for one in seen.messages if one.kind == "server.step"
    }
    with closing(open_database(databases, "compute", COMPUTE)) as db, db.read() as tx:
        sagas, steps = SAGAS.sagas.c, SAGAS.steps.c
        rows = tx.all(select(sagas.subject_id, sagas.flow, steps.name, steps.state).where(steps.saga_id == sagas.id))
    assert last_word == {(row["subject_id"], row["flow"], row["name"]): row["state"] for row in rows}
    assert any("connection is lost" in line for line in seen.said)


def test_projects_do_not_see_each_other(world: World) -> None:
    """Of another project's launch nothing; public images, flavors and shared networks are everybody's; an admin sees all."""
    state = world.cloud.state
    member = read_cloud(state / "clouds.yaml", "cumulet")
    with another_project(world.admin, member) as stranger:
        with Session(stranger) as session:
            world.admin.post("network", "/v2.0/networks", {"network": {"name": "for all", "shared": True}})
            before = world.holdings()
            with (
                Seen(member, "members' end") as own,
                Seen(stranger, "strangers' end") as strange,
                Seen(
                    read_cloud(state / "clouds.yaml", "cumulet-admin"), "members' end", {"all_projects": "1"}
                ) as everything,
            ):
                with world.launched(world.with_volume()) as server_id:
                    pass
                world.until_holdings_are(before)
                end(session, "strangers' end")
                end(world.member, "members' end")
        for name in ("strangers' end", "members' end", "for all"):
            world.remove_networks(name)
    kinds = {"server", "server.step", "port", "volume", "volume.step", "attachment"}
    about = [one for one in own.messages if one.id == server_id]
    assert (about[0].change, about[-1].change) == ("created", "deleted")
    assert kinds <= {one.kind for one in own.messages}
    assert not kinds & {one.kind for one in strange.messages}
    for seen in (own, strange):
        assert {("image", "cumulet-guest"), ("flavor", "m1.nano"), ("network", "for all"), ("network", "public")} <= {
            (one.kind, one.data.get("name")) for one in seen.messages
        }
        assert "host" not in {one.kind for one in seen.messages}
    assert {one.number for one in own.messages} <= {one.number for one in everything.messages}
    assert "host" in {one.kind for one in everything.messages}
    assert all(line_of(one, with_project=True) for one in everything.messages)


def test_a_launch_that_fails_is_told_to_its_owner(world: World) -> None:
    """The step that failed, what was undone, the fault in the owner's words and no name of a host; only what belongs to the server is
    shown to who asks for it.
    """
    member = read_cloud(world.cloud.state / "clouds.yaml", "cumulet")
    hypervisor = world.admin.get("compute", "/os-hypervisors")["hypervisors"][0]["hypervisor_hostname"]
    huge = world.admin.post(
        "compute", "/flavors", {"flavor": {"name": "huge", "vcpus": 1, "ram": 128, "disk": 32 << 10}}
    )
    with Seen(member, "end of failure") as seen:
        with world.launched(world.body(flavorRef=huge["flavor"]["id"])) as server_id:
            assert world.server(server_id)["status"] == "ERROR"
        end(world.member, "end of failure")
    world.remove_networks("end of failure")
    world.admin.delete("compute", f"/flavors/{huge['flavor']['id']}")
    mine = [one for one in seen.messages if one.id == server_id]
    steps = {(one.data["name"], one.change): one.data for one in mine if one.kind == "server.step"}
    assert "No valid host was found" in steps["ask_scheduler", "failed"]["failure"]
    assert ("ask_scheduler", "undone") in steps
    faults = [one.data["fault"] for one in mine if one.kind == "server" and one.data["vm_state"] == "error"]
    assert "No valid host was found" in faults[0]
    assert not [one for one in seen.messages if f'"{hypervisor}"' in str(one.data) or f"{hypervisor}:" in str(one.data)]
    query, headers = {"object_id": server_id, "since": "0"}, {"X-Auth-Token": world.member.token}
    shown = []
    with httpx.stream(
        "GET", member["auth"]["auth_url"].removesuffix("/identity/v3") + "/events", params=query, headers=headers
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                shown.append(json.loads(line.removeprefix("data: ")))
                if len(shown) == len(mine):
                    break
    assert [one["number"] for one in shown] == [one.number for one in mine]


def test_the_command_prints_a_line_for_each(world: World) -> None:
    """`cumulet watch` of one server: its launch from the first event to the last, in words; interrupted, it ends quietly."""
    with world.launched(world.body(name="watched")) as server_id:
        command = [
            program("cumulet"),
            "watch",
            "--state",
            str(world.cloud.state),
            "--all",
            "--server",
            server_id,
            "--since",
            "0",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            lines: list[str] = []
            try:
                for line in watching.stdout:
                    lines.append(line)
                    if "'watched' ACTIVE" in line:
                        break
                watching.send_signal(signal.SIGINT)
                assert watching.wait(TIMEOUT_S) == 0
            finally:
                watching.kill()
    assert "created 'watched' BUILD (scheduling)" in lines[0]
    assert any("launch: 19 start_domain done" in line for line in lines)
    assert any(" port " in line and "status=ACTIVE" in line for line in lines)
