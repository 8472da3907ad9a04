"""The private RabbitMQ that bus tests run on."""

from typing import Any

import kombu
import pytest

from cumulet.dev.engines import PrivateRabbitMQ

_ANSWER_TIMEOUT_S = 10


def _exchange(url: str, message: dict[str, Any] | None) -> Any:
    """Put `message` into a durable queue and leave it there, or take one out."""
    confirmed = {"confirm_publish": True}  # without it a message may be lost on its way to the disk
    with (
        kombu.Connection(url, connect_timeout=_ANSWER_TIMEOUT_S, transport_options=confirmed) as connection,
        connection.SimpleQueue("things") as queue,
    ):
        if message is not None:
            queue.put(message)
            return None
        taken = queue.get(timeout=_ANSWER_TIMEOUT_S)
        taken.ack()
        return taken.payload


def test_each_virtual_host_is_empty_and_alone(rabbitmq: PrivateRabbitMQ, rabbitmq_url: str) -> None:
    """A message in one test's virtual host is not seen in another's."""
    _exchange(rabbitmq_url, {"n": 1})
    other = rabbitmq.create_vhost()
    with kombu.Connection(rabbitmq.url(other)) as connection, connection.SimpleQueue("things") as queue:
        assert queue.qsize() == 0
    rabbitmq.delete_vhost(other)
    assert _exchange(rabbitmq_url, None) == {"n": 1}


def test_a_wrong_password_is_refused(rabbitmq: PrivateRabbitMQ) -> None:
    """The broker is not open to everybody on the machine."""
    with pytest.raises(Exception, match="ACCESS_REFUSED"):
        _exchange(rabbitmq.url().replace(rabbitmq.password, "wrong"), None)


@pytest.mark.slow
def test_durable_messages_survive_a_crash(rabbitmq: PrivateRabbitMQ, rabbitmq_url: str) -> None:
    """After `restart` what was confirmed is still there."""
    _exchange(rabbitmq_url, {"n": 2})
    rabbitmq.restart()
    assert _exchange(rabbitmq_url, None) == {"n": 2}
