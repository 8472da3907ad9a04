"""What an owner does to a server over HTTP, who else may, and what is refused in which words."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.compute_world import HOST, World
from tests.http.harness import Answer

from cumulet.compute.store import servers
from cumulet.core.errors import Conflict, NotFound

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFMEvU3bA5cb2aL+EGhO3IVjtkz6qUGhyIiX77r0ia+1 me"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A compute API of its own."""
    world = World(database_url)
    yield world
    world.close()


def act(world: World, server: str, body: dict[str, Any], token: str = "member", version: str | None = None) -> Answer:
    """Do something to a server, and wait for its end."""
    answer = world.client(token, version).post(f"/v2.1/servers/{server}/action", body)
    world.settle(server)
    return answer


def status(world: World, server: str) -> str:
    """Where a server is, in the API's word."""
    found: str = world.client().get(f"/v2.1/servers/{server}").json["server"]["status"]
    return found


def test_power(world: World) -> None:
    """Each power action leads where it says, and is refused with 409 from where it may not begin."""
    server = world.boot()
    assert status(world, server) == "ACTIVE"
    for action, there, again in (
        ("os-stop", "SHUTOFF", 409),
        ("os-start", "ACTIVE", 409),
        ("pause", "PAUSED", 409),
        ("unpause", "ACTIVE", 409),
        ("suspend", "SUSPENDED", 409),
        ("resume", "ACTIVE", 409),
    ):
        assert act(world, server, {action: None}).status == 202, action
        assert status(world, server) == there
        refused = act(world, server, {action: None})
        assert refused.status == again
        assert "while it is in vm_state" in refused.json["conflictingRequest"]["message"]
    for kind in ("SOFT", "HARD"):
        assert act(world, server, {"reboot": {"type": kind}}).status == 202
    assert act(world, server, {"reboot": {"type": "odd"}}).status == 400
    assert act(world, server, {"levitate": None}).status == 400


def test_who_may(world: World) -> None:
    """Another project finds nothing, a reader may look only, an administrator may all."""
    server = world.boot()
    for method, path in (
        ("GET", f"/v2.1/servers/{server}"),
        ("DELETE", f"/v2.1/servers/{server}"),
        ("GET", f"/v2.1/servers/{server}/metadata"),
    ):
        assert world.client("other")(method, path).status == 404
    assert world.client("reader").get(f"/v2.1/servers/{server}").status == 200
    assert act(world, server, {"os-stop": None}, token="reader").status == 403
    assert act(world, server, {"os-stop": None}, token="other").status == 404
    assert act(world, server, {"os-resetState": {"state": "error"}}).status == 403
    assert act(world, server, {"os-resetState": {"state": "error"}}, token="admin").status == 202
    assert status(world, server) == "ERROR"


def test_lock(world: World) -> None:
    """A locked server's owner is refused with 409 until it is unlocked; what an administrator locked only one unlocks."""
    server = world.boot()
    assert act(world, server, {"lock": {"locked_reason": "mine"}}, version="2.73").status == 202
    shown = world.client(version="2.73").get(f"/v2.1/servers/{server}").json["server"]
    assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
    assert act(world, server, {"os-stop": None}).status == 409
    assert world.client().delete(f"/v2.1/servers/{server}").status == 409
    assert act(world, server, {"unlock": None}).status == 202
    assert act(world, server, {"lock": None}, token="admin").status == 202
    assert act(world, server, {"unlock": None}).status == 403
    assert act(world, server, {"unlock": None}, token="admin").status == 202
    assert act(world, server, {"os-stop": None}).status == 202


def test_resize(world: World) -> None:
    """Another flavor, then confirmed or reverted; the same one, a smaller disk and an unknown one are 400."""
    server = world.boot()
    assert act(world, server, {"resize": {"flavorRef": "84"}}).status == 202
    assert status(world, server) == "VERIFY_RESIZE"
    assert act(world, server, {"revertResize": None}).status == 202
    assert (status(world, server), world.settle(server).flavor.id) == ("ACTIVE", "42")
    assert act(world, server, {"resize": {"flavorRef": "84"}}).status == 202
    assert act(world, server, {"confirmResize": None}).status == 204
    assert (status(world, server), world.settle(server).flavor.id) == ("ACTIVE", "84")
    for flavor in ("84", "42", "none"):
        assert act(world, server, {"resize": {"flavorRef": flavor}}).status == 400
    world.client("admin").put(f"/v2.1/os-quota-sets/{'1' * 32}", {"quota_set": {"ram": 200}})
    over = act(world, server, {"resize": {"flavorRef": "1"}})
    assert over.status == 403
    assert "Quota exceeded for ram" in over.json["forbidden"]["message"]


def test_rebuild(world: World) -> None:
    """What the body names is on the answer and on the server; an image that is not there is 400."""
    server = world.boot(metadata={"a": "b"})
    image = world.images.add(name="other")
    body = {"imageRef": image.id, "name": "again", "metadata": {"c": "d"}, "user_data": "aGk=", "key_name": None}
    answer = act(world, server, {"rebuild": body}, version="2.96")
    assert answer.status == 202
    shown = answer.json["server"]
    assert (shown["name"], shown["metadata"], shown["image"]["id"], shown["user_data"]) == (
        "again",
        {"c": "d"},
        image.id,
        "aGk=",
    )
    assert shown["status"] == "REBUILD"
    assert shown["adminPass"]
    assert status(world, server) == "ACTIVE"
    assert act(world, server, {"rebuild": {"imageRef": world.ids.uuid()}}).status == 400


def test_create_image(world: World) -> None:
    """The image exists when the answer is given; a snapshot that cannot begin leaves none."""
    server = world.boot()
    old = act(world, server, {"createImage": {"name": "snap", "metadata": {"k": "v"}}})
    assert old.status == 202
    assert old.content == b""
    assert old.headers["location"].rpartition("/")[2] in world.images.images
    new = act(world, server, {"createImage": {"name": "snap"}}, version="2.45")
    image = world.images.images[new.json["image_id"]]
    assert image.properties["instance_uuid"] == server
    assert image.properties["image_type"] == "snapshot"
    before = len(world.images.images)
    with world.db.write() as tx:
        servers.set_fields(tx, server, task_state="image_uploading")
    assert act(world, server, {"createImage": {"name": "snap"}}).status == 409
    assert len(world.images.images) == before


def test_metadata_and_tags(world: World) -> None:
    """Items are added, replaced, taken away; names that do not fit, and too many, are refused."""
    server = world.boot()
    client = world.client(version="2.26")
    where = f"/v2.1/servers/{server}/metadata"
    assert client.post(where, {"metadata": {"a": "1"}}).json == {"metadata": {"a": "1"}}
    assert client.post(where, {"metadata": {"b": "2"}}).json == {"metadata": {"a": "1", "b": "2"}}
    assert client.put(where, {"metadata": {"c": "3"}}).json == {"metadata": {"c": "3"}}
    assert client.put(f"{where}/c", {"meta": {"c": "4"}}).json == {"meta": {"c": "4"}}
    assert client.put(f"{where}/c", {"meta": {"d": "4"}}).status == 400
    assert client.get(f"{where}/c").json == {"meta": {"c": "4"}}
    assert client.delete(f"{where}/c").status == 204
    assert client.delete(f"{where}/c").status == 404
    assert client.post(where, {"metadata": {"": "x"}}).status == 400
    assert client.post(where, {"metadata": {f"k{n}": "x" for n in range(129)}}).status == 403
    tags = f"/v2.1/servers/{server}/tags"
    assert client.put(f"{tags}/blue").status == 201
    assert client.put(f"{tags}/blue").status == 204
    assert client.get(f"{tags}/blue").status == 204
    assert client.put(tags, {"tags": ["x", "y"]}).json == {"tags": ["x", "y"]}
    assert client.put(tags, {"tags": ["a,b"]}).status == 400
    assert client.delete(f"{tags}/x").status == 204
    assert client.get(tags).json == {"tags": ["y"]}
    assert client.delete(tags).status == 204
    assert client.get(f"{tags}/y").status == 404


def test_instance_actions(world: World) -> None:
    """Each action is there under its request's id, a deleted server's too from 2.21; the operator's words are the operator's."""
    server = world.boot()
    world.broken("stop", NotFound("It is gone.", detail="secret path"))
    assert act(world, server, {"os-stop": None}).status == 202
    actions = world.client().get(f"/v2.1/servers/{server}/os-instance-actions").json["instanceActions"]
    assert [one["action"] for one in actions] == ["stop", "create"]
    assert [one["message"] for one in actions] == ["Error", None]
    where = f"/v2.1/servers/{server}/os-instance-actions/{actions[0]['request_id']}"
    event = world.client(version="2.84").get(where).json["instanceAction"]["events"][0]
    assert event["result"] == "Error"
    assert "traceback" not in event
    assert "host" not in event
    # our steps' words are written for the owner
    assert event["details"] == "It is gone."
    told = world.client("admin", "2.84").get(where).json["instanceAction"]["events"][0]
    assert told["traceback"] == "secret path"
    assert told["details"] == "It is gone."
    assert "events" not in world.client().get(where).json["instanceAction"]
    assert world.client().delete(f"/v2.1/servers/{server}").status == 204
    world.settle(server)
    assert world.client(version="2.20").get(f"/v2.1/servers/{server}/os-instance-actions").status == 404
    later = world.client(version="2.58").get(f"/v2.1/servers/{server}/os-instance-actions?limit=1").json
    assert later["instanceActions"][0]["action"] == "delete"
    assert later["links"][0]["rel"] == "next"
    assert world.client().get(f"/v2.1/servers/{world.ids.uuid()}/os-instance-actions").status == 404


def test_consoles(world: World) -> None:
    """A console URL opens one screen once; console output has as many lines as asked for."""
    server = world.boot()
    output = act(world, server, {"os-getConsoleOutput": {"length": 3}}).json["output"]
    assert output.split("\n") == ["line 97", "line 98", "line 99"]
    url = act(world, server, {"os-getVNCConsole": {"type": "novnc"}}).json["console"]["url"]
    assert url.startswith("http://cloud.test/console/?token=")
    token = url.partition("token=")[2]
    assert world.service.validate_console_token(token) == (server, HOST)
    with pytest.raises(NotFound):
        world.service.validate_console_token(token)
    assert act(world, server, {"os-getVNCConsole": {"type": "novnc"}}, version="2.6").status == 400
    where = f"/v2.1/servers/{server}/remote-consoles"
    assert (
        world.client(version="2.6").post(where, {"remote_console": {"protocol": "vnc", "type": "novnc"}}).status == 200
    )
    assert (
        world.client(version="2.6").post(where, {"remote_console": {"protocol": "spice", "type": "spice-html5"}}).status
        == 400
    )
    assert act(world, server, {"changePassword": {"adminPass": "x"}}).status == 409


def test_nics(world: World) -> None:
    """A NIC is there when the answer is; what cannot be found is 404, what is in use 409, what contradicts itself 400."""
    server = world.boot(networks=[{"uuid": world.networks.network.id}])
    client, where = world.client(version="2.70"), f"/v2.1/servers/{server}/os-interface"
    network = world.networks.network.id
    made = client.post(where, {"interfaceAttachment": {"net_id": network, "tag": "second"}})
    assert made.status == 200, made.content
    port = made.json["interfaceAttachment"]["port_id"]
    assert [one["tag"] for one in client.get(where).json["interfaceAttachments"]] == [None, "second"]
    assert client.get(f"{where}/{port}").json["interfaceAttachment"]["port_state"] == "ACTIVE"
    assert client.delete(f"{where}/{port}").status == 202
    world.settle(server)
    assert client.get(f"{where}/{port}").status == 404
    assert client.delete(f"{where}/{port}").status == 404
    mine = world.networks.add_port()
    assert (
        client.post(where, {"interfaceAttachment": {"port_id": mine.id}}).json["interfaceAttachment"]["port_id"]
        == mine.id
    )
    for body, code in (
        ({"port_id": mine.id}, 409),
        ({"port_id": world.ids.uuid()}, 404),
        ({"net_id": world.ids.uuid()}, 404),
        ({"net_id": network, "port_id": mine.id}, 400),
        ({"fixed_ips": [{"ip_address": "10.0.0.9"}]}, 400),
        ({"net_id": network, "fixed_ips": [{"ip_address": mine.addresses[0]}]}, 409),
    ):
        assert client.post(where, {"interfaceAttachment": body}).status == code, body
    world.broken("attach_interface", Conflict("No address left."))
    failed = client.post(where, {"interfaceAttachment": {"net_id": network}})
    assert failed.status == 409
    assert "No address left." in failed.json["conflictingRequest"]["message"]
    assert len(client.get(where).json["interfaceAttachments"]) == 2


def test_volumes(world: World) -> None:
    """A volume is reserved with the answer, and released when the server turns out to be busy; one in use is 400."""
    server = world.boot()
    client, where = world.client(version="2.89"), f"/v2.1/servers/{server}/os-volume_attachments"
    volume, second = world.volumes.add(), world.volumes.add()
    made = client.post(where, {"volumeAttachment": {"volumeId": volume.id, "delete_on_termination": True}})
    assert made.status == 200
    assert made.json["volumeAttachment"]["device"] == "/dev/vdb"
    # the next one waits its turn instead of being refused
    assert client.post(where, {"volumeAttachment": {"volumeId": second.id, "device": "/dev/vdc"}}).status == 200
    world.settle(server)
    assert world.volumes.volumes[volume.id].status == "in-use"
    shown = client.get(where).json["volumeAttachments"]
    assert [(one["volumeId"], one["device"], one["delete_on_termination"]) for one in shown] == [
        (volume.id, "/dev/vdb", True),
        (second.id, "/dev/vdc", False),
    ]
    assert (
        client.put(
            f"{where}/{second.id}", {"volumeAttachment": {"volumeId": second.id, "delete_on_termination": True}}
        ).status
        == 202
    )
    assert client.get(f"{where}/{second.id}").json["volumeAttachment"]["delete_on_termination"] is True
    other = world.boot()
    for target in (server, other):
        refused = client.post(
            f"/v2.1/servers/{target}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume.id}}
        )
        assert refused.status == 400
    assert client.post(where, {"volumeAttachment": {"volumeId": world.ids.uuid()}}).status == 404
    third = world.volumes.add()
    assert client.post(where, {"volumeAttachment": {"volumeId": third.id, "device": "/dev/vdb"}}).status == 409
    assert client.delete(f"{where}/{volume.id}").status == 202
    world.settle(server)
    assert world.volumes.volumes[volume.id].status == "available"
    assert client.delete(f"{where}/{volume.id}").status == 404
    with world.db.write() as tx:
        servers.set_fields(tx, server, task_state="rebuilding")
    assert client.post(where, {"volumeAttachment": {"volumeId": third.id}}).status == 409
    assert world.volumes.volumes[third.id].status == "available"


def test_security_groups(world: World) -> None:
    """A group is added to every port and taken from each; the server shows what its ports have."""
    server = world.boot()
    where = f"/v2.1/servers/{server}/os-security-groups"
    assert act(world, server, {"addSecurityGroup": {"name": "web"}}).status == 202
    assert [one["name"] for one in world.client().get(where).json["security_groups"]] == ["default", "web"]
    shown = world.client().get(f"/v2.1/servers/{server}").json["server"]["security_groups"]
    assert shown == [{"name": "default"}, {"name": "web"}]
    assert act(world, server, {"removeSecurityGroup": {"name": "web"}}).status == 202
    assert act(world, server, {"removeSecurityGroup": {"name": "web"}}).status == 404
    assert act(world, server, {"addSecurityGroup": {"name": "none"}}).status == 404


def test_keypairs(world: World) -> None:
    """A pair made here gives its private half once; one brought is checked; a user's are his own."""
    client = world.client(version="2.10")
    made = client.post("/v2.1/os-keypairs", {"keypair": {"name": "made"}})
    assert made.status == 201
    assert "BEGIN OPENSSH PRIVATE KEY" in made.json["keypair"]["private_key"]
    shown = client.get("/v2.1/os-keypairs/made").json["keypair"]
    assert "private_key" not in shown
    assert shown["fingerprint"].count(":") == 15
    assert client.post("/v2.1/os-keypairs", {"keypair": {"name": "brought", "public_key": KEY}}).status == 201
    # what `ssh-keygen -l -E md5` says of it
    assert (
        client.get("/v2.1/os-keypairs/brought").json["keypair"]["fingerprint"]
        == "6c:bc:11:df:a0:70:4d:7e:82:4c:58:69:17:4c:84:4f"
    )
    assert client.post("/v2.1/os-keypairs", {"keypair": {"name": "made"}}).status == 409
    for body in (
        {"name": "bad", "public_key": "ssh-rsa JUNK"},
        {"name": "bad", "public_key": ""},
        {"name": "a/b"},
        {"name": ""},
        {"name": "k" * 256},
    ):
        assert client.post("/v2.1/os-keypairs", {"keypair": body}).status == 400, body
    assert world.client().post("/v2.1/os-keypairs", {"keypair": {"name": "old"}}).status == 200
    assert world.client(version="2.92").post("/v2.1/os-keypairs", {"keypair": {"name": "new"}}).status == 400
    assert world.client("other").get("/v2.1/os-keypairs/made").status == 404
    user = "b" * 32
    assert world.client("other", "2.10").get(f"/v2.1/os-keypairs?user_id={user}").status == 403
    names = [
        one["keypair"]["name"]
        for one in world.client("admin", "2.10").get(f"/v2.1/os-keypairs?user_id={user}").json["keypairs"]
    ]
    assert names == ["brought", "made", "old"]
    page = world.client(version="2.35").get("/v2.1/os-keypairs?limit=2").json
    assert len(page["keypairs"]) == 2
    assert page["keypairs_links"][0]["href"].endswith("limit=2&marker=made")
    assert client.delete("/v2.1/os-keypairs/made").status == 204
    assert world.client().delete("/v2.1/os-keypairs/old").status == 202
    assert client.delete("/v2.1/os-keypairs/made").status == 404
