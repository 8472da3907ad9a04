"""`./dev engines COMMAND`: one command with private engines around it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from cumulet.dev import apt
from cumulet.dev.checkout import APT_LOG
from cumulet.dev.engines import PACKAGES, PrivatePostgres, PrivateRabbitMQ

__all__ = ["around"]


def around(command: Sequence[str]) -> int:
    """Start both engines, run `command` with their URLs in its environment, stop them; its exit status.

    A SIGTERM is passed on to the command, so that the engines outlive it.
    """
    apt.ensure(PACKAGES, log=APT_LOG)
    with PrivatePostgres() as postgres, PrivateRabbitMQ() as rabbitmq:
        urls = {"CUMULET_DATABASE_URL": postgres.url(postgres.create_database()), "CUMULET_BUS_URL": rabbitmq.url()}
        with subprocess.Popen(command, env=os.environ | urls) as process:

            def pass_on(number: int, _frame: FrameType | None) -> None:
                process.send_signal(number)

            previous = signal.signal(signal.SIGTERM, pass_on)
            try:
                return process.wait()
            finally:
                signal.signal(signal.SIGTERM, previous)
