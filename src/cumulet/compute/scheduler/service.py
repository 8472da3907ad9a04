"""Row 8 and row 9: read the hosts, choose, claim in placement, write the host and the reasons down, pass the order on."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cumulet.compute.records import Server
from cumulet.compute.resource_classes import resources_of, resources_of_flavor
from cumulet.compute.scheduler.decision import NAMED_OF_MANY, Decision, Refusal, decide, words
from cumulet.compute.scheduler.messages import (
    Fit,
    FitRequest,
    NoValidHostError,
    RefitRequest,
    Selected,
    SelectRequest,
)
from cumulet.compute.scheduler.snapshot import Wanted
from cumulet.compute.store import decisions, groups, servers
from cumulet.compute.store.decisions import KeptDecision
from cumulet.core.clock import Clock, add_seconds
from cumulet.core.db import Database, Tx
from cumulet.core.errors import Conflict
from cumulet.core.ids import Ids
from cumulet.core.saga import Order, StepRunner
from cumulet.core.saga.failing import failpoint_off
from cumulet.core.saga.journal import Journal
from cumulet.core.web.client import Credentials
from cumulet.placement.door import PlacementDoor

if TYPE_CHECKING:
    from cumulet.compute.scheduler.columns import Columns
    from cumulet.compute.scheduler.mirror import Mirror
    from cumulet.compute.scheduler.plan import Plan

__all__ = ["Scheduler"]

#: how often another host is chosen when somebody else took the room on the one before
TRIES_MAX = 100


class LaunchOver(Conflict):
    """The launch was turned back while a host was chosen."""

    default = "The launch was cancelled."


class Scheduler:
    """Implements SchedulerInterface."""

    def __init__(
        self,
        db: Database,
        journal: Journal,
        *,
        placement: PlacementDoor,
        credentials: Callable[[str], Credentials],
        host: Callable[[str], StepRunner],
        clock: Clock,
        ids: Ids,
        failpoint: Callable[[str], None] = failpoint_off,
    ) -> None:
        self._db = db
        self._failpoint = failpoint
        self._journal = journal
        self._placement = placement
        self._credentials = credentials
        self._host = host
        self._clock = clock
        self._ids = ids
        self._mirror: Mirror | None = None
        #: claims that were refused, as somebody else was quicker
        self.claims_lost = 0

    def select(self, request: SelectRequest) -> Selected:
        """Choose, claim, write down, pass on.  A repeated request finds its claim and only passes the order on."""
        began = self._clock.now()
        server, order = request.server, request.order
        decision: Decision | None = None
        if server.host is not None and request.hand_over:
            selected = Selected(
                host=server.host, node=server.node or server.host, zone=server.availability_zone or "nova"
            )
        else:
            selected, decision = self._choose(request)
        self._failpoint("launch.claim_host.after")
        if request.hand_over:
            try:
                self._write_down(request, selected, decision, began)
            except LaunchOver:
                # its undo may have run before this claim was made: nobody else would give it back
                self._placement.release(server.id, self._credentials(order.request_id))
                raise
            self._failpoint("launch.cast_to_host.before")
            self._host(selected.host).run(msgspec.structs.replace(order, sent_at=self._clock.now()))
        return selected

    def _choose(self, request: SelectRequest) -> tuple[Selected, Decision]:
        server, name = request.server, request.server.flavor.name
        credentials = self._credentials(request.order.request_id)
        wanted = self._wanted(request)
        hosts, lost = self._hosts, list[Refusal]()
        taken: list[int] = []
        for attempt in range(TRIES_MAX):
            with hosts.lock:
                # what was lost to others, and what is full, is looked at again
                columns = hosts.columns(credentials, to_the_moment=attempt > 0)
                plan = self._plan(columns, wanted, without=taken) if taken else self._usual_plan(columns, wanted)
                if plan.chosen is None and attempt == 0:
                    columns = hosts.columns(credentials, to_the_moment=True)
                    plan = self._usual_plan(columns, wanted)
            if plan.chosen is None and (held := self._placement.allocations(server.id, credentials)):
                # an earlier try claimed, and was killed before it could write that down: what it took is the server's own
                with hosts.lock:
                    columns = columns.with_held(held)
                    plan = self._plan(columns, wanted, without=taken)
            decision = self._decision(name, wanted, columns, plan, lost)
            if plan.chosen is None:
                break
            provider_id, zone, host = self._place(columns, plan.chosen)
            claimed = self._claim(server, host, provider_id, wanted.resources, credentials)
            if isinstance(claimed, int):
                with hosts.lock:
                    hosts.took(host, wanted.resources, number=claimed)
                return Selected(host=host, node=host, zone=zone), decision
            # somebody else took the room meanwhile: another host
            self.claims_lost += 1
            lost.append(claimed)
            taken.append(columns.places[host])
        raise self._refused(request.order, "create", msgspec.structs.replace(decision, host=None))

    @property
    def _hosts(self) -> "Mirror":
        """Made with the first decision, as it brings numpy along."""
        if self._mirror is None:
            from cumulet.compute.scheduler.mirror import Mirror

            self._mirror = Mirror(self._db, self._placement, self._clock)
        return self._mirror

    def _plan(self, columns: "Columns", wanted: Wanted, *, without: Sequence[int] = (), rooms: bool = False) -> "Plan":
        from cumulet.compute.scheduler.plan import choose

        return choose(columns, wanted, self._ids.rng, without=without, rooms=rooms)

    def _usual_plan(self, columns: "Columns", wanted: Wanted) -> "Plan":
        """On the mirror's own columns: with what the last decision of the same shape has calculated."""
        return self._hosts.shapes.choose(columns, wanted, self._ids.rng)

    @staticmethod
    def _place(columns: "Columns", place: int) -> tuple[str, str, str]:
        """A chosen host: its provider, its zone, its name."""
        return columns.provider_ids[place], columns.zone_of(place), columns.names[place]

    def _claim(
        self, server: Server, host: str, provider_id: str, resources: dict[str, int], credentials: Credentials
    ) -> int | Refusal:
        """The number of the change that the claim was, or why it was refused."""
        try:
            return self._placement.claim(
                server.id,
                {provider_id: resources},
                project_id=server.project_id,
                user_id=server.user_id,
                credentials=credentials,
            )
        except Conflict as error:
            return Refusal(host=host, by="Placement", reason=error.message)

    @staticmethod
    def _decision(
        flavor: str, wanted: Wanted, columns: "Columns", plan: "Plan", lost: Sequence[Refusal] = ()
    ) -> Decision:
        return decide(
            None if plan.chosen is None else columns.names[plan.chosen],
            flavor=flavor,
            resources=wanted.resources,
            zone=wanted.zone,
            considered=columns.size,
            fitting=plan.fitting,
            near=plan.near,
            reasons=plan.reasons | ({"Placement": len(lost)} if lost else {}),
            weighed=plan.weighed,
            refused=(*lost[:NAMED_OF_MANY], *plan.refused),
        )

    def _refused(self, order: Order, action: str, decision: Decision) -> NoValidHostError:
        """No host was found: the reasons are written down, and go with the failure."""
        with self._db.write() as tx:
            self._keep(tx, order, action, decision)
        detail = "; ".join(f"{refusal.host}: {refusal.by}: {refusal.reason}" for refusal in decision.refused)
        return NoValidHostError(words(decision), detail=detail or "0 hosts considered")

    def _keep(self, tx: Tx, order: Order, action: str, decision: Decision) -> None:
        decisions.put(
            tx,
            KeptDecision(
                server_id=order.subject_id,
                saga_id=order.saga_id,
                action=action,
                request_id=order.request_id,
                decided_at=self._clock.now(),
                decision=decision,
            ),
        )

    # --- a server that stays on its host, and one that is not there ----------------------------------------------------------------

    def refit(self, request: RefitRequest) -> str:
        """The claim for a resize.  What the server holds already counts as free, so a repeated request finds the same."""
        server, order = request.server, request.order
        credentials = self._credentials(order.request_id)
        held = self._placement.allocations(server.id, credentials)
        resources: dict[str, int] = {}
        for flavor in request.flavors:
            for name, amount in resources_of(msgspec.structs.replace(server, flavor=flavor)).items():
                resources[name] = max(amount, resources.get(name, 0))
        new = request.flavors[-1]
        wanted = Wanted(
            resources=resources, extra_specs=new.extra_specs, image_properties=server.image_properties, zone=None
        )
        with self._hosts.lock:
            columns = self._hosts.columns(credentials, to_the_moment=True)
            # a host that takes no new servers keeps those it has
            columns = columns.with_held(held, only=[server.host or ""], enabled=True)
            plan = self._plan(columns, wanted)
        decision, claimed = self._decision(new.name, wanted, columns, plan), None
        if plan.chosen is not None:
            provider_id, _, host = self._place(columns, plan.chosen)
            claimed = self._claim(server, host, provider_id, resources, credentials)
        if not isinstance(claimed, int):
            if claimed is not None:
                refused = self._decision(new.name, wanted, columns, plan, [claimed])
                decision = msgspec.structs.replace(refused, host=None, fitting=0)
            raise self._refused(order, request.action, decision)
        with self._db.write() as tx:
            self._keep(tx, order, request.action, decision)
        return words(decision)

    def fit(self, request: FitRequest) -> Fit:
        """Filter and weigh, claim nothing, write nothing."""
        resources = resources_of_flavor(request.flavor)
        wanted = Wanted(
            resources=resources,
            zone=request.zone,
            extra_specs=request.flavor.extra_specs,
            image_properties=request.image_properties,
        )
        with self._hosts.lock:
            columns = self._hosts.columns(self._credentials(""), to_the_moment=True)
            plan = self._plan(columns, wanted, rooms=True)
            rooms = {
                weighed.host: min(
                    int(columns.free(name)[columns.places[weighed.host]]) // amount
                    for name, amount in resources.items()
                )
                for weighed in plan.weighed
            }
        return Fit(decision=self._decision(request.flavor.name, wanted, columns, plan), rooms=rooms, fits=plan.fits)

    # --- what is asked of the hosts ------------------------------------------------------------------------------------------------

    def _wanted(self, request: SelectRequest) -> Wanted:
        server = request.server
        hints = server.hints
        same = _ids(hints.get("same_host"))
        different = _ids(hints.get("different_host"))
        group, members, placed = None, dict[str, str | None](), dict[str, str | None]()
        if server.group_id or same or different:
            with self._db.read() as tx:
                group = groups.get(tx, server.group_id) if server.group_id else None
                members = groups.members(tx, server.group_id) if server.group_id else {}
                placed = {**servers.hosts_of(tx, [*same, *different]), **members}
        return Wanted(
            resources=resources_of(server),
            zone=server.requested_zone,
            host=server.requested_host,
            exclude=request.exclude,
            extra_specs=server.flavor.extra_specs,
            image_properties=server.image_properties,
            same_host=same,
            different_host=different,
            group_policy=group.policy if group else None,
            group_members=frozenset(members) - {server.id},
            max_server_per_host=int(group.rules.get("max_server_per_host", 1)) if group else 1,
            placed=placed,
        )

    def _write_down(self, request: SelectRequest, selected: Selected, decision: Decision | None, began: str) -> None:
        """The host into the server's entry, why it was chosen, rows 7 and 8 into the log, and row 9 begun: one transaction."""
        order = request.order
        detail = words(decision) if decision is not None else "claimed before"
        with self._db.write() as tx:
            saga = self._journal.get(tx, order.saga_id)
            if saga is None or saga.state != "running":
                raise LaunchOver
            if saga.generation != order.generation:
                # taken over meanwhile: the claim is its next owner's
                raise Conflict("The launch was taken over.")
            servers.set_fields(
                tx,
                order.subject_id,
                host=selected.host,
                node=selected.node,
                availability_zone=selected.zone,
                at=self._clock.now(),
            )
            if decision is not None:
                self._keep(tx, order, "create", decision)
            now = self._clock.now()
            deadline = add_seconds(now, request.hand_over_s)
            self._journal.change(tx, saga, host=selected.host, deadline=deadline, attempts=1)
            self._journal.set_step(
                tx,
                saga.id,
                "ask_scheduler",
                state="done",
                finished_at=began,
                output=selected,
                detail="asked the scheduler for a host",
            )
            note = self._journal.note
            note(tx, saga.id, "claim_host", row=8, host="scheduler", started_at=began, finished_at=now, detail=detail)
            note(tx, saga.id, "cast_to_host", row=9, host="scheduler", started_at=now, finished_at=None, detail="")


def _ids(hint: Any) -> tuple[str, ...]:
    return (hint,) if isinstance(hint, str) else tuple(hint or ())
