"""Peak memory of staging under a set budget, as the input grows."""

from __future__ import annotations

from collections.abc import Generator

from benchmarks.bench import Bench, ours
from benchmarks.cases import ASKED
from benchmarks.cases.staging import NOBODY, secret_of
from benchmarks.comparing import PEAK, Comparison, Contender, Goal, Skipped
from benchmarks.data import series

FLAT = 1.15


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    size = bench.size
    steps = sorted(size.memory_steps, reverse=True)
    names = [_words(step) for step in steps]
    out = bench.out("staged")
    sources = series.ct_archives(bench, steps)
    yield Comparison(
        "staging-peak",
        f"native CT staged with --memory {size.memory_budget}: peak of the process tree",
        "bytes",
        tuple(
            Contender(
                name,
                ours(
                    "imaging",
                    "stage",
                    source,
                    out,
                    "--secret",
                    secret_of(bench),
                    *NOBODY,
                    "--memory",
                    size.memory_budget,
                    "--json",
                ),
                inputs=(source,),
                outputs=out,
            )
            for name, source in zip(names, sources, strict=True)
        ),
        (Goal(f"flat: at most {FLAT} × the peak of {names[-1]}", ASKED, peers=(names[-1],), least=1 / FLAT),),
        figure=PEAK,
        rounds=1,
        notes=(
            "The budget bounds decoded data under way; interpreters and libraries of the stager and of its parsers "
            "come on top and do not grow.",
            "Sampled every 50 ms: own memory of all processes, and the largest shared part.",
        ),
    )


def _words(size: int) -> str:
    return f"{size / 2**30:g} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"
