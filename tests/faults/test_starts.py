"""An agent's sandbox comes up however busy the node is: ``agent-stopped-isolation`` came once in 15 jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hdrs_hpc.node.runtime.build import RuntimeFile

REPO = Path(__file__).parents[2]
STARTS = int(os.environ.get("HDRS_FAULT_STARTS", "60"))
BUSY_A_CORE = 4


@pytest.mark.alone
@pytest.mark.root_parts
@pytest.mark.timeout(60 + 6 * STARTS)
def test_every_start_holds_at_four_times_the_load(tmp_path: Path, built_runtime: RuntimeFile) -> None:
    folder = tmp_path / "runtime"
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder), "-f", str(built_runtime.path)], check=True)
    argv = [sys.executable, "-m", "tests.support.starts", str(folder), str(STARTS), str(BUSY_A_CORE), "8"]
    done = subprocess.run(argv, cwd=REPO, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    print(found)
    assert found["starts"] == STARTS
    assert found["failed"] == {}
