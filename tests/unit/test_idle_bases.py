"""Images' bases on a host: those that nobody uses any more go, by themselves."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cumulet.compute.agent.hypervisor.image_cache import BaseImage, CachedImage, ImageCache
from cumulet.compute.agent.instances import FileInstances
from cumulet.compute.agent.service import BASE_IDLE_S, TIDY_S, Agent
from cumulet.core.clock import SystemClock
from cumulet.core.work import drive


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    """The host's bases."""
    return ImageCache(tmp_path / "base", virtual_bytes_max=1 << 30)


@pytest.fixture
def instances(tmp_path: Path, cache: ImageCache) -> FileInstances:
    """The host's servers."""
    return FileInstances(tmp_path / "instances", cache=cache, files=lambda *_: {})


def _zeroes(path: Path) -> None:
    path.write_bytes(b"\0" * 512)


def _base(cache: ImageCache, name: str, *, idle_s: float) -> CachedImage:
    image = BaseImage(image_id=name, checksum="1", disk_format="raw", size=512)
    cached = cache.ensure_base(image, _zeroes)
    os.utime(cached.path, (cached.used_at - idle_s, cached.used_at - idle_s))
    return cached


def test_a_base_stays_while_a_server_stands_on_it(cache: ImageCache, instances: FileInstances) -> None:
    """However long ago it was asked for; once the server is gone, it goes after a day."""
    base = _base(cache, "old", idle_s=100 * BASE_IDLE_S)
    server: Any = SimpleNamespace(id="one", config_drive=False, flavor=SimpleNamespace(disk_gb=1))
    instances.prepare(server, [], [], base.path)
    assert instances.drop_idle_bases(SystemClock().epoch() - BASE_IDLE_S) == ()
    assert base.path.exists()
    instances.remove("one")
    assert instances.drop_idle_bases(SystemClock().epoch() - BASE_IDLE_S) == (base.path,)
    assert not base.path.exists()


def test_a_base_that_was_asked_for_today_stays(cache: ImageCache, instances: FileInstances) -> None:
    """The next launch need not load it again."""
    base = _base(cache, "fresh", idle_s=BASE_IDLE_S - 600)
    assert instances.drop_idle_bases(SystemClock().epoch() - BASE_IDLE_S) == ()
    assert base.path.exists()


class _Hours:
    """A worker whose timers are run by hand."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.timers.append((seconds, act))

    def go_on(self, work: Any, done: Callable[[Any, BaseException | None], None]) -> None:
        try:
            done(drive(work), None)
        except OSError as error:
            done(None, error)

    def pass_one(self) -> None:
        due = [act for seconds, act in self.timers if seconds == TIDY_S]
        self.timers = [timer for timer in self.timers if timer[0] != TIDY_S]
        for act in due:
            act()


def test_a_host_looks_every_hour(cache: ImageCache, instances: FileInstances) -> None:
    """And goes on looking after a look that failed."""
    looks = list[str]()

    class Instances:
        def drop_idle_bases(self, unused_since: float) -> tuple[Path, ...]:
            looks.append("look")
            if len(looks) == 1:
                raise OSError("the disk is away")
            return instances.drop_idle_bases(unused_since)

    base = _base(cache, "old", idle_s=2 * BASE_IDLE_S)
    worker: Any = _Hours()
    ours: Any = SimpleNamespace(
        instances=Instances(),
        list=list,
        subscribe=lambda _: None,
        report_host=lambda _: None,
        host_started=lambda _: None,
    )
    agent = Agent(
        "host",
        executor=ours,
        tools=ours,
        hypervisor=ours,
        conductor=ours,
        worker=worker,
        report=lambda: ours,
        clock=SystemClock(),
    )
    agent.start()
    worker.pass_one()
    assert base.path.exists()
    worker.pass_one()
    assert not base.path.exists()
    assert looks == ["look", "look"]
