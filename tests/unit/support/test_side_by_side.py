"""Tests that share what a machine has once are never run by two workers at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]
FOLDERS = ("site", "faults", "integration/node", "contract", "integration/test_demo.py")
COLLECT = """
import json, sys, pytest
from tests.support.side_by_side import group

class Seen:
    def pytest_collection_finish(self, session):
        found = [(group(item.nodeid), item.nodeid) for item in session.items]
        print(json.dumps(found), file=sys.stderr)

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[Seen()]))
"""


@pytest.fixture(scope="module")
def groups() -> dict[str, list[str]]:
    """Group → its tests, in the order in which groups begin."""
    argv = [sys.executable, "-c", COLLECT, *(f"tests/{name}" for name in FOLDERS)]
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for group, test in json.loads(done.stderr.splitlines()[-1]):
        found.setdefault(group, []).append(test)
    return found


def test_whatever_uses_slurm_is_one_group_that_begins_first(groups: dict[str, list[str]]) -> None:
    assert next(iter(groups)) == "slurm"
    slurm = groups["slurm"]
    for test in (
        "tests/site/test_slurm_ssh.py::test_a_connection_that_died_is_made_anew",
        "tests/faults/test_canaries.py::test_slurm_life",
        "tests/integration/test_demo.py::test_the_demo_on_real_slurm_over_ssh",
    ):
        assert test in slurm
    others = [test for name, tests in groups.items() if name != "slurm" for test in tests]
    assert [test for test in others if "slurm" in test and "site" not in test] == []


def test_a_file_stays_together_and_lives_run_beside_each_other(groups: dict[str, list[str]]) -> None:
    assert "tests/faults/test_kill_local.py" in groups
    assert "tests/faults/test_canaries.py::test_local_life" in groups["slurm"], (
        "it searches the whole machine"
    )


def test_what_the_kernel_counts_for_one_account_is_one_group(groups: dict[str, list[str]]) -> None:
    files = {test.partition("::")[0] for test in groups["node"]}
    assert len(files) > 5
    assert all(file.startswith("tests/integration/node/") for file in files)


def test_two_workers_never_share_a_group() -> None:
    files = ("tests/unit/support", "tests/unit/docs/test_links.py", "tests/unit/core/test_line.py")
    argv = ["-v", "-n", "2", "--dist", "loadscope", "-p", "no:cacheprovider", *files]
    deselect = ["--deselect", "tests/unit/support/test_side_by_side.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *argv, *deselect],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    seen: dict[str, set[str]] = {}
    for worker, file in re.findall(r"^\[(gw\d)\] .* PASSED (\S+?)::", done.stdout, re.MULTILINE):
        seen.setdefault(file, set()).add(worker)
    assert len(seen) >= 3
    assert {len(workers) for workers in seen.values()} == {1}
    assert len(set.union(*seen.values())) == 2
