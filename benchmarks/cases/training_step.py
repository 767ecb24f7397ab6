"""A training step on sealed data against the same on plain files: same model, same loader, same order."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from benchmarks.bench import Bench, contender
from benchmarks.cases import ASKED
from benchmarks.cases.feed import torch_environment
from benchmarks.cases.staging import secret_of, staged, unsealed
from benchmarks.comparing import Comparison, Contender, Goal, Skipped
from benchmarks.data import series, slides

PLAIN = "training on plain files"
_WHAT = (("slides", "patches of 224² of a slide"), ("volumes", "crops of 32 × 96 × 96 of a CT"))


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    environment = torch_environment()
    if environment is None:
        yield Skipped("training-step", "A training step", "PyTorch is not installed (nor in .torch)")
        return
    for of, words in _WHAT:
        source = (
            slides.svs(bench, bench.size.slide_tiles) if of == "slides" else series.ct_series(bench, "native")
        )
        copy = staged(bench, source, of)
        plain = unsealed(bench, copy, of)

        def one(
            name: str,
            kind: str,
            at: Path,
            *secret: Path,
            of: str = of,
            environment: dict[str, str] = environment,
        ) -> Contender:
            command = contender("training_step", of, kind, 5 * bench.size.seconds, at, *secret)
            return Contender(name, command, environment=environment)

        yield Comparison(
            f"training-step-{of}",
            f"A step of pretrain-mae@1 (vit-tiny), {words}, median",
            "steps/s",
            (one("training on sealed data", "sealed", copy, secret_of(bench)), one(PLAIN, "plain", plain)),
            (Goal("≥ 0.97 × training on plain files", ASKED, peers=(PLAIN,), least=0.97),),
            figure="steps-per-s",
            better="higher",
            notes=(
                "Reading, forward and backward pass and optimiser, in one process; on a GPU where there is one.",
            ),
        )
