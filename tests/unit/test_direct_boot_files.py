"""A server's own kernel on its host: copied from the images' bases, which stay nobody's but the host's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cumulet.compute.agent.hypervisor.image_cache import ImageCache
from cumulet.compute.agent.instances import DirectBoot, FileInstances


def test_a_server_boots_from_copies_of_its_own(tmp_path: Path) -> None:
    """No two servers share a kernel, for libvirt gives it to QEMU's user; made once, it goes with the server."""
    kernel, ramdisk = tmp_path / "kernel.raw", tmp_path / "ramdisk.raw"
    kernel.write_bytes(b"kernel")
    ramdisk.write_bytes(b"ramdisk")
    cache = ImageCache(tmp_path / "base", virtual_bytes_max=1 << 20)
    instances = FileInstances(tmp_path / "instances", cache=cache, files=lambda *_: {})
    one: Any = SimpleNamespace(id="one", config_drive=False)
    other: Any = SimpleNamespace(id="other", config_drive=False)
    assert instances.direct_boot("one") is None
    for server in (one, other):
        instances.prepare(server, [], [], None, DirectBoot(kernel=kernel, ramdisk=ramdisk))
    found = instances.direct_boot("one")
    assert found is not None
    assert found.ramdisk is not None
    assert (found.kernel.read_bytes(), found.ramdisk.read_bytes()) == (b"kernel", b"ramdisk")
    elsewhere = instances.direct_boot("other")
    assert elsewhere is not None
    assert len({path.stat().st_ino for path in (kernel, found.kernel, elsewhere.kernel)}) == 3
    kernel.write_bytes(b"a newer one")
    instances.prepare(one, [], [], None, DirectBoot(kernel=kernel, ramdisk=None))
    assert found.kernel.read_bytes() == b"kernel"
    instances.remove("one")
    assert instances.direct_boot("one") is None


def test_a_kernel_may_come_without_a_ramdisk(tmp_path: Path) -> None:
    """Then it is the kernel's own affair to find its root."""
    kernel = tmp_path / "kernel.raw"
    kernel.write_bytes(b"kernel")
    cache = ImageCache(tmp_path / "base", virtual_bytes_max=1 << 20)
    instances = FileInstances(tmp_path / "instances", cache=cache, files=lambda *_: {})
    server: Any = SimpleNamespace(id="one", config_drive=False)
    instances.prepare(server, [], [], None, DirectBoot(kernel=kernel))
    found = instances.direct_boot("one")
    assert found is not None
    assert found.ramdisk is None
