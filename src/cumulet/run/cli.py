"""The program `cumulet`.  Each command imports what it needs when it runs, so that `cumulet --help` is quick."""

import gc
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cumulet")
def main() -> None:
    """A whole OpenStack-API-compatible cloud in one program."""


def _state_option(command: Any) -> Any:
    return click.option(
        "--state",
        "state",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("/var/lib/cumulet"),
        envvar="CUMULET_STATE",
        show_default=True,
        help="The cloud's state directory.",
    )(command)


@main.command()
@click.option(
    "--sim",
    "drivers",
    flag_value="sim",
    help="Simulated hypervisor, network and volumes; needs neither root nor packages.",
)
@click.option("--real", "drivers", flag_value="real", help="Fail where a driver would be simulated.")
@click.option("--auto", "drivers", flag_value="auto", default=True, help="Real drivers where they work (the default).")
@_state_option
@click.option("--port", type=int, default=8780, show_default=True)
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--public-url", default=None, help="What links begin with, when clients reach the cloud by another address."
)
@click.option(
    "--database", "database_url", default=None, help="postgresql://… instead of files in the state directory."
)
@click.option("--bus", "bus_url", default=None, help="amqp://… instead of queues in this process.")
@click.option("--keep-guests", is_flag=True, help="On stop, leave guests and their daemons running.")
@click.option("--no-merge-clouds", is_flag=True, help="Leave ~/.config/openstack/clouds.yaml alone.")
@click.option(
    "--log",
    "log_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Log file [default: STATE/log/cumulet.log].",
)
@click.option("--faults", is_flag=True, help="Let admins inject faults, for tests of what runs on the cloud.")
@click.option("--compute-schemas", type=click.Path(exists=True, path_type=Path), default=None, hidden=True)
@click.option("--failpoint", default=None, hidden=True, help="Die, or ask, at a step: for tests.")
@click.option(
    "--bcrypt-rounds",
    type=click.IntRange(4, 16),
    default=12,
    show_default=True,
    help="Cost of a password hash, 2 to the power of this.",
)
def up(  # the command's options
    drivers: str,
    state: Path,
    port: int,
    listen: str,
    public_url: str | None,
    database_url: str | None,
    bus_url: str | None,
    keep_guests: bool,  # a flag of the command
    no_merge_clouds: bool,  # a flag of the command
    log_file: Path | None,
    faults: bool,  # a flag of the command
    compute_schemas: Path | None,
    failpoint: str | None,
    bcrypt_rounds: int,
) -> None:
    """Start the cloud in the foreground, and print where it listens."""
    # most of what a start makes stays: looking through it for garbage, again and again, is a sixth of the start
    gc.disable()
    _quick_imports()
    from cumulet.run.all_in_one import Cloud
    from cumulet.run.config import UpConfig
    from cumulet.run.failpoints import failpoint_of
    from cumulet.run.logs import log_to
    from cumulet.run.state import StateInUseError

    state = state.absolute()
    state.mkdir(parents=True, exist_ok=True)
    log_to(log_file or state / "log" / "cumulet.log")
    config = UpConfig(
        state_dir=state,
        listen=listen,
        port=port,
        public_url=public_url.rstrip("/") if public_url else None,
        drivers=drivers or "auto",  # type: ignore[arg-type]  # click gives one of the three flag values
        database_url=database_url,
        bus_url=bus_url,
        merge_clouds=not no_merge_clouds,
        keep_guests=keep_guests,
        bcrypt_rounds=bcrypt_rounds,
        compute_schemas=compute_schemas,
        faults=faults,
    )
    cloud = Cloud(config, failpoint=failpoint_of(failpoint)) if failpoint else Cloud(config)
    try:
        cloud.run()
    except StateInUseError as error:
        raise click.ClickException(str(error)) from None
    except Exception as error:  # said in one line here, with its trace in the log
        logging.getLogger("cumulet").exception("start failed")
        from cumulet.core.errors import CloudError

        if isinstance(error, CloudError) or type(error).__module__.startswith("cumulet."):
            raise click.ClickException(getattr(error, "message", None) or str(error)) from error
        raise


@main.command()
@_state_option
def status(state: Path) -> None:
    """Whether the cloud runs, and what is in it."""
    from cumulet.run.status import print_status

    sys.exit(print_status(state))


@main.command()
@click.argument("server")
@click.option(
    "--cloud", default=None, envvar="OS_CLOUD", help="Entry of clouds.yaml [default: that of the state directory]."
)
@click.option("--follow/--no-follow", default=True, help="Go on printing while the launch runs.")
@_state_option
def trace(server: str, cloud: str | None, follow: bool, state: Path) -> None:  # a flag of the command
    """The nineteen steps of a server's launch, with times."""
    from cumulet.run.trace import print_trace

    sys.exit(print_trace(server, cloud=cloud, state=state, follow=follow))


@main.command()
@click.option(
    "--cloud", default=None, envvar="OS_CLOUD", help="Entry of clouds.yaml [default: that of the state directory]."
)
@click.option("--project", default=None, metavar="ID", help="Of this project instead of the user's own (admin only).")
@click.option("--all", "everything", is_flag=True, help="Of all projects (admin only).")
@click.option("--server", default=None, metavar="ID", help="Of this server and what belongs to it.")
@click.option("--since", type=click.IntRange(0), default=None, help="After this event [default: from now on].")
@_state_option
def watch(  # the command's options
    cloud: str | None,
    project: str | None,
    everything: bool,  # a flag of the command
    server: str | None,
    since: int | None,
    state: Path,
) -> None:
    """What happens in the cloud, a line each, as it happens."""
    from cumulet.run.watch import print_events

    if everything and project is not None:
        raise click.UsageError("--all and --project exclude each other")
    sys.exit(print_events(cloud=cloud, state=state, project=project, everything=everything, server=server, since=since))


@main.command()
@click.argument("server", required=False)
@click.option("--flavor", default=None, help="Instead of a server: where would one of this flavor go, and how many?")
@click.option("--image", default=None, help="With --flavor: of this image.")
@click.option("--zone", default=None, help="With --flavor: in this availability zone.")
@click.option("--project", default=None, help="With --flavor: for this project, whose quota is looked at too.")
@click.option("--as-owner", is_flag=True, help="What the server's owner may read: no host is named.")
@click.option(
    "--cloud", default=None, envvar="OS_CLOUD", help="Entry of clouds.yaml [default: that of the state directory]."
)
@_state_option
def why(
    server: str | None,
    flavor: str | None,
    image: str | None,
    zone: str | None,
    project: str | None,
    as_owner: bool,  # a flag of the command
    cloud: str | None,
    state: Path,
) -> None:
    """Why a server is where it is, or nowhere; or, with --flavor, what would fit, without launching."""
    from cumulet.run.why import print_fit, print_why

    if (server is None) == (flavor is None):
        raise click.UsageError("name a server, or a flavor with --flavor")
    if server is not None:
        if image or zone or project:
            raise click.UsageError("--image, --zone and --project go with --flavor")
        sys.exit(print_why(server, cloud=cloud, state=state, as_owner=as_owner))
    if flavor is not None:
        if as_owner:
            raise click.UsageError("--as-owner goes with a server")
        sys.exit(print_fit(flavor, image=image, zone=zone, project=project, cloud=cloud, state=state))


@main.command()
@click.option("--repair", is_flag=True, help="First take away what has no owner, and say what was done.")
@_state_option
def check(repair: bool, state: Path) -> None:  # a flag of the command
    """The leak check: everything of the cloud's has an owner.  Prints the count last; exit 1 when it is not 0."""
    from cumulet.run.check import print_check

    sys.exit(print_check(state, repair=repair))


def _quick_imports() -> None:
    """Import structlog without rich, which it wants only to colour terminals that a log never reaches: 0.1 s of each start."""
    sys.modules["rich"] = None  # type: ignore[assignment]  # makes `import rich` fail, as where it is not installed
    import structlog  # noqa: F401 - imported now, without rich

    del sys.modules["rich"]


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
