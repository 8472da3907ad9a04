"""What machines forbid, by taking it from this one: each confinement is found by trial, and lived with where that can be."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import cumulet.host.keeper

pytestmark = pytest.mark.real

LOOK = "import msgspec; from cumulet.host.confines import look; print(msgspec.json.encode(look()).decode())"
IN_A_CHROOT = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("keeper", sys.argv[1])
keeper = importlib.util.module_from_spec(spec)
spec.loader.exec_module(keeper)
keeper.new_namespace()
itself = os.open("/proc/self/ns/mnt", os.O_RDONLY)
assert keeper._LIBC.setns(itself, keeper._CLONE_NEWNS) == 0
print(os.path.exists("/mnt/only-in-the-chroot"), os.getcwd())
"""
SILENT = """
import threading, time
from pathlib import Path
from cumulet.compute.agent.vif import device, netlink

def addresses(name):
    return [line for line in Path("/proc/net/if_inet6").read_text().splitlines() if line.split()[-1] == name]

device.set_alias("silent", "one two")
device.ipv6_off("silent")
device.set_up("silent")
device.set_up("control")
ends = time.monotonic() + 10
while not addresses("control") and time.monotonic() < ends:
    threading.Event().wait(0.02)
print(len(addresses("control")), len(addresses("silent")), netlink.aliases()["silent"])
"""
READ_ONLY = "mount --bind {0} {0} && mount -o remount,ro,bind {0}"


def run(*words: str) -> str:
    """What a command prints."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def look(*around: str) -> dict[str, str]:
    """What a process finds that is started by these words."""
    found: dict[str, str] = json.loads(run(*around, sys.executable, "-c", LOOK))
    return found


def apart(commands: Sequence[str], *words: str, kinds: Sequence[str] = ("--mount",)) -> list[str]:
    """Words that run a command in namespaces of its own, after other commands."""
    script = " && ".join([*commands, 'exec "$@"'])
    return ["unshare", *kinds, "--propagation", "private", "sh", "-e", "-c", script, "sh", *words]


@pytest.mark.parametrize(
    ("capability", "part", "word"),
    [
        ("sys_admin", "namespaces", "CAP_SYS_ADMIN"),
        ("net_admin", "interfaces", "CAP_NET_ADMIN"),
    ],
)
def test_a_missing_capability_is_found_by_what_it_prevents(capability: str, part: str, word: str) -> None:
    """As in a container that was not given it; the reason names it or what cannot be done."""
    found = look("setpriv", f"--bounding-set=-{capability}", "--inh-caps=-all")
    assert word in found[part]


@pytest.mark.parametrize("capability", ["mknod", "sys_ptrace"])
def test_what_containers_are_mostly_not_given_is_not_needed(capability: str) -> None:
    """Neither to make devices nor to look into other users' processes."""
    found = look("setpriv", f"--bounding-set=-{capability}", "--inh-caps=-all")
    assert found == {"namespaces": "", "interfaces": ""}


def test_a_machine_without_a_tun_device_gets_one() -> None:
    """As in a chroot whose /dev nobody fills."""
    made = apart(["mount -t tmpfs none /dev", "mknod -m 666 /dev/null c 1 3", "mknod -m 666 /dev/urandom c 1 9"])
    found = look(*made)
    assert found["interfaces"] == ""


def test_the_keepers_namespace_has_the_chroot_as_its_root(tmp_path: Path) -> None:
    """Whoever enters the namespace, as libvirt does for a guest's devices, is in the chroot and not outside."""
    tree = str(tmp_path)
    marked = [f"mount --rbind / {tree}", f"mount -t tmpfs none {tree}/mnt", f"touch {tree}/mnt/only-in-the-chroot"]
    inside = ["chroot", tree, sys.executable, "-I", "-S", "-c", IN_A_CHROOT, cumulet.host.keeper.__file__]
    assert run(*apart(marked, *inside)) == "True /"


def test_a_device_is_named_and_silenced_where_settings_are_read_only() -> None:
    """As in a container with /sys and /proc/sys read-only: the text arrives, and no IPv6 address appears."""
    veth = "ip link add silent type veth peer name control"
    commands = [veth, "mount -t sysfs -o ro none /sys", READ_ONLY.format("/proc/sys")]
    words = apart(commands, sys.executable, "-c", SILENT, kinds=("--mount", "--net"))
    assert run(*words) == "1 0 one two"
