"""Every block of code in the pages on reading runs, in the order in which it stands."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from staged_copies import seal_by_hand, served

from imaging import standalone

PAGES = Path(__file__).resolve().parents[3] / "docs" / "reading"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = ["zarr-and-dask", "xarray", "pytorch", "cohort-queries"]


@pytest.fixture(scope="module")
def job(small_copy: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A job with images under two names and a table; gives the folder that standalone examples run in."""
    root = tmp_path_factory.mktemp("docs")
    index = standalone.open_staged(*small_copy).index()
    patients = sorted(set(index["patient"].to_pylist()) - {None})
    table = pa.table({"patient": patients, "relapse": [number % 2 for number in range(len(patients))]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    seal_by_hand(
        root / "table",
        root / "table.secret",
        {},
        {"tables/made-by-hand/0.parquet": sink.getvalue().to_pybytes()},
    )
    (root / "copy").symlink_to(small_copy[0])
    (root / "my.secret").symlink_to(small_copy[1])
    copies = {"ct": small_copy, "he": small_copy, "outcomes": (root / "table", root / "table.secret")}
    with tempfile.TemporaryDirectory(prefix="hdrs-") as short, served(copies, Path(short, "data.sock")):
        yield root


def test_every_page_is_tried() -> None:
    assert sorted(page.stem for page in PAGES.glob("*.md")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_a_page_runs(job: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "pytorch" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not here: put it on PYTHONPATH to run this page")
    monkeypatch.chdir(job)
    text = (PAGES / f"{name}.md").read_text("utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) >= 2
    known: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, f"{name}.md", "exec"), known)
    assert len(text.splitlines()) <= 80
