"""Roles imply roles, and an assignment reaches where it says: pure functions over what the store has read."""

from collections.abc import Iterable, Sequence

import msgspec

from cumulet.identity.records import SYSTEM, Assignment, Role

__all__ = ["Place", "RoleGraph", "reaches"]


class RoleGraph:
    """Every role, and the closure of what each implies."""

    def __init__(self, roles: Iterable[Role], implications: Iterable[tuple[str, str]]) -> None:
        self.roles = {role.id: role for role in roles}
        self.implied: dict[str, list[str]] = {}
        for prior, implied in implications:
            self.implied.setdefault(prior, []).append(implied)
        self._closures: dict[str, frozenset[str]] = {}

    def closure(self, role_id: str) -> frozenset[str]:
        """A role and everything it implies, however far."""
        known = self._closures.get(role_id)
        if known is None:
            seen: set[str] = set()
            todo = [role_id]
            while todo:
                current = todo.pop()
                if current not in seen and current in self.roles:
                    seen.add(current)
                    todo += self.implied.get(current, ())
            known = self._closures[role_id] = frozenset(seen)
        return known

    def expand(self, role_ids: Iterable[str]) -> frozenset[str]:
        return frozenset[str]().union(*(self.closure(role_id) for role_id in role_ids))

    def in_token(self, role_ids: Iterable[str]) -> list[Role]:
        """The roles that a token names: a domain's own roles count only by what they imply."""
        return sorted(
            (self.roles[i] for i in role_ids if i in self.roles and not self.roles[i].domain_id), key=lambda r: r.name
        )

    def would_loop(self, prior_id: str, implied_id: str) -> bool:
        return prior_id in self.closure(implied_id)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a role can be held on: "project", "domain" or "system", with what lies above it, nearest first (projects,
    then the domain).
    """

    target: str
    id: str
    above: tuple[str, ...] = ()
    domain_id: str = ""

    @property
    def ids(self) -> Sequence[str]:
        """Every target whose assignments may reach here."""
        return [self.id, *self.above] if self.target == "project" else [self.id]


WHOLE_SYSTEM = Place(target="system", id=SYSTEM)


def reaches(assignment: Assignment, place: Place) -> bool:
    """Whether an assignment counts at a place."""
    if assignment.target == place.target and assignment.target_id == place.id and not assignment.inherited:
        return True
    if not assignment.inherited or place.target != "project":
        return False
    if assignment.target == "domain":
        return assignment.target_id == place.domain_id
    return assignment.target_id in place.above
