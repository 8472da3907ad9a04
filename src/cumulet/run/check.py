"""`cumulet check`: asks a running cloud for what has no owner."""

from pathlib import Path

import click

from cumulet.run.trace import ApiSession, cloud_entry

__all__ = ["print_check"]


def print_check(state: Path, *, repair: bool = False) -> int:
    """A line per leak, then their number; exit status 1 when it is not 0.  repair: first a line for each thing that was done."""
    api = ApiSession(cloud_entry("cumulet-admin", state))
    if repair:
        answer = api.post("/cumulet/repair", {})
        leaks = answer["leaks"]
        for one in answer["repaired"]:
            click.echo(f"{_named(one)}: {one['done']}")
    else:
        leaks = api.get("/cumulet/check")["leaks"]
    for leak in leaks:
        click.echo(_named(leak))
    click.echo(str(len(leaks)))
    return int(bool(leaks))


def _named(leak: dict[str, str]) -> str:
    where = f"on {leak['host']}" if leak["host"] else ""
    return " ".join(filter(None, (leak["kind"], leak["id"], leak["detail"], where)))
