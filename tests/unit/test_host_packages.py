"""Installing Debian packages without their services, on a machine made of folders and a false apt-get."""

import os
import sysconfig
from pathlib import Path

import pytest

from cumulet.host import packages
from cumulet.host.errors import BindingUnusable, InstallFailed

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


class Machine:
    """Where the false apt-get and the policy are."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.policy = folder / "policy-rc.d"
        self.log = folder / "log" / "apt.log"
        self.calls = folder / "calls"
        monkeypatch.setattr(packages, "_POLICY", self.policy)
        monkeypatch.setattr(packages, "_POLICY_SAVED", folder / "policy-rc.d.saved")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")

    def program(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{body}\n')
        path.chmod(0o755)

    def called(self) -> str:
        return self.calls.read_text()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine on which nothing can be broken."""
    made = Machine(tmp_path, monkeypatch)
    made.program("systemctl", "exit 0")
    return made


def test_what_is_missing_is_seen_by_its_file(tmp_path: Path) -> None:
    """A package counts as installed when the file that only it brings is there."""
    there = tmp_path / "there"
    there.touch()
    assert packages.missing({"one": str(there), "two": str(tmp_path / "absent")}) == ["two"]


def test_services_are_denied_while_apt_runs_and_switched_off_afterwards(machine: Machine) -> None:
    """During the installation the policy says 101; the units that came with it do not start at the next boot."""
    machine.program("apt-get", f'sh {machine.policy}; echo "policy $?" >> {machine.calls}')
    packages.install(["ovn-central"], machine.log)
    assert "policy 101" in machine.called()
    assert "install --yes --no-install-recommends ovn-central" in machine.called()
    assert "systemctl disable ovn-central.service" in machine.called()
    assert not machine.policy.exists()


def test_the_administrators_policy_comes_back(machine: Machine) -> None:
    """Also when the installation fails."""
    machine.policy.write_text("theirs")
    machine.program("apt-get", "exit 100")
    with pytest.raises(InstallFailed):
        packages.install(["ovn-central"], machine.log)
    assert machine.policy.read_text() == "theirs"


def test_a_failure_is_told_in_apts_own_words(machine: Machine) -> None:
    """One line that says what is wrong and where the rest is."""
    machine.program("apt-get", 'echo "E: Unable to locate package ovn-central"; exit 100')
    with pytest.raises(InstallFailed, match=r"Unable to locate package ovn-central; see .*apt\.log"):
        packages.install(["ovn-central"], machine.log)


def test_outdated_lists_are_renewed_once(machine: Machine, tmp_path: Path) -> None:
    """A package version that the archive no longer has is no reason to give up."""
    mark = tmp_path / "updated"
    machine.program("apt-get", f'case "$*" in *update*) touch {mark};; *) test -e {mark};; esac')
    packages.install(["nftables"], machine.log)
    assert machine.called().count(" update") >= 1


def test_nothing_to_install_needs_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No root, no apt-get, no log."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    packages.install([], machine.log)
    assert not machine.log.exists()


def test_installing_needs_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is tried."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InstallFailed, match="needs root"):
        packages.install(["nftables"], machine.log)


@pytest.fixture
def binding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the package python3-libvirt fills it, for this Python."""
    folder = tmp_path / "dist-packages"
    folder.mkdir()
    for name in ("libvirt.py", "libvirt_qemu.py", "libvirtaio.py", f"libvirtmod{SUFFIX}", f"libvirtmod_qemu{SUFFIX}"):
        (folder / name).touch()
    monkeypatch.setattr(packages, "_BINDING_FOLDER", folder)
    return folder


def test_the_binding_is_linked_not_copied(binding: Path, tmp_path: Path) -> None:
    """It stays the installed libvirt's own; linking again changes nothing."""
    target = tmp_path / "site-packages"
    target.mkdir()
    for _ in range(2):
        packages.link_libvirt_binding(target)
        assert (target / "libvirt.py").readlink() == binding / "libvirt.py"
        assert (target / f"libvirtmod{SUFFIX}").resolve() == binding / f"libvirtmod{SUFFIX}"


def test_a_binding_installed_by_other_means_is_kept(binding: Path, tmp_path: Path) -> None:
    """Somebody compiled their own: it is not replaced."""
    target = tmp_path / "site-packages"
    target.mkdir()
    (target / "libvirt.py").write_text("theirs")
    packages.link_libvirt_binding(target)
    assert (target / "libvirt.py").read_text() == "theirs"


def test_a_binding_for_another_python_is_refused(binding: Path, tmp_path: Path) -> None:
    """It could be linked, but never imported; the words say which Python is needed."""
    (binding / f"libvirtmod{SUFFIX}").rename(binding / "libvirtmod.cpython-27-x86_64-linux-gnu.so")
    with pytest.raises(BindingUnusable, match=r"cpython-27.*Debian's python3"):
        packages.link_libvirt_binding(tmp_path / "site-packages")
