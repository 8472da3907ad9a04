"""The official clients against a real cloud, by the command lines of every tutorial, and the console that they open.

One cloud and one server for the whole file; the tests stand in the order in which they use it up.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from cumulet.dev.checkout import program
from cumulet.dev.cloud import RunningCloud, read_cloud

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

_COMMAND_S_MAX = 60
_SOON_S_MAX = 20
_GREETING = b"RFB 003.008"
_QUIET_SSH = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectionAttempts=20")

if not Path(program("openstack", ".venv-clients")).exists():
    pytest.skip("the official clients are not installed (./dev test installs them)", allow_module_level=True)


@dataclass(frozen=True)
class _User:
    """Someone at a terminal: the official clients, logged in as the cloud's ordinary user."""

    cloud: RunningCloud
    folder: Path

    def openstack(self, *arguments: str, cloud: str = "cumulet") -> str:
        """What the command printed.  Fails the test when the command fails."""
        environment = os.environ | {"OS_CLIENT_CONFIG_FILE": str(self.cloud.state / "clouds.yaml"), "OS_CLOUD": cloud}
        return _run(program("openstack", ".venv-clients"), *arguments, environment=environment)

    def nova(self, *arguments: str) -> str:
        """The compute service's own old client; it knows no clouds.yaml."""
        auth = read_cloud(self.cloud.state / "clouds.yaml", "cumulet")["auth"]
        environment = os.environ | {f"OS_{name.upper()}": str(value) for name, value in auth.items()}
        return _run(program("nova", ".venv-clients"), *arguments, environment=environment)

    @property
    def key(self) -> Path:
        return self.folder / "key"

    def ssh(self, address: str, command: str) -> str:
        return _run("ssh", "-i", str(self.key), *_QUIET_SSH, f"cloud@{address}", command, environment=os.environ)

    def console(self) -> str:
        """The websocket behind a fresh console page of the server."""
        page = urlsplit(self.openstack("console", "url", "show", "vm", "-f", "value", "-c", "url").strip())
        (token,) = parse_qs(page.query)["token"]
        return f"ws://{page.netloc}/console/websockify?token={token}"


def _run(*command: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMMAND_S_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_User]:
    """A fresh real cloud, and its ordinary user."""
    folder = tmp_path_factory.mktemp("clients")
    with RunningCloud(folder / "state", ["--real", "--no-merge-clouds"], quiet=True) as cloud:
        yield _User(cloud, folder)


def test_a_server_is_created_as_in_every_tutorial(user: _User) -> None:
    """Key, network, router, group and `server create --wait`: an ACTIVE server and its nineteen recorded steps."""
    user.key.write_text(user.openstack("keypair", "create", "kw"))
    user.key.chmod(0o600)
    user.openstack("network", "create", "nw")
    user.openstack("subnet", "create", "--network", "nw", "--subnet-range", "10.77.0.0/24", "sw")
    user.openstack("router", "create", "--external-gateway", "public", "rw")
    user.openstack("router", "add", "subnet", "rw", "sw")
    user.openstack("security", "group", "create", "gw")
    user.openstack("security", "group", "rule", "create", "--proto", "tcp", "--dst-port", "22", "gw")
    what = ("--flavor", "m1.nano", "--image", "cumulet-guest", "--nic", "net-id=nw")
    user.openstack("server", "create", *what, "--security-group", "gw", "--key-name", "kw", "--wait", "vm")

    assert user.openstack("server", "list", "-f", "value", "-c", "Name", "-c", "Status").split() == ["vm", "ACTIVE"]
    request = user.openstack("server", "event", "list", "vm", "-f", "value", "-c", "Request ID").strip()
    events = user.openstack("server", "event", "show", "vm", request, "-f", "value", "-c", "events")
    assert events.count("'result': 'Success'") == 19


def test_an_attached_volume_is_seen_by_who_logs_in(user: _User) -> None:
    """A floating IP lets its owner in by ssh; a volume attached while running is a disk in the guest, until detached."""
    create = ("floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address")
    address = user.openstack(*create).strip()
    user.openstack("server", "add", "floating", "ip", "vm", address)
    user.openstack("volume", "create", "--size", "1", "data")
    user.openstack("server", "add", "volume", "vm", "data")
    assert "vdb" in user.ssh(address, "lsblk")
    user.openstack("server", "remove", "volume", "vm", "data")
    status = ("volume", "show", "data", "-f", "value", "-c", "status")
    assert user.openstack(*status).strip() in {"detaching", "available"}
    user.openstack("floating", "ip", "delete", address)


def test_a_console_opens_once_and_for_its_own_page_only(user: _User) -> None:
    """A console's token shows the guest's screen to one websocket; a second, or another site's page, is refused."""
    url = user.console()
    with pytest.raises(InvalidStatus, match="403"), connect(url, origin=Origin("http://elsewhere.example")):
        pass
    with connect(url, subprotocols=[Subprotocol("binary")]) as websocket:
        greeting = websocket.recv(_SOON_S_MAX)
        assert isinstance(greeting, bytes)
        assert greeting.startswith(_GREETING)
    with pytest.raises(InvalidStatus, match="403"), connect(url):
        pass


def test_the_old_client_boots_too(user: _User) -> None:
    """`nova boot` of python-novaclient, as it stands in old tutorials, ends with an ACTIVE server."""
    network = user.openstack("network", "show", "nw", "-f", "value", "-c", "id").strip()
    what = ("--flavor", "m1.small", "--image", "cumulet-guest", "--nic", f"net-id={network}")
    user.nova("boot", *what, "--security-group", "gw", "--key-name", "kw", "--poll", "old")
    assert "ACTIVE" in user.nova("list", "--name", "old")


def test_what_operators_look_at(user: _User) -> None:
    """The lists of the cloud's own parts name them, and say that they are up."""
    assert "ovn-controller" in user.openstack("network", "agent", "list", cloud="cumulet-admin")
    assert "nova-compute" in user.openstack("compute", "service", "list", cloud="cumulet-admin")
    assert "QEMU" in user.openstack("hypervisor", "list", cloud="cumulet-admin")
    assert "block-storage" in user.openstack("catalog", "list")


def test_nothing_is_left_of_what_was_deleted(user: _User) -> None:
    """When all that was made is deleted, the leak check counts 0."""
    user.openstack("server", "delete", "--wait", "vm", "old")
    user.openstack("volume", "delete", "data")
    user.openstack("router", "remove", "subnet", "rw", "sw")
    user.openstack("router", "delete", "rw")
    user.openstack("network", "delete", "nw")
    assert user.openstack("port", "list", "-f", "value").strip() == ""
    found = _run(program("cumulet"), "check", "--state", str(user.cloud.state), environment=os.environ)
    assert found.splitlines()[-1] == "0"
