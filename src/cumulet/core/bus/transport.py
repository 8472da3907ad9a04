"""What a transport does, and what all transports share: clients, servers, bytes, errors."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import msgspec
import structlog

from cumulet.core import errors
from cumulet.core.bus.interface import Interface, Method
from cumulet.core.db import assert_no_transaction
from cumulet.core.work import Worker

__all__ = ["Bus", "BusTimeoutError", "RemoteCallError", "Serving"]

log = structlog.get_logger()

I = TypeVar("I", bound=Interface)  # noqa: E741 - an interface

_encode = msgspec.msgpack.Encoder().encode


class BusTimeoutError(errors.Unavailable):
    """No answer came in time; the work may have been done all the same."""

    default = "A part of the cloud did not answer in time."


class RemoteCallError(errors.ServerFault):
    """The other side failed with something that is not one of our errors."""


class _Failure(msgspec.Struct):
    """An error on its way back: its class, public words and private detail."""

    kind: str
    message: str
    detail: str | None


class _Answer(msgspec.Struct):
    """A call's answer: the value's bytes, or a failure."""

    value: bytes = b""
    failure: _Failure | None = None


_decode_answer = msgspec.msgpack.Decoder(_Answer).decode


class Bus(Protocol):
    """Named queues.  Implemented by LocalBus (this process) and RabbitBus (a broker)."""

    def send(self, topic: str, method: str, payload: bytes) -> None:
        """Put a cast on a queue.  Returns when the broker has it."""

    def ask(self, topic: str, method: str, payload: bytes, timeout_s: float) -> bytes:
        """Put a call on a queue and wait for the answer's bytes.  Raises BusTimeoutError."""

    def listen(self, topic: str, serving: "Serving", worker: Worker) -> None:
        """Run what arrives on a queue on `worker`, in order."""

    def close(self) -> None:
        """Stop listening and close."""

    def serve(self, interface: type[I], implementation: object, worker: Worker, **names: str) -> None:
        """Answer an interface's messages with the methods of `implementation`."""
        self.listen(interface.topic.format(**names), Serving(interface, implementation), worker)

    def client(self, interface: type[I], **names: str) -> I:
        """An object with the interface's methods that sends them."""
        return cast("I", _Client(self, interface, interface.topic.format(**names)))


class Serving:
    """The receiving side of one queue: bytes in, bytes out."""

    def __init__(self, interface: type[Interface], implementation: object) -> None:
        self.interface = interface
        self._run: dict[str, tuple[Method, Any, Callable[..., Any]]] = {
            name: (method, msgspec.msgpack.Decoder(method.arguments), getattr(implementation, name))
            for name, method in interface.methods.items()
        }

    def cast(self, method: str, payload: bytes) -> None:
        """Run a cast; what it raises is logged, as nobody waits for it."""
        try:
            _, decoder, function = self._run[method]
            arguments = decoder.decode(payload)
            function(*msgspec.structs.astuple(arguments))
        except Exception:  # the queue's thread goes on; the sender's saga has a deadline
            log.exception("cast failed", interface=self.interface.__name__, method=method)

    def call(self, method: str, payload: bytes) -> bytes:
        """Run a call; the answer or the failure, encoded."""
        try:
            _, decoder, function = self._run[method]
            arguments = decoder.decode(payload)
            return _encode(_Answer(_encode(function(*msgspec.structs.astuple(arguments)))))
        except errors.CloudError as error:
            return _encode(_Answer(failure=_Failure(type(error).__name__, error.message, error.detail)))
        except Exception as error:  # told to the caller without its words, kept here in full
            log.exception("call failed", interface=self.interface.__name__, method=method)
            return _encode(_Answer(failure=_Failure("RemoteCallError", RemoteCallError.default, repr(error))))


class _Client:
    """Sends an interface's messages."""

    def __init__(self, bus: Bus, interface: type[Interface], topic: str) -> None:
        self._bus = bus
        self._topic = topic
        self._interface = interface

    def __getattr__(self, name: str) -> Any:
        method = self._interface.methods.get(name)
        if method is None:
            raise AttributeError(name)
        decoder: Any = msgspec.msgpack.Decoder(method.answer if method.answer is not None else type(None))

        def send(*values: Any) -> Any:
            assert_no_transaction(f"the message {name}")
            payload = _encode(method.arguments(*values))
            if not method.answers:
                self._bus.send(self._topic, name, payload)
                return None
            answer = _decode_answer(self._bus.ask(self._topic, name, payload, method.timeout_s))
            if answer.failure is not None:
                raise _error(answer.failure)
            return decoder.decode(answer.value)

        self.__dict__[name] = send
        return send


def _error(failure: _Failure) -> errors.CloudError:
    for kind in _kinds(errors.CloudError):
        if kind.__name__ == failure.kind:
            return kind(failure.message, detail=failure.detail)
    return RemoteCallError(failure.message, detail=failure.detail)


def _kinds(root: type[errors.CloudError]) -> list[type[errors.CloudError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _kinds(child))]
