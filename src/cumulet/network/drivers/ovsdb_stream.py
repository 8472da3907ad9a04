"""Messages out of OVSDB's stream, in place of the library's own parser.

That one goes through the text character by character in Python (its C twin is not in its wheels): 0.45 ms for what the database says
when a port is made, during which no other thread of the process runs.  Here one regular expression finds where the message ends, and
the standard library reads it at once.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["MessageParser", "use"]

#: up to the next brace outside of strings, or a string that has not ended yet, or the end
_STRING: Final = r'"[^"\\]*(?:\\.[^"\\]*)*'
_TOKENS: Final = re.compile(rf'(?:[^"{{}}]+|{_STRING}")*([{{}}]|{_STRING}\\?\Z|\Z)', re.DOTALL)


class MessageParser:
    """As `ovs.json.Parser`: fed with text until it has one message, a JSON object; what comes after that is not taken."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        #: a string whose end is yet to come
        self._string = ""
        self._depth = 0
        self._done = False

    def feed(self, text: str) -> int:
        """How much of the text was taken."""
        there = self._string + text
        if not there.strip():
            return len(text)
        if not self._parts and not self._string and not there.lstrip().startswith("{"):
            self._done = True  # no message: `finish` says so
            self._parts = [there]
            return len(text)
        for token in _TOKENS.finditer(there):
            what = token[1]
            if what == "{":
                self._depth += 1
            elif what == "}":
                self._depth -= 1
                if not self._depth:
                    self._done = True
                    self._parts.append(there[: token.end()])
                    return token.end() - len(self._string)
            elif what:
                self._parts.append(there[: token.start(1)])
                self._string = what
                return len(text)
        self._parts.append(there)
        self._string = ""
        return len(text)

    def is_done(self) -> bool:
        return self._done

    def finish(self) -> Any:
        """The message, or a text that says what is wrong with it."""
        try:
            return json.loads("".join(self._parts))
        except ValueError as error:
            return str(error)


def use() -> None:
    """For every connection that the library makes in this process from now on."""
    import ovs.json

    if ovs.json.PARSER != ovs.json.PARSER_C:
        ovs.json.Parser = MessageParser
