"""Real engines for tests, each private: its own folder, user, port and processes, and nothing left behind.

The machine's own PostgreSQL or RabbitMQ, if it has one, is never touched.  An engine belongs to the thread that
started it and dies with it (the kernel sees to that), so a killed test run leaves no daemon.  Every process of a test
run starts its own when it needs one; the tests that need one are sent to one process (see `tests/conftest.py`), which
is simpler than sharing.
"""

from cumulet.dev.engines.postgres import PrivatePostgres
from cumulet.dev.engines.process import EngineFailed
from cumulet.dev.engines.rabbitmq import PrivateRabbitMQ

__all__ = ["PACKAGES", "EngineFailed", "PrivatePostgres", "PrivateRabbitMQ"]

#: the Debian packages that the engines are made of
PACKAGES: tuple[str, ...] = ("postgresql", "rabbitmq-server")
