"""Files that appear whole or not at all, and copies that keep their holes."""

import errno
import os
from pathlib import Path

import pytest
from tests.unit.disk_images import names, noise

from cumulet.core.disk import files
from cumulet.core.disk.errors import DiskExists
from cumulet.core.disk.files import PART, appearing, copy_sparse

MIB = 1 << 20


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_has_its_name_only_when_it_is_complete(durable: bool, tmp_path: Path) -> None:
    """Inside the block there is a part, which a back end can list; afterwards only the file."""
    target = tmp_path / "disk"
    with appearing(target, durable=durable) as part:
        part.write_bytes(b"all of it")
        assert [name.endswith(PART) for name in names(tmp_path)] == [True]
    assert names(tmp_path) == ["disk"]
    assert target.read_bytes() == b"all of it"


def test_a_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An error inside the block removes the part and passes on."""
    with pytest.raises(KeyError), appearing(tmp_path / "disk", durable=False) as part:  # noqa: PT012 - it raises inside
        part.write_bytes(b"half")
        raise KeyError
    assert names(tmp_path) == []


def test_a_name_that_is_taken_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    """Of two writers the first wins; `replace` is for files that are only copies."""
    target = tmp_path / "disk"
    target.write_bytes(b"first")
    with pytest.raises(DiskExists), appearing(target, durable=False) as part:
        part.write_bytes(b"second")
    assert target.read_bytes() == b"first"
    with appearing(target, durable=False, replace=True) as part:
        part.write_bytes(b"third")
    assert target.read_bytes() == b"third"
    assert names(tmp_path) == ["disk"]


def patchwork(path: Path) -> bytes:
    """Data, a hole, data, and a hole at the end."""
    with path.open("wb") as file:
        file.write(b"a" * 4096)
        file.seek(8 * MIB)
        file.write(noise(100_001))
        file.truncate(32 * MIB + 5)
    return path.read_bytes()


@pytest.mark.parametrize("way", ["as the kernel likes", "without shared blocks", "by hand"])
def test_a_copy_has_the_same_bytes_and_the_same_holes(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On each way the copy equals the source and takes no more room."""
    if way != "as the kernel likes":
        monkeypatch.setattr(files, "_cloned", lambda _source, _target: False)
    if way == "by hand":

        def refuse(*_arguments: object) -> int:
            raise OSError(errno.EXDEV, "between file systems")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    content = patchwork(source)
    copy_sparse(source, target)
    assert target.read_bytes() == content
    assert target.stat().st_blocks <= source.stat().st_blocks + 64


@pytest.mark.parametrize("size", [0, 1, 5 * MIB])
def test_a_file_without_data_is_copied_as_one_hole(size: int, tmp_path: Path) -> None:
    """An empty disk's copy is an empty disk."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.touch()
    os.truncate(source, size)
    copy_sparse(source, target)
    assert target.stat().st_size == size
    assert target.stat().st_blocks == source.stat().st_blocks


def test_a_copy_never_goes_over_another_file(tmp_path: Path) -> None:
    """The target must be new."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        copy_sparse(source, target)
    assert target.read_bytes() == b"old"
