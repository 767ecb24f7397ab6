"""Whether a loader on sealed data keeps a ViT-L fed, on the accelerator found; without one the case says so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.bench import Bench, contender
from benchmarks.cases import ASKED
from benchmarks.cases.staging import secret_of, staged, unsealed
from benchmarks.comparing import Comparison, Contender, Goal, Skipped
from benchmarks.data import slides

PLAIN, MODEL = "loader on plain files", "model alone"
_TITLE = "ViT-L/16 forward pass at 224²"
_TORCH_FOLDER = Path(".torch")
"""Where `make test-torch` puts PyTorch."""


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    environment = torch_environment()
    if environment is None:
        yield Skipped(
            "feed", _TITLE, "PyTorch is not installed (nor in .torch, where `make test-torch` puts it)"
        )
        return
    if not _has_gpu(environment):
        yield Skipped("feed", _TITLE, "PyTorch finds no GPU on this machine")
        return
    source = slides.svs(bench, bench.size.slide_tiles)
    copy = staged(bench, source, "slide")
    plain = unsealed(bench, copy, "slide")
    workers = max(1, len(os.sched_getaffinity(0)) - 1)
    seconds = 5 * bench.size.seconds

    def one(name: str, what: str, kind: str) -> Contender:
        at, more = (copy, (secret_of(bench),)) if kind == "sealed" else (plain, ())
        words = (what, kind, seconds, workers, "cuda", at, *more)
        return Contender(name, contender("feed", *words), environment=environment)

    yield Comparison(
        "loader",
        f"loader alone, {workers} workers, 224² of level 0",
        "patches/s",
        (one("loader on sealed data", "loader", "sealed"), one(PLAIN, "loader", "plain")),
        (Goal("≥ 0.95 × the loader on plain files", ASKED, peers=(PLAIN,), least=0.95),),
        figure="patches-per-s",
        better="higher",
    )
    yield Comparison(
        "fed-model",
        f"{_TITLE}, bfloat16, fed by the loader",
        "patches/s",
        (
            one("model fed from sealed data", "both", "sealed"),
            one("model fed from plain files", "both", "plain"),
            one(MODEL, "model", "plain"),
        ),
        (Goal("≥ 0.95 × the model alone", ASKED, peers=(MODEL,), least=0.95),),
        figure="patches-per-s",
        better="higher",
    )


def torch_environment() -> dict[str, str] | None:
    """What a process needs to find PyTorch; None where there is none."""
    if find_spec("torch") is not None:
        return {}
    if (_TORCH_FOLDER / "torch").is_dir():
        paths = [str(_TORCH_FOLDER.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(paths)}
    return None


def _has_gpu(environment: dict[str, str]) -> bool:
    asked = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 1)"
    done = subprocess.run(
        [sys.executable, "-c", asked], env={**os.environ, **environment}, capture_output=True, check=False
    )
    return done.returncode == 0
