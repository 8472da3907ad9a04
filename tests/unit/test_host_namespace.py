"""Folders and the short path, in a false /run."""

from pathlib import Path

import msgspec
import pytest

from cumulet.host import namespace
from cumulet.host.config import HostConfig
from cumulet.host.errors import ShortPathTaken, StateDirectoryUnusable
from cumulet.host.namespace import claim_short_path, make_folders, release_short_path


@pytest.fixture
def run_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /run/cumulet, with /run/libvirt beside it."""
    root = tmp_path / "run" / "cumulet"
    root.parent.mkdir()
    monkeypatch.setattr(namespace, "RUN_ROOT", str(root))
    monkeypatch.setattr(namespace, "_MADE_MARK", str(root / ".made"))
    monkeypatch.setattr(namespace, "_RUN_LIBVIRT", str(root.parent / "libvirt"))
    return root


def cloud(root: Path, name: str) -> HostConfig:
    """A cloud with its short path in the false /run."""
    config = HostConfig.for_state_dir(str(root.parent.parent / name))
    return msgspec.structs.replace(config, short=str(root / config.tag))


def test_others_may_walk_through_the_state_directory_but_not_list_it(run_root: Path) -> None:
    """QEMU's user must reach its disks; nobody else's business is what else is there."""
    config = cloud(run_root, "state")
    make_folders(config)
    state = Path(config.state_dir)
    assert state.stat().st_mode & 0o777 == 0o711
    assert all((state / private).stat().st_mode & 0o077 == 0 for private in ("ovn", "log", "run"))


def test_a_state_directory_that_was_closed_is_opened_for_walking(run_root: Path) -> None:
    """Made beforehand with 0700, as `mktemp -d` does."""
    config = cloud(run_root, "state")
    Path(config.state_dir).mkdir(mode=0o700)
    make_folders(config)
    assert Path(config.state_dir).stat().st_mode & 0o777 == 0o711


def test_a_state_directory_among_the_short_paths_is_refused(run_root: Path) -> None:
    """It would be hidden in the keeper's namespace."""
    config = msgspec.structs.replace(cloud(run_root, "state"), state_dir=str(run_root / "state"))
    with pytest.raises(StateDirectoryUnusable):
        make_folders(config)


def test_the_short_path_leads_to_the_state_directory(run_root: Path) -> None:
    """Claimed twice, it is the same."""
    config = cloud(run_root, "state")
    make_folders(config)
    for _ in range(2):
        claim_short_path(config)
    assert Path(config.short).resolve() == Path(config.state_dir)


def test_a_short_path_of_another_directory_is_not_taken_over(run_root: Path) -> None:
    """Eight digits may meet."""
    one = cloud(run_root, "one")
    make_folders(one)
    claim_short_path(one)
    two = msgspec.structs.replace(cloud(run_root, "two"), short=one.short)
    make_folders(two)
    with pytest.raises(ShortPathTaken):
        claim_short_path(two)
    assert Path(one.short).resolve() == Path(one.state_dir)


def test_the_last_cloud_takes_everything_away(run_root: Path) -> None:
    """The first to stop must not: the other's namespace is bound over the folder of libvirt."""
    clouds = [cloud(run_root, "one"), cloud(run_root, "two")]
    for config in clouds:
        make_folders(config)
        claim_short_path(config)
    release_short_path(clouds[0])
    assert (run_root.parent / "libvirt").is_dir()
    assert Path(clouds[1].short).is_symlink()
    release_short_path(clouds[1])
    release_short_path(clouds[1])
    assert list(run_root.parent.iterdir()) == []


def test_a_systems_own_libvirt_keeps_its_folder(run_root: Path) -> None:
    """Whether it was there before us or moved in meanwhile."""
    config = cloud(run_root, "one")
    make_folders(config)
    (run_root.parent / "libvirt").mkdir()
    claim_short_path(config)
    release_short_path(config)
    assert [path.name for path in run_root.parent.iterdir()] == ["libvirt"]
