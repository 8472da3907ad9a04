"""Test mode: every answer of the compute API is held against the reference's own response schemas, and a wrong shape is a 500 at once.

The schemas are a file of the tester's: a JSON list, perhaps gzipped, of {method, path, action, min, max, schema}.  Nothing is checked
for an operation that has no schema there.
"""

import base64
import binascii
import datetime
import gzip
import ipaddress
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from cumulet.core.errors import ServerFault
from cumulet.core.web import Call, Response
from cumulet.core.web.versions import Version

__all__ = ["ENVIRONMENT", "ShapeError", "checks_asked_for", "schema_check"]

#: the variable that names the file
ENVIRONMENT = "CUMULET_COMPUTE_SCHEMAS"


class ShapeError(ServerFault):
    """An answer is not what the reference would have answered."""


def _accepts(read: Callable[[str], Any]) -> Callable[[str], bool]:
    """A format checker: what `read` takes is right."""

    def check(text: str) -> bool:
        try:
            read(text)
        except (ValueError, TypeError, binascii.Error):
            return False
        return True

    return check


#: the reference's own formats; its times need no zone, its UUIDs no dashes
FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _accepts(datetime.datetime.fromisoformat),
    "uuid": _accepts(uuid.UUID),
    "base64": _accepts(lambda text: base64.b64decode(text, validate=True)),
    "ipv4": _accepts(ipaddress.IPv4Address),
    "ipv6": _accepts(ipaddress.IPv6Address),
    "cidr": _accepts(lambda text: ipaddress.ip_network(text, strict=False)),
    "mac-address": lambda text: re.fullmatch(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", text) is not None,
    "hostname": lambda text: re.fullmatch(r"[a-zA-Z0-9._-]{1,255}", text) is not None,
    "fqdn": lambda text: re.fullmatch(r"[a-zA-Z0-9._-]{1,255}", text) is not None,
    "uri": lambda text: "://" in text,
}

Ranges = list[tuple[Version, Version, Any]]


def _version(text: str | None, default: Version) -> Version:
    if text is None:
        return default
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _key(method: str, path: str, action: str | None) -> tuple[str, str, str | None]:
    return method, re.sub(r"\{\w+\}", "{}", path).rstrip("/"), action


def checks_asked_for() -> tuple[Callable[[Call, Response], None], ...]:
    """The checks that the environment asks for; none in a product."""
    file = os.environ.get(ENVIRONMENT)
    return (schema_check(Path(file)),) if file else ()


def schema_check(file: Path) -> Callable[[Call, Response], None]:
    """A check for core.web.App.  Raises ShapeError with the place of the first difference."""
    raw = file.read_bytes()
    entries = msgspec.json.decode(gzip.decompress(raw) if file.suffix == ".gz" else raw)
    known: dict[tuple[str, str, str | None], Ranges] = {}
    for entry in entries:
        validator = jsonschema_rs.Draft7Validator(entry["schema"], formats=FORMATS, validate_formats=True)
        span = _version(entry["min"], (0, 0)), _version(entry["max"], (99, 999))
        known.setdefault(_key(entry["method"], entry["path"], entry["action"]), []).append((*span, validator))

    def check(call: Call, response: Response) -> None:
        path = call.route.path.removeprefix("/v2.1")
        if path == call.route.path or response.status >= 300 or call.request.method == "HEAD":
            return
        body = None if response.body is None else msgspec.json.decode(response.content())
        for low, high, validator in known.get(_key(call.route.method, path, call.route.action), ()):
            if low <= call.version <= high and not validator.is_valid(body):
                error = next(validator.iter_errors(body))
                where = "/".join(str(part) for part in error.instance_path)
                raise ShapeError(
                    detail=f"{call.route.method} {path} {call.route.action or ''} at {call.version}: {where}: {error.message}"[
                        :2000
                    ]
                )

    return check
