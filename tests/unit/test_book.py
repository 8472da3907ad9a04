"""Books outlive their process, whatever it died in."""

import os
from pathlib import Path

import msgspec
import pytest

from cumulet.core import book
from cumulet.core.book import Book


class Thing(msgspec.Struct, frozen=True):
    size: int


def test_a_book_is_there_again_as_it_was(tmp_path: Path) -> None:
    """The newest of each name, in the order in which they came; what was dropped is not."""
    one = Book(Thing, tmp_path / "below" / "things")
    for name, size in (("a", 1), ("b", 2), ("c", 3), ("a", 4)):
        one.put(name, Thing(size))
    assert one.drop("b") == Thing(2)
    assert one.drop("b") is None
    again = Book(Thing, tmp_path / "below" / "things")
    assert (list(again), again.things()) == (["a", "c"], [Thing(4), Thing(3)])
    again.put("d", Thing(5))
    assert list(Book(Thing, tmp_path / "below" / "things")) == ["a", "c", "d"]


def test_a_line_that_its_writer_died_in_was_never_written(tmp_path: Path) -> None:
    """What stands before it is, and what comes after it."""
    one = Book(Thing, tmp_path / "things")
    one.put("a", Thing(1))
    one.put("b", Thing(2))
    whole = (tmp_path / "things").read_bytes()
    (tmp_path / "things").write_bytes(whole[:-3])
    again = Book(Thing, tmp_path / "things")
    assert list(again) == ["a"]
    again.put("c", Thing(3))
    assert list(Book(Thing, tmp_path / "things")) == ["a", "c"]


def test_what_is_no_longer_true_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file does not grow without end, however often a thing changes."""
    monkeypatch.setattr(book, "LINES_MAX", 20)
    one = Book(Thing, tmp_path / "things")
    for size in range(1000):
        one.put("a", Thing(size))
        one.put(f"{size}", Thing(size))
        one.drop(f"{size}")
    assert len((tmp_path / "things").read_bytes().splitlines()) <= 22
    assert Book(Thing, tmp_path / "things").things() == [Thing(999)]


def test_a_book_without_a_file_forgets(tmp_path: Path) -> None:
    """Nothing is written anywhere."""
    one = Book(Thing, None)
    one.put("a", Thing(1))
    assert one.get("a") == Thing(1)
    assert len(Book(Thing, None)) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_the_disk_has_no_room_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it stays, and what is written once there is room again can be read."""
    one = Book(Thing, tmp_path / "things")
    one.put("a", Thing(1))
    write = os.write
    with monkeypatch.context() as full:
        full.setattr("cumulet.core.book.os.write", lambda file, line: write(file, line[:5]))
        with pytest.raises(OSError, match="No space left"):
            one.put("b", Thing(2))
    assert one.get("b") is None
    one.put("c", Thing(3))
    assert list(Book(Thing, tmp_path / "things")) == ["a", "c"]
