"""Files below scratch: no planted link leads out, nothing unbounded is read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from connectors.clusters.files import DirectoryFiles
from connectors.clusters.port import SiteCommandError, UnsafePathError


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_bytes(b"stays")
    return folder


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_only_regular_files_are_read(scratch: Path, outside: Path, kind: str) -> None:
    thing = scratch / "thing"
    if kind == "link":
        thing.symlink_to(outside / "precious")
    elif kind == "fifo":
        os.mkfifo(thing)
    else:
        thing.mkdir()
    with pytest.raises(UnsafePathError):
        DirectoryFiles(scratch).read(("thing",), 100)


def test_a_linked_folder_on_the_way_is_not_entered(scratch: Path, outside: Path) -> None:
    (scratch / "way").symlink_to(outside)
    files = DirectoryFiles(scratch)
    with pytest.raises(UnsafePathError):
        files.read(("way", "precious"), 100)
    with pytest.raises(UnsafePathError):
        files.list_tree(("way",))
    with pytest.raises((UnsafePathError, SiteCommandError)):
        files.remove_tree(("way",))
    assert (outside / "precious").read_bytes() == b"stays"


def test_removing_a_tree_counts_files_and_links_and_spares_their_targets(
    scratch: Path, outside: Path
) -> None:
    deep = scratch / "tree" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    (deep / "link").symlink_to(outside)
    (deep / "hard").hardlink_to(outside / "precious")
    files = DirectoryFiles(scratch)
    assert files.list_tree(("tree",)) == ["a/", "a/b/", "a/b/file", "a/b/hard", "a/b/link"]
    assert files.remove_tree(("tree",)) == 3
    assert files.list_tree(("tree",)) == []
    assert files.remove_tree(("tree",)) == 0
    assert (outside / "precious").read_bytes() == b"stays"


def test_a_scratch_that_was_never_made_is_empty(tmp_path: Path) -> None:
    files = DirectoryFiles(tmp_path / "never")
    assert files.read(("a",), 10) is None
    assert files.list_tree(("a",)) == []
    assert files.remove_tree(("a",)) == 0


def test_folders_without_end_are_refused_rather_than_walked(scratch: Path) -> None:
    folder = scratch / "deep"
    for _ in range(80):
        folder = folder / "d"
    folder.mkdir(parents=True)
    with pytest.raises(UnsafePathError):
        DirectoryFiles(scratch).list_tree(("deep",))


def test_a_runtime_that_changed_on_the_way_is_not_installed(scratch: Path, tmp_path: Path) -> None:
    file = tmp_path / "runtime"
    file.write_bytes(b"one")
    hexes = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(SiteCommandError):
        DirectoryFiles(scratch).install(file, ("hdrs-hpc", "runtime", f"{hexes}.tar"), hexes)
    assert list((scratch / "hdrs-hpc" / "runtime").iterdir()) == []


def test_an_installed_runtime_is_private(scratch: Path, tmp_path: Path) -> None:
    file = tmp_path / "runtime"
    file.write_bytes(b"one")
    hexes = hashlib.sha256(b"one").hexdigest()
    DirectoryFiles(scratch).install(file, ("hdrs-hpc", "runtime", f"{hexes}.tar"), hexes)
    there = scratch / "hdrs-hpc" / "runtime" / f"{hexes}.tar"
    assert there.read_bytes() == b"one"
    assert [path.stat().st_mode & 0o077 for path in (there, there.parent)] == [0, 0]
