"""What a wheel of this project brings along: its three packages, and nothing that only a clone needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_a_wheel_has_the_three_packages_and_no_benchmark(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        tops = {name.partition("/")[0] for name in opened.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"hdrs_hpc", "connectors", "imaging"}


def test_bench_without_a_clone_says_so(tmp_path: Path) -> None:
    """As in an installed wheel: the package `benchmarks` is not to be found."""
    code = """
import sys
sys.modules["benchmarks"] = None
from hdrs_hpc.cli import main
sys.exit(main.run(["bench", "--list"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert "comes with a clone" in done.stderr
