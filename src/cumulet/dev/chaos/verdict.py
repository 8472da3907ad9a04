"""What must be so when a story is over: nothing stuck, without an owner, or twice; then everything is deleted, and nothing left."""

from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import select

from cumulet.compute.agent.hypervisor.driver import Domain
from cumulet.compute.tables import SAGAS
from cumulet.core.saga.journal import LIVE
from cumulet.dev.chaos.outside import VOLUMES_GIB
from cumulet.dev.chaos.story import Story
from cumulet.dev.chaos.world import World, token_of
from cumulet.launch.volumes import MARK
from cumulet.run.leaks import look
from cumulet.volume.tables import LABELS
from cumulet.volume.tables import SAGAS as VOLUME_SAGAS

__all__ = ["Court", "Verdict", "judge"]

#: how long, of virtual time, everything may take to come to rest: one stalled piece may take 400 s
QUIET_S = 900.0
AFTER_S = 65.0
STABLE_SERVER = frozenset({"active", "stopped", "paused", "suspended", "resized", "error"})
STABLE_VOLUME = frozenset({"available", "in-use", "error", "error_extending", "error_restoring"})
STABLE_SNAPSHOT = frozenset({"available", "error"})
#: by vm_state: the power states (of the hypervisor) that agree with it
POWER = {"active": {1}, "stopped": {4}, "paused": {3}, "suspended": {4}, "resized": {1, 4}}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a seed ended."""

    seed: int
    launches: int
    deletes: int
    sagas: int
    faults: int
    stuck: list[str]
    leaked: list[str]
    doubled: list[str]
    sum: str

    @property
    def well(self) -> bool:
        return not (self.stuck or self.leaked or self.doubled)


class Court:
    """The look at one world."""

    def __init__(self, world: World, story: Story, *, after_s: float = AFTER_S) -> None:
        """after_s: how long what follows an end may take: late messages, signals, observed states."""
        self.world = world
        self._after_s = after_s
        self.story = story
        self.stuck: list[str] = []
        self.leaked: list[str] = []
        self.doubled: list[str] = []

    # --- rest ------------------------------------------------------------------------------------------------------

    def live(self) -> list[dict[str, Any]]:
        """Sagas that have not ended."""
        found: list[dict[str, Any]] = []
        for name, tables in (("compute", SAGAS), ("volume", VOLUME_SAGAS)):
            with self.world.look(name).read() as tx:
                found += tx.all(select(tables.sagas).where(tables.sagas.c.state.in_(LIVE)))
        return found

    def rest(self, words: str) -> None:
        """Let time pass until no saga is under way."""
        world = self.world
        quiet = [0.0]

        def done() -> bool:
            if world.agenda.now_s < quiet[0]:
                return False
            quiet[0] = world.agenda.now_s + 0.5
            return world.control.alive and all(host.life.alive for host in world.hosts.values()) and not self.live()

        world.agenda.run(until_s=world.agenda.now_s + QUIET_S, done=done)
        world.agenda.run(until_s=world.agenda.now_s + self._after_s)
        self.stuck += [
            f"{words}: saga {one['flow']} of {one['subject_id']} is {one['state']} ({one['failure']})"
            for one in self.live()
        ]

    # --- what there is ---------------------------------------------------------------------------------------------

    def check(self, words: str) -> None:
        self._servers(words)
        self._volumes(words)
        self._leaks(words)

    def _servers(self, words: str) -> None:
        domains: Counter[str] = Counter()
        power: dict[str, int] = {}
        guests: dict[str, Domain] = {}
        for host in self.world.outside.hosts.values():
            for state in host.hypervisor.list():
                if (guest := host.hypervisor.record(state.server_id)) is not None:
                    guests[state.server_id] = guest
                domains[state.server_id] += 1
                power[state.server_id] = int(state.power_state)
        self.doubled += [f"{words}: {count} domains of server {id}" for id, count in domains.items() if count > 1]
        ports = Counter(port.device_id for port in self.world.outside.network.ports.values() if port.device_id)
        for server in self.story.servers(idle=False):
            state, name = server["vm_state"], f"{words}: server {server['id']}"
            if server["task_state"] is not None or state not in STABLE_SERVER:
                self.stuck.append(f"{name} is {state}, {server['task_state']}")
                continue
            if ports[server["id"]] > len(server["interfaces"]):
                self.doubled.append(f"{name} has {ports[server['id']]} ports, {len(server['interfaces'])} NICs")
            elif ports[server["id"]] < len(server["interfaces"]):
                self.stuck.append(f"{name} has {ports[server['id']]} ports, {len(server['interfaces'])} NICs")
            if state in POWER and power.get(server["id"], 4) not in POWER[state]:
                self.stuck.append(f"{name} is {state}, and its guest {power.get(server['id'])}")
            if state in {"active", "paused"} and (guest := guests.get(server["id"])) is not None:
                self._plugged(name, server, guest)
            if state == "error" and server["fault"] is None:
                self.stuck.append(f"{name} is in error without a reason")

    def _plugged(self, name: str, server: dict[str, Any], guest: Domain) -> None:
        """What a running guest has is what its record says."""
        nics, recorded = {nic.port_id for nic in guest.nics}, {nic["port_id"] for nic in server["interfaces"]}
        if nics != recorded:
            self.stuck.append(f"{name} has NICs {sorted(recorded)}, and its guest {sorted(nics)}")
        disks = {disk.key for disk in guest.disks if disk.target != "vda"}
        volumes = {
            one["volume_id"] for one in server["block_devices"] if one.get("volume_id") and one["boot_index"] != 0
        }
        if disks != volumes:
            self.stuck.append(f"{name} has volumes {sorted(volumes)}, and its guest {sorted(disks)}")

    def _volumes(self, words: str) -> None:
        with self.world.look("volume").read() as tx:
            marks = Counter(tx.values(select(LABELS.c.value).where(LABELS.c.key == MARK)))
        ties: dict[str, set[str]] = {}
        for server in self.story.servers(idle=False):
            if server["host"] is None:  # its launch was undone: what it would have had is known, and no tie
                continue
            for device in server["block_devices"]:
                if device.get("volume_id"):
                    ties.setdefault(device["volume_id"], set()).add(server["id"])
        for volume in self.story.volumes():
            if volume["status"] not in STABLE_VOLUME:
                self.stuck.append(f"{words}: volume {volume['id']} is {volume['status']}")
            elif volume["status"] == "available" and volume["id"] in ties:
                self.stuck.append(f"{words}: volume {volume['id']} is available, and a disk of {ties[volume['id']]}")
            elif volume["status"] == "in-use" and volume["id"] not in ties:
                self.stuck.append(f"{words}: volume {volume['id']} is in use, by nobody")
        self.doubled += [f"{words}: {count} volumes of device {mark}" for mark, count in marks.items() if count > 1]
        self.stuck += [
            f"{words}: snapshot {one['id']} is {one['status']}"
            for one in self.story.snapshots()
            if one["status"] not in STABLE_SNAPSHOT
        ]
        for image in self.images():
            if image["status"] != "active":
                self.stuck.append(f"{words}: image {image['id']} is {image['status']}")

    def images(self) -> list[dict[str, Any]]:
        """The user's images."""
        found = self.world.ask("image", "GET", "/v2/images?limit=500", token=token_of(self.world, "demo")).json[
            "images"
        ]
        return [one for one in found if one["id"] != self.story.ids["image"]]

    def _leaks(self, words: str) -> None:
        assert self.world.services is not None  # noqa: S101 - alive
        first = look(self.world.services, strict=True).leaks
        if first:
            self.world.agenda.run(until_s=self.world.agenda.now_s + self._after_s)
            again = first & look(self.world.services, strict=True).leaks
            self.leaked += sorted(f"{words}: {leak.kind} {leak.id} {leak.detail}" for leak in again)

    # --- the end ---------------------------------------------------------------------------------------------------

    def delete_all(self) -> None:
        """As the user would: servers, then volumes with their snapshots, images, ports."""
        for server in self.story.servers(idle=False):
            self.story.send("compute", "DELETE", f"/v2.1/servers/{server['id']}")
        self.rest("while servers go")
        for volume in self.story.volumes():
            self.story.send("volume", "DELETE", f"/v3/volumes/{volume['id']}?cascade=true")
        for image in self.images():
            self.story.send("image", "DELETE", f"/v2/images/{image['id']}")
        token = token_of(self.world, "demo")
        for port in self.world.ask("network", "GET", "/v2.0/ports", token=token).json["ports"]:
            if port["name"] == "mine":
                self.story.send("network", "DELETE", f"/v2.0/ports/{port['id']}")
        self.rest("while volumes go")

    def nothing_left(self) -> None:
        """Beyond the leak check: the outside itself is empty."""
        outside = self.world.outside
        self.stuck += [f"at the end: server {one['id']}" for one in self.story.servers(idle=False)]
        self.stuck += [f"at the end: volume {one['id']} {one['status']}" for one in self.story.volumes()]
        self.stuck += [f"at the end: snapshot {one['id']} {one['status']}" for one in self.story.snapshots()]
        self.stuck += [f"at the end: image {one['id']} {one['status']}" for one in self.images()]
        for host in outside.hosts.values():
            self.leaked += [f"at the end: domain {one.server_id} on {host.name}" for one in host.hypervisor.list()]
            self.leaked += [f"at the end: tap {one.tap} on {host.name}" for one in host.vif.plugged()]
            self.leaked += [f"at the end: files of {id} on {host.name}" for id in host.instances.owned()]
        self.leaked += [f"at the end: {one.kind} {one.owner_id} on the back end" for one in outside.volumes.list()]
        self.leaked += [
            f"at the end: connection of volume {one[0]} to {one[1]}" for one in sorted(outside.volumes.connections)
        ]
        self.leaked += [
            f"at the end: port {one.id} of {one.device_id}"
            for one in outside.network.ports.values()
            if one.device_owner.startswith("compute:")
        ]
        files = [*(outside.folder / "uploads").glob("*"), *outside.volume_folder.glob("*.copy*")]
        files += [file for name in outside.hosts for file in (outside.folder / "hosts" / name / "snapshots").glob("*")]
        self.leaked += sorted(f"at the end: file {file.name}" for file in files)

    def count(self, name: str, tables: Any, flow: str | None = None) -> int:
        with self.world.look(name).read() as tx:
            flows = tx.values(select(tables.sagas.c.flow))
        return sum(1 for one in flows if flow is None or one == flow)


def judge(world: World, story: Story, seed: int) -> Verdict:
    """Calm, rest, look; then delete everything, rest, look again."""
    world.perils.calm()
    world.outside.volumes.total_gib = VOLUMES_GIB
    court = Court(world, story)
    court.rest("after the story")
    court.check("after the story")
    court.delete_all()
    court.check("when all is deleted")
    court.nothing_left()
    for line in (*court.stuck, *court.leaked, *court.doubled):
        world.agenda.say(line)
    return Verdict(
        seed=seed,
        launches=court.count("compute", SAGAS, "launch"),
        deletes=court.count("compute", SAGAS, "delete"),
        sagas=court.count("compute", SAGAS) + court.count("volume", VOLUME_SAGAS),
        faults=sum(world.perils.struck.values()),
        stuck=court.stuck,
        leaked=court.leaked,
        doubled=court.doubled,
        sum=world.agenda.sum,
    )
