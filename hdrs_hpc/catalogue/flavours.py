"""THE table of flavours: sets of packages that a workload may run on.  Standard library only.

What is in one is written in ``deploy/runtimes/`` (``<flavour>.in``, ``<flavour>-<platform>.lock``) and told with
versions by docs/flavours.md.  A flavour exists in the sandbox alone; the agent, which holds keys, runs on a runtime of
its own (``node/runtime/``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavour:
    name: str
    summary: str
    """One sentence, for people."""
    platforms: tuple[str, ...]
    """For what it is locked: the processor, and where that matters the maker of the GPUs."""
    mem_mb: int
    """What a first job on it asks for on a node: the flavour's file lies in its memory."""
    from_lock: bool
    """Whether ``runtime build`` fetches its packages by a lock of ``deploy/runtimes/``, or takes those here."""


BASE = Flavour(
    "base",
    "Dask and the libraries to read a copy: NumPy, Zarr, xarray, Arrow, pandas, Matplotlib.",
    ("x86_64", "aarch64"),
    mem_mb=8 << 10,
    from_lock=False,
)
TORCH = Flavour(
    "torch",
    "What `base` holds, and PyTorch with torchvision, timm, MONAI, lightly, scikit-learn, SciPy and SimpleITK.",
    ("x86_64-cuda", "aarch64-cuda", "x86_64-rocm", "x86_64-xpu"),
    mem_mb=16 << 10,
    from_lock=True,
)

FLAVOURS: dict[str, Flavour] = {row.name: row for row in (BASE, TORCH)}
