"""The whole simulated cloud on the other engines: every database in PostgreSQL, every message through RabbitMQ."""

from pathlib import Path
from typing import Any

from kombu.connection import Connection
from tests.launch.world import World

from cumulet.dev.cloud import RunningCloud
from cumulet.launch.flow import ROWS

ARGUMENTS = ["--sim", "--bcrypt-rounds", "4"]


def test_a_launch_on_rabbitmq_and_postgresql(rabbitmq_url: str, postgres_url: str, tmp_path: Path) -> None:
    """A server with a port and a volume goes through all nineteen rows, is resized and deleted, and leaves nothing; why it
    went where it did is kept, and what would fit is told; all of that again after a restart, on what the first process
    left in the database.
    """
    engines = [*ARGUMENTS, "--bus", rabbitmq_url, "--database", postgres_url]
    for _ in range(2):
        with RunningCloud(tmp_path / "state", engines, quiet=True) as cloud, World(cloud) as world:
            before = world.holdings()
            with world.launched(world.with_volume()) as server_id:
                assert world.server(server_id)["status"] == "ACTIVE", world.server(server_id).get("fault")
                assert [event["event"] for event in world.events(server_id)] == [row.name for row in ROWS]
                flavors = {one["name"]: one["id"] for one in world.member.get("compute", "/flavors")["flavors"]}
                world.act(server_id, {"resize": {"flavorRef": flavors["m1.tiny"]}})
                assert world.settled(server_id)["status"] == "VERIFY_RESIZE"
                decided = world.admin.operator(f"/why/{server_id}")["scheduling"]
                assert [(one["action"], one["found"]) for one in decided] == [("resize", True), ("create", True)]
            assert world.admin.operator(f"/fit?flavor={world.flavor}")["fit"]["fits"] > 0
            world.until_holdings_are(before)
            assert world.leaks() == []
    assert not list((tmp_path / "state").rglob("*.sqlite")), "a database is a file, not in PostgreSQL"
    connect: Any = Connection  # kombu is typed in part only
    with connect(rabbitmq_url) as broker, broker.channel() as channel:
        for topic in ("scheduler", "conductor", "volume.scheduler"):
            channel.queue_declare(f"cumulet.{topic}", passive=True)  # raises when there is no such queue
