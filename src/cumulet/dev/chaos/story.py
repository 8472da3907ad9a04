"""A seed's story: a user who launches, changes and deletes without rest, and what goes wrong meanwhile; then calm, and the end of all.

The user acts through the public API only.  What there is to act on is read from the databases, as the story-teller knows everything;
what an answer says is not waited for.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from cumulet.compute.tables import SERVERS
from cumulet.dev.chaos.outside import HOSTS, VOLUMES_GIB
from cumulet.dev.chaos.world import CONTROL, Answer, World, token_of
from cumulet.volume.tables import SNAPSHOTS, VOLUMES

__all__ = ["Story"]

COMPUTE = {"openstack-api-version": "compute 2.96"}
VOLUME = {"openstack-api-version": "volume 3.70"}
TOKEN_S = 1800.0
PAUSE_S = 0.8
ACTS = 64
FAULTS = 14
SERVERS_MAX = 14
VOLUMES_MAX = 16

_DISK = "available"


class Story:
    """The user, and the plan of what goes wrong."""

    def __init__(self, world: World, rng: random.Random) -> None:
        assert world.template is not None  # noqa: S101 - a story needs its things
        self._world = world
        self._rng = rng
        self.ids = world.template.ids
        self._token = ("", -TOKEN_S)
        self._left = ACTS
        self.answers: Counter[int] = Counter()
        self._deck: list[Callable[[], bool]] = []
        self._number = 0

    @property
    def over(self) -> bool:
        return self._left <= 0

    def begin(self) -> None:
        """Put the first act and every fault on the agenda."""
        length = ACTS * PAUSE_S
        faults = list(self._faults())
        for _ in range(FAULTS):
            fault = self._rng.choice(faults)
            self._world.agenda.at(self._rng.uniform(0.5, length), None, "fault", fault)
        self._next()

    def _next(self) -> None:
        self._world.agenda.at(self._rng.expovariate(1 / PAUSE_S), None, "user", self._act)

    # --- what goes wrong -------------------------------------------------------------------------------------------

    def _faults(self) -> list[Callable[[], None]]:
        perils, rng = self._world.perils, self._rng
        kinds = ("database refuses", "port never up", "door fails", "call lost", "hypervisor fails", "network fails")
        more = (
            "volumes fails",
            "files fails",
            "vif fails",
            "message lost",
            "message doubled",
            "message delayed",
            "stall",
        )
        arms = [lambda kind=kind: perils.arm(kind, rng.choice([1, 1, 2, 3])) for kind in (*kinds, *more)]
        deaths = [lambda: perils.kill(CONTROL, rng.randrange(1, 300))] * 3
        deaths += [lambda: perils.kill(rng.choice(HOSTS), rng.randrange(1, 120))] * 3
        return [*arms, *deaths, self._vanish, self._vanish, self._full]

    def _vanish(self) -> None:
        host, seconds = self._rng.choice(HOSTS), self._rng.choice([2.0, 30.0, 150.0])
        self._world.perils.count("host gone", f"{host} for {seconds:.0f} s")
        self._world.vanish(host, seconds)

    def _full(self) -> None:
        volumes = self._world.outside.volumes
        self._world.perils.count("volumes full", "")
        volumes.total_gib = 0

        def room() -> None:
            volumes.total_gib = VOLUMES_GIB

        self._world.agenda.at(self._rng.uniform(2, 20), None, "room again", room)

    # --- what the user does ----------------------------------------------------------------------------------------

    def _act(self) -> None:
        if self.over:
            return
        self._left -= 1
        for _ in range(12):
            if not self._deck:
                self._deck = [*self._acts()]
                self._rng.shuffle(self._deck)
            if self._deck.pop()():
                break
        self._next()

    def _acts(self) -> list[Callable[[], bool]]:
        simple = (
            ({"os-stop": None}, ("active",)),
            ({"os-start": None}, ("stopped",)),
            ({"reboot": {"type": "SOFT"}}, ("active",)),
            ({"reboot": {"type": "HARD"}}, ("active", "stopped", "error")),
            ({"pause": None}, ("active",)),
            ({"unpause": None}, ("paused",)),
            ({"suspend": None}, ("active",)),
            ({"resume": None}, ("suspended",)),
            ({"resize": {"flavorRef": self.ids["m1.tiny"]}}, ("active", "stopped")),
            ({"confirmResize": None}, ("resized",)),
            ({"revertResize": None}, ("resized",)),
            ({"createImage": {"name": "kept"}}, ("active", "stopped")),
            ({"rebuild": {"imageRef": self.ids["image"]}}, ("active", "stopped", "error")),
        )
        actions = [lambda body=body, states=states: self._action(body, states) for body, states in simple]
        launches = [self._launch] * 5
        return [
            *actions,
            *launches,
            self._many,
            self._delete,
            self._delete,
            self._delete,
            self._create_volume,
            self._create_volume,
            self._delete_volume,
            self._attach_volume,
            self._attach_volume,
            self._detach_volume,
            self._attach_nic,
            self._detach_nic,
            self._extend,
            self._keep,
            self._keep,
            self._drop,
            self._revert,
            self._upload,
        ]

    def token(self) -> str:
        """The user's token, not older than half an hour."""
        text, since = self._token
        if self._world.agenda.now_s - since > TOKEN_S or not text:
            was, self._world.perils.on = self._world.perils.on, False
            text = token_of(self._world, "demo")
            self._world.perils.on = was
            self._token = (text, self._world.agenda.now_s)
        return text

    def send(self, service: str, method: str, path: str, body: Any = None) -> bool:
        """A request whose answer is counted and no more."""
        world = self._world
        if not world.control.alive:
            world.agenda.say(f"user: {method} {service}{path}: nobody answers")
            return True
        headers = COMPUTE if service == "compute" else VOLUME if service == "volume" else None
        number = self._number = self._number + 1
        world.agenda.say(f"user: #{number} {method} {service}{path} {'' if body is None else body}")

        def then(answer: Answer | None) -> None:
            self.answers[0 if answer is None else answer.status] += 1
            words = ""
            if answer is not None and answer.status >= 400:
                words = str(answer.json)[:200]
            world.agenda.say(f"user: #{number} is answered {'-' if answer is None else answer.status} {words}")

        world.send(service, method, path, token=self.token(), then=then, body=body, headers=headers)
        return True

    # servers

    def servers(self, states: tuple[str, ...] | None = None, *, idle: bool = True) -> list[dict[str, Any]]:
        with self._world.look("compute").read() as tx:
            rows = tx.all(
                select(SERVERS).where(SERVERS.c.deleted.is_(False)).order_by(SERVERS.c.created_at, SERVERS.c.id)
            )
        return [
            row
            for row in rows
            if (states is None or row["vm_state"] in states) and (not idle or row["task_state"] is None)
        ]

    def _pick(self, found: list[dict[str, Any]]) -> dict[str, Any] | None:
        return self._rng.choice(found) if found else None

    def _action(self, body: dict[str, Any], states: tuple[str, ...]) -> bool:
        server = self._pick(self.servers(states))
        return server is not None and self.send("compute", "POST", f"/v2.1/servers/{server['id']}/action", body)

    def _body(self, **more: Any) -> dict[str, Any]:
        networks = self._rng.choice(
            [[], [{"uuid": self.ids["blue"]}], [{"uuid": self.ids["blue"]}, {"uuid": self.ids["green"]}]]
        )
        server = {
            "name": "one",
            "imageRef": self.ids["image"],
            "flavorRef": self.ids["m1.nano"],
            "networks": networks or "none",
        }
        return {"server": server | more}

    def _launch(self) -> bool:
        if len(self.servers(idle=False)) >= SERVERS_MAX:
            return False
        kind = self._rng.choice(["plain", "plain", "blank", "from image", "own volume", "own port"])
        root = {"boot_index": 0, "uuid": self.ids["image"], "source_type": "image", "destination_type": "local"}
        root |= {"delete_on_termination": True}
        gone = self._rng.random() < 0.7
        if kind == "blank":
            data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
            body = self._body(block_device_mapping_v2=[root, data | {"delete_on_termination": gone}])
        elif kind == "from image":
            disk = root | {"destination_type": "volume", "volume_size": 2, "delete_on_termination": gone}
            body = self._body(block_device_mapping_v2=[disk])
            body["server"]["imageRef"] = ""
        elif kind == "own volume":
            volume = self._pick(self.volumes((_DISK,)))
            if volume is None:
                return False
            data = {"boot_index": -1, "uuid": volume["id"], "source_type": "volume", "destination_type": "volume"}
            body = self._body(block_device_mapping_v2=[root, data | {"delete_on_termination": gone}])
        elif kind == "own port":
            return self._launch_on_port()
        else:
            body = self._body()
        return self.send("compute", "POST", "/v2.1/servers", body)

    def _launch_on_port(self) -> bool:
        world = self._world
        if not world.control.alive:
            return False

        def then(answer: Answer | None) -> None:
            if answer is not None and answer.status == 201:
                networks = [{"port": answer.json["port"]["id"]}]
                self.send("compute", "POST", "/v2.1/servers", self._body(networks=networks))

        body = {"port": {"network_id": self.ids["green"], "name": "mine"}}
        world.send("network", "POST", "/v2.0/ports", token=self.token(), then=then, body=body)
        return True

    def _many(self) -> bool:
        if len(self.servers(idle=False)) >= SERVERS_MAX - 2:
            return False
        return self.send("compute", "POST", "/v2.1/servers", self._body(min_count=2, max_count=3))

    def _delete(self) -> bool:
        found = self.servers(idle=False)
        server = self._pick(found if len(found) > 4 or self._rng.random() < 0.3 else [])
        return server is not None and self.send("compute", "DELETE", f"/v2.1/servers/{server['id']}")

    def _attach_nic(self) -> bool:
        server = self._pick(self.servers(("active", "stopped", "paused")))
        body = {"interfaceAttachment": {"net_id": self.ids["green"]}}
        return server is not None and self.send("compute", "POST", f"/v2.1/servers/{server['id']}/os-interface", body)

    def _detach_nic(self) -> bool:
        server = self._pick([one for one in self.servers(("active", "stopped", "paused")) if one["interfaces"]])
        if server is None:
            return False
        port = self._rng.choice(server["interfaces"])["port_id"]
        return self.send("compute", "DELETE", f"/v2.1/servers/{server['id']}/os-interface/{port}")

    def _attach_volume(self) -> bool:
        server, volume = self._pick(self.servers(("active", "stopped"))), self._pick(self.volumes((_DISK,)))
        if server is None or volume is None:
            return False
        body = {"volumeAttachment": {"volumeId": volume["id"]}}
        return self.send("compute", "POST", f"/v2.1/servers/{server['id']}/os-volume_attachments", body)

    def _detach_volume(self) -> bool:
        found = [
            (server, device)
            for server in self.servers(("active", "stopped"))
            for device in server["block_devices"]
            if device.get("volume_id") and device.get("boot_index") != 0
        ]
        if not found:
            return False
        server, device = self._rng.choice(found)
        where = f"/v2.1/servers/{server['id']}/os-volume_attachments/{device['volume_id']}"
        return self.send("compute", "DELETE", where)

    # volumes

    def volumes(self, states: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
        with self._world.look("volume").read() as tx:
            rows = tx.all(select(VOLUMES).order_by(VOLUMES.c.created_at, VOLUMES.c.id))
        return [row for row in rows if states is None or row["status"] in states]

    def snapshots(self, states: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
        with self._world.look("volume").read() as tx:
            rows = tx.all(select(SNAPSHOTS).order_by(SNAPSHOTS.c.created_at, SNAPSHOTS.c.id))
        return [row for row in rows if states is None or row["status"] in states]

    def _create_volume(self) -> bool:
        if len(self.volumes()) >= VOLUMES_MAX:
            return False
        more: dict[str, Any] = {}
        kind = self._rng.choice(["blank", "blank", "image", "snapshot", "clone"])
        if kind == "image":
            more["imageRef"] = self.ids["image"]
        elif kind == "snapshot" and (snapshot := self._pick(self.snapshots((_DISK,)))) is not None:
            more["snapshot_id"] = snapshot["id"]
        elif kind == "clone" and (source := self._pick(self.volumes((_DISK,)))) is not None:
            more["source_volid"] = source["id"]
        return self.send("volume", "POST", "/v3/volumes", {"volume": {"size": self._rng.choice([2, 3, 8]), **more}})

    def _volume_act(self, states: tuple[str, ...], body: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
        volume = self._pick(self.volumes(states))
        return volume is not None and self.send("volume", "POST", f"/v3/volumes/{volume['id']}/action", body(volume))

    def _delete_volume(self) -> bool:
        volume = self._pick(self.volumes((_DISK, "error")))
        cascade = "?cascade=true" if self._rng.random() < 0.5 else ""
        return volume is not None and self.send("volume", "DELETE", f"/v3/volumes/{volume['id']}{cascade}")

    def _extend(self) -> bool:
        return self._volume_act((_DISK, "in-use"), lambda one: {"os-extend": {"new_size": one["size"] + 1}})

    def _upload(self) -> bool:
        body = {"image_name": "copy", "disk_format": "raw", "container_format": "bare"}
        return self._volume_act((_DISK,), lambda _: {"os-volume_upload_image": body})

    def _keep(self) -> bool:
        volume = self._pick(self.volumes((_DISK,)))
        return volume is not None and self.send(
            "volume", "POST", "/v3/snapshots", {"snapshot": {"volume_id": volume["id"], "name": "kept"}}
        )

    def _drop(self) -> bool:
        snapshot = self._pick(self.snapshots((_DISK, "error")))
        return snapshot is not None and self.send("volume", "DELETE", f"/v3/snapshots/{snapshot['id']}")

    def _revert(self) -> bool:
        snapshot = self._pick(self.snapshots((_DISK,)))
        if snapshot is None:
            return False
        body = {"revert": {"snapshot_id": snapshot["id"]}}
        return self.send("volume", "POST", f"/v3/volumes/{snapshot['volume_id']}/action", body)
