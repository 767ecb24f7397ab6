"""A copy of the package with one more row in a table of the catalogue, for tests of made-up kinds and classes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def copy_with_row(target: Path, table: str, name: str, module: str, before: str) -> None:
    """Copy our packages to ``target`` with the module ``name`` and its row, above that of ``before``.

    ``table`` is a folder of ``hdrs_hpc/catalogue/`` whose rows are named as ``before`` is: ``weights.CLASS``.
    """
    for package in ("hdrs_hpc", "connectors", "imaging"):
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = target / "hdrs_hpc/catalogue" / table
    (folder / f"{name}.py").write_text(module, "utf-8")
    text = (folder / "__init__.py").read_text("utf-8")
    row = f"{name}.{before.split('.')[1]}, {before}"
    grown = text.replace(before, row).replace(f"{table} import ", f"{table} import {name}, ")
    assert grown.count(name) == text.count(name) + 2, "one import and one row"
    (folder / "__init__.py").write_text(grown, "utf-8")


def live(house: Path, module: str, folder: Path) -> None:
    """Run the life ``python -m module folder`` in the copy ``house``; its processes and node runtime are the copy's."""
    for name in ("pyproject.toml", "tests/support", module.replace(".", "/").rpartition("/")[0]):
        source, target = ROOT / name, house / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    folder.mkdir()
    life = subprocess.Popen(
        [sys.executable, "-B", "-m", module, str(folder)],
        env={**os.environ, "PYTHONPATH": str(house)},
        cwd=house,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        told, _ = life.communicate(timeout=500)
    except subprocess.TimeoutExpired:
        life.send_signal(signal.SIGINT)  # so that it ends what it started
        told, _ = life.communicate(timeout=60)
    assert life.returncode == 0, told
    assert f"from {house}" in told
