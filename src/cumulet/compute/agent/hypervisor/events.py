"""The connection to libvirt and what it tells by itself.

Three threads meet here.  libvirt's own event loop runs on one thread of the process, registered before the first
connection is opened, as libvirt demands; its callbacks only set flags and post keys.  Each `Link` has a reporter,
which takes the keys, reads the *present* state of what they name, and opens the connection again after it broke.
Callers' threads use the connection directly and, where they have to wait (a guest that shuts down, a device that is
let go), wait for a word from the loop, not for a clock.

When the daemon dies, every waiting caller is woken with `HypervisorDown`, later calls fail at once, and the reporter
tries again with growing pauses until it is back; then it asks for every domain, because what happened in between was
told to nobody.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import libvirt
import structlog

from cumulet.compute.agent.hypervisor.driver import HypervisorDown
from cumulet.compute.agent.hypervisor.faults import named

__all__ = ["Link", "Waiter"]

log = structlog.get_logger(__name__)

#: a daemon that does not answer 3 pings, 5 s apart, is gone
KEEPALIVE_INTERVAL_S: Final = 5
KEEPALIVE_COUNT: Final = 3
#: pauses between attempts to reach a dead daemon
REOPEN_PAUSE_S_MIN: Final = 0.05
REOPEN_PAUSE_S_MAX: Final = 1.0
#: without a word for so long, it is quiet
QUIET_S: Final = 0.5

_LOST: Final = "lost"
_DEVICE_WORDS: Final = {
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: "removed",
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED: "refused",
}
_JOB_WORDS: Final = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED: "completed",
    libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED: "failed",
    libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED: "canceled",
    libvirt.VIR_DOMAIN_BLOCK_JOB_READY: "ready",
}

_loop_lock = threading.Lock()
_loop_thread: threading.Thread | None = None  # noqa: TID251 - as below


def _ensure_event_loop() -> None:
    """Start libvirt's event loop, once per process: it is global to the library, so it cannot be an argument."""
    global _loop_thread  # noqa: PLW0603 - mirrors a global of the C library
    with _loop_lock:
        if _loop_thread is not None:
            return
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # else every error is also printed on stderr
        _loop_thread = threading.Thread(  # noqa: TID251 - libvirt's own, nothing to simulate
            target=_run_event_loop, name="libvirt-events", daemon=True
        )
        _loop_thread.start()


def _run_event_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.warning("libvirt_event_loop", detail=str(error))


class Waiter:
    """One caller waiting for words about one thing of one domain."""

    def __init__(self) -> None:
        self._words: queue.SimpleQueue[str] = queue.SimpleQueue()

    def say(self, word: str) -> None:
        self._words.put(word)

    def wait(self, timeout_s: float) -> str | None:
        """The next word, None when none came in time.  Raises HypervisorDown when the connection broke."""
        try:
            word = self._words.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None
        if word == _LOST:
            raise HypervisorDown(detail="the connection to libvirt broke while waiting for an event")
        return word


class _Changed(NamedTuple):
    """Report this domain: libvirt told this event of it."""

    domain_id: str
    event: int


class _Relist:
    """Report every domain."""


class _Reopen:
    """The connection broke, or was never there: get it back."""


class _Quiet:
    """Nothing happened."""


class _Stop:
    """End the reporter."""


class Link:
    """A connection to one libvirt daemon that mends itself."""

    def __init__(
        self,
        uri: str,
        *,
        on_domain: Callable[[str, int], None],
        on_reconnect: Callable[[], None],
        owes: Callable[[], bool],
        on_quiet: Callable[[], None],
    ) -> None:
        """`on_domain(uuid, event)`: this happened to it.  `on_reconnect()`: anything may have.  `on_quiet()`: nothing has
        for a while, and `owes()` says that there is something to do then.

        All but `owes` are called on the reporter's thread.
        """
        self._uri = uri
        self._on_domain = on_domain
        self._on_reconnect = on_reconnect
        self._owes = owes
        self._on_quiet = on_quiet
        self._lock = threading.Lock()
        self._connection: Any = None
        self._closed = False
        self._waiters: dict[tuple[str, str], list[Waiter]] = {}
        self._waiters_lock = threading.Lock()
        self._posts: queue.SimpleQueue[_Changed | _Relist | _Reopen | _Quiet | _Stop] = queue.SimpleQueue()
        _ensure_event_loop()
        self._posts.put(_Reopen())
        self._reporter = threading.Thread(  # noqa: TID251 - blocks in calls of libvirt
            target=self._report, name="libvirt-reporter", daemon=True
        )
        self._reporter.start()

    # ── callers ───────────────────────────────────────────────────────────────────────────────────

    def connection(self) -> Any:
        """The open connection; tried once if there is none.  Raises HypervisorDown."""
        with self._lock:
            if self._closed:
                raise HypervisorDown(detail="this driver was closed")
            if self._connection is not None and self._connection.isAlive():
                return self._connection
            self._drop()
            try:
                self._connection = self._open()
            except libvirt.libvirtError as error:
                raise HypervisorDown(detail=named(error).detail) from error
            self._posts.put(_Relist())
            return self._connection

    def poke(self) -> None:
        """Try now rather than after the pause: for whoever has just started the daemon."""
        self._posts.put(_Reopen())

    @contextmanager
    def expect(self, domain_id: str, topic: str) -> Iterator[Waiter]:
        """Listen for words on `topic` from now on: enter first, then do what will cause them.

        Topics and words: "lifecycle" (changed), "device:ALIAS" (removed, refused), "job:TARGET" (ready, completed,
        canceled, failed).
        """
        waiter, key = Waiter(), (domain_id, topic)
        with self._waiters_lock:
            self._waiters.setdefault(key, []).append(waiter)
        try:
            yield waiter
        finally:
            with self._waiters_lock:
                self._waiters[key].remove(waiter)
                if not self._waiters[key]:
                    del self._waiters[key]

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._drop()
        self._posts.put(_Stop())
        if threading.current_thread() is not self._reporter:
            self._reporter.join(timeout=10)

    # ── opening ───────────────────────────────────────────────────────────────────────────────────

    def _open(self) -> Any:
        connection = libvirt.open(self._uri)
        try:
            connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
            connection.registerCloseCallback(self._on_close, None)
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_device),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._on_device),
                (libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, self._on_job),
            ):
                connection.domainEventRegisterAny(None, event, callback, event)
        except libvirt.libvirtError:
            _dispose(connection)
            raise
        return connection

    def _drop(self) -> None:
        """Let go of a connection, dead or alive."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._tell_all(_LOST)
        _dispose(connection)

    # ── libvirt's thread: set flags, post keys, nothing else ──────────────────────────────────────

    def _on_close(self, _connection: Any, reason: int, _opaque: Any) -> None:
        log.warning("libvirt_connection_lost", uri=self._uri, reason=reason)
        self._tell_all(_LOST)
        self._posts.put(_Reopen())

    def _on_lifecycle(self, _connection: Any, domain: Any, event: int, _detail: int, _opaque: Any) -> None:
        domain_id = domain.UUIDString()
        self._tell(domain_id, "lifecycle", "changed")
        self._posts.put(_Changed(domain_id, event))

    def _on_device(self, _connection: Any, domain: Any, alias: str, event: int) -> None:
        self._tell(domain.UUIDString(), f"device:{alias}", _DEVICE_WORDS[event])

    def _on_job(self, _connection: Any, domain: Any, target: str, _type: int, status: int, _opaque: Any) -> None:
        self._tell(domain.UUIDString(), f"job:{target}", _JOB_WORDS.get(status, "failed"))

    def _tell(self, domain_id: str, topic: str, word: str) -> None:
        with self._waiters_lock:
            waiters = tuple(self._waiters.get((domain_id, topic), ()))
        for waiter in waiters:
            waiter.say(word)

    def _tell_all(self, word: str) -> None:
        with self._waiters_lock:
            waiters = [waiter for group in self._waiters.values() for waiter in group]
        for waiter in waiters:
            waiter.say(word)

    # ── the reporter's thread ─────────────────────────────────────────────────────────────────────

    def _report(self) -> None:
        while True:
            try:
                post = self._posts.get(timeout=QUIET_S if self._owes() else None)
            except queue.Empty:
                post = _Quiet()
            if isinstance(post, _Stop):
                return
            try:
                if isinstance(post, _Quiet):
                    self._on_quiet()
                elif isinstance(post, _Reopen):
                    if not self._reopen():
                        return
                elif isinstance(post, _Relist):
                    self._on_reconnect()
                else:
                    self._on_domain(post.domain_id, post.event)
            except HypervisorDown:
                self._posts.put(_Reopen())
            except Exception:  # a subscriber's fault must not end the reporting of every other guest
                log.exception("libvirt_report_failed", domain=post.domain_id if isinstance(post, _Changed) else None)

    def _reopen(self) -> bool:
        """Until the daemon answers; False when the driver was closed meanwhile.  Any post cuts a pause short."""
        pause_s = REOPEN_PAUSE_S_MIN
        while True:
            try:
                self.connection()
            except HypervisorDown:
                if self._closed:
                    return False
            else:
                return True
            try:
                post = self._posts.get(timeout=pause_s)
            except queue.Empty:
                pause_s = min(pause_s * 2, REOPEN_PAUSE_S_MAX)
                continue
            if isinstance(post, _Stop):
                return False
            if isinstance(post, _Relist):  # a caller got the connection back first
                self._posts.put(post)
                return True


def _dispose(connection: Any) -> None:
    """Close for good: registered callbacks hold the connection, and a dead one answers no farewell."""
    for callback_id in tuple(getattr(connection, "domainEventCallbackID", ())):
        with suppress(libvirt.libvirtError):
            connection.domainEventDeregisterAny(callback_id)
    with suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    with suppress(libvirt.libvirtError):
        connection.close()
