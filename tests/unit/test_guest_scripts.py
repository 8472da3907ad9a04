"""The guest's own scripts, as far as they can be run outside a guest."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cumulet.guest.contents import sources

_SCRIPTS = sorted(
    path for path, data in sources().items() if data.startswith(b"#!") or path.startswith("usr/lib/guest/")
)
_SHELL = [path for path in _SCRIPTS if not path.endswith(".awk")]


@pytest.mark.parametrize("path", _SHELL)
def test_every_script_is_one_to_the_shell(path: str) -> None:
    """A POSIX shell parses each script to its end."""
    done = subprocess.run(["sh", "-n"], input=sources()[path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def _flat(text: str, folder: Path) -> list[tuple[str, str]]:
    program = folder / "json.awk"
    program.write_bytes(sources()["usr/lib/guest/json.awk"])
    said = subprocess.run(
        ["awk", "-f", program], input=text.encode(), capture_output=True, check=True, env={"LC_ALL": "C"}
    )
    lines = said.stdout.decode().splitlines()
    return [(path, value) for path, _, value in (line.partition("\t") for line in lines)]


def test_metadata_is_read_by_its_place_not_by_its_name(tmp_path: Path) -> None:
    """What a user names like a field of the metadata stays below `meta`; escapes come out as what they stand for."""
    metadata = {
        "uuid": "8f0b",
        "meta": {"hostname": "evil", "admin_pass": "evil", "deep": [1, {"uuid": "evil"}, [], {}]},
        "hostname": "vm-1.novalocal",
        "admin_pass": 'a"b\\c/d\u00e9\u20ac\U0001f600',
        "public_keys": {"my key": "ssh-ed25519 AAAA me@here\n"},
        "launch_index": 0,
        "dedicated_cpus": [],
        "project_id": None,
    }
    flat = _flat(json.dumps(metadata, indent=1), tmp_path)
    assert flat == [
        ("uuid", "8f0b"),
        ("meta/hostname", "evil"),
        ("meta/admin_pass", "evil"),
        ("meta/deep/0", "1"),
        ("meta/deep/1/uuid", "evil"),
        ("hostname", "vm-1.novalocal"),
        ("admin_pass", 'a"b\\c/d\u00e9\u20ac\U0001f600'),
        ("public_keys/my key", "ssh-ed25519 AAAA me@here "),
        ("launch_index", "0"),
        ("project_id", "null"),
    ]


_WORDS = st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="/"))
_VALUES = st.recursive(_WORDS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(_WORDS, inner))


def _expected(value: object, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        return [line for key, one in members for line in _expected(one, f"{path}/{key}" if path else str(key))]
    return [(path, str(value))]


@settings(max_examples=40)  # each starts an awk
@given(document=st.dictionaries(_WORDS.filter(bool), _VALUES), ascii_only=st.booleans())
def test_any_document_is_read_as_python_reads_it(
    document: dict[str, object], ascii_only: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The awk reader and Python's agree on paths and values."""
    text = json.dumps(document, ensure_ascii=ascii_only)
    flat = _flat(text, tmp_path_factory.mktemp("json"))
    lines = "".join(f"{path}\t{value}\n" for path, value in _expected(document))
    assert flat == [
        (path, value) for path, _, value in (line.partition("\t") for line in lines.encode().decode().splitlines())
    ]


@pytest.mark.parametrize("text", ["", "{", '{"a"', '{"a":', '{"a":"b', "[1,", "}", "nonsense", '{"a":"\\u12"}'])
def test_a_torn_document_ends_the_reading(text: str, tmp_path: Path) -> None:
    """Half a document gives at most half the values; it never hangs."""
    assert len(_flat(text, tmp_path)) <= 1


def _lease(event: str, folder: Path, **lease: str) -> list[str]:
    """The programs that the lease script starts."""
    (folder / "eth1").mkdir(exist_ok=True)
    (folder / "eth1/ifindex").write_text("3\n")
    (folder / "functions").write_text(
        'ip() { echo ip "$@"; }; ifconfig() { echo ifconfig "$@"; }; say() { echo say "$@"; }; name_servers() { :; }\n'
    )
    script = sources()["usr/lib/guest/lease"].decode()
    for place in ("/usr/lib/guest", "/run/guest", "/sys/class/net"):
        script = script.replace(place, str(folder))
    (folder / "script").write_text(script)
    said = subprocess.run(
        ["sh", folder / "script", event],
        capture_output=True,
        text=True,
        check=False,
        env={**lease, "interface": "eth1"},
    )
    assert said.stderr == ""
    return said.stdout.splitlines()


def test_a_lease_sets_address_mtu_routes_and_name_servers(tmp_path: Path) -> None:
    """Routes of option 121 stand in for the router's; each has a metric by which an earlier card's wins."""
    lease = {
        "ip": "10.0.1.7",
        "subnet": "255.255.255.240",
        "mtu": "1442",
        "router": "10.0.1.1",
        "dns": "10.0.1.2 9.9.9.9",
    }
    routes = "169.254.169.254/32 10.0.1.2 0.0.0.0/0 10.0.1.1 10.7.0.0/16 0.0.0.0"
    assert _lease("deconfig", tmp_path) == []
    assert _lease("bound", tmp_path, **lease, staticroutes=routes, domain="cloud.test") == [
        "ifconfig eth1 10.0.1.7 netmask 255.255.255.240 mtu 1442",
        "ip route replace 169.254.169.254/32 via 10.0.1.2 dev eth1 metric 103",
        "ip route replace 0.0.0.0/0 via 10.0.1.1 dev eth1 metric 103",
        "ip route replace 10.7.0.0/16 dev eth1 metric 103",
        "say dhcp eth1 10.0.1.7",
    ]
    assert (tmp_path / "eth1/dns").read_text() == "search cloud.test\nnameserver 10.0.1.2\nnameserver 9.9.9.9\n"
    # Renewed with another name server: the address stays untouched, as setting it again would drop its routes.
    renewed = _lease("renew", tmp_path, **(lease | {"dns": "10.0.1.3"}))
    assert renewed == ["ip route replace default via 10.0.1.1 dev eth1 metric 103"]
    assert (tmp_path / "eth1/dns").read_text() == "nameserver 10.0.1.3\n"
    assert _lease("deconfig", tmp_path) == ["ip -4 addr flush dev eth1"]


@pytest.mark.parametrize(
    ("asked", "started"),
    [
        ("-w 1 10.0.0.5 80", "tcp -w 1 10.0.0.5 80"),
        ("10.0.0.5 80", "tcp 10.0.0.5 80"),
        ("-lp 8000", "tcp -l -p 8000"),
        ("-p 80 -lk -e echo foolish", "tcp -ll -p 80 -e echo foolish"),
        ("-l -p 80 -e /bin/cat", "tcp -l -p 80 -e /bin/cat"),
        ("-w 1 -u 10.0.0.5 80", "udp -t 1 - UDP:10.0.0.5:80"),
        ("-u -w 1 fd00::5 80", "udp -t 1 - UDP:[fd00::5]:80"),
        ("-u -p 80 -lk -e echo foolish", "udp UDP6-RECVFROM:80,ipv6only=0,reuseaddr,fork EXEC:echo foolish"),
        ("-ul 80", "udp -t 86400 - UDP6-LISTEN:80,ipv6only=0,reuseaddr"),
    ],
)
def test_nc_takes_the_options_of_other_ncs(asked: str, started: str, tmp_path: Path) -> None:
    """Each way in which nc is called ends in the one program that can do it."""
    script = tmp_path / "nc"
    script.write_text(sources()["usr/bin/nc"].decode().replace("/usr/lib/guest", str(tmp_path)))
    for kind in ("tcp", "udp"):
        program = tmp_path / kind / "nc"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho {kind} "$@"\n')
        program.chmod(0o755)
    said = subprocess.run(["sh", script, *asked.split()], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == started
