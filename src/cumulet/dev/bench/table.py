"""The table and the JSON of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cumulet.dev.bench.targets import TARGETS, Target

__all__ = ["lines", "look_up", "write"]

_NOT_HERE = {
    "scale": "not measured: ./dev scale",
    "real_launch": "not measured: ./dev bench --real",
    "real_port": "not measured: ./dev bench --real",
    "real_ssh": "not measured: ./dev bench --real",
}


def look_up(results: Mapping[str, Any], path: str) -> float | None:
    """A figure by its dotted name; None when it was not measured."""
    found: Any = results
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return None if found is None else float(found)


def lines(results: Mapping[str, Any], sections: Iterable[str] | None = None) -> tuple[list[str], bool]:
    """The table, of these sections or of all, and whether every figure in it meets its target."""
    wanted = None if sections is None else set(sections)
    good = True
    made = [f"{'what':<52} {'reference':>10} {'ours':>10} {'ratio':>8} {'target':>10}  met"]
    for target in TARGETS:
        if wanted is not None and target.section not in wanted:
            continue
        ours = look_up(results, target.path)
        if ours is None:
            verdict = _NOT_HERE.get(target.section, "not measured")
        else:
            met = target.met(ours)
            good = good and met is not False
            verdict = "yes" if met else "NO"
        made.append(_line(target, ours, verdict))
    return made, good


def _line(target: Target, ours: float | None, verdict: str) -> str:
    reference = target.note or _number(target.reference, target.unit)
    ratio = ""
    if ours and target.reference:
        ratio = f"{ours / target.reference if target.at_least else target.reference / ours:.3g}x"
    limit = _number(target.target, target.unit)
    return f"{target.what:<52} {reference:>10} {_number(ours, target.unit):>10} {ratio:>8} {limit:>10}  {verdict}"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{digits} {unit}"


def write(file: Path, meta: Mapping[str, Any], results: Mapping[str, Any], errors: Iterable[str]) -> None:
    """The document: figures by the names that cloudbench gives them."""
    told = list(errors)
    document = {"meta": meta, "results": results, "failures": len(told), "errors": told[:40]}
    part = file.with_name(f"{file.name}.part")
    part.write_text(json.dumps(document, indent=1) + "\n")
    part.replace(file)
