"""The check of the locks complains about what it should."""

from pathlib import Path

import pytest

from cumulet.dev import checks
from cumulet.dev.checkout import ROOT
from cumulet.dev.locks import LOCKS


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that the check reads."""
    for name in (*LOCKS, "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def test_the_locks_of_this_repository_are_complete() -> None:
    """All that pyproject.toml asks for is pinned with hashes."""
    assert checks.locks_are_complete() == ""


def test_a_dependency_without_a_pin_is_named(copy: Path) -> None:
    """Adding one to pyproject.toml asks for `./dev lock`."""
    described = copy / "pyproject.toml"
    described.write_text(described.read_text().replace('"bcrypt",', '"bcrypt",\n    "Another_Thing>=2",'))
    assert checks.locks_are_complete(copy) == "requirements.txt: another-thing is not pinned; run ./dev lock"


def test_a_lock_that_names_a_registry_is_refused(copy: Path) -> None:
    """Where packages come from is the machine's choice."""
    lock = copy / "requirements-dev.txt"
    lock.write_text("--index-url https://registry.test/simple\n" + lock.read_text())
    assert checks.locks_are_complete(copy) == "requirements-dev.txt: names a registry"
