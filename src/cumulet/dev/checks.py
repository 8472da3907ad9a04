"""`./dev check`: everything that judges the source without running it."""

from __future__ import annotations

import re
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from cumulet.dev.checkout import ROOT, program
from cumulet.dev.locks import LOCKS

__all__ = ["CHECKS", "locks_are_complete", "run"]

#: a check answers with its complaint, nothing when all is well
Check = Callable[[], str]


def _command(*words: str) -> Check:
    def check() -> str:
        done = subprocess.run(
            [program(words[0]), *words[1:]],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr

    return check


def locks_are_complete(root: Path = ROOT) -> str:
    """Every dependency that pyproject.toml asks for stands in its lock, with hashes, and no lock names a registry."""
    described = tomllib.loads((root / "pyproject.toml").read_text())
    asked = {"requirements.txt": described["project"]["dependencies"]}
    for name, source in LOCKS.items():
        if "--group" in source:
            asked[name] = described["dependency-groups"][source[source.index("--group") + 1]]
    complaints = []
    for name, requirements in asked.items():
        text = (root / name).read_text()
        pinned = set(re.findall(r"^([a-z0-9.-]+)==\S+ .*\\\n    --hash=sha256:", text, re.MULTILINE))
        for requirement in requirements:
            words = re.match(r"[A-Za-z0-9._-]+", requirement)
            wanted = re.sub(r"[-_.]+", "-", words.group().lower()) if words else requirement
            if wanted not in pinned:
                complaints.append(f"{name}: {wanted} is not pinned; run ./dev lock")
        if re.search(r"https?://|--(extra-)?index-url|--find-links", text):
            complaints.append(f"{name}: names a registry")
    return "\n".join(complaints)


CHECKS: dict[str, Check] = {
    "ruff check": _command("ruff", "check", "--quiet", "."),
    "ruff format": _command("ruff", "format", "--check", "--quiet", "--diff", "."),
    "mypy": _command("mypy"),
    "imports": _command("lint-imports"),
    "locks": locks_are_complete,
}


def run() -> bool:
    """Run every check, show what they complain about; whether all are content."""
    content = True
    for name, check in CHECKS.items():
        began = time.monotonic()
        complaint = check()
        print(f"{name:<12} {'failed' if complaint else 'ok':<7} {time.monotonic() - began:5.1f} s", flush=True)
        if complaint:
            print(complaint.rstrip() + "\n", flush=True)
            content = False
    return content
