"""`cumulet check`: asks a running cloud for what has no owner."""

from pathlib import Path

import click

from cumulet.run.trace import ApiSession, cloud_entry

__all__ = ["print_check"]


def print_check(state: Path) -> int:
    """A line per leak, then their number; exit status 1 when it is not 0."""
    leaks = ApiSession(cloud_entry("cumulet-admin", state)).get("/cumulet/check")["leaks"]
    for leak in leaks:
        click.echo(f"{leak['kind']} {leak['id']} {leak['detail']}".rstrip())
    click.echo(str(len(leaks)))
    return int(bool(leaks))
