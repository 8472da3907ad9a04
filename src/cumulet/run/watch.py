"""`cumulet watch`: what happens in a project, a line each, as it happens; a lost connection is taken up where it was."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from cumulet.compute.states import status_of
from cumulet.run.trace import cloud_entry, log_in

__all__ = ["Message", "Watch", "print_events"]

#: between two attempts to connect
RETRY_S = 0.5
#: longer than the cloud is ever silent
SILENCE_S = 45.0
#: not worth a place in a line: what the line says already, or too long for it
_NOT_SHOWN = frozenset({"name", "vm_state", "task_state", "started_at", "finished_at", "fixed_ips", "flow", "row"})


class Message(msgspec.Struct, frozen=True):
    """An event as the stream shows it."""

    number: int
    at: str
    kind: str
    id: str
    project_id: str | None
    change: str
    data: dict[str, Any]


_decode = msgspec.json.Decoder(Message).decode


class Watch:
    """A reader that comes back: after a lost connection, a restart of the cloud, an expired token.

    since: the last number it has seen, as for the API.
    """

    def __init__(
        self, entry: dict[str, Any], query: dict[str, str], *, since: int | None, say: Callable[[str], None]
    ) -> None:
        self.since = since
        self._entry = entry
        self._base = entry["auth"]["auth_url"].removesuffix("/identity/v3")
        self._query = query
        self._say = say
        self._pause = threading.Event()
        self._token: str | None = None

    def messages(self) -> Iterator[Message]:
        """What happens, for ever."""
        with httpx.Client(timeout=httpx.Timeout(10, read=SILENCE_S)) as http:
            told = False
            while True:
                try:
                    yield from self._connected(http)
                    told = False
                except httpx.TransportError as error:
                    if not told:
                        self._say(f"the connection is lost ({type(error).__name__}); trying again")
                    told = True
                self._pause.wait(RETRY_S)

    def _connected(self, http: httpx.Client) -> Iterator[Message]:
        """Of one connection."""
        if self._token is None:
            self._token = log_in(http, self._entry)
        headers = {"X-Auth-Token": self._token, "Accept": "text/event-stream"}
        if self.since is not None:
            headers["Last-Event-ID"] = str(self.since)
        with http.stream("GET", f"{self._base}/events", params=self._query, headers=headers) as answer:
            if answer.status_code == 401:
                self._token = None
                return
            if answer.status_code == 410:
                self._say(_words(answer))
                self.since = None
                return
            if answer.status_code == 503:
                self._say(_words(answer))
                return
            if answer.status_code != 200:
                raise SystemExit(_words(answer))
            yield from self._read(answer)

    def _read(self, answer: httpx.Response) -> Iterator[Message]:
        number: int | None = None
        data = ""
        for line in answer.iter_lines():
            if line:
                field, _, value = line.partition(": ")
                if field == "id":
                    number = int(value)
                elif field == "data":
                    data = value
                continue
            # only now is the message complete
            if data:
                yield _decode(data)
            if number is not None:
                self.since = number
            number, data = None, ""


def _words(answer: httpx.Response) -> str:
    answer.read()
    try:
        (fault,) = answer.json().values()
        return str(fault["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{answer.status_code} {answer.reason_phrase}"


def line_of(message: Message, *, with_project: bool) -> str:
    """One line for people."""
    data = message.data
    words = [message.at[11:23], f"{message.number:>7}", f"{message.kind:<12}", message.id]
    if with_project:
        words.append(message.project_id or "-")
    if message.kind.endswith(".step"):
        row = f"{data['row']:>2} " if data.get("row") is not None else ""
        words.append(f"{data['flow']}: {row}{data['name']} {message.change}")
    else:
        words.append(message.change)
        if data.get("name"):
            words.append(repr(data["name"]))
    if "vm_state" in data:
        words.append(status_of(data["vm_state"], data["task_state"]))
        if data["task_state"]:
            words.append(f"({data['task_state']})")
    words += [f"{key}={value}" for key, value in data.items() if key not in _NOT_SHOWN and value not in {None, ""}]
    return " ".join(words)


def print_events(
    *, cloud: str | None, state: Path, project: str | None, everything: bool, server: str | None, since: int | None
) -> int:
    """Print until interrupted."""
    entry = cloud_entry(cloud, state)
    query: dict[str, str] = {}
    if everything or project is not None:
        query["all_projects"] = "1"
    if project is not None:
        query["project_id"] = project
    if server is not None:
        query["object_id"] = server

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    try:
        for message in Watch(entry, query, since=since, say=say).messages():
            sys.stdout.write(line_of(message, with_project=everything) + "\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    return 0
