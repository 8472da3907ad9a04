"""What other services may do with placement: read who has room, claim, release, and keep a host's own books."""

from typing import Any, Protocol

import msgspec

from cumulet.core.errors import Conflict, NotFound
from cumulet.core.web.client import Client, Credentials, path
from cumulet.placement.records import CHANGE

__all__ = ["Inventory", "PlacementDoor", "PlacementRest", "ProviderState", "ProviderStates"]

VERSION = {"openstack-api-version": "placement 1.39"}
#: how often a claim is tried again when somebody changed the consumer meanwhile
TRIES = 3


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider offers of one class."""

    total: int
    reserved: int = 0
    allocation_ratio: float = 1.0


class ProviderState(msgspec.Struct, frozen=True):
    """A provider's room; one that is gone has none.  resources: class → capacity, used, and what one consumer may hold at most."""

    uuid: str
    resources: dict[str, tuple[int, int, int]]
    traits: list[str]


class ProviderStates(msgspec.Struct, frozen=True):
    """Providers for a copy of them.

    number: changes up to this one are in it; marker: where the next page begins; lost: the copy is too old, all must be read.
    """

    number: int
    providers: list[ProviderState]
    marker: str | None = None
    lost: bool = False


class PlacementDoor(Protocol):
    """Placement, to another service."""

    def all_providers(self, credentials: Credentials) -> ProviderStates:
        """Every provider."""

    def changed_providers(self, credentials: Credentials, since: int) -> ProviderStates:
        """Those that changed since the number of an earlier answer."""

    def claim(
        self,
        consumer: str,
        wanted: dict[str, dict[str, int]],
        *,
        project_id: str,
        user_id: str,
        credentials: Credentials,
    ) -> int:
        """Make a consumer hold exactly this, atomically.  Raises Conflict when it does not fit.

        Gives the number of the change that this was: who has a copy of the providers with all changes before it need not read it again.
        """

    def release(self, consumer: str, credentials: Credentials) -> None:
        """Give everything back; nothing held is fine."""

    def allocations(self, consumer: str, credentials: Credentials) -> dict[str, dict[str, int]]:
        """What a consumer holds: provider → class → amount."""

    def ensure_provider(
        self,
        provider_id: str,
        name: str,
        *,
        inventories: dict[str, Inventory],
        traits: list[str],
        credentials: Credentials,
    ) -> None:
        """Make the provider's books say this; writes only what differs."""


class PlacementRest:
    """The door, by the public API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _call(self, method: str, where: str, credentials: Credentials, **more: Any) -> Any:
        return self._client.call(method, where, credentials, headers=VERSION, **more)

    def all_providers(self, credentials: Credentials) -> ProviderStates:
        number: int | None = None
        found: list[ProviderState] = []
        query: dict[str, str | list[str]] = {}
        while True:
            page = self._states(credentials, query)
            found += page.providers
            # what changed while the later pages were read is told by whoever asks since the first page's number
            number = page.number if number is None else number
            if page.marker is None:
                return ProviderStates(number, found)
            query = {"marker": page.marker}

    def changed_providers(self, credentials: Credentials, since: int) -> ProviderStates:
        return self._states(credentials, {"since": str(since)})

    def _states(self, credentials: Credentials, query: dict[str, str | list[str]]) -> ProviderStates:
        return msgspec.convert(self._call("GET", "/provider_states", credentials, query=query), ProviderStates)

    def claim(
        self,
        consumer: str,
        wanted: dict[str, dict[str, int]],
        *,
        project_id: str,
        user_id: str,
        credentials: Credentials,
    ) -> int:
        body: dict[str, Any] = {
            "allocations": {provider: {"resources": resources} for provider, resources in wanted.items()},
            "project_id": project_id,
            "user_id": user_id,
            "consumer_generation": None,
            "consumer_type": "INSTANCE",
        }
        where, left = path("allocations", consumer), TRIES
        while True:
            left -= 1
            try:
                answer = self._client.send("PUT", where, credentials, headers=VERSION, json=body)
            except Conflict as error:
                if "generation" not in error.message or not left:
                    raise
                body["consumer_generation"] = self._call("GET", where, credentials).get("consumer_generation")
            else:
                return int(answer.headers[CHANGE])

    def release(self, consumer: str, credentials: Credentials) -> None:
        try:
            self._call("DELETE", path("allocations", consumer), credentials)
        except NotFound:
            return

    def allocations(self, consumer: str, credentials: Credentials) -> dict[str, dict[str, int]]:
        document = self._call("GET", path("allocations", consumer), credentials)
        return {provider: entry["resources"] for provider, entry in document["allocations"].items()}

    def ensure_provider(
        self,
        provider_id: str,
        name: str,
        *,
        inventories: dict[str, Inventory],
        traits: list[str],
        credentials: Credentials,
    ) -> None:
        where = path("resource_providers", provider_id)
        try:
            provider = self._call("GET", where, credentials)
        except NotFound:
            provider = self._call("POST", "/resource_providers", credentials, json={"name": name, "uuid": provider_id})
        there = self._call("GET", f"{where}/inventories", credentials)["inventories"]
        # no consumer may hold more than there really is, whatever is promised beyond
        wanted = {key: {**msgspec.structs.asdict(value), "max_unit": value.total} for key, value in inventories.items()}
        generation = provider["generation"]
        if {
            key: {n: row[n] for n in ("total", "reserved", "allocation_ratio", "max_unit")}
            for key, row in there.items()
        } != wanted:
            body = {"resource_provider_generation": generation, "inventories": wanted}
            generation = self._call("PUT", f"{where}/inventories", credentials, json=body)[
                "resource_provider_generation"
            ]
        if self._call("GET", f"{where}/traits", credentials)["traits"] != sorted(traits):
            body = {"resource_provider_generation": generation, "traits": sorted(traits)}
            self._call("PUT", f"{where}/traits", credentials, json=body)
