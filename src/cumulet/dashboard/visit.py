"""One request of somebody who is logged in, and the answers a page may give."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from cumulet.core.clock import Clock
from cumulet.dashboard.client import Api
from cumulet.dashboard.forms import Form
from cumulet.dashboard.sessions import Notice, Session

__all__ = ["Renderer", "Visit", "day_and_time"]

#: statuses by the colour they are shown in; a word from outside never becomes a class
_TONES = {
    "ACTIVE": "good",
    "active": "good",
    "available": "good",
    "in-use": "good",
    "ERROR": "bad",
    "error": "bad",
    "killed": "bad",
    "DOWN": "bad",
    "BUILD": "busy",
    "REBOOT": "busy",
    "HARD_REBOOT": "busy",
    "REBUILD": "busy",
    "RESIZE": "busy",
    "creating": "busy",
    "downloading": "busy",
    "saving": "busy",
    "queued": "busy",
}


def day_and_time(stamp: str | None) -> str:
    """`2026-01-31 12:00:00`, whichever service wrote it."""
    return (stamp or "")[:19].replace("T", " ")


def _tone(status: str | None) -> str:
    return _TONES.get(status or "", "quiet")


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _size(count: int | None) -> str:
    """Bytes for people."""
    size = float(count or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


class Renderer:
    """The templates of this package.  Everything put into one is escaped, and a name that does not exist is an error."""

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"tone": _tone, "moment": day_and_time, "ms": _milliseconds, "bytes": _size}

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        values = {"session": None, "form_mark": "", "notices": (), "here": "", **values}
        return HTMLResponse(self._templates.get_template(template).render(values), status)


@dataclass(frozen=True)
class Visit:
    """What a page's handler is given.  form is empty but for a POST, and then has been checked for its mark."""

    request: Request
    session: Session
    api: Api
    form: Form
    form_mark: str
    renderer: Renderer
    clock: Clock
    #: where the API is: links of ours into it begin so
    base_url: str

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A whole page; tells the waiting notices."""
        notices = tuple(self.session.notices)
        self.session.notices.clear()
        return self.fragment(template, status=status, notices=notices, **values)

    def fragment(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A piece of a page; leaves the notices for the next whole one."""
        return self.renderer.page(template, status=status, session=self.session, form_mark=self.form_mark, **values)

    def go(self, path: str, told: str = "", *, bad: bool = False) -> Response:
        """On to a page of ours, with something to tell there."""
        if told:
            self.session.notices.append(Notice(told, bad=bad))
        return RedirectResponse(path, status_code=303)

    @property
    def id(self) -> str:
        """The identifier in the path; the route admits nothing else."""
        found: UUID = self.request.path_params["id"]
        return str(found)
