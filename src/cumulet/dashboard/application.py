"""The dashboard's routes, and what holds for each of them.

A page needs a session; a form needs a session, an origin of ours and the session's mark; every answer carries the headers that keep
scripts, frames and caches of others out.  `/` tells a program where the APIs are, and a person where to log in.

What the pages need is loaded at the first request, on another thread: a cloud without a browser neither waits nor pays for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from cumulet.core.clock import Clock, SystemClock
from cumulet.core.ids import Ids, SystemIds

if TYPE_CHECKING:
    import httpx

__all__ = ["dashboard_application"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def dashboard_application(
    *,
    base_url: str,
    clock: Clock | None = None,
    ids: Ids | None = None,
    transport: "httpx.AsyncBaseTransport | None" = None,
) -> Asgi:
    """ASGI application for every path that no API has.

    base_url: how this process reaches the public API (`http://127.0.0.1:8780`); transport: another way to it, for tests.
    """
    built: list[Asgi] = []
    lock = asyncio.Lock()

    def build() -> Asgi:
        from cumulet.dashboard.pages import site

        return site(base_url=base_url, clock=clock or SystemClock(), ids=ids or SystemIds(), transport=transport)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if not built:
            async with lock:
                if not built:
                    built.append(await asyncio.to_thread(build))
        await built[0](scope, receive, send)

    return application
