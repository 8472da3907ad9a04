"""The reconciler's and the leak check's questions on PostgreSQL: each keeper looks, and one thing of each service is cured."""

from pathlib import Path

from sqlalchemy import delete, insert, update
from tests.sim.cloud import SimCloud

from cumulet.compute.tables import SAGAS, SERVERS
from cumulet.network.tables import owed
from cumulet.run.leaks import find_leaks
from cumulet.volume.tables import VOLUMES

LONG_AGO = "2020-01-01T00:00:00.000000"


def test_what_was_lost_is_cured_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """A launch, a volume's creation and a debt without anybody at work on them end as they do on SQLite, and nothing is left."""
    with SimCloud(tmp_path, database_url=postgres_url) as cloud:
        net = cloud.network()
        server_id = cloud.launched(net)
        volume = cloud.member("POST", "volume", "/v3/volumes", {"volume": {"size": 1}})["volume"]["id"]
        path = f"/v3/volumes/{volume}"
        cloud.until(lambda: cloud.member("GET", "volume", path)["volume"]["status"] == "available", "the volume")
        with cloud.services.compute_db.write() as tx:
            tx.run(delete(SAGAS.sagas).where(SAGAS.sagas.c.subject_id == server_id))
            lost = {"vm_state": "building", "task_state": "spawning", "updated_at": LONG_AGO}
            tx.run(update(SERVERS).where(SERVERS.c.id == server_id).values(**lost))
        with cloud.services.volume.db.write() as tx:
            tx.run(update(VOLUMES).where(VOLUMES.c.id == volume).values(status="creating", updated_at=LONG_AGO))
        with cloud.services.network.db.write() as tx:
            tx.run(insert(owed).values(kind="network", id=net, stamp="lost", since=LONG_AGO))
        cloud.services.reconciler.look_everywhere()
        wanted = {("server", "spawning"), ("volume", "creating"), ("debt", "owed")}
        cloud.until(lambda: set(cloud.services.reconciler.cured) >= wanted, "all three to be cured")
        assert cloud.settled(server_id)["status"] == "ERROR"
        cloud.until(
            lambda: cloud.member("GET", "volume", path)["volume"]["status"] == "error", "the volume to be given up"
        )
        assert find_leaks(cloud.services) == []
