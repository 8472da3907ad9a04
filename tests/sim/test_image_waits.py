"""Launches that wait for one image: it is loaded once, and they do not keep others from the host's threads."""

import queue
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cumulet.compute.agent.hypervisor.image_cache import CachedImage, ImageCache
from cumulet.compute.agent.instances import FileInstances
from cumulet.core.clock import SystemClock
from cumulet.core.work import Pools, Slow, Worker
from cumulet.image.door import ImageInfo
from cumulet.launch import image

WAIT_S = 10.0
SIZE = 1 << 16
IMAGE: Any = SimpleNamespace(id="1", name="one", os_hash_value="a", checksum="a", disk_format="raw", size=SIZE)


class Loading(FileInstances):
    """A host to which an image's bytes come when the test lets them."""

    def __init__(self, folder: Path) -> None:
        self.cache = ImageCache(folder / "base", virtual_bytes_max=1 << 20)
        super().__init__(folder / "instances", cache=self.cache, files=lambda *_: {})
        self.asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.comes: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ensure_base(self, image: ImageInfo) -> CachedImage:
        """Its bytes, or an error instead."""

        def fetch(target: Path) -> None:
            self.asked.put(image.id)
            if not self.comes.get(timeout=WAIT_S):
                raise OSError("the store is gone")
            target.write_bytes(bytes(SIZE))

        return self.cache.ensure_base(self._base(image), fetch)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker whose devices have two threads."""
    pools = Pools({"devices": (2, 20)})
    made = Worker("worker", clock=SystemClock(), pools=pools)
    made.start()
    yield made
    made.stop()
    pools.close()


def launch(instances: Loading) -> Generator[Any, Any, Any]:
    """The step of one launch."""
    door = SimpleNamespace(get_with_location=lambda *_: (IMAGE, SimpleNamespace(started="", finished="")))
    tools = SimpleNamespace(image=door, instances=instances, credentials=lambda _: None)
    server = SimpleNamespace(image_id="1", image_properties={})
    run: Any = SimpleNamespace(
        tools=tools,
        subject_as=lambda _: server,
        context=SimpleNamespace(project_id="p"),
        served=lambda *_: None,
        note=lambda _: None,
    )
    return image.load(run)


@pytest.mark.parametrize("comes", [True, False])
def test_many_launches_wait_for_one_loading_without_a_thread_each(worker: Worker, tmp_path: Path, comes: bool) -> None:
    """Fetched once for all; what needs no image goes on meanwhile; all have the base then, or all the same error."""
    instances = Loading(tmp_path)
    ends: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    worker.begin(launch(instances), lambda *end: ends.put(end))
    assert instances.asked.get(timeout=WAIT_S) == "1"
    for _ in range(5):
        worker.begin(launch(instances), lambda *end: ends.put(end))

    def other() -> Generator[Any, Any, str]:
        return (yield Slow("devices", str, ("goes on",)))

    others: queue.SimpleQueue[Any] = queue.SimpleQueue()
    worker.begin(other(), lambda value, _: others.put(value))
    assert others.get(timeout=WAIT_S) == "goes on"
    instances.comes.put(comes)
    found = [ends.get(timeout=WAIT_S) for _ in range(6)]
    assert instances.asked.empty()
    if comes:
        assert {value.base for value, _ in found} == {str(instances.cache.entries()[0].path)}
    else:
        assert {str(error) for _, error in found} == {"the store is gone"}
