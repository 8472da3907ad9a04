"""`./dev` makes its environments once, and knows when they are no longer what the locks say."""

import subprocess
import sys
from pathlib import Path

import pytest

from cumulet.dev import bootstrap
from cumulet.dev.checkout import ROOT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of locks only, whose environments are "made" by writing their stamp."""
    for lock in ROOT.glob("requirements*.txt"):
        (tmp_path / lock.name).write_text(f"# {lock.name}\n")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    monkeypatch.setattr(bootstrap, "_make", _write_stamp)
    return tmp_path


def _write_stamp(root: Path, name: str, log: Path) -> None:
    log.write_text("made\n")
    stamp = bootstrap._stamp(root, name)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(bootstrap._digest(root, name))


def _made(checkout: Path, names: tuple[str, ...]) -> list[str]:
    """Which environments a `prepare` makes."""
    logs = checkout / ".cache/dev"
    for log in logs.glob("install-*.log"):
        log.unlink()
    bootstrap.prepare(checkout, names)
    return sorted(log.stem.removeprefix("install-") for log in logs.glob("install-*.log"))


def test_an_environment_is_made_once(checkout: Path) -> None:
    """The second time nothing is done."""
    assert _made(checkout, ("run", "dev")) == ["dev", "run"]
    assert _made(checkout, ("run", "dev")) == []


def test_a_changed_lock_is_noticed_by_what_was_made_from_it_only(checkout: Path) -> None:
    """New pins for the tests do not make the cloud's own environment again."""
    _made(checkout, ("run", "dev"))
    (checkout / "requirements-dev.txt").write_text("# newer\n")
    assert _made(checkout, ("run", "dev")) == ["dev"]


def test_settings_of_tools_are_no_reason_to_install_again(checkout: Path) -> None:
    """Only the metadata of the package counts in pyproject.toml."""
    _made(checkout, ("run",))
    described = checkout / "pyproject.toml"
    described.write_text(described.read_text().replace("line-length = 120", "line-length = 121"))
    assert _made(checkout, ("run",)) == []
    described.write_text(described.read_text().replace('version = "', 'version = "9'))
    assert _made(checkout, ("run",)) == ["run"]


def test_a_checkout_that_was_moved_is_prepared_again(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Scripts of an environment name the folder they were made in."""
    _made(checkout, ("run",))
    moved = tmp_path_factory.mktemp("elsewhere") / "cumulet"
    checkout.rename(moved)
    assert _made(moved, ("run",)) == ["run"]


def test_every_subcommand_finds_its_locks() -> None:
    """Whatever a subcommand needs is described, and its locks are in the repository."""
    for names in (*bootstrap.NEEDS.values(), bootstrap._NEEDS_OF_THE_REST):
        for name in names:
            assert all((ROOT / lock).is_file() for lock in bootstrap.ENVIRONMENTS[name].locks)


def test_pip_settings_reach_the_other_installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry and a certificate that pip was told of are used by uv as well."""
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = http://mirror.test/simple\ncert = /mirror.pem\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PIP_CERT", "PIP_INDEX_URL", "SSL_CERT_FILE", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    environment = bootstrap._installer_environment()
    assert environment["UV_DEFAULT_INDEX"] == "http://mirror.test/simple"
    assert environment["SSL_CERT_FILE"] == "/mirror.pem"
    assert "PIP_CERT" not in environment  # pip reads its own file


def test_bootstrap_needs_nothing_but_the_standard_library() -> None:
    """It runs before anything is installed: an interpreter without site-packages imports it."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import cumulet.dev.bootstrap"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
