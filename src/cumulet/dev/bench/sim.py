"""The rows on simulated drivers: one cloud, filled as it goes from no server to a thousand.

Results are named as cloudbench names them.  One thing at a time is asked for again 2 ms after each answer until it is
there; a hundred at once have one list for all, asked for no more than a quarter of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from cumulet.dev.bench.client import Answer, Client
from cumulet.dev.bench.load import Load, summary
from cumulet.dev.cloud import CloudFailed

__all__ = ["Sim"]

_POLL_S = 0.002
_BATCH_POLL_S = 0.02
_POLL_SHARE = 0.1
_LIMIT_S = 60.0
_SAMPLES = 60
_LAUNCHES = 30
_FROM_VOLUME = 10
_VOLUMES = 20
_LOOP_S = 2.0
_OPEN_S = 16.0
_OPEN_RATE = 50.0
_LOGIN_S = 5.0
_LOGIN_READS = 100.0
_LOGIN_USERS = 4
_MANY = 1000
_NAME = "cb"


class Sim:
    """The sections that run on one simulated cloud.  Each stores what it found in `results`."""

    def __init__(self, load: Load, results: dict[str, Any]) -> None:
        self._load, self._client, self._results = load, load.client, results
        self._server: dict[str, Any] = {}
        self._from_volume: dict[str, Any] = {}
        self._servers: list[str] = []
        self._network = ""

    async def prepare(self) -> None:
        """A network of our own, and what a launch names."""
        client = self._client
        made = await _must(client, "POST", "network", "/networks", {"network": {"name": _NAME}})
        self._network = made["network"]["id"]
        subnet = {"network_id": self._network, "ip_version": 4, "cidr": "10.30.0.0/16"}
        await _must(client, "POST", "network", "/subnets", {"subnet": subnet})
        image = (await _must(client, "GET", "image", "/images"))["images"][0]["id"]
        flavors = (await _must(client, "GET", "compute", "/flavors"))["flavors"]
        flavor = next(one["id"] for one in flavors if one["name"] == "m1.nano")
        common = {"name": _NAME, "flavorRef": flavor, "networks": [{"uuid": self._network}]}
        root = {"uuid": image, "source_type": "image", "destination_type": "volume", "volume_size": 1}
        root |= {"boot_index": 0, "delete_on_termination": True}
        self._server = {"server": common | {"imageRef": image}}
        self._from_volume = {"server": common | {"block_device_mapping_v2": [root]}}

    async def run(self, section: str) -> None:
        await getattr(self, section)()

    # --- one at a time -----------------------------------------------------------------------------------------------

    async def auth(self) -> None:
        load = self._load
        self._results["auth"] = {
            "token_issue": await load.repeat("POST tokens", self._client.login(), 10),
            "token_validate": await load.repeat("GET tokens", self._client.validation(), 10 * _SAMPLES),
        }

    async def network(self) -> None:
        networks, ports = list[str](), list[str]()
        self._results["network"] = {
            "network_create": await self._create("network", "networks", {"network": {"name": _NAME}}, networks),
            "port_create": await self._create("network", "ports", {"port": {"network_id": self._network}}, ports),
            "port_delete": await self._delete("network", "ports", ports),
            "network_delete": await self._delete("network", "networks", networks),
        }

    async def volume(self) -> None:
        body = {"volume": {"name": _NAME, "size": 1}}
        await self._lives("block-storage", "volumes", body, "AVAILABLE", 2)
        found = await self._lives("block-storage", "volumes", body, "AVAILABLE", _VOLUMES)
        self._results["volume"] = found

    async def boot_seq(self) -> None:
        await self._lives("compute", "servers", self._server, "ACTIVE", 3)
        self._results["boot_seq"] = await self._lives("compute", "servers", self._server, "ACTIVE", _LAUNCHES)

    async def bfv_seq(self) -> None:
        await self._lives("compute", "servers", self._from_volume, "ACTIVE", 1)
        self._results["bfv_seq"] = await self._lives("compute", "servers", self._from_volume, "ACTIVE", _FROM_VOLUME)

    # --- many --------------------------------------------------------------------------------------------------------

    async def boot_x100(self) -> None:
        rounds: dict[str, Any] = {}
        for number in (1, 2, 3):
            booted, ids = await self._boot(100)
            rounds[f"round{number}"] = {"boot": booted}
            self._servers += ids
            if number < 3:
                rounds[f"round{number}"]["delete"] = await self._delete_all()
        # the middle one of three, under the name of the only one that the reference was given
        ranked = sorted(rounds.values(), key=lambda found: float(found["boot"]["servers_per_min"]))
        self._results["boot_x100"] = {"round1": ranked[1], "fastest": ranked[2], "slowest": ranked[0]}

    async def reads(self) -> None:
        await self._fill(100)
        await self._reads("reads_100")

    async def reads_1000(self) -> None:
        await self._fill(_MANY)
        await self._reads("reads_1000")

    async def throughput(self) -> None:
        await self._fill(100)
        requests = self._requests() | {"token_validate": self._client.validation()}
        found: dict[str, Any] = {}
        for name in ("token_validate", "server_show", "servers_detail"):
            found[name] = {}
            for workers in (1, 16):
                found[name][f"c{workers}"] = await self._load.closed_loop(name, requests[name], workers, _LOOP_S)
        self._results["throughput_100"] = found

    async def open_loop(self) -> None:
        """Launches and reads at random moments, none waiting for another; each launch is polled until ACTIVE."""
        load, client = self._load, self._client
        await self._fill(1)
        posted, active, read = list[float](), list[float](), list[float]()
        await client.plain.open(20)

        async def launch() -> None:
            began = time.monotonic()
            answer = await client.call("POST", "compute", "/servers", self._server)
            if not answer.ok:
                load.failed("open loop POST", answer)
                return
            posted.append(answer.seconds)
            server = answer.json()["server"]["id"]
            if await self._until("compute", f"/servers/{server}", _has_status("server", "ACTIVE"), share=_POLL_SHARE):
                active.append(time.monotonic() - began)
                self._servers.append(server)

        request = client.request("GET", "compute", f"/servers/{self._servers[0]}")

        async def look() -> None:
            answer = await client.plain.send(request)
            if answer.ok:
                read.append(answer.seconds)
            else:
                load.failed("open loop GET", answer)

        before = load.watch.begin()
        late = await load.open_loop([(launch, _OPEN_RATE), (look, _OPEN_RATE)], _OPEN_S)
        cost = load.watch.since(before, len(posted), "open loop")
        found = {"post": summary(posted), "active": summary(active), "get": summary(read), "late": summary(late)}
        self._results["open_loop"] = found | {"cost": cost}

    async def logins(self) -> None:
        """Four log in, again and again, while others read."""
        load, client = self._load, self._client
        await self._fill(1)
        login = client.login()
        request = client.request("GET", "compute", f"/servers/{self._servers[0]}")
        read, logged_in = list[float](), list[float]()
        await client.plain.open(_LOGIN_USERS + 4)
        ends = time.monotonic() + _LOGIN_S

        async def user() -> None:
            while time.monotonic() < ends:
                answer = await client.plain.send(login)
                if answer.ok:
                    logged_in.append(answer.seconds)
                else:
                    load.failed("login", answer)

        async def look() -> None:
            read.append((await client.plain.send(request)).seconds)

        await asyncio.gather(load.open_loop([(look, _LOGIN_READS)], _LOGIN_S), *(user() for _ in range(_LOGIN_USERS)))
        self._results["logins"] = {"get": summary(read), "post": summary(logged_in)}

    # --- how ---------------------------------------------------------------------------------------------------------

    def _requests(self) -> dict[str, bytes]:
        ask = self._client.request
        return {
            "servers": ask("GET", "compute", "/servers"),
            "servers_detail": ask("GET", "compute", "/servers/detail"),
            "server_show": ask("GET", "compute", f"/servers/{self._servers[0]}"),
            "flavors": ask("GET", "compute", "/flavors"),
            "images": ask("GET", "image", "/images"),
            "networks": ask("GET", "network", "/networks"),
            "ports": ask("GET", "network", "/ports"),
            "volumes": ask("GET", "block-storage", "/volumes"),
        }

    async def _reads(self, name: str) -> None:
        found: dict[str, Any] = {}
        for what, request in self._requests().items():
            found[what] = await self._load.repeat(f"{name} GET {what}", request, _SAMPLES)
        self._results[name] = found

    async def _create(self, service: str, collection: str, body: object, made: list[str]) -> dict[str, Any]:
        request = self._client.request("POST", service, f"/{collection}", body)

        async def ask() -> Answer:
            answer = await self._client.plain.send(request)
            if answer.ok:
                made.append(str(next(iter(answer.json().values()))["id"]))
            return answer

        return await self._load.series(f"POST {collection}", ask, _SAMPLES, warm_ups=2)

    async def _delete(self, service: str, collection: str, made: list[str]) -> dict[str, Any]:
        def ask() -> Awaitable[Answer]:
            return self._client.call("DELETE", service, f"/{collection}/{made.pop()}")

        return await self._load.series(f"DELETE {collection}", ask, len(made), warm_ups=0)

    async def _lives(self, service: str, collection: str, body: object, status: str, count: int) -> dict[str, Any]:
        """So many in turn: created until they are there; then in turn: deleted until they are gone."""
        key = collection.removesuffix("s")
        accepted, there, ids = list[float](), list[float](), list[str]()
        load, request = self._load, self._client.request("POST", service, f"/{collection}", body)
        before = load.watch.begin()
        for _ in range(count):
            began = time.monotonic()
            answer = await self._client.plain.send(request)
            if not answer.ok:
                load.failed(f"POST {collection}", answer)
                continue
            ids.append(answer.json()[key]["id"])
            accepted.append(answer.seconds)
            if await self._until(service, f"/{collection}/{ids[-1]}", _has_status(key, status)):
                there.append(time.monotonic() - began)
        found: dict[str, Any] = {"create_accept": summary(accepted), "create": summary(there)}
        found["create_cost"] = load.watch.since(before, len(ids), f"create {collection}")
        accepted, gone = [], list[float]()
        before = load.watch.begin()
        for one in ids:
            began = time.monotonic()
            answer = await self._client.call("DELETE", service, f"/{collection}/{one}")
            if not answer.ok:
                load.failed(f"DELETE {collection}", answer)
                continue
            accepted.append(answer.seconds)
            if await self._until(service, f"/{collection}/{one}", lambda seen: True if seen.status == 404 else None):
                gone.append(time.monotonic() - began)
        found |= {"delete_accept": summary(accepted), "delete": summary(gone)}
        found["delete_cost"] = load.watch.since(before, len(ids), f"delete {collection}")
        return found

    async def _until(
        self, service: str, path: str, judge: Callable[[Answer], bool | None], *, share: float = 0.0
    ) -> bool:
        """Ask until `judge` knows; whether it is well.

        `share`: pause for this share of the time that has passed, if that is longer.  Among many that wait, those that
        ask more often than they must would be what is waited for.
        """
        request = self._client.request("GET", service, path)
        began = time.monotonic()
        ends = began + _LIMIT_S
        while True:
            answer = await self._client.plain.send(request)
            verdict = judge(answer)
            if verdict is None and time.monotonic() > ends:
                verdict = False
            if verdict is False:
                self._load.failed(f"waiting for {path}", answer)
            if verdict is not None:
                return verdict
            await asyncio.sleep(max(_POLL_S, share * (time.monotonic() - began)))

    async def _boot(self, count: int, at_once: int | None = None) -> tuple[dict[str, Any], list[str]]:
        """So many launches at once (or so many POSTs under way), seen ACTIVE by one list for all."""
        load, client = self._load, self._client
        request = client.request("POST", "compute", "/servers", self._server)
        posted, active, accepted = dict[str, float](), dict[str, float](), list[float]()
        room = asyncio.Semaphore(at_once or count)
        await client.plain.open((at_once or count) + 1)
        known = set(self._servers)
        before, start = load.watch.begin(), time.monotonic()

        async def post() -> None:
            async with room:
                began = time.monotonic()
                answer = await client.plain.send(request)
                if answer.ok:
                    posted[answer.json()["server"]["id"]] = began
                    accepted.append(answer.seconds)
                else:
                    load.failed("POST servers", answer)

        posts = asyncio.gather(*(post() for _ in range(count)))
        look = client.request(
            "GET", "compute", f"/servers?status=ACTIVE&limit={count}&sort_key=created_at&sort_dir=desc"
        )
        pause = _BATCH_POLL_S
        while (not posts.done() or len(active) < len(posted)) and time.monotonic() < start + _LIMIT_S:
            await asyncio.sleep(pause)
            answer = await client.plain.send(look)
            now, pause = time.monotonic(), max(_BATCH_POLL_S, 3 * answer.seconds)
            for one in answer.json()["servers"]:
                if one["id"] not in known:
                    active.setdefault(one["id"], now)
        await posts
        cost = load.watch.since(before, count, f"launch {count} at once")
        for one in posted.keys() - active.keys():
            load.errors.append(f"server {one} is not ACTIVE within {_LIMIT_S} s")
        took = max(active.values(), default=time.monotonic()) - start
        found = {"n": count, "active": len(active), "accept": summary(accepted)}
        found["boot"] = summary([active[one] - posted[one] for one in active if one in posted])
        return found | {"servers_per_min": round(len(active) / took * 60, 1), "cost": cost}, list(active)

    async def _fill(self, size: int) -> None:
        while len(self._servers) < size:
            _, ids = await self._boot(min(50, size - len(self._servers)), at_once=8)
            if not ids:
                raise CloudFailed(f"no server became ACTIVE: {self._load.errors[-1:]}")
            self._servers += ids

    async def _delete_all(self) -> dict[str, Any]:
        """Every server at once, seen gone by one list for all."""
        load, client, ids = self._load, self._client, self._servers
        before, start = load.watch.begin(), time.monotonic()
        answers = asyncio.gather(*(client.call("DELETE", "compute", f"/servers/{one}") for one in ids))
        look = client.request("GET", "compute", "/servers")
        pause, left = _BATCH_POLL_S, True
        while (left or not answers.done()) and time.monotonic() < start + _LIMIT_S:
            await asyncio.sleep(pause)
            answer = await client.plain.send(look)
            pause = max(_BATCH_POLL_S, 3 * answer.seconds)
            left = bool(answer.json()["servers"])
        for refused in [answer for answer in await answers if not answer.ok]:
            load.failed("DELETE servers", refused)
        if left:
            raise CloudFailed(f"servers are not gone {_LIMIT_S} s after their deletion")
        took = time.monotonic() - start
        cost = load.watch.since(before, len(ids), f"delete {len(ids)} at once")
        self._servers = []
        return {"n": len(ids), "servers_per_min": round(len(ids) / took * 60, 1), "cost": cost}


def _has_status(key: str, status: str) -> Callable[[Answer], bool | None]:
    def judge(answer: Answer) -> bool | None:
        if not answer.ok:
            return False
        seen = str(answer.json()[key]["status"]).upper()
        return True if seen == status else False if seen.startswith("ERROR") else None

    return judge


async def _must(client: Client, method: str, service: str, path: str, document: object = None) -> Any:
    answer = await client.call(method, service, path, document)
    if not answer.ok:
        raise CloudFailed(f"{method} {service} {path}: {answer.status} {answer.body[:300]!r}")
    return answer.json()
