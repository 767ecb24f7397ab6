"""``hdrs-hpc try`` as a researcher types it: own code on made-up data, its words, and what the airlock would say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.catalogue.flavours import BASE
from hdrs_hpc.core.die_with_parent import descendants
from hdrs_hpc.node.runtime.flavour import FlavourFile
from tests.conftest import has_bubblewrap, require

PATIENCE = float(os.environ.get("HDRS_TEST_PATIENCE", "1"))
pytestmark = pytest.mark.timeout(240 * PATIENCE)
TORCH_FOLDER = Path(__file__).parents[3] / ".torch"
TIMEOUT_S = 180 * PATIENCE


class Desk:
    """A researcher's folder on a laptop where nobody ever logged in."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder = folder
        self._env = {
            "HOME": str(home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "XDG_CACHE_HOME": str(home / "cache"),
        }

    def hdrs_hpc(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hdrs_hpc.cli.main", *words],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )

    def new(self, *words: str) -> None:
        done = self.hdrs_hpc("spec", "new", "first.yaml", *words)
        assert done.returncode == 0, done.stderr

    def code(self, source: str) -> None:
        self.new("--workload", "dask")
        (self.folder / "code/mine.py").write_text(textwrap.dedent(source))

    def edit(self, old: str, new: str) -> None:
        spec = self.folder / "first.yaml"
        assert old in spec.read_text()
        spec.write_text(spec.read_text().replace(old, new))

    def tried(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, the answer, and everything that was printed beside it."""
        done = self.hdrs_hpc("try", "first.yaml", "--json", *words)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of made-up data for all tests here."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def desk(home: Path, tmp_path: Path) -> Iterator[Desk]:
    require(has_bubblewrap(), "bubblewrap is missing")
    yield Desk(home, tmp_path)
    assert not list(Path("/tmp").glob(f"hdrs-try-*/{tmp_path.name}")), "nothing of a try stays"


@pytest.mark.parametrize("kind", workloads.built())
def test_what_spec_new_writes_runs_as_it_is_without_a_login(desk: Desk, kind: str) -> None:
    if workloads.KINDS[kind].flavour is not BASE:
        if not (TORCH_FOLDER / "torch").is_dir():
            pytest.skip("torch is not here: `make test-torch` fetches it")
        desk._env["PYTHONPATH"] = str(TORCH_FOLDER.resolve())
    desk.new("--workload", kind)
    code, told, printed = desk.tried()
    assert code == 0, printed
    assert told["reason"] is None
    assert [output["refused"] for output in told["outputs"]] == [None] * len(told["outputs"])
    assert "a new grant" in told["rules"], "the project is unknown here, and that is said"


def test_a_flavour_that_was_built_for_nodes_is_taken_as_it_is(desk: Desk, base_flavour: FlavourFile) -> None:
    desk.code(
        """
        import sys

        def run(context):
            print("SEEN", sys.prefix, sys.base_prefix)
            context.output("summary").write_text('{"n_patients": 40, "n_series": 60}')
        """
    )
    code, _, printed = desk.tried("--runtime", str(base_flavour.path))
    assert code == 0, printed
    assert "SEEN /opt/hdrs /opt/hdrs" in printed
    assert f"Python: the runtime {base_flavour.path.name}" in printed


def test_what_is_no_runtime_is_refused_by_name(desk: Desk) -> None:
    desk.new("--workload", "dask")
    (desk.folder / "mine.squashfs").write_bytes(b"hsqs and no more")
    done = desk.hdrs_hpc("try", "first.yaml", "--runtime", "mine.squashfs")
    assert done.returncode == 3 and "runtime-unusable" in done.stderr


def test_the_built_in_workload_runs_too(desk: Desk) -> None:
    desk.new()
    code, told, printed = desk.tried("--keep", "kept")
    assert code == 0, printed
    names = {output["name"]: output["refused"] for output in told["outputs"]}
    assert names == {"cohort": None, "spacing-bins": None, "spacing": None, "summary": None}
    written = (desk.folder / "kept/written/cohort.csv").read_text()
    released = (desk.folder / "kept/released/cohort.csv").read_text()
    assert "MR,HEAD," in written and "MR,HEAD," not in released, "small counts stay behind"


def test_prints_and_the_whole_traceback_are_shown_and_the_job_would_tell_type_and_line(desk: Desk) -> None:
    desk.code(
        """
        def run(context):
            print("own words")
            inner({"a": 1})

        def inner(x):
            return x["patient 12"]
        """
    )
    done = desk.hdrs_hpc("try", "first.yaml")
    assert done.returncode == 6
    assert done.stdout.startswith("own words\n"), "before anything of ours"
    assert 'File "/bundle/mine.py", line 4, in run' in done.stderr
    assert "KeyError: 'patient 12'" in done.stderr
    assert "your code stopped with KeyError at mine.py line 7" in done.stdout, (
        "no more than the job would tell"
    )


BAD = {
    "no-network": ("import urllib.request; urllib.request.urlopen('http://192.0.2.1', timeout=5)", 6),
    "out-of-memory": ("held = [bytearray(64 << 20) for _ in range(200)]", 6),
    "time-limit": ("import time; time.sleep(600)", 6),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_bundle_ends_under_the_code_that_the_job_would_have(desk: Desk, reason: str) -> None:
    line, exit_code = BAD[reason]
    desk.code(f"def run(context):\n    {line}\n")
    desk.edit("mem: 8G", "mem: 1G")
    if reason == "time-limit":
        desk.edit('time: "00:30:00"', 'time: "00:01:00"')
    code, told, printed = desk.tried()
    assert (code, told["reason"]) == (exit_code, reason), printed
    assert told["outputs"] == []


def test_values_that_are_no_numbers_and_undeclared_files_are_told(desk: Desk) -> None:
    desk.code(
        """
        from pathlib import Path

        def run(context):
            path = context.output("summary")
            path.write_text('{"n_patients": NaN}')
            Path(path.parent, "beside.txt").write_text("mine")
        """
    )
    code, told, _ = desk.tried()
    assert (code, told["reason"], told["undeclared"]) == (4, "nothing-releasable", True)
    assert told["outputs"][0]["refused"] == "malformed-document"


def test_an_output_that_was_not_written_is_told_by_its_name(desk: Desk) -> None:
    desk.code("def run(context):\n    pass\n")
    code, told, _ = desk.tried()
    assert (code, told["outputs"][0]["refused"]) == (4, "output-missing")


def test_a_wrong_entry_is_told_before_anything_runs(desk: Desk) -> None:
    desk.code("def run(context):\n    print('ran')\n")
    desk.edit("mine:run", "mine:start")
    code, told, printed = desk.tried()
    assert code == 3 and [item["code"] for item in told["findings"]] == ["entry-not-in-module"]
    assert "ran" not in printed


def test_the_code_meets_nothing_of_the_laptop(desk: Desk, home: Path) -> None:
    (home / "diary.txt").write_text("private")
    desk.code(
        f"""
        import os, json
        from pathlib import Path

        def run(context):
            print("SEEN", json.dumps([
                Path({str(home)!r}, "diary.txt").exists(),
                Path({str(desk.folder)!r}).exists(),
                "PRIVATE" in os.environ,
                sorted(os.listdir("/bundle")),
            ]))
        """
    )
    desk._env["PRIVATE"] = "yes"
    _, _, printed = desk.tried()
    seen = next(line for line in printed.splitlines() if line.startswith("SEEN"))
    assert json.loads(seen.removeprefix("SEEN ")) == [False, False, False, ["mine.py"]]


def test_the_made_up_data_are_what_the_spec_selects_and_the_same_every_time(desk: Desk) -> None:
    desk.code(
        """
        import json

        def run(context):
            rows = context.data["ct"].index().to_pylist()
            told = [sorted({row[name] for row in rows}) for name in ("modality", "body_part", "sex")]
            voxels = context.data["ct"].physical(rows[0]["item"])
            print("SEEN", json.dumps([*told, float(voxels.mean()), rows[0]["item"]]))
        """
    )
    desk.edit(
        "dataset: {dataset: your-dataset}",
        "ct: {dataset: your-dataset, select: {Modality: [CT], BodyPartExamined: [CHEST], PatientSex: [F]}}",
    )
    seen = []
    for seed in ("7", "7", "8"):
        _, _, printed = desk.tried("--seed", seed)
        line = next(line for line in printed.splitlines() if line.startswith("SEEN"))
        seen.append(json.loads(line.removeprefix("SEEN ")))
    assert seen[0][:3] == [["CT"], ["CHEST"], ["F"]]
    assert -1024 < seen[0][3] < 0, "Hounsfield units of a body in air"
    assert seen[0] == seen[1] != seen[2]


def test_an_interrupted_try_leaves_no_process(desk: Desk) -> None:
    desk.code("import time\n\n\ndef run(context):\n    print('ready')\n    time.sleep(600)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "hdrs_hpc.cli.main", "try", "first.yaml"],
        cwd=desk.folder,
        env=desk._env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    below = descendants(process.pid)
    assert below
    process.send_signal(2)
    assert process.wait(60 * PATIENCE) == 130
    until = time.monotonic() + 20 * PATIENCE
    while (left := [pid for pid in below if Path(f"/proc/{pid}").exists()]) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []
    process.stdout.close()
