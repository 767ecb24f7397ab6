"""What a workload prints: shown by a try, at any level of isolation, and nowhere on a node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.catalogue.isolation import SANDBOXED, WEAKEST
from hdrs_hpc.cli.trying import attempt, copies, interpreter
from hdrs_hpc.cli.trying.recipe import Recipe
from hdrs_hpc.client import specdraft, spectemplate
from hdrs_hpc.documents.models.job_spec import JobSpecDraft
from tests.conftest import has_bubblewrap, require

PRINTS = """
import sys
from pathlib import Path
from hdrs_hpc.cli.trying.sandbox import ShownSandbox
from hdrs_hpc.node.sandbox import Places, Sandbox

kind, level, folder = sys.argv[1:]
names = ("runtime", "out", "data", "bundle", "wheels", "plan", "report", "tmp", "shm")
for name in names:
    Path(folder, name).mkdir()
places = Places(**{name: Path(folder, name) for name in names})
python = str(Path(sys.executable).resolve())
code = "import sys; print('to-out'); print('to-err', file=sys.stderr)"
if kind == "node":
    sandbox = Sandbox(level)
else:
    sandbox = ShownSandbox(level, beside=(Path(sys.base_prefix),))
argv = ("/bin/sh", "-c", "echo to-out; echo to-err >&2") if kind == "node" else (python, "-c", code)
running = sandbox.start(argv, {}, places, "")
while running.poll() is None:
    pass
sandbox.end(running)
"""


def printed(kind: str, level: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRINTS, kind, level, str(folder)], check=True, capture_output=True, text=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("level", [WEAKEST, SANDBOXED])
def test_on_a_node_it_goes_nowhere(level: str, tmp_path: Path) -> None:
    require(level == WEAKEST or has_bubblewrap(), "bubblewrap is missing")
    assert printed("node", level, tmp_path) == ""


@pytest.mark.parametrize("level", [WEAKEST, SANDBOXED])
def test_in_a_try_it_is_shown(level: str, tmp_path: Path) -> None:
    require(level == WEAKEST or has_bubblewrap(), "bubblewrap is missing")
    assert printed("try", level, tmp_path).split() == ["to-out", "to-err"]


def test_without_bubblewrap_a_try_runs_with_process_limits(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/mine.py").write_text(
        "def run(context):\n    context.output('summary').write_text('{\"loss\": 0.5}')\n    print('ran')\n"
    )
    text = spectemplate.render("first", grant=None, kind=workloads.KINDS["dask"])
    (tmp_path / "first.yaml").write_text(text)
    value, lines = specdraft.read(tmp_path / "first.yaml")
    draft = specdraft.WrittenSpec(tmp_path / "first.yaml", value, lines, JobSpecDraft.from_value(value))
    made = copies.prepare(Recipe("pathology"), tmp_path / "cache")
    python = interpreter.installed(tmp_path / "runtime")
    size = attempt.fitted(draft)
    with (
        (tmp_path / "printed").open("wb") as out,
        attempt.run(draft, {"dataset": made}, python, size, WEAKEST, output=out.fileno()) as ended,
    ):
        assert ended.reason is None and ended.sealed is not None
        assert ended.sealed.read("output/summary") == b'{"loss": 0.5}'
    assert (tmp_path / "printed").read_text() == "ran\n"
