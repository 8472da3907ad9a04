"""Which drivers this machine can carry, each choice with one line of reason.

KVM is taken only where it works.  That /dev/kvm opens, that libvirt lists it, even that a guest starts, proves nothing:
there are machines whose KVM emulates every instruction in software, where a guest starts and then hangs.  So the
processor must show vmx or svm, and a trial guest must be fast, run by the user that runs all guests: in a container
/dev/kvm may belong to a group of another number.  The trial is a firmware of 64 KiB made here: it writes a mark, counts a
million down in real mode, and writes a second mark; the time between the marks is the loop's alone.
"""

import os
import platform
import pwd
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from cumulet.host.config import HostConfig
from cumulet.host.confines import Confines
from cumulet.host.packages import binding_usable, missing

__all__ = ["Choice", "Trial", "choose_hypervisor", "choose_network", "trial_guest"]

QEMU = "qemu-system-x86_64"
_GUESTS_USER = "libvirt-qemu"
_LOOP_S_MAX = 0.050
_TRIAL_S_MAX = 2.0
_NETWORK_PACKAGES = ("ovn-central", "ovn-host", "openvswitch-switch", "iproute2", "nftables")

#: port of QEMU's debug console, and of its exit device (its default)
_CONSOLE_PORT, _EXIT_PORT = 0xE9, 0x501
_ROM_BYTES = 0x10000
_RESET_VECTOR = 0xFFF0
_CODE = bytes.fromhex(
    "b042 e6e9"  # mov al,'B'; out 0xe9,al
    "66b940420f00"  # mov ecx,1000000
    "6649 75fc"  # dec ecx; jnz to the dec
    "b045 e6e9"  # mov al,'E'; out 0xe9,al
    "ba0105 31c0 ee"  # mov dx,0x501; xor ax,ax; out dx,al: QEMU exits with status 1
    "f4 ebfd"  # hlt, for ever
)
_JUMP_TO_START = bytes.fromhex("e90d00")


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A driver chosen, and why.  `str()` is the line to print."""

    part: Literal["hypervisor", "network"]
    real: bool
    reason: str
    #: hypervisor only: "kvm" or "tcg"
    acceleration: Literal["kvm", "tcg", ""] = ""

    def __str__(self) -> str:
        return f"{self.part}: {self.reason}" if self.real else f"{self.part}: sim ({self.reason})"


class Trial(msgspec.Struct, frozen=True):
    """What became of the trial guest: seconds of its loop, or why there is no such number."""

    seconds: float | None
    failure: str = ""

    @property
    def fast(self) -> bool:
        return self.seconds is not None and self.seconds <= _LOOP_S_MAX


def choose_hypervisor(config: HostConfig, confines: Confines) -> Choice:
    """Choose libvirt with KVM, libvirt with TCG, or sim."""
    obstacle = _obstacle([name for name in missing() if name not in _NETWORK_PACKAGES]) or confines.namespaces or None
    if obstacle is None and not binding_usable():
        obstacle = "the Python binding of libvirt cannot be imported"
    if obstacle is not None:
        return Choice(part="hypervisor", real=False, reason=obstacle)
    lacking = _why_no_kvm(config)
    if lacking is None:
        return Choice(
            part="hypervisor",
            real=True,
            acceleration="kvm",
            reason="libvirt/QEMU, KVM (a trial guest ran at full speed)",
        )
    return Choice(part="hypervisor", real=True, acceleration="tcg", reason=f"libvirt/QEMU, TCG ({lacking})")


def choose_network(hypervisor: Choice, confines: Confines) -> Choice:
    """OVN, or sim.  A simulated hypervisor has no ports that a real network could bind."""
    obstacle = _obstacle([name for name in missing() if name in _NETWORK_PACKAGES])
    obstacle = obstacle or confines.interfaces or None
    if obstacle is None and not hypervisor.real:
        obstacle = "the hypervisor is sim"
    if obstacle is not None:
        return Choice(part="network", real=False, reason=obstacle)
    kernel = Path("/sys/module/openvswitch").is_dir()
    return Choice(part="network", real=True, reason=f"OVN, {'kernel' if kernel else 'userspace'} datapath")


def _obstacle(absent: list[str]) -> str | None:
    if os.geteuid() != 0:
        return "real drivers need root"
    if platform.machine() != "x86_64":
        return f"real drivers run on x86_64 only, not on {platform.machine()}"
    if absent:
        one = len(absent) == 1
        return f"{'package' if one else 'packages'} {', '.join(absent)} {'is' if one else 'are'} not installed"
    return None


def _why_no_kvm(config: HostConfig) -> str | None:
    if not _cpu_flags() & {"vmx", "svm"}:
        return "the CPU shows no vmx or svm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm cannot be opened"
    trial = _remembered_trial(Path(config.state_dir, "kvm-trial.json"))
    if trial.fast:
        return None
    if trial.seconds is None:
        return f"a trial guest under KVM failed: {trial.failure}"
    return f"KVM is slow here: {trial.seconds * 1000:.0f} ms for a loop that may take {_LOOP_S_MAX * 1000:.0f} ms"


def _cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


class _Remembered(msgspec.Struct, frozen=True):
    kernel: str
    #: size and time of the QEMU program: they change with its version
    qemu: tuple[int, int]
    trial: Trial


def _remembered_trial(record: Path) -> Trial:
    """The trial's outcome, from an earlier start if kernel and QEMU are still the same."""
    program = Path(shutil.which(QEMU) or f"/usr/bin/{QEMU}").stat()
    kernel, qemu = platform.release(), (program.st_size, program.st_mtime_ns)
    try:
        known = msgspec.json.decode(record.read_bytes(), type=_Remembered)
    except (OSError, msgspec.DecodeError):
        known = None
    if known is not None and (known.kernel, known.qemu) == (kernel, qemu):
        return known.trial
    trial = trial_guest("kvm")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(msgspec.json.encode(_Remembered(kernel, qemu, trial)))
    return trial


def firmware() -> bytes:
    """The trial guest: code at the start, the processor's first instruction sixteen bytes before the end."""
    rom = bytearray(_ROM_BYTES)
    rom[: len(_CODE)] = _CODE
    rom[_RESET_VECTOR : _RESET_VECTOR + len(_JUMP_TO_START)] = _JUMP_TO_START
    return bytes(rom)


def trial_guest(acceleration: Literal["kvm", "tcg"]) -> Trial:
    """Run the trial guest for two seconds at most."""
    rom = os.memfd_create("trial-firmware")
    try:
        os.write(rom, firmware())
        command = [
            QEMU,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "pc",
            "-accel",
            acceleration,
            "-m",
            "16",
        ]
        command += ["-bios", f"/proc/self/fd/{rom}", "-chardev", "stdio,id=marks,signal=off"]
        command += [
            "-device",
            f"isa-debugcon,iobase={_CONSOLE_PORT:#x},chardev=marks",
            "-device",
            f"isa-debug-exit,iobase={_EXIT_PORT:#x}",
        ]
        try:
            qemu = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[rom],
                bufsize=0,
                **_as_guests_run(),
            )
        except OSError as error:
            return Trial(None, f"{QEMU}: {error.strerror}")
        with qemu:
            try:
                return _time_marks(qemu)
            finally:
                qemu.kill()
    finally:
        os.close(rom)


def _as_guests_run() -> dict[str, Any]:
    """The user and groups that libvirt gives to QEMU."""
    try:
        user = pwd.getpwnam(_GUESTS_USER)
    except KeyError:  # libvirt is not installed
        return {}
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def _time_marks(qemu: "subprocess.Popen[bytes]") -> Trial:
    if qemu.stdout is None or qemu.stderr is None:
        raise ValueError("the trial's output must be piped")
    deadline = time.monotonic() + _TRIAL_S_MAX
    began: float | None = None
    while (remaining := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([qemu.stdout], [], [], remaining)
        now = time.monotonic()
        marks = os.read(qemu.stdout.fileno(), 16) if readable else b""
        if b"B" in marks:
            began = now
        if b"E" in marks:
            return Trial(now - (began if began is not None else now))
        if readable and not marks:
            complaint = qemu.stderr.read().decode(errors="replace").strip().splitlines()
            return Trial(None, complaint[-1] if complaint else "QEMU ended")
    return Trial(None, "it did not come to its first mark" if began is None else "its loop did not end")
