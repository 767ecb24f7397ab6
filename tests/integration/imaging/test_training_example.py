"""The training of ``jobspecs/torch`` on two ranks and a staged copy: it learns, and the same on one rank."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import series
from staged_copies import served, stage_archive

from hdrs_hpc.protocol.outputs import Ending, WorkloadExit
from tests.support.launched import launch

HERE = importlib.util.find_spec("torch") is not None
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason="torch is not here: put it on PYTHONPATH to run these tests"),
]
BUNDLE = Path(__file__).parents[3] / "jobspecs/torch"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[None]:
    for number in range(2):
        series(tmp_path / "archive", name=f"s{number}", patient=f"P-{number}", slices=8)
    stage_archive(tmp_path / "archive", tmp_path / "copy", tmp_path / "secret")
    with (
        tempfile.TemporaryDirectory(prefix="hdrs-") as short,
        served({"ct": (tmp_path / "copy", tmp_path / "secret")}, Path(short, "data.sock")),
    ):
        yield


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_training_of_the_examples_learns(tmp_path: Path, job: None, ranks: int) -> None:
    files = {str(path.relative_to(BUNDLE)): path.read_text() for path in BUNDLE.rglob("*.py")}
    workload = {
        "kind": "torch",
        "entry": "mine.train:main",
        "parameters": {"steps": 60, "batch": 8 // ranks, "side": 32},
        "nproc-per-node": ranks,
    }
    done = launch(tmp_path / "run", workload, files, {"curve": "curve.json"}, ("ct",))
    assert done.ended == WorkloadExit(Ending.EXITED, 0, None, None, None), done.printed
    told = json.loads((done.out / "curve.json").read_text())
    assert told["n_patients"] == 2
    assert told["loss_at_last"] < told["loss_at_first"] / 2, told
