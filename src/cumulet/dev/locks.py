"""`./dev lock`: the requirements*.txt files, made anew from what pyproject.toml asks for.

Each lock pins one version with the hashes of its files, and names no registry: where packages come from is the
machine's choice, what they are is ours.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["LOCKS", "lock"]

#: lock file -> what it is compiled from; in this order, as a later one may be constrained by an earlier one
LOCKS: Mapping[str, Sequence[str]] = {
    "requirements-build.txt": ("--group", "build"),
    "requirements.txt": ("pyproject.toml",),
    "requirements-dev.txt": ("--group", "dev", "--constraints", "requirements.txt"),
    "requirements-clients.txt": ("--group", "clients"),
    "requirements-conformance.txt": ("--group", "conformance"),
}


def lock(root: Path, *, upgrade: bool) -> None:
    """Compile every lock.  Without `upgrade` a version that still fits stays."""
    for name, source in LOCKS.items():
        command = [str(root / ".venv/bin/uv"), "pip", "compile", *source, "--output-file", name]
        command += [
            "--quiet",
            "--generate-hashes",
            "--no-emit-index-url",
            "--no-strip-markers",
            "--python-version",
            "3.11",
        ]
        command += ["--custom-compile-command", "./dev lock", *(["--upgrade"] if upgrade else [])]
        subprocess.run(command, cwd=root, check=True)
        print(name)
