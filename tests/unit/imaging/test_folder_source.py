from __future__ import annotations

import os
from pathlib import Path

import pytest

from connectors.sources import Source, SourceItemMissingError, SourceTooLargeError
from connectors.sources.contract import SourceContract
from connectors.sources.folder import FolderSource


class TestFolderSource(SourceContract):
    def make(self, tmp_path: Path, files: dict[str, bytes]) -> Source:
        root = tmp_path / "archive"
        root.mkdir(exist_ok=True)
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return FolderSource(root)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "plain").write_bytes(b"plain")
    return tmp_path


def test_links_to_files_and_folders_are_neither_listed_nor_opened(outside: Path) -> None:
    root = outside / "archive"
    (root / "file-link").symlink_to(outside / "outside" / "secret")
    (root / "folder-link").symlink_to(outside / "outside")
    (root / "loop").symlink_to(root)
    source = FolderSource(root)
    assert [item.path for item in source.items()] == ["plain"]
    for path in ("file-link", "folder-link/secret", "loop/plain"):
        with pytest.raises(SourceItemMissingError):
            source.open(path)


def test_a_folder_swapped_for_a_link_after_the_scan_is_refused(outside: Path) -> None:
    root = outside / "archive"
    (root / "inner").mkdir()
    (root / "inner" / "secret").write_bytes(b"mine")
    source = FolderSource(root)
    assert "inner/secret" in [item.path for item in source.items()]
    (root / "inner" / "secret").unlink()
    (root / "inner").rmdir()
    (root / "inner").symlink_to(outside / "outside")
    with pytest.raises(SourceItemMissingError):
        source.open("inner/secret")


def test_a_pipe_in_the_archive_does_not_hang_and_is_no_item(outside: Path) -> None:
    os.mkfifo(outside / "archive" / "pipe")
    source = FolderSource(outside / "archive")
    assert [item.path for item in source.items()] == ["plain"]
    with pytest.raises(SourceItemMissingError):
        source.open("pipe")


@pytest.mark.parametrize("name", [b"caf\xe9", b"back\\slash", b"\\xe9", b"new\nline", "日本".encode()])
def test_any_name_has_one_text_form_and_opens_by_it(outside: Path, name: bytes) -> None:
    root = outside / "archive"
    (root / "plain").unlink()
    (root / os.fsdecode(name)).write_bytes(b"data")
    source = FolderSource(root)
    (item,) = source.items()
    item.path.encode("utf-8")  # no lone surrogates
    with source.open(item.path) as handle:
        assert handle.read() == b"data"


def test_two_odd_names_do_not_share_a_text_form(outside: Path) -> None:
    root = outside / "archive"
    for name in (b"caf\xe9", b"caf\\xe9"):
        (root / os.fsdecode(name)).write_bytes(b"")
    assert len({item.path for item in FolderSource(root).items()}) == 3


def test_more_items_or_deeper_folders_than_allowed_are_refused(outside: Path) -> None:
    root = outside / "archive"
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "a" / "b" / "c" / "x").write_bytes(b"")
    assert len(list(FolderSource(root, max_items=2, max_depth=3).items())) == 2
    with pytest.raises(SourceTooLargeError):
        list(FolderSource(root, max_items=1).items())
    with pytest.raises(SourceTooLargeError):
        list(FolderSource(root, max_depth=2).items())


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SourceItemMissingError):
        FolderSource(tmp_path / "absent")
