"""What a state directory holds beside the services' own data: its lock, the cloud's id, the first passwords, the clients' files."""

import fcntl
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec
import yaml

from cumulet.core.context import Secret
from cumulet.core.ids import SystemIds

__all__ = ["CloudFacts", "StateInUseError", "StateLock", "load_facts", "merge_clouds", "write_clients"]


class StateInUseError(Exception):
    """Another `cumulet up` runs on this state directory."""


class StateLock:
    """Held for as long as the process lives; a second start learns who holds it."""

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self._path = state_dir / "lock"
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise StateInUseError(f"{state_dir} is in use by process {holder or '?'}") from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


class CloudFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What makes this cloud itself."""

    cloud_id: str
    admin_password: str
    demo_password: str

    def __repr__(self) -> str:  # passwords do not print
        return f"CloudFacts({self.cloud_id})"

    @property
    def admin(self) -> Secret:
        return Secret(self.admin_password)

    @property
    def demo(self) -> Secret:
        return Secret(self.demo_password)


def load_facts(state_dir: Path) -> CloudFacts:
    """The cloud's facts, made at its first start."""
    path = state_dir / "cloud.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=CloudFacts)
    facts = CloudFacts(
        cloud_id=SystemIds().uuid(), admin_password=secrets.token_urlsafe(12), demo_password=secrets.token_urlsafe(12)
    )
    _write_secret(path, msgspec.json.encode(facts))
    return facts


def _write_secret(path: Path, content: bytes) -> None:
    """Complete or not there, readable by its owner only."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _cloud(url: str, user: str, project: str, password: str) -> dict[str, Any]:
    return {
        "auth": {
            "auth_url": f"{url}/identity/v3",
            "username": user,
            "password": password,
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": "RegionOne",
        "interface": "public",
        "identity_api_version": 3,
    }


def clouds(facts: CloudFacts, url: str) -> dict[str, Any]:
    """The two entries of a clouds.yaml."""
    return {
        "cumulet": _cloud(url, "demo", "demo", facts.demo_password),
        "cumulet-admin": _cloud(url, "admin", "admin", facts.admin_password),
    }


def write_clients(state_dir: Path, facts: CloudFacts, url: str) -> None:
    """DIR/clouds.yaml and DIR/openrc."""
    entries = clouds(facts, url)
    _write_secret(state_dir / "clouds.yaml", yaml.safe_dump({"clouds": entries}, sort_keys=False).encode())
    auth = entries["cumulet"]["auth"]
    lines = [
        "# source this file: the project and user `demo` of this cloud",
        f"export OS_AUTH_URL={auth['auth_url']}",
        f"export OS_USERNAME={auth['username']}",
        f"export OS_PASSWORD={auth['password']}",
        f"export OS_PROJECT_NAME={auth['project_name']}",
        "export OS_USER_DOMAIN_NAME=Default",
        "export OS_PROJECT_DOMAIN_NAME=Default",
        "export OS_REGION_NAME=RegionOne",
        "export OS_INTERFACE=public",
        "export OS_IDENTITY_API_VERSION=3",
    ]
    _write_secret(state_dir / "openrc", ("\n".join(lines) + "\n").encode())


def merge_clouds(facts: CloudFacts, url: str) -> Path:
    """The two entries into the user's own clouds.yaml; everything else in it stays."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "openstack"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "clouds.yaml"
    known: dict[str, Any] = {}
    if path.exists():
        known = yaml.safe_load(path.read_text()) or {}
    known.setdefault("clouds", {}).update(clouds(facts, url))
    _write_secret(path, yaml.safe_dump(known, sort_keys=False).encode())
    return path
