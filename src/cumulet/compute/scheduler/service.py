"""Row 8 and row 9: read the hosts, choose, claim in placement, write the host down, pass the order on."""

from collections.abc import Callable
from typing import Any

import msgspec

from cumulet.compute.records import Server
from cumulet.compute.resource_classes import resources_of
from cumulet.compute.scheduler.messages import NoValidHostError, Refusal, Selected, SelectRequest, explain
from cumulet.compute.scheduler.plan import choose
from cumulet.compute.scheduler.snapshot import HostState, Wanted
from cumulet.compute.store import groups, hosts, servers
from cumulet.core.clock import Clock, add_seconds, seconds_between
from cumulet.core.db import Database
from cumulet.core.errors import Conflict
from cumulet.core.ids import Ids
from cumulet.core.saga import StepRunner
from cumulet.core.saga.coordinator import failpoint_off
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
        if server.host is not None and request.hand_over:
            selected = Selected(
                host=server.host, node=server.node or server.host, zone=server.availability_zone or "nova"
            )
        else:
            selected = self._choose(request)
        self._failpoint("launch.claim_host.after")
        if request.hand_over:
            try:
                self._write_down(request, selected, began)
            except LaunchOver:
                # its undo may have run before this claim was made: nobody else would give it back
                self._placement.release(server.id, self._credentials(order.request_id))
                raise
            self._failpoint("launch.cast_to_host.before")
            self._host(selected.host).run(msgspec.structs.replace(order, sent_at=self._clock.now()))
        return selected

    def _choose(self, request: SelectRequest) -> Selected:
        server = request.server
        credentials = self._credentials(request.order.request_id)
        states, wanted = self._snapshot(server, request, self._placement.providers(credentials))
        plan = choose(states, wanted, self._ids.rng)
        refused = list(plan.refused)
        for host in plan.hosts:
            try:
                self._placement.claim(
                    server.id,
                    {host.provider_id: wanted.resources},
                    project_id=server.project_id,
                    user_id=server.user_id,
                    credentials=credentials,
                )
            except Conflict as error:  # somebody else took the room meanwhile: the next host
                refused.append(Refusal(host=host.host, by="Placement", reason=error.message))
                continue
            return Selected(
                host=host.host,
                node=host.host,
                zone=host.zone,
                weights=plan.weights,
                refused=tuple(refused),
                considered=len(states),
            )
        safe, detail = explain(refused, len(states))
        raise NoValidHostError(safe, detail=detail)

    def _snapshot(
        self, server: Server, request: SelectRequest, providers: list[ProviderState]
    ) -> tuple[list[HostState], Wanted]:
        now = self._clock.now()
        with self._db.read() as tx:
            rows = hosts.all_hosts(tx)
            hints = server.hints
            same = _ids(hints.get("same_host"))
            different = _ids(hints.get("different_host"))
            group = groups.get(tx, server.group_id) if server.group_id else None
            members = groups.members(tx, server.group_id) if server.group_id else {}
            placed = {**servers.hosts_of(tx, [*same, *different]), **members}
        by_id = {provider.id: provider for provider in providers}
        states = []
        for row in rows:
            provider = by_id.get(row.hypervisor_id)
            states.append(
                HostState(
                    host=row.host,
                    provider_id=row.hypervisor_id,
                    zone=row.zone,
                    enabled=not row.disabled,
                    up=not row.forced_down and seconds_between(row.seen_at, now) < DOWN_AFTER_S,
                    hypervisor_type=row.hypervisor_type,
                    traits=frozenset(provider.traits if provider else row.traits),
                    free=provider.free if provider else {},
                    total=provider.total if provider else {},
                    largest={"VCPU": row.vcpus, "MEMORY_MB": row.memory_mb, "DISK_GB": row.local_gb},
                    servers=frozenset(id_ for id_, host in placed.items() if host == row.host),
                )
            )
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
        return states, wanted

    def _write_down(self, request: SelectRequest, selected: Selected, began: str) -> None:
        """The host into the server's entry, rows 7 and 8 into the log, and row 9 begun: one transaction."""
        order = request.order
        # words for the server's owner: no host is named
        refused = len({refusal.host for refusal in selected.refused})
        detail = f"{selected.considered} considered, {refused} refused" if selected.considered else "claimed before"
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
