"""Microversions: how a request names one, what is answered, and which are refused."""

import re
from collections.abc import Mapping

from cumulet.core.errors import BadRequest, NotAcceptable

__all__ = ["Microversions", "Version"]

Version = tuple[int, int]

_PATTERN = re.compile(r"^([1-9]\d*)\.([1-9]\d*|0)$")


class Microversions:
    """One service's range.

    service: the word in `OpenStack-API-Version: WORD 2.90`; legacy: an older header that carries the bare number.
    """

    def __init__(self, service: str, lowest: Version, highest: Version, *, legacy: str | None = None) -> None:
        self.service = service
        self.lowest = lowest
        self.highest = highest
        self.legacy = legacy

    def asked(self, headers: Mapping[str, str]) -> Version:
        """The version a request asks for; without one, the lowest.  Raises BadRequest and NotAcceptable as the reference does."""
        text = None
        for part in headers.get("openstack-api-version", "").split(","):
            word, _, number = part.strip().partition(" ")
            if word.lower() == self.service or (self.service == "volume" and word.lower() == "block-storage"):
                text = number.strip()
        if text is None and self.legacy:
            text = headers.get(self.legacy.lower())
        if text is None:
            return self.lowest
        if text.lower() == "latest":
            return self.highest
        match = _PATTERN.match(text)
        if match is None:
            msg = f"API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum."
            raise BadRequest(msg)
        version = (int(match[1]), int(match[2]))
        if not self.lowest <= version <= self.highest:
            msg = (
                f"Version {text} is not supported by the API. Minimum is {self.text(self.lowest)} "
                f"and maximum is {self.text(self.highest)}."
            )
            raise NotAcceptable(msg)
        return version

    @staticmethod
    def text(version: Version) -> str:
        return f"{version[0]}.{version[1]}"

    def answer(self, version: Version) -> dict[str, str]:
        """The headers that say which version answered."""
        headers = {"OpenStack-API-Version": f"{self.service} {self.text(version)}", "Vary": "OpenStack-API-Version"}
        if self.legacy:
            headers[self.legacy] = self.text(version)
            headers["Vary"] = f"OpenStack-API-Version, {self.legacy}"
        return headers
