"""Row 8 and row 9: read the hosts, choose, claim in placement, write the host and the reasons down, pass the order on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from cumulet.compute.records import Server
from cumulet.compute.resource_classes import resources_of, resources_of_flavor
from cumulet.compute.scheduler.decision import HOSTS_NAMED_MAX, Decision, Refusal, Weighed, decide, words
from cumulet.compute.scheduler.messages import (
    Fit,
    FitRequest,
    NoValidHostError,
    RefitRequest,
    Selected,
    SelectRequest,
)
from cumulet.compute.scheduler.plan import choose
from cumulet.compute.scheduler.snapshot import HostState, Wanted
from cumulet.compute.store import decisions, groups, hosts, servers
from cumulet.compute.store.decisions import KeptDecision
from cumulet.core.clock import Clock, add_seconds, seconds_between
from cumulet.core.db import Database, Tx
from cumulet.core.errors import Conflict
from cumulet.core.ids import Ids
from cumulet.core.saga import Order, StepRunner
from cumulet.core.saga.failing import failpoint_off
from cumulet.core.saga.journal import Journal
from cumulet.core.web.client import Credentials
from cumulet.placement.door import PlacementDoor, ProviderState

__all__ = ["Scheduler"]

#: a host that has not reported for so long is down
DOWN_AFTER_S = 60.0


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
        server = request.server
        credentials = self._credentials(request.order.request_id)
        states, wanted = self._snapshot(server, request, self._placement.providers(credentials))
        plan = choose(states, wanted, self._ids.rng)
        if not plan.hosts and (held := self._placement.allocations(server.id, credentials)):
            # an earlier try claimed, and was killed before it could write that down: what it took is the server's own
            states = [_with_held(state, held) for state in states]
            plan = choose(states, wanted, self._ids.rng)
        refused = list(plan.refused)
        for host in plan.hosts:
            lost = self._claim(server, host, wanted.resources, credentials)
            if lost is not None:  # somebody else took the room meanwhile: the next host
                refused.append(lost)
                continue
            decision = self._decision(host.host, server.flavor.name, wanted, states, plan.weighed, refused)
            return Selected(host=host.host, node=host.host, zone=host.zone), decision
        decision = self._decision(None, server.flavor.name, wanted, states, plan.weighed, refused)
        raise self._refused(request.order, "create", decision)

    def _claim(
        self, server: Server, host: HostState, resources: dict[str, int], credentials: Credentials
    ) -> Refusal | None:
        try:
            self._placement.claim(
                server.id,
                {host.provider_id: resources},
                project_id=server.project_id,
                user_id=server.user_id,
                credentials=credentials,
            )
        except Conflict as error:
            return Refusal(host=host.host, by="Placement", reason=error.message)
        return None

    @staticmethod
    def _decision(
        host: str | None,
        flavor: str,
        wanted: Wanted,
        states: Sequence[HostState],
        weighed: Sequence[Weighed],
        refused: Sequence[Refusal],
    ) -> Decision:
        return decide(
            host,
            flavor=flavor,
            resources=wanted.resources,
            zone=wanted.zone,
            considered=len(states),
            weighed=weighed,
            refused=refused,
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
        states = [
            # a host that takes no new servers keeps those it has
            msgspec.structs.replace(_with_held(state, held), enabled=True)
            for state in self._states(self._hosts(server.host), self._placement.providers(credentials), {})
        ]
        plan = choose(states, wanted, self._ids.rng)
        refused = list(plan.refused)
        chosen = next(iter(plan.hosts), None)
        if chosen is not None and (lost := self._claim(server, chosen, resources, credentials)) is not None:
            refused.append(lost)
            chosen = None
        host = chosen.host if chosen is not None else None
        decision = self._decision(host, new.name, wanted, states, plan.weighed, refused)
        if host is None:
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
        states = self._states(self._hosts(), self._placement.providers(self._credentials("")), {})
        plan = choose(states, wanted, self._ids.rng)
        rooms = {
            host.host: min(host.free.get(name, 0) // amount for name, amount in resources.items())
            for host in plan.hosts
        }
        best = plan.hosts[0].host if plan.hosts else None
        return Fit(
            decision=self._decision(best, request.flavor.name, wanted, states, plan.weighed, plan.refused),
            rooms=dict(list(rooms.items())[:HOSTS_NAMED_MAX]),
            fits=sum(rooms.values()),
        )

    # --- the hosts as they are -----------------------------------------------------------------------------------------------------

    def _snapshot(
        self, server: Server, request: SelectRequest, providers: list[ProviderState]
    ) -> tuple[list[HostState], Wanted]:
        hints = server.hints
        same = _ids(hints.get("same_host"))
        different = _ids(hints.get("different_host"))
        with self._db.read() as tx:
            group = groups.get(tx, server.group_id) if server.group_id else None
            members = groups.members(tx, server.group_id) if server.group_id else {}
            placed = {**servers.hosts_of(tx, [*same, *different]), **members}
            rows = hosts.all_hosts(tx)
        wanted = Wanted(
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
        )
        return self._states(rows, providers, placed), wanted

    def _hosts(self, only: str | None = None) -> list[hosts.Host]:
        with self._db.read() as tx:
            return [row for row in hosts.all_hosts(tx) if only is None or row.host == only]

    def _states(
        self, rows: list[hosts.Host], providers: list[ProviderState], placed: Mapping[str, str | None]
    ) -> list[HostState]:
        """placed: servers that matter to the choice, and the host of each."""
        now = self._clock.now()
        by_id = {provider.id: provider for provider in providers}
        states = []
        for row in rows:
            provider = by_id.get(row.hypervisor_id)
            largest = {"VCPU": row.vcpus, "MEMORY_MB": row.memory_mb, "DISK_GB": row.local_gb}
            states.append(
                HostState(
                    host=row.host,
                    provider_id=row.hypervisor_id,
                    zone=row.zone,
                    enabled=not row.disabled,
                    up=not row.forced_down and seconds_between(row.seen_at, now) < DOWN_AFTER_S,
                    hypervisor_type=row.hypervisor_type,
                    traits=frozenset(provider.traits if provider else row.traits),
                    # placement names who has a VCPU left; of the others that alone is known to be short
                    free=provider.free if provider else {**largest, "VCPU": 0},
                    total=provider.total if provider else largest,
                    largest=largest,
                    servers=frozenset(id_ for id_, host in placed.items() if host == row.host),
                )
            )
        return states

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


def _with_held(state: HostState, held: Mapping[str, Mapping[str, int]]) -> HostState:
    """The host with what the server itself holds of it counted as free."""
    own = held.get(state.provider_id, {})
    return msgspec.structs.replace(
        state, free={name: state.free.get(name, 0) + own.get(name, 0) for name in {**state.free, **own}}
    )


def _ids(hint: Any) -> tuple[str, ...]:
    return (hint,) if isinstance(hint, str) else tuple(hint or ())
