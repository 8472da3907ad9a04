"""Which drivers a machine can carry, and the reason that is told."""

import os
from pathlib import Path

import pytest

from cumulet.host import probe
from cumulet.host.config import HostConfig
from cumulet.host.confines import Confines
from cumulet.host.probe import Choice, Trial, choose_hypervisor, choose_network

#: a whole machine
FREE = Confines()
REAL = Choice(part="hypervisor", real=True, acceleration="tcg", reason="libvirt/QEMU, TCG")


class World:
    """A machine that can do everything, until a test takes something away."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.absent: list[str] = []
        self.flags = {"vmx"}
        self.trial = Trial(0.004)
        self.trials = 0
        self.config = HostConfig.for_state_dir(str(folder / "state"))
        qemu = folder / "qemu-system-x86_64"
        qemu.touch(mode=0o755)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(os, "access", lambda *_: True)
        monkeypatch.setattr(probe.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(probe, "missing", lambda: self.absent)
        monkeypatch.setattr(probe, "binding_usable", lambda: True)
        monkeypatch.setattr(probe, "_cpu_flags", lambda: self.flags)
        monkeypatch.setattr(probe.shutil, "which", lambda _: str(qemu))
        monkeypatch.setattr(probe, "trial_guest", self._try)

    def _try(self, acceleration: str) -> Trial:
        assert acceleration == "kvm"
        self.trials += 1
        return self.trial


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """All is there and fast."""
    return World(tmp_path, monkeypatch)


def test_kvm_is_taken_where_a_trial_guest_is_fast(world: World) -> None:
    """Flags and trial agree."""
    choice = choose_hypervisor(world.config, FREE)
    assert (choice.real, choice.acceleration) == (True, "kvm")


def test_kvm_without_hardware_is_not_even_tried(world: World) -> None:
    """The processor decides first, and the line says so."""
    world.flags = {"fpu"}
    choice = choose_hypervisor(world.config, FREE)
    assert str(choice) == "hypervisor: libvirt/QEMU, TCG (the CPU shows no vmx or svm)"
    assert world.trials == 0


@pytest.mark.parametrize(
    ("trial", "words"),
    [(Trial(0.9), "900 ms"), (Trial(None, "its loop did not end"), "its loop did not end")],
)
def test_kvm_that_crawls_is_not_taken(world: World, trial: Trial, words: str) -> None:
    """A machine that shows the flag and emulates all the same runs its guests by TCG."""
    world.trial = trial
    choice = choose_hypervisor(world.config, FREE)
    assert choice.acceleration == "tcg"
    assert words in choice.reason


def test_the_trial_is_remembered_for_this_kernel_and_qemu(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second start does not repeat it, a new kernel does."""
    for _ in range(2):
        choose_hypervisor(world.config, FREE)
    assert world.trials == 1
    monkeypatch.setattr(probe.platform, "release", lambda: "99.0")
    choose_hypervisor(world.config, FREE)
    assert world.trials == 2


def test_without_root_all_is_sim(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in one line each."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    hypervisor = choose_hypervisor(world.config, FREE)
    assert str(hypervisor) == "hypervisor: sim (real drivers need root)"
    assert str(choose_network(hypervisor, FREE)) == "network: sim (real drivers need root)"


def test_a_missing_package_is_named(world: World) -> None:
    """Each driver names its own packages only."""
    world.absent = ["ovn-central"]
    hypervisor = choose_hypervisor(world.config, FREE)
    assert hypervisor.real
    assert str(choose_network(hypervisor, FREE)) == "network: sim (package ovn-central is not installed)"


def test_a_sim_hypervisor_implies_a_sim_network(world: World) -> None:
    """There are no taps to bind."""
    world.absent = ["qemu-system-x86", "libvirt-daemon"]
    hypervisor = choose_hypervisor(world.config, FREE)
    assert str(hypervisor) == "hypervisor: sim (packages qemu-system-x86, libvirt-daemon are not installed)"
    assert str(choose_network(hypervisor, FREE)) == "network: sim (the hypervisor is sim)"


def test_a_binding_that_cannot_be_imported_is_an_obstacle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A libvirtd alone is of no use to us."""
    monkeypatch.setattr(probe, "binding_usable", lambda: False)
    assert "binding" in choose_hypervisor(world.config, FREE).reason


def test_the_trial_firmware_starts_at_the_reset_vector() -> None:
    """64 KiB, and the first instruction jumps to its start."""
    rom = probe.firmware()
    assert len(rom) == 0x10000
    displacement = int.from_bytes(rom[0xFFF1:0xFFF3], "little")
    assert rom[0xFFF0] == 0xE9
    assert (0xFFF3 + displacement) & 0xFFFF == 0
