"""Calls of the cloud's public API, as one user."""

from typing import Any
from urllib.parse import quote

import httpx

from cumulet.core.context import Secret

__all__ = ["COMPUTE", "IDENTITY", "IMAGE", "NETWORK", "VOLUME", "Api", "LoggedOut", "Refused", "segment"]

IDENTITY, COMPUTE, IMAGE, NETWORK, VOLUME = "/identity/v3", "/compute/v2.1", "/image/v2", "/network/v2.0", "/volume/v3"
#: the newest this dashboard was written for
COMPUTE_VERSION = "compute 2.96"
MESSAGE_MAX = 4000


class Refused(Exception):
    """The cloud said no, or nothing.  status: its answer's, or 502 where none came; message: its own words, from anybody."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class LoggedOut(Exception):
    """The token is no longer good."""


def segment(name: str) -> str:
    """A name as one segment of a path, whatever is in it."""
    if name in {"", ".", ".."}:
        raise Refused(404, "There is nothing of that name.")
    return quote(name, safe="")


class Api:
    """A caller with a token, or without one (to get it)."""

    def __init__(self, http: httpx.AsyncClient, token: Secret | None) -> None:
        self._http = http
        self._token = token

    async def get(self, path: str, **query: str) -> Any:
        return (await self.send("GET", path, query=query)).json()

    async def post(self, path: str, body: Any, *, version: str = COMPUTE_VERSION) -> Any:
        """The answer's document, or None where it has none."""
        answer = await self.send("POST", path, body=body, version=version)
        return answer.json() if answer.content else None

    async def put(self, path: str, body: Any) -> Any:
        answer = await self.send("PUT", path, body=body)
        return answer.json() if answer.content else None

    async def delete(self, path: str) -> None:
        await self.send("DELETE", path)

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, str] | None = None,
        version: str = COMPUTE_VERSION,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One request.  Raises LoggedOut for 401 with a token, Refused for every other answer that is no success."""
        sent = {"Accept": "application/json", **(headers or {})}
        if path.startswith(COMPUTE):
            sent["OpenStack-API-Version"] = version
        if self._token is not None:
            sent["X-Auth-Token"] = self._token.reveal()
        try:
            answer = await self._http.request(method, path, json=body, params=query or None, headers=sent)
        except httpx.HTTPError as error:
            raise Refused(502, f"The cloud does not answer: {type(error).__name__}.") from None
        if answer.status_code == 401 and self._token is not None:
            raise LoggedOut
        if not answer.is_success:
            raise Refused(answer.status_code if answer.is_error else 502, _words(answer))
        return answer


def _words(answer: httpx.Response) -> str:
    """What a refusal says, in any service's envelope: `{"itemNotFound": {"message": …}}`, `{"NeutronError": {"message": …}}`."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    if isinstance(document, dict):
        for inner in document.values():
            words = inner.get("message") if isinstance(inner, dict) else inner
            if isinstance(words, str) and words:
                return words[:MESSAGE_MAX]
    return f"{answer.status_code} {answer.reason_phrase}"
