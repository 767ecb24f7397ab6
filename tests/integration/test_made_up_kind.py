"""A new kind of workload is one module and one row: every process takes it, from ``spec new`` to the certificate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import grown_package

HERE = Path(__file__).parent
HOUSE = ("pyproject.toml", "tests/support", "tests/integration/made_up_kind")
"""What the life needs beside the packages: what a node runtime holds, the world, and the life itself."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_of_a_made_up_kind_lives_in_the_real_processes(tmp_path: Path, short_tmp: Path) -> None:
    """The package is copied with one more kind, and the copy's own keyd, workers and node runtime are started."""
    house = tmp_path / "house"
    kind = (HERE / "made_up_kind/script.py").read_text("utf-8")
    grown_package.copy_with_row(house, "workloads", "script", kind, before="command.KIND")
    for name in HOUSE:
        source, target = grown_package.ROOT / name, house / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    folder = short_tmp / "made-up-kind"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tests.integration.made_up_kind.life", str(folder)],
        env={**os.environ, "PYTHONPATH": str(house)},
        cwd=house,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"from {house}" in done.stdout
