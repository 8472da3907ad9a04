"""Where things are in this checkout."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["APT_LOG", "ROOT", "WORK", "program"]

#: the repository: `./dev` says where it is; from an interpreter it is found from this file
ROOT = Path(os.environ.get("CUMULET_CHECKOUT") or Path(__file__).resolve().parents[3])

#: logs and other things made by `./dev`; may be deleted at any time
WORK = ROOT / ".cache/dev"

APT_LOG = WORK / "apt.log"


def program(name: str, environment: str = ".venv") -> str:
    """The path of a command in one of the checkout's environments."""
    return str(ROOT / environment / "bin" / name)
