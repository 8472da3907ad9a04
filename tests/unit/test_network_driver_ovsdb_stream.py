"""Messages out of OVSDB's stream, whatever the pieces are in which they come."""

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cumulet.network.drivers.ovsdb_stream import MessageParser

_TEXTS = st.text(max_size=6) | st.sampled_from(["{", "}", '"', "\\", '\\"', 'a"}{', "\\\\", "é", "\n"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=12,
)
_MESSAGES = st.dictionaries(_TEXTS, _VALUES, max_size=4)


def read(pieces: list[str]) -> list[Any]:
    """As the library does it."""
    found, parser = list[Any](), None
    for piece in pieces:
        left = piece
        while left:
            parser = parser or MessageParser()
            left = left[parser.feed(left) :]
            if parser.is_done():
                found.append(parser.finish())
                parser = None
    assert parser is None
    return found


@given(st.lists(_MESSAGES, min_size=1, max_size=3), st.booleans(), st.data())
def test_messages_are_read_from_any_pieces(messages: list[Any], plain: bool, data: st.DataObject) -> None:
    """One after the other without anything between them; strings with braces, quotes and backslashes cut anywhere."""
    text = "".join(json.dumps(message, ensure_ascii=not plain) for message in messages)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(pieces) == messages


def test_what_is_no_message_is_told() -> None:
    """The library ends the connection when it is given a text."""
    for text in ('["echo"]', "nonsense", '{"a" 1}'):
        parser = MessageParser()
        assert parser.feed(text) == len(text)
        assert parser.is_done()
        assert isinstance(parser.finish(), str) or text.startswith("[")


def test_a_long_message_takes_time_by_its_length() -> None:
    """Twice as long takes about twice the time, in pieces as they come from a socket: never all of it again for each piece."""

    def seconds(rows: int) -> float:
        text = json.dumps({"rows": [{"name": "a" * 30, "match": "{x}"} for _ in range(rows)]})
        began = time.thread_time()
        assert len(read([text[at : at + 4096] for at in range(0, len(text), 4096)])) == 1
        return time.thread_time() - began

    assert min(seconds(40_000) for _ in range(3)) < 4 * min(seconds(20_000) for _ in range(3))
