"""Debian packages are installed only when they are missing."""

import subprocess
from pathlib import Path

import pytest

from cumulet.dev import apt


class _Dpkg:
    """A dpkg-query that knows these packages and nothing else."""

    def __init__(self, *installed: str) -> None:
        self.installed = set(installed)

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == "dpkg-query"
        text = (
            "".join(f"{name} installed\n" for name in command[3:] if name in self.installed) + "removed config-files\n"
        )
        return subprocess.CompletedProcess(command, 1, text, "")


@pytest.fixture
def dpkg(monkeypatch: pytest.MonkeyPatch) -> _Dpkg:
    """Two packages are installed."""
    machine = _Dpkg("one", "two")
    monkeypatch.setattr(apt.subprocess, "run", machine.run)
    return machine


def test_a_removed_package_is_missing(dpkg: _Dpkg) -> None:
    """Left-over configuration files are no package."""
    assert apt.missing(["one", "removed", "three"]) == ["removed", "three"]


def test_only_what_is_missing_is_installed(dpkg: _Dpkg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And the second time nothing is."""
    asked: list[list[str]] = []

    def install(names: list[str], log: Path) -> None:
        asked.append(names)
        dpkg.installed |= set(names)

    monkeypatch.setattr(apt, "install", install)
    assert apt.ensure(["one", "three"], log=tmp_path / "log") == ["three"]
    assert apt.ensure(["one", "three"], log=tmp_path / "log") == []
    assert asked == [["three"]]


def test_a_machine_without_dpkg_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is missing there, and installing says why it cannot."""

    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError("dpkg-query")

    monkeypatch.setattr(apt.subprocess, "run", run)
    assert apt.missing(["one"]) == ["one"]
