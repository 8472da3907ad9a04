"""`./dev conformance TIER`: the suites of OpenStack's own developers, run against the cloud.

A tier is a list of test ids in `tests/conformance/`.  Every id of the list must be accounted for: a test that was not
run is a failure, and so is one that was skipped for a reason which is not in `SKIPS_THAT_ARE_FINE`.  Afterwards
nothing may be left behind in the cloud; tempest's own cleanup says what is.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import string
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cumulet.dev.checkout import ROOT, WORK, program
from cumulet.dev.cloud import CloudFailed, RunningCloud, Session, read_cloud

__all__ = ["SKIPS_THAT_ARE_FINE", "Outcome", "leftovers", "render", "run", "tier_file"]

_LISTS = ROOT / "tests/conformance"
_SERIAL_TIERS = {0}
_CONCURRENCY = 2
_GUEST_USER = "cloud"

#: name, RAM in MiB, disk in GiB: what the tests boot
_FLAVORS = (("m1.nano", 128, 1), ("m1.micro", 192, 2))

#: reasons that name something which no cloud of this kind has, or which the suite itself has given up
SKIPS_THAT_ARE_FINE = tuple(
    re.compile(reason, re.IGNORECASE)
    for reason in (
        r"swift|object[- ]storage",
        r"\bheat\b|orchestration",
        r"barbican|key[- ]manager",
        r"federat",
        r"vpnaas|fwaas|bgpvpn|\bsfc\b|\btaas\b|dynamic[_ -]routing",
        r"advanced image",
        r"personality|file injection",
        r"spice",
        r"\bide\b",
        r"change[_ -]password",
        r"prevents testing with bogus image data",
    )
)

_TEST = re.compile(
    r"^\{\d+\} (?P<id>\S+(?: \(.*?\))?) (?:\[[0-9.]+s\] )?\.\.\. (?P<how>ok|FAILED|SKIPPED)(?:: (?P<why>.*))?$"
)
_CLASS_FIXTURE = re.compile(r"(?:setUpClass|tearDownClass) \((?P<of>.*)\)$")


@dataclass
class Outcome:
    """What became of each id of a list.  Feed it the lines that `tempest run` prints."""

    wanted: Sequence[str]
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        """Take note of one printed line."""
        found = _TEST.match(line.rstrip())
        if not found:
            return
        for one in self._meant(found["id"]):
            if found["how"] == "FAILED":
                self.failed.add(one)
            elif found["how"] == "SKIPPED":
                self.skipped[one] = found["why"] or ""
            else:
                self.passed.add(one)

    def _meant(self, shown: str) -> Iterable[str]:
        """The ids that a printed name stands for: a class's set-up stands for all its tests."""
        fixture = _CLASS_FIXTURE.match(shown)
        if fixture is None:
            # a list names tests with their attributes in brackets, the run prints them without
            return [one for one in self.wanted if one.split("[")[0] == shown.split("[", maxsplit=1)[0]] or [shown]
        return [one for one in self.wanted if one.split("[")[0].rpartition(".")[0] == fixture["of"]]

    @property
    def not_run(self) -> list[str]:
        return [one for one in self.wanted if one not in self.passed | self.failed | self.skipped.keys()]

    @property
    def unexplained_skips(self) -> dict[str, str]:
        return {
            one: why
            for one, why in self.skipped.items()
            if one not in self.failed and not any(reason.search(why) for reason in SKIPS_THAT_ARE_FINE)
        }

    @property
    def good(self) -> bool:
        return not (self.failed or self.not_run or self.unexplained_skips)

    def closing_line(self) -> str:
        failed = self.failed.union(self.not_run)
        skipped = self.skipped.keys() - failed
        passed = self.passed - failed - skipped
        return f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped"


def tier_file(tier: int) -> Path:
    """The list of a tier.  Raises CloudFailed for a tier that there is not."""
    found = list(_LISTS.glob(f"tier-{tier}-*.txt"))
    if len(found) != 1:
        raise CloudFailed(
            f"there is no tier {tier}; there are {', '.join(sorted(path.stem for path in _LISTS.glob('tier-*')))}"
        )
    return found[0]


def render(values: Mapping[str, str]) -> str:
    """The suite's configuration.  Raises KeyError for a value that is missing."""
    return string.Template((_LISTS / "tempest.conf").read_text()).substitute(values)


def leftovers(report: Mapping[str, Any]) -> dict[str, Any]:
    """What tempest's cleanup would remove: the parts of its dry run's report that are not empty."""
    return {kind: things for kind, things in report.items() if things}


def run(tier: int, *, cloud: str | None, concurrency: int | None, timeout_s: int, up: Sequence[str]) -> bool:
    """Run one tier; whether all is well.  Prints as it goes; the closing line comes last.

    Without `cloud` (the name of an entry in the user's clouds.yaml) a cloud is started for it with the arguments `up`.
    """
    wanted = tier_file(tier).read_text().split()
    work = WORK / f"conformance-{tier}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(_cloud(cloud, up))
        images_url = stack.enter_context(_images_on_loopback(work / "images"))
        workspace = _workspace(work, session, images_url=images_url, timeout_s=timeout_s)
        tempest = functools.partial(_tempest, workspace)
        tempest("verify-config", "--output", os.devnull)
        tempest("cleanup", "--init-saved-state")
        serial = tier in _SERIAL_TIERS and concurrency is None
        how = ["--serial"] if serial else ["--concurrency", str(concurrency or _CONCURRENCY)]
        outcome = Outcome(wanted)
        for line in _lines(workspace, ["run", "--load-list", str(tier_file(tier)), *how]):
            print(line, end="", flush=True)
            outcome.hear(line)
        tempest("cleanup", "--dry-run")
        left = leftovers(json.loads((workspace / "dry_run.json").read_text()))
    for one in outcome.not_run:
        print(f"not run: {one}")
    for one, why in outcome.unexplained_skips.items():
        print(f"skipped without a good reason: {one}: {why}")
    print(f"left behind: {json.dumps(left, indent=2)}" if left else "left behind: nothing")
    print(f"logs and configuration: {workspace}")
    print(outcome.closing_line(), flush=True)
    return outcome.good and not left


@contextlib.contextmanager
def _cloud(name: str | None, up: Sequence[str]) -> Iterator[Session]:
    if name is not None:
        files = [Path(os.environ.get("OS_CLIENT_CONFIG_FILE", "clouds.yaml"))]
        files.append(Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "openstack/clouds.yaml")
        file = next((file for file in files if file.exists()), None)
        if file is None:
            raise CloudFailed(f"no clouds.yaml at {' or '.join(map(str, files))}")
        yield Session(read_cloud(file, name))
        return
    with tempfile.TemporaryDirectory(prefix="cumulet-conformance-") as folder, RunningCloud(Path(folder), up) as cloud:
        yield cloud.session()


@contextlib.contextmanager
def _images_on_loopback(folder: Path) -> Iterator[str]:
    """A web server with two small images, for the tests that have the cloud fetch one; its URL."""
    folder.mkdir(parents=True)
    with (folder / "image.raw").open("wb") as raw:
        raw.truncate(1 << 20)
    qemu_img = shutil.which("qemu-img")
    if qemu_img:
        subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", str(folder / "image.qcow2"), "1M"], check=True)
    handler = functools.partial(_QuietFiles, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal shows tests."""


def _workspace(work: Path, session: Session, *, images_url: str, timeout_s: int) -> Path:
    """A folder that tempest works in, with its configuration, asked of the cloud."""
    workspace = work / "workspace"
    tempest = [
        program("tempest", ".venv-conformance"),
        "init",
        "--workspace-path",
        str(work / "workspaces.yaml"),
        str(workspace),
    ]
    with (work / "init.log").open("wb") as log:
        environment = _environment(workspace)
        subprocess.run(tempest, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work, env=environment)
    image = _guest_image(session)
    image_file = work / "images" / f"guest.{image['disk_format']}"
    session.download("image", f"/v2/images/{image['id']}/file", image_file)
    public = session.get("network", "/v2.0/networks?router:external=true")["networks"][0]
    hosts = session.get("compute", "/os-services?binary=nova-compute")["services"]
    hypervisors = session.get("compute", "/os-hypervisors/detail")["hypervisors"]
    flavors = {flavor["name"]: flavor["id"] for flavor in session.get("compute", "/flavors")["flavors"]}
    for name, ram, disk in _FLAVORS:
        if name not in flavors:
            flavor = {"name": name, "ram": ram, "disk": disk, "vcpus": 1}
            flavors[name] = session.post("compute", "/flavors", {"flavor": flavor})["flavor"]["id"]
    pools = session.get("block-storage", "/scheduler-stats/get_pools?detail=true")["pools"]
    protocol = pools[0].get("capabilities", {}).get("storage_protocol", "") if pools else ""
    values = {
        "workspace": str(workspace),
        "auth_url": session.auth_url,
        "region": session.region,
        "admin_user": session.auth["username"],
        "admin_password": session.auth["password"],
        "admin_project": session.auth["project_name"],
        "admin_domain": session.auth.get("user_domain_name", "Default"),
        "timeout_s": str(timeout_s),
        "images_url": images_url,
        "flavor": flavors[_FLAVORS[0][0]],
        "flavor_alt": flavors[_FLAVORS[1][0]],
        "image": image["id"],
        "image_file": str(image_file),
        "image_format": image["disk_format"],
        "guest_user": image.get("os_admin_user", _GUEST_USER),
        "hosts": str(len(hosts)),
        "several_hosts": str(len(hosts) > 1).lower(),
        "public_network": public["id"],
        "public_network_name": public["name"],
        "extensions": ",".join((_LISTS / "network-extensions-ovn.txt").read_text().split()),
        "several_back_ends": str(len(pools) > 1).lower(),
        "storage_protocol": protocol or "file",
        "volume_type": session.get("block-storage", "/types/default")["volume_type"]["name"],
        "real_guests": str(all(one["hypervisor_type"].lower() in {"qemu", "kvm"} for one in hypervisors)).lower(),
    }
    (workspace / "etc/tempest.conf").write_text(render(values))
    (workspace / "etc/tempest.conf").chmod(0o600)  # it holds the admin's password
    return workspace


def _guest_image(session: Session) -> dict[str, Any]:
    """The public image that says who logs in to it; else any that is public.  Raises CloudFailed."""
    images = session.get("image", "/v2/images?visibility=public&status=active")["images"]
    if not images:
        raise CloudFailed("the cloud has no public image to boot")
    named: dict[str, Any] = next((image for image in images if "os_admin_user" in image), images[0])
    return named


def _environment(workspace: Path) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
    environment["PATH"] = (
        f"{ROOT / '.venv-conformance/bin'}{os.pathsep}{os.environ['PATH']}"  # stestr starts its workers by name
    )
    environment["HOME"] = str(workspace.parent)  # tempest keeps a list of workspaces there
    environment["TEMPEST_CONFIG_DIR"] = str(workspace / "etc")
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _tempest(workspace: Path, *arguments: str) -> None:
    """One of tempest's short commands.  Raises CloudFailed with what it said."""
    done = subprocess.run(
        [program("tempest", ".venv-conformance"), *arguments],
        cwd=workspace,
        env=_environment(workspace),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise CloudFailed(f"tempest {' '.join(arguments)} ended with status {done.returncode}:\n{said}")
    if arguments[0] == "verify-config" and done.stdout.strip():
        print(f"tempest verify-config disagrees with the cloud:\n{done.stdout}")


def _lines(workspace: Path, arguments: Sequence[str]) -> Iterator[str]:
    """What a long command prints, as it prints it."""
    command = [program("tempest", ".venv-conformance"), *arguments]
    with subprocess.Popen(
        command,
        cwd=workspace,
        env=_environment(workspace),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield from process.stdout or ()
