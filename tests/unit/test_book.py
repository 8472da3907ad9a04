"""The book of a simulated machine: what it remembers, through the end of its process."""

import os
from pathlib import Path

import msgspec
import pytest

from cumulet.core.disk import book
from cumulet.core.disk.book import Book


class Note(msgspec.Struct, frozen=True):
    """What is remembered here."""

    text: str


def test_a_book_is_read_again_as_it_was(tmp_path: Path) -> None:
    """Records that were put, changed and dropped; its folder is made; one without a path writes nothing."""
    path = tmp_path / "sim" / "notes.jsonl"
    for made in (Book(path, Note), Book(None, Note)):
        for number in range(4):
            made.put(f"n{number}", Note("as made"))
        made.put("n1", Note("changed"))
        made.drop("n2")
        made.drop("n9")
        assert made.records == {"n0": Note("as made"), "n1": Note("changed"), "n3": Note("as made")}
    assert Book(path, Note).records == made.records
    assert list(tmp_path.rglob("*")) == [path.parent, path]


def test_a_line_that_a_kill_cut_off_is_not_read_and_harms_no_other(tmp_path: Path) -> None:
    """The change was not made; the next one is."""
    path = tmp_path / "notes.jsonl"
    Book(path, Note).put("a", Note("1"))
    with path.open("ab") as file:
        file.write(b'["a",{"te')
    made = Book(path, Note)
    made.put("b", Note("2"))
    assert Book(path, Note).records == {"a": Note("1"), "b": Note("2")}


def test_a_book_does_not_grow_with_what_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written anew when most of it is old."""
    monkeypatch.setattr(book, "OLD_LINES_MAX", 50)
    made = Book(tmp_path / "notes.jsonl", Note)
    made.put("kept", Note("x"))
    for number in range(500):
        made.put("again", Note(str(number)))
    assert len((tmp_path / "notes.jsonl").read_bytes().splitlines()) <= 51
    assert Book(tmp_path / "notes.jsonl", Note).records == {"kept": Note("x"), "again": Note("499")}


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written whole is an error, not remembered, and the lines before and after it stay readable."""
    made = Book(tmp_path / "notes.jsonl", Note)
    made.put("a", Note("1"))
    whole = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, line: whole(file, line[:7]))
        with pytest.raises(OSError, match="No space left"):
            made.put("a", Note("2"))
    made.put("b", Note("3"))
    assert made.records == Book(tmp_path / "notes.jsonl", Note).records == {"a": Note("1"), "b": Note("3")}
