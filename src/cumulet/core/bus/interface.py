"""A message interface is a class: its methods, marked call or cast, are the messages; client and server come from it."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, get_type_hints

import msgspec

__all__ = ["Interface", "Method", "call", "cast"]

F = TypeVar("F", bound=Callable[..., Any])


class Method(msgspec.Struct, frozen=True):
    """One message: its name, whether an answer is awaited, the struct of its arguments, the type of its answer."""

    name: str
    answers: bool
    arguments: type[msgspec.Struct]
    answer: Any
    timeout_s: float


def call(function: F | None = None, *, timeout_s: float = 60.0) -> Any:
    """Mark a method as a call: the caller waits, `timeout_s` at most."""

    def mark(f: F) -> F:
        f._bus = ("call", timeout_s)  # type: ignore[attr-defined]  # noqa: SLF001 - read by Interface below
        return f

    return mark if function is None else mark(function)


def cast(function: F) -> F:
    """Mark a method as a cast: sent and not waited for."""
    function._bus = ("cast", 0.0)  # type: ignore[attr-defined]  # noqa: SLF001 - read by Interface below
    return function


class Interface:
    """Base of message interfaces.  `topic` may hold names in braces, filled in by `serve` and `client`."""

    topic: ClassVar[str]
    methods: ClassVar[dict[str, Method]]

    def __init_subclass__(cls, *, topic: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        if not topic:
            return  # an implementation of an interface, not an interface
        cls.topic = topic
        # an interface may extend another one: both then share the queue
        cls.methods = dict(getattr(cls, "methods", {}))
        for name, function in vars(cls).items():
            mark = getattr(function, "_bus", None)
            if mark is None:
                continue
            hints = get_type_hints(function)
            answer = hints.pop("return", None)
            parameters = [p for p in inspect.signature(function).parameters if p != "self"]
            arguments = msgspec.defstruct(f"{cls.__name__}_{name}", [(p, hints[p]) for p in parameters])
            cls.methods[name] = Method(name, mark[0] == "call", arguments, answer, mark[1])
