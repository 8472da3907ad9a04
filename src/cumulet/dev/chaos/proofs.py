"""The proofs that every saga must stand, whatever it is: a flow needs nothing but a word here on how a request begins it.

It succeeds; it unwinds cleanly when each step in turn fails, before its effect or after it; when each undo runs twice; it succeeds when
each action runs twice; and a call of it that timed out may have its effect when all is undone.  Each ends in the leak check, with what
the story had made there, and with everything deleted.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, select

from cumulet.compute.agent.service import HEARTBEAT_S
from cumulet.compute.tables import SAGAS
from cumulet.core.errors import ServerFault
from cumulet.core.saga import Flow, Run, Step
from cumulet.dev.chaos.agenda import Life
from cumulet.dev.chaos.outside import Template
from cumulet.dev.chaos.story import Story
from cumulet.dev.chaos.verdict import Court
from cumulet.dev.chaos.world import World
from cumulet.run.leaks import look
from cumulet.run.repair import mend
from cumulet.run.server_flows import FLOWS
from cumulet.run.services import UPKEEP_S
from cumulet.volume.assemble import ALL_FLOWS as VOLUME_FLOWS
from cumulet.volume.tables import SAGAS as VOLUME_SAGAS

__all__ = ["ALL_FLOWS", "ORDERS_ALL", "SCENARIOS", "Proof", "Stage", "calls_of", "prove"]

ALL_FLOWS: Mapping[str, Flow] = {flow.name: flow for flow in (*FLOWS, *VOLUME_FLOWS)}
#: more than any step's deadline takes to pass three times
PATIENCE_S = 4 * 3600.0
#: a guest that is gone is missing from two of its host's reports before its server is off, and every upkeep the data plane is told
#: what it is owed: after this long a server is what its guest is, whatever came too late
CONVERGED_S = max(2 * HEARTBEAT_S, UPKEEP_S) + 1

#: an order that got lost once is sent again and carried out, also by a host that came back, within this time
SENT_AGAIN_S = 75.0
#: a task that nobody works on any more is found within this time
FOUND_S = 80.0
#: a step that waits for ports and for volumes, and hears of neither, has looked at both within this time
LOOKED_S = 150.0
#: more orders than are sent before a step is given up whose host is not heard of
ORDERS_ALL = 12


class Broken(ServerFault):
    """The step was told to fail."""

    default = "Broken on purpose."


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """How a flow is to be tried.

    step and when: which fails, before or after its effect.  late: the number of the call that is late.  lost: how many orders to a host
    are lost on their way.  gone_s: for how long the host is gone that the first order was for; with `lost` the order is gone as well.
    dies: after how many moments of its work the host's process ends, to be started again at once.  forgotten: at which of its calls the
    flow's rows vanish from the database.  wordless: no host hears that a port or a volume it waits for has changed.  plain: a launch
    without a volume, whose guest is made beside its ports.
    """

    flow: str
    step: str | None = None
    when: str = "before"
    actions_twice: bool = False
    undos_twice: bool = False
    late: int | None = None
    lost: int = 0
    gone_s: float = 0.0
    dies: int | None = None
    forgotten: int | None = None
    wordless: bool = False
    plain: bool = False

    def __str__(self) -> str:
        said = [self.flow]
        if self.step is not None:
            said.append(f"{self.step} fails {self.when} its effect")
        said += ["plain"] * self.plain + ["actions twice"] * self.actions_twice + ["undos twice"] * self.undos_twice
        said += [f"call {self.late} is late"] * (self.late is not None)
        said += [f"orders lost: {self.lost}"] * (self.lost > 0)
        said += [f"host gone for {self.gone_s:.0f} s"] * (self.gone_s > 0)
        said += [f"host dies at moment {self.dies}"] * (self.dies is not None)
        said += ["no word of ports and volumes"] * self.wordless
        said += [f"forgotten at call {self.forgotten}"] * (self.forgotten is not None)
        return ", ".join(said)


class Stage:
    """A world where nothing goes wrong by itself, and its user."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.story = Story(world, world.rng)
        self.court = Court(world, self.story, after_s=2.0)
        self.ids = self.story.ids

    def send(self, service: str, method: str, path: str, body: Any = None) -> None:
        self.story.send(service, method, path, body)

    def settle(self) -> None:
        """Until no saga is under way."""
        self.world.agenda.run(until_s=self.world.agenda.now_s + 2)
        self.world.agenda.run(until_s=self.world.agenda.now_s + PATIENCE_S, done=lambda: not self.court.live())
        self.world.agenda.run(until_s=self.world.agenda.now_s + 1)

    def converge(self) -> None:
        """For as long as the product takes to see what it was not told."""
        self.world.agenda.run(until_s=self.world.agenda.now_s + CONVERGED_S)

    def launch_plain(self) -> None:
        """With a port and a root disk of the image."""
        body = {"name": "one", "imageRef": self.ids["image"], "flavorRef": self.ids["m1.nano"]}
        self.send("compute", "POST", "/v2.1/servers", {"server": body | {"networks": [{"uuid": self.ids["blue"]}]}})

    def launch(self) -> None:
        """With a port, a second volume, and a root disk of the image."""
        root = {"boot_index": 0, "uuid": self.ids["image"], "source_type": "image", "destination_type": "local"}
        data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
        gone = {"delete_on_termination": True}
        body = {
            "name": "one",
            "imageRef": self.ids["image"],
            "flavorRef": self.ids["m1.nano"],
            "networks": [{"uuid": self.ids["blue"]}],
            "block_device_mapping_v2": [root | gone, data | gone],
        }
        self.send("compute", "POST", "/v2.1/servers", {"server": body})

    def server(self) -> str:
        """A server that runs."""
        self.launch()
        self.settle()
        return str(self.story.servers()[0]["id"])

    def backed(self) -> str:
        """A server that runs from a volume."""
        root = {"boot_index": 0, "uuid": self.ids["image"], "source_type": "image", "destination_type": "volume"}
        body = {
            "name": "one",
            "flavorRef": self.ids["m1.nano"],
            "networks": [{"uuid": self.ids["blue"]}],
            "block_device_mapping_v2": [root | {"volume_size": 2, "delete_on_termination": True}],
        }
        self.send("compute", "POST", "/v2.1/servers", {"server": body})
        self.settle()
        return str(self.story.servers()[0]["id"])

    def acted(self, *actions: dict[str, Any]) -> str:
        """A server after these actions."""
        server_id = self.server()
        for action in actions:
            self.act(server_id, action)
            self.settle()
        return server_id

    def act(self, server_id: str, action: dict[str, Any]) -> None:
        self.send("compute", "POST", f"/v2.1/servers/{server_id}/action", action)

    def volume(self, **more: Any) -> str:
        """A volume that is there."""
        self.send("volume", "POST", "/v3/volumes", {"volume": {"size": 1, **more}})
        self.settle()
        return str(self.story.volumes(("available",))[-1]["id"])

    def snapshot(self) -> tuple[str, str]:
        """A volume and a snapshot of it."""
        volume_id = self.volume()
        self.keep(volume_id)
        self.settle()
        return volume_id, str(self.story.snapshots()[-1]["id"])

    def keep(self, volume_id: str, **more: Any) -> None:
        self.send("volume", "POST", "/v3/snapshots", {"snapshot": {"volume_id": volume_id, "name": "kept", **more}})

    def attached(self) -> tuple[str, str]:
        """A server and a volume that it has besides its own."""
        server_id, volume_id = self.server(), self.volume()
        self.attach(server_id, volume_id)
        self.settle()
        return server_id, volume_id

    def attach(self, server_id: str, volume_id: str) -> None:
        body = {"volumeAttachment": {"volumeId": volume_id}}
        self.send("compute", "POST", f"/v2.1/servers/{server_id}/os-volume_attachments", body)

    def volume_act(self, volume_id: str, action: dict[str, Any]) -> None:
        self.send("volume", "POST", f"/v3/volumes/{volume_id}/action", action)

    def nic(self, server_id: str) -> str:
        server = next(one for one in self.story.servers(idle=False) if one["id"] == server_id)
        return str(server["interfaces"][0]["port_id"])


def _action(body: dict[str, Any], *before: dict[str, Any]) -> Callable[[Stage], Callable[[], None]]:
    """An action on a server, after others."""

    def prepare(stage: Stage) -> Callable[[], None]:
        server_id = stage.acted(*before)
        named = {
            key: {inner: stage.ids.get(str(name), name) for inner, name in value.items()}
            if isinstance(value, dict)
            else value
            for key, value in body.items()
        }
        return lambda: stage.act(server_id, named)

    return prepare


def _resized(body: dict[str, Any]) -> Callable[[Stage], Callable[[], None]]:
    def prepare(stage: Stage) -> Callable[[], None]:
        server_id = stage.acted({"resize": {"flavorRef": stage.ids["m1.tiny"]}})
        return lambda: stage.act(server_id, body)

    return prepare


def _delete(stage: Stage) -> Callable[[], None]:
    server_id = stage.server()
    return lambda: stage.send("compute", "DELETE", f"/v2.1/servers/{server_id}")


def _attach_volume(stage: Stage) -> Callable[[], None]:
    server_id, volume_id = stage.server(), stage.volume()
    return lambda: stage.attach(server_id, volume_id)


def _detach_volume(stage: Stage) -> Callable[[], None]:
    server_id, volume_id = stage.attached()
    return lambda: stage.send("compute", "DELETE", f"/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}")


def _attach_interface(stage: Stage) -> Callable[[], None]:
    server_id = stage.server()
    body = {"interfaceAttachment": {"net_id": stage.ids["green"]}}
    return lambda: stage.send("compute", "POST", f"/v2.1/servers/{server_id}/os-interface", body)


def _detach_interface(stage: Stage) -> Callable[[], None]:
    server_id = stage.server()
    port_id = stage.nic(server_id)
    return lambda: stage.send("compute", "DELETE", f"/v2.1/servers/{server_id}/os-interface/{port_id}")


def _create_volume(stage: Stage) -> Callable[[], None]:
    volume = {"size": 1, "imageRef": stage.ids["image"]}
    return lambda: stage.send("volume", "POST", "/v3/volumes", {"volume": volume})


def _delete_volume(stage: Stage) -> Callable[[], None]:
    volume_id, _ = stage.snapshot()
    return lambda: stage.send("volume", "DELETE", f"/v3/volumes/{volume_id}?cascade=true")


def _extend(stage: Stage) -> Callable[[], None]:
    _, volume_id = stage.attached()
    return lambda: stage.volume_act(volume_id, {"os-extend": {"new_size": 3}})


def _keep(stage: Stage) -> Callable[[], None]:
    volume_id = stage.volume()
    return lambda: stage.keep(volume_id)


def _drop(stage: Stage) -> Callable[[], None]:
    _, snapshot_id = stage.snapshot()
    return lambda: stage.send("volume", "DELETE", f"/v3/snapshots/{snapshot_id}")


def _revert(stage: Stage) -> Callable[[], None]:
    volume_id, snapshot_id = stage.snapshot()
    return lambda: stage.volume_act(volume_id, {"revert": {"snapshot_id": snapshot_id}})


def _upload(stage: Stage) -> Callable[[], None]:
    volume_id = stage.volume()
    body = {"image_name": "copy", "disk_format": "raw", "container_format": "bare"}
    return lambda: stage.volume_act(volume_id, {"os-volume_upload_image": body})


def _image_of_volumes(stage: Stage) -> Callable[[], None]:
    server_id = stage.backed()
    return lambda: stage.act(server_id, {"createImage": {"name": "kept"}})


def _clone_in_use(stage: Stage) -> Callable[[], None]:
    _, volume_id = stage.attached()
    return lambda: stage.send("volume", "POST", "/v3/volumes", {"volume": {"size": 1, "source_volid": volume_id}})


def _keep_in_use(stage: Stage) -> Callable[[], None]:
    _, volume_id = stage.attached()
    return lambda: stage.keep(volume_id, force=True)


def _upload_in_use(stage: Stage) -> Callable[[], None]:
    _, volume_id = stage.attached()
    body = {"image_name": "copy", "disk_format": "raw", "container_format": "bare", "force": True}
    return lambda: stage.volume_act(volume_id, {"os-volume_upload_image": body})


#: by flow: makes what it needs, and gives the request that begins it
SCENARIOS: Mapping[str, Callable[[Stage], Callable[[], None]]] = {
    "launch": lambda stage: stage.launch,
    "delete": _delete,
    "stop": _action({"os-stop": None}),
    "start": _action({"os-start": None}, {"os-stop": None}),
    "reboot": _action({"reboot": {"type": "HARD"}}),
    "pause": _action({"pause": None}),
    "unpause": _action({"unpause": None}, {"pause": None}),
    "suspend": _action({"suspend": None}),
    "resume": _action({"resume": None}, {"suspend": None}),
    "rebuild": _action({"rebuild": {"imageRef": "image"}}),
    "resize": _action({"resize": {"flavorRef": "m1.tiny"}}),
    "confirm_resize": _resized({"confirmResize": None}),
    "revert_resize": _resized({"revertResize": None}),
    "snapshot": _action({"createImage": {"name": "kept"}}),
    "volume_snapshots": _image_of_volumes,
    "volume_copy": _keep_in_use,
    "attach_volume": _attach_volume,
    "detach_volume": _detach_volume,
    "attach_interface": _attach_interface,
    "detach_interface": _detach_interface,
    "volume_create": _create_volume,
    "volume_delete": _delete_volume,
    "volume_extend": _extend,
    "snapshot_create": _keep,
    "snapshot_delete": _drop,
    "volume_revert": _revert,
    "volume_upload": _upload,
    "volume_create_from_guest": _clone_in_use,
    "snapshot_create_of_guest": _keep_in_use,
    "volume_upload_of_guest": _upload_in_use,
}


# --- a flow that is tried --------------------------------------------------------------------------------------------


def _driven(function: Callable[[Run], Any], run: Run) -> Generator[Any, Any, Any]:
    result = function(run)
    if isinstance(result, Generator):
        result = yield from result
    return result


def _tried(flow: Flow, proof: Proof) -> Flow:
    """The flow with its steps wrapped as the proof says."""
    left = [1]

    def wrapped(step: Step) -> Step:
        def do(run: Run) -> Generator[Any, Any, Any]:
            fails = proof.step == step.name and left[0] > 0
            if fails and proof.when == "before":
                left[0] -= 1
                raise Broken
            if proof.actions_twice:
                yield from _driven(step.do, run)
                run.first = False  # as the executor says of a step that has begun before
            output = yield from _driven(step.do, run)
            if fails:
                left[0] -= 1
                raise Broken
            return output

        def undo(run: Run) -> Generator[Any, Any, None]:
            assert step.undo is not None  # noqa: S101 - see below
            yield from _driven(step.undo, run)
            if proof.undos_twice:
                yield from _driven(step.undo, run)

        return msgspec.structs.replace(step, do=do, undo=None if step.undo is None else undo)

    return msgspec.structs.replace(flow, steps=tuple(wrapped(step) for step in flow.steps))


class _Late:
    """Holds back one call of the flow: its caller learns that there is no answer; `land` lets it have its effect."""

    def __init__(self, proof: Proof, forget: Callable[[], None]) -> None:
        self._number = proof.late
        self._forgotten = proof.forgotten
        self._forget = forget
        self.active = False
        self.seen: list[str] = []
        self._held: Callable[[], Any] | None = None

    def __call__(self, life: Life, where: str, effect: Callable[[], Any]) -> bool:
        if not self.active or _harmless(where):
            return False
        self.seen.append(f"{life.name}: {where}")
        if self._forgotten == len(self.seen) - 1:
            self._forget()
        if self._number != len(self.seen) - 1:
            return False
        self._held = effect
        return True

    def land(self) -> bool:
        held, self._held = self._held, None
        if held is None:
            return False
        try:
            held()
        except Exception:  # noqa: BLE001 - nobody waits for the answer any more, whatever it is
            return True
        return True


class _Orders:
    """Loses orders, and the host that they are for."""

    def __init__(self, world: World, proof: Proof) -> None:
        self._world = world
        self._lost = proof.lost
        self._gone_s = proof.gone_s
        self._dies = proof.dies
        self._wordless = proof.wordless
        self.active = False

    def __call__(self, topic: str, method: str) -> bool:
        if self.active and method == "wake":
            return self._wordless
        if not self.active or method != "run":
            return False
        host = topic.removeprefix("compute.")
        if self._gone_s and host in self._world.hosts:
            self._world.vanish(host, self._gone_s)
            self._gone_s = 0.0
        if self._dies is not None and host in self._world.hosts:
            self._world.perils.on = True  # no dice: the rates are those of a calm world
            self._world.perils.kill(host, self._dies)
            self._dies = None
        self._lost -= 1
        return self._lost >= 0


#: verbs that only look, and the log itself, whose late records its generations refuse
_LOOKS = (
    "list",
    "owned",
    "plugged",
    "ports_of",
    "power_state",
    "port_up",
    "host_stats",
    "capacity",
    "agents",
    "heartbeat",
)


def _harmless(where: str) -> bool:
    verb = where.rpartition(".")[2]
    return " GET " in where or verb in _LOOKS or where.startswith(("conductor.", "volume.conductor."))


def _saga_state(world: World, flow: str) -> str:
    for name, tables in (("compute", SAGAS), ("volume", VOLUME_SAGAS)):
        with world.look(name).read() as tx:
            found = tx.values(
                select(tables.sagas.c.state)
                .where(tables.sagas.c.flow == flow)
                .order_by(tables.sagas.c.started_at.desc())
            )
        if found:
            return str(found[0])
    return "none"


def _forget(world: World, flow: str) -> None:
    """The flow's rows are gone: a database that was put back, or a hand in it."""
    for name, tables in (("compute", SAGAS), ("volume", VOLUME_SAGAS)):
        with world.look(name).write() as tx:
            tx.run(delete(tables.sagas).where(tables.sagas.c.flow == flow))


def _perform(proof: Proof, template: Template, *, named: bool = False) -> tuple[list[str], list[str]]:
    tried = _tried(ALL_FLOWS[proof.flow], proof)

    def flows(these: Sequence[Flow]) -> Sequence[Flow]:
        return tuple(tried if flow.name == proof.flow else flow for flow in these)

    world = World(1, template=template, flows=flows(FLOWS), volume_flows=flows(VOLUME_FLOWS))
    try:
        world.perils.on = False
        world.start()
        stage = Stage(world)
        begin = stage.launch_plain if proof.plain else SCENARIOS[proof.flow](stage)
        late = world.perils.late = _Late(proof, lambda: _forget(world, proof.flow))
        late.active = True
        orders = world.perils.swallows = _Orders(world, proof)
        orders.active = True
        begun_s = world.agenda.now_s
        begin()
        stage.settle()
        late.active = orders.active = world.perils.on = False
        took_s = world.agenda.now_s - begun_s
        court = stage.court
        state = _saga_state(world, proof.flow)
        forward = proof.step is None or tried.keeps_on(proof.step)
        if proof.forgotten is not None:
            world.agenda.run(until_s=world.agenda.now_s + FOUND_S)
            stage.settle()
        elif proof.late is None and proof.lost < ORDERS_ALL and state != ("done" if forward else "unwound"):
            court.stuck.append(f"the saga is {state}")
        if (proof.lost == 1 or proof.gone_s or proof.dies is not None) and took_s > proof.gone_s + SENT_AGAIN_S:
            court.stuck.append(f"it took {took_s:.0f} s")
        if proof.wordless and took_s > LOOKED_S:
            court.stuck.append(f"it took {took_s:.0f} s")
        stage.converge()
        assert world.services is not None  # noqa: S101 - it is alive again, if it died at all
        if proof.forgotten is not None and named:
            mend(world.services, look(world.services, strict=True).leaks)
        court.check("after the flow")
        if late.land():
            stage.settle()
            stage.converge()
            if named and (leaks := look(world.services, strict=True).leaks):
                # the check in the background tells of it, and a repair knows what it is
                mend(world.services, leaks)
            court.check("after the late effect")
        court.delete_all()
        court.check("when all is deleted")
        court.nothing_left()
        return [*court.stuck, *court.leaked, *court.doubled], late.seen
    finally:
        world.close()


def prove(proof: Proof, template: Template, *, named: bool = False) -> list[str]:
    """What is wrong; nothing, if the flow stands.  named: what an effect that was too late has left may be named by the leak check, and
    mended by its repair.
    """
    return _perform(proof, template, named=named)[0]


def calls_of(flow: str, template: Template, *, plain: bool = False) -> list[str]:
    """The calls with an effect that a flow makes when all is well, in order."""
    return _perform(Proof(flow=flow, plain=plain), template)[1]
