from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.sources.folder import FolderSource
from imaging.staging import inventory


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    (root / "b").mkdir(parents=True)
    (root / "a").write_bytes(b"first")
    (root / "b" / "c").write_bytes(b"")
    return root


def test_a_scan_names_size_and_checksum_of_every_item(archive: Path) -> None:
    table = inventory.scan(FolderSource(archive))
    assert table.to_pylist() == [
        {"path": "a", "size": 5, "sha256": hashlib.sha256(b"first").hexdigest()},
        {"path": "b/c", "size": 0, "sha256": hashlib.sha256(b"").hexdigest()},
    ]


def test_the_version_is_that_of_the_written_format(archive: Path) -> None:
    # header, then per row: u32 length, path, u64 size, 32 bytes checksum
    rows = b"hdrs-hpc/inventory/1\n"
    rows += b"\0\0\0\x01a" + b"\0" * 7 + b"\x05" + hashlib.sha256(b"first").digest()
    rows += b"\0\0\0\x03b/c" + b"\0" * 8 + hashlib.sha256(b"").digest()
    assert (
        inventory.digest(inventory.scan(FolderSource(archive)))
        == "sha256:" + hashlib.sha256(rows).hexdigest()
    )


def test_the_version_depends_on_rows_and_not_on_the_parquet_file(archive: Path, tmp_path: Path) -> None:
    table = inventory.scan(FolderSource(archive))
    inventory.write(table, tmp_path / "one.parquet")
    pq.write_table(table, tmp_path / "two.parquet", compression="none", row_group_size=1)
    assert (tmp_path / "one.parquet").read_bytes() != (tmp_path / "two.parquet").read_bytes()
    one, two = (inventory.read(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    assert inventory.digest(one) == inventory.digest(two) == inventory.digest(table)


@pytest.mark.parametrize("change", ["content", "name", "more", "less"])
def test_any_change_of_the_archive_is_another_version(archive: Path, change: str) -> None:
    before = inventory.digest(inventory.scan(FolderSource(archive)))
    if change == "content":
        (archive / "a").write_bytes(b"First")
    elif change == "name":
        (archive / "a").rename(archive / "aa")
    elif change == "more":
        (archive / "z").write_bytes(b"")
    else:
        (archive / "b" / "c").unlink()
    assert inventory.digest(inventory.scan(FolderSource(archive))) != before


@pytest.mark.parametrize(
    "rows",
    [
        {"path": ["b", "a"], "size": [1, 1], "sha256": ["0" * 64] * 2},
        {"path": ["a", "a"], "size": [1, 1], "sha256": ["0" * 64] * 2},
        {"path": [""], "size": [1], "sha256": ["0" * 64]},
        {"path": ["a"], "size": [-1], "sha256": ["0" * 64]},
        {"path": ["a"], "size": [1], "sha256": ["0" * 63]},
        {"path": ["a"], "size": [1], "sha256": ["G" * 64]},
        {"path": [None], "size": [1], "sha256": ["0" * 64]},
    ],
)
def test_a_table_that_no_scan_made_is_refused(rows: dict[str, list[object]]) -> None:
    with pytest.raises(inventory.BadInventoryError):
        inventory.digest(pa.table(rows, schema=inventory.SCHEMA))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all" * 10])
def test_a_file_that_is_no_inventory_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(inventory.BadInventoryError):
        inventory.read(tmp_path / "x.parquet")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(inventory.BadInventoryError):
        inventory.read(tmp_path / "x.parquet")
