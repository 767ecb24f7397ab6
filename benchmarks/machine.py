"""The machine that was measured on, described without naming it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.results import Machine

DISTRIBUTIONS = (
    "hdrs-hpc",
    "zarr",
    "numcodecs",
    "numpy",
    "dask",
    "pydicom",
    "pylibjpeg-openjpeg",
    "pyjpegls",
    "imagecodecs",
    "tifffile",
    "cryptography",
    "openslide-python",
    "openslide-bin",
    "wsidicomizer",
    "ome-zarr",
    "ngff-zarr",
    "zarrs",
    "h5py",
    "torch",
)
PROGRAMS = (("rsync", "--version"), ("ssh", "-V"))


def describe(folder: Path) -> Machine:
    """``folder``: where data are made and written."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        filesystem=_filesystem(folder),
        accelerator=_accelerator(),
        python=platform.python_version(),
        versions={name: _version(name) for name in DISTRIBUTIONS}
        | {program: _told(program, flag) for program, flag in PROGRAMS},
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _filesystem(folder: Path) -> str:
    """Type of the file system that holds ``folder``, by the longest mount point above it."""
    here = str(folder.resolve())
    best = ("", "unknown")
    try:
        mounts = Path("/proc/mounts").read_text("utf-8").splitlines()
    except OSError:
        return best[1]
    for line in mounts:
        _, point, kind, *_ = line.split(" ")
        if (here == point or here.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _accelerator() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    done = subprocess.run(
        [tool, "--query-gpu=name", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _told(program: str, flag: str) -> str | None:
    path = shutil.which(program)
    if path is None:
        return None
    done = subprocess.run([path, flag], capture_output=True, text=True, timeout=30, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0][:80] if lines else None
