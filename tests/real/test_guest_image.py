"""The guest image, built and booted: from its disk with a config drive, and from its kernel with a metadata service.

An emulated processor and QEMU's own network, so that neither KVM nor a bridge is needed.  The tests of the disk's guest
share one boot and stand in the order in which they use it up.
"""

import json
import os
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from cumulet.guest.build import DIRECT_BOOT_CMDLINE, GuestImage, build

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

_CACHE = Path(__file__).parents[2] / ".cache/guest-image"
_BOOT_S_MAX = 90
_SOON_S_MAX = 30
_KEY_TYPES = ("ed25519", "ecdsa", "rsa")
_PASSWORD = 'p"a\\ss/wörd $1'
_USER_DATA = "#!/bin/sh\necho \"user data: $(id -un) on $(hostname), $(df -m / | awk 'END { print $2 }') MB\"\n"

#: What tempest and people type, without a path before it.
_TOOLS = """
    arping awk blkid cat chmod curl cut date dd df echo free grep head hostname ifconfig ip kill killall ls lsblk lsmod
    md5sum mkdir mkfs mkfs.ext4 mkfs.vfat mount nc nslookup pidof ping ping6 ps reboot route sed sh sha1sum sleep ssh
    start-stop-daemon sudo sync tail tee timeout top touch traceroute udhcpc umount uname vi wc wget which
"""


def _metadata(keys: Path, name: str) -> dict[str, object]:
    return {
        "uuid": f"8f0b1a6c-0000-4000-8000-{name:0>12.12}",
        "name": name,
        "hostname": f"{name}.novalocal",
        "meta": {"hostname": "not-this"},
        "admin_pass": _PASSWORD,
        "public_keys": {kind: (keys / f"{kind}.pub").read_text() for kind in _KEY_TYPES},
    }


class _Guest:
    """A running QEMU with its console, its monitor and the way in."""

    def __init__(self, process: subprocess.Popen[bytes], monitor: socket.socket, port: int, keys: Path) -> None:
        self.process = process
        self.console = ""
        self._port = port
        self._keys = keys
        self._monitor = monitor.makefile("rw")
        self._monitor.readline()  # the greeting
        self.order("qmp_capabilities")

    def order(self, command: str, **arguments: object) -> None:
        """A command of QEMU's monitor, taken by it."""
        self._monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._monitor.flush()
        while "return" not in (answer := json.loads(self._monitor.readline())):
            assert "error" not in answer, answer

    def wait_for(self, pattern: str, within_s: float) -> str:
        """What the console has shown when `pattern` is in it."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + within_s
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while not re.search(pattern, self.console):
                assert ready.select(deadline - time.monotonic()), f"no {pattern!r} on the console:\n{self.console}"
                some = os.read(self.process.stdout.fileno(), 65536)
                assert some, f"QEMU ended before {pattern!r}:\n{self.console}"
                self.console += some.decode(errors="replace").replace("\r", "")
        return self.console

    def ssh(
        self, command: str, *, user: str = "cloud", key: str | None = "ed25519", password: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """`command` run inside by a new login, tried once."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes"]
        options += [f"BatchMode={'yes' if key else 'no'}", "ConnectTimeout=20", "NumberOfPasswordPrompts=1"]
        words = ["ssh", "-F", "/dev/null", "-p", str(self._port), *(f"-o{option}" for option in options)]
        words += ["-i", str(self._keys / key)] if key else ["-oPubkeyAuthentication=no"]
        environment = os.environ | {
            "SSH_ASKPASS": str(self._keys / "askpass"),
            "SSH_ASKPASS_REQUIRE": "force",
            "PASSWORD": password,
        }
        return subprocess.run(
            [*words, f"{user}@127.0.0.1", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment,
        )

    def says(self, command: str) -> str:
        """What `command` prints inside; it must succeed, in the shell and with the prologue that tempest uses."""
        done = self.ssh(f"set -eu -o pipefail; PATH=$PATH:/sbin; {command}")
        assert done.returncode == 0, f"{command}: {done.returncode}: {done.stdout} {done.stderr}"
        return done.stdout.strip()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Ask the guest until it agrees; each question is a login, which is wait enough."""
        deadline = time.monotonic() + _SOON_S_MAX
        while not condition():
            assert time.monotonic() < deadline


@contextmanager
def _boot(work: Path, keys: Path, devices: Sequence[str], *, network: str = "") -> Iterator[_Guest]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monitor, other = socket.socketpair()
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-no-reboot"]
    command += ["-machine", "q35", "-accel", "tcg,tb-size=64", "-cpu", "max", "-m", "128", "-serial", "stdio"]
    command += ["-chardev", f"socket,id=monitor,fd={other.fileno()}", "-mon", "chardev=monitor,mode=control"]
    command += ["-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"]
    command += ["-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22{network}"]
    command += ["-device", "virtio-net-pci,netdev=net0,romfile=", *devices]
    with (work / "qemu.err").open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, pass_fds=[other.fileno()]
        )
    other.close()
    monitor.settimeout(_SOON_S_MAX)
    try:
        yield _Guest(process, monitor, port, keys)
    finally:
        process.kill()
        process.wait()
        monitor.close()
        if process.stdout:
            process.stdout.close()


@pytest.fixture(scope="module")
def image() -> GuestImage:
    """The image, built into the checkout's cache unless it is there."""
    return build(_CACHE)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key of each type, and the program by which ssh asks for a password."""
    folder = tmp_path_factory.mktemp("keys")
    for kind in _KEY_TYPES:
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", folder / kind], check=True)
    (folder / "askpass").write_text('#!/bin/sh\nprintf "%s\\n" "$PASSWORD"\n')
    (folder / "askpass").chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def guest(image: GuestImage, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Guest]:
    """The guest on its disk of 1 GiB, with a config drive, at the moment in which ssh starts."""
    work = tmp_path_factory.mktemp("disk")
    latest = work / "openstack/latest"
    latest.mkdir(parents=True)
    (latest / "meta_data.json").write_text(json.dumps(_metadata(keys, "vm-disk")))
    (latest / "user_data").write_text(_USER_DATA)
    drive, disk, volume = work / "config.img", work / "disk.qcow2", work / "volume.img"
    for file, size in ((drive, 2**21), (volume, 2**26)):
        with file.open("wb") as empty:
            empty.truncate(size)
    subprocess.run(["mkfs.vfat", "-n", "CONFIG-2", drive], check=True, capture_output=True)
    subprocess.run(["mcopy", "-s", "-i", drive, work / "openstack", "::"], check=True)
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image.disk), str(disk), "1G"]
    subprocess.run(overlay, check=True)
    devices = ["-drive", f"file={disk},format=qcow2,if=virtio,cache=unsafe"]
    devices += ["-drive", f"file={drive},format=raw,if=virtio,readonly=on"]
    devices += [
        "-blockdev",
        f"driver=file,filename={volume},node-name=volume",
        "-netdev",
        "user,id=net1,net=10.9.0.0/24",
    ]
    devices += ["-device", "pcie-root-port,id=port1,chassis=1", "-device", "pcie-root-port,id=port2,chassis=2"]
    with _boot(work, keys, devices) as guest:
        guest.wait_for("GUEST: ssh at", _BOOT_S_MAX)
        yield guest


def test_the_image_is_small_and_built_once(image: GuestImage) -> None:
    """The disk fits into the smallest flavor and a second call costs next to nothing."""
    assert image.disk_size < 30_000_000
    assert image.virtual_size <= 256 * 1024 * 1024
    began = time.monotonic()
    assert build(_CACHE) == image
    assert time.monotonic() - began < 1


def test_the_first_login_is_let_in(guest: _Guest) -> None:
    """When ssh answers the key is in place, so the very first try succeeds; the server has its name by then."""
    assert guest.ssh("hostname; id -un").stdout.split() == ["vm-disk", "cloud"]


def test_user_data_runs_once_the_root_has_grown(guest: _Guest) -> None:
    """The script of the config drive runs as root, on a root file system that fills the disk."""
    console = guest.wait_for("GUEST: ready at", _BOOT_S_MAX)
    found = re.search(r"user data: root on vm-disk, (\d+) MB", console)
    assert found, console
    assert int(found[1]) > 900
    assert "GUEST: user-data rc 0 at" in console


def test_the_console_tells_each_stage_in_order(guest: _Guest) -> None:
    """Whoever watches a boot finds its stages on the console, and the login prompt's name, which waits for them for a while only."""
    guest.wait_for("vm-disk login:", _SOON_S_MAX)
    console = guest.wait_for("GUEST: ready at ", _SOON_S_MAX)
    stages = ["init", "root /dev/vda2", "userspace", "metadata vm-disk", "ssh", "user-data rc 0", "ready"]
    places = [console.index(f"GUEST: {stage} at ") for stage in stages]
    assert places == sorted(places)
    assert re.search(r"GUEST: dhcp eth0 10\.0\.2\.\d+ at ", console)


@pytest.mark.parametrize("kind", _KEY_TYPES)
def test_each_type_of_key_opens(guest: _Guest, kind: str) -> None:
    """RSA, ECDSA and Ed25519 keys of the metadata log in."""
    assert guest.ssh("true", key=kind).returncode == 0


def test_the_password_of_the_metadata_opens_and_no_other(guest: _Guest) -> None:
    """User cloud has the server's password, whatever characters it holds; root logs in by nothing."""
    assert guest.ssh("id -un", key=None, password=_PASSWORD).stdout == "cloud\n"
    assert guest.ssh("true", key=None, password="cloud").returncode != 0
    assert guest.ssh("true", user="root").returncode != 0
    assert guest.ssh("true", user="root", key=None, password=_PASSWORD).returncode != 0


def test_the_tools_are_there(guest: _Guest) -> None:
    """Every command that tests and people type is found, and curl is the real one."""
    missing = guest.says(f"for tool in {' '.join(_TOOLS.split())}; do which $tool >/dev/null || echo $tool; done")
    assert missing == ""
    assert guest.says("curl -V").startswith("curl 7.")


def test_sudo_needs_no_password_and_takes_its_usual_forms(guest: _Guest) -> None:
    """`sudo COMMAND`, -n, -i, -u and `sh -c` with quotes work; words stay words."""
    assert guest.says("sudo id -u; sudo -n id -u; sudo -u cloud id -un") == "0\n0\ncloud"
    assert guest.says("sudo -i sh -c 'echo $HOME \"a  b\"'") == "/root a  b"
    assert guest.says('sudo sh -c "echo \\"to the console\\" >/dev/console; sync"') == ""
    guest.wait_for("to the console", _SOON_S_MAX)


def test_disks_are_listed_as_tempest_reads_them(guest: _Guest) -> None:
    """An ordinary user learns from lsblk and blkid what there is; the config drive mounts without a type."""
    lines = guest.says("lsblk -lb --nodeps").splitlines()
    assert lines[0].split()[5] == "TYPE"
    assert [line.split()[::3][:2] for line in lines[1:]] == [["vda", "1073741824"], ["vdb", "2097152"]]
    assert guest.says("blkid -L config-2 -o device || blkid -L CONFIG-2 -o device") == "/dev/vdb"
    text = guest.says("sudo mount /dev/vdb /mnt; sudo cat /mnt/openstack/latest/meta_data.json; sudo umount /mnt")
    assert json.loads(text)["name"] == "vm-disk"


@pytest.mark.parametrize(("flag", "port"), [("", 8080), ("-u", 8081)], ids=["tcp", "udp"])
def test_nc_serves_and_asks(guest: _Guest, flag: str, port: int) -> None:
    """A lasting listener, called as tempest calls it, answers more than one caller; killall ends it."""
    guest.says(f"sudo nc {flag} -p {port} -lk -e echo foolish >/dev/null 2>&1 </dev/null &")
    ask = f"echo bar | nc -w 1 {flag} 127.0.0.1 {port} || true"
    guest.wait_until(lambda: guest.says(ask) == "foolish")
    assert guest.says(ask) == "foolish"
    guest.says("sudo killall nc")
    guest.wait_until(lambda: guest.says("pidof nc || echo none") == "none")


def test_the_network_is_set_up_by_dhcp(guest: _Guest) -> None:
    """Address, route and name server are there; the client renews when told as tempest tells it; ping needs no root."""
    assert "nameserver 10.0.2.3" in guest.says("cat /etc/resolv.conf")
    assert guest.says("ip route").startswith("default via 10.0.2.2 dev eth0")
    assert guest.says(
        "sudo /bin/kill -USR1 $(cat /var/run/udhcpc.eth0.pid); ping -c1 -w5 10.0.2.2 >/dev/null; ip -o -4 a"
    )
    assert "inet6 fec0:" in guest.says("ip -6 addr show dev eth0")


def test_plugged_devices_appear(guest: _Guest) -> None:
    """A disk plugged while running is seen with its serial, takes a file system and leaves; a network card gets its
    address without taking over the default route."""
    guest.order("device_add", driver="virtio-blk-pci", id="disk1", drive="volume", bus="port1", serial="0123-abcd")
    guest.wait_until(lambda: guest.says("cat /sys/block/vdc/serial 2>/dev/null || true") == "0123-abcd")
    for kind in ("ext4", "vfat"):
        guest.says(f"sudo mkfs -t {kind} /dev/vdc >/dev/null 2>&1; sudo mount /dev/vdc /mnt; sudo umount /mnt")
    guest.order("device_add", driver="virtio-net-pci", id="nic1", netdev="net1", bus="port2", romfile="")
    guest.wait_for(r"GUEST: dhcp eth1 10\.9\.0\.\d+ at", _SOON_S_MAX)
    assert guest.says("ip route").startswith("default via 10.0.2.2 dev eth0")
    guest.order("device_del", id="nic1")
    guest.order("device_del", id="disk1")
    guest.wait_until(lambda: guest.says("ls /sys/class/net /sys/block | grep -E 'eth1|vdc' || true") == "")


def test_the_power_button_switches_off(guest: _Guest) -> None:
    """Pressed by ACPI, the guest stops by itself and QEMU ends."""
    guest.order("system_powerdown")
    assert guest.process.wait(_SOON_S_MAX) == 0


_SERVICE = """
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
path = sys.stdin.readline().split()[1]
while sys.stdin.readline().strip():
    pass
with (folder / "asked").open("a+") as asked:
    asked.write(path + "\\n")
    asked.seek(0)
    count = len(asked.readlines())
file = folder / path.rpartition("/")[2]
status = "503 Not yet" if count < 3 else "200 OK" if file.exists() else "404 Not Found"
body = file.read_bytes() if status == "200 OK" else b"no"
head = f"HTTP/1.1 {status}\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n"
sys.stdout.buffer.write(head.encode() + body)
"""


def test_the_kernel_alone_boots_the_guest_with_the_metadata_service(
    image: GuestImage, keys: Path, tmp_path: Path
) -> None:
    """Without a disk, in 128 MiB: the guest asks the service until it answers, and only then lets ssh answer."""
    (tmp_path / "meta_data.json").write_text(json.dumps(_metadata(keys, "vm-ram")))
    (tmp_path / "user_data").write_text("#!/bin/sh\necho user data over http\nexit 3\n")
    (tmp_path / "serve.py").write_text(_SERVICE)
    serve = f"{sys.executable} {tmp_path}/serve.py"
    network = ",net=169.254.169.0/24,host=169.254.169.2,dns=169.254.169.3,dhcpstart=169.254.169.20"
    network += f",guestfwd=tcp:169.254.169.254:80-cmd:{serve}"
    devices = ["-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", DIRECT_BOOT_CMDLINE]
    with _boot(tmp_path, keys, devices, network=network) as guest:
        guest.wait_for("GUEST: ssh at", _BOOT_S_MAX)
        assert guest.ssh("hostname").stdout == "vm-ram\n"
        console = guest.wait_for("GUEST: ready at", _BOOT_S_MAX)
        assert "user data over http\nGUEST: user-data rc 3 at" in console
        assert "GUEST: root in RAM at" in console
        url = "http://169.254.169.254/openstack/latest/meta_data.json"
        assert json.loads(guest.says(f"curl -s {url}"))["name"] == "vm-ram"
        assert guest.says("sudo id -u") == "0"
    asked = (tmp_path / "asked").read_text().split()
    wanted = ["/openstack/latest/meta_data.json"] * 3
    assert asked[:4] == [*wanted, "/openstack/latest/user_data"]
