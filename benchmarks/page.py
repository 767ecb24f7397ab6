"""The results page, made of a results file; what people wrote on it stays.

Between :data:`BEGIN` and :data:`END` the page holds what no machine can say: why a goal was missed, what a profile
showed.  Made anew, the page keeps that part.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import figures, show
from benchmarks.figures import BREAKDOWN, GOALS
from benchmarks.results import CaseResult, ComparisonResult, GoalResult, Machine, Results

BEGIN = "<!-- by hand: begin -->"
END = "<!-- by hand: end -->"
_NOTHING_YET = "\nNothing was written here yet.\n"
_PICTURES = "pictures"


def write(results: Results, path: Path) -> list[Path]:
    """Write the page at ``path`` and its pictures in ``pictures`` beside it; gives all paths."""
    kept = by_hand(path.read_text("utf-8")) if path.exists() else _NOTHING_YET
    pictures = figures.draw(results, path.parent / _PICTURES)
    path.write_text(text(results, kept, {picture.stem for picture in pictures}), "utf-8")
    return [path, *pictures]


def by_hand(page: str) -> str:
    """What people wrote on an earlier page."""
    _, _, rest = page.partition(BEGIN)
    kept, end, _ = rest.partition(END)
    return kept if end else _NOTHING_YET


def text(results: Results, kept: str, pictures: set[str]) -> str:
    """The page, Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `hdrs-hpc bench page` from a results file; only the part marked *by hand* is written by people.",
        "",
        "Run it yourself: `make bench OUT=results.json`, or in a clone `pip install '.[bench]'` and "
        "`hdrs-hpc bench --out results.json`. "
        "`--size small` tries everything out in two minutes; `--only CASE` takes one case.",
        "",
        *_machine(results),
        "",
        "## Goals",
        "",
        *_goals(results),
        "",
    ]
    if GOALS in pictures:
        lines += [f"![How far each goal was reached]({_PICTURES}/{GOALS}.svg)", ""]
    lines += ["## Why what is missed is missed, and what is left", "", BEGIN + kept + END, ""]
    lines += ["## Where the time of staging goes", "", *_breakdown(results), ""]
    if BREAKDOWN in pictures:
        lines += [f"![Phases of staging]({_PICTURES}/{BREAKDOWN}.svg)", ""]
    lines += ["## How it is measured", "", *_METHOD, "", "## All figures", ""]
    for case in results.cases:
        lines += _case(case)
    lines += ["## Versions", "", *_versions(results)]
    return "\n".join(lines).rstrip() + "\n"


_METHOD = (
    "- **In turn.** Contenders run one after another, A B A B …, each a process of its own; figures are medians. The "
    "first run of each is a warm-up and does not count, unless it took over 5 s; what reports a rate warms up inside. "
    "One whose runs took over 45 s together sits out the rounds left.",
    "- **Whole processes.** Seconds are wall time from the start of the interpreter until all files written are on the "
    "medium (`fsync` of every file and folder of the output, for everybody alike). CPU seconds are user and system "
    "time of the whole process tree.",
    "- **Cold** means that the pages of all input files were dropped from the page cache before the run "
    "(`posix_fadvise`), **warm** that they were read once. Programs and libraries are cached in both.",
    "- **Sealed** means the path that a job has: an agent in a process of its own holds the key; the workload asks it "
    "through a socket and gets plaintext through shared memory. CPU seconds include the agent's.",
    "- **Rates** (patches/s, MB/s) are measured inside the process after a warm-up; MB are 10⁶ bytes of plaintext "
    "values. All contenders read the same windows; sums over their pixels agree, or the test of this benchmark fails.",
    "- **Peers that would take minutes** run on a smaller slide of the same tiles and are scaled by pixels, as their "
    "remark says: all of their wall time but their start. Their CPU seconds are as measured.",
    "- **Data** are made of real pixels: CT and MR of pydicom's test files, turned and multiplied so that each slice "
    "compresses as the real one; slides of real stained tiles, drawn at random, codestreams unchanged.",
)


def _machine(results: Results) -> Iterator[str]:
    machine: Machine = results.machine
    met = [goal.met for _, goal in figures.judged(results)]
    yield f"**{met.count(True)} of {len(met)} goals are met.**  Measured {results.begun[:10]}, size `{results.size}`, "
    yield f"{results.rounds} {'round' if results.rounds == 1 else 'rounds'},"
    yield (
        f"on {machine.cores} cores ({machine.processor}), {machine.memory_bytes / 2**30:.0f} GiB of memory, "
        f"{machine.kernel}, {machine.filesystem}, Python {machine.python}, "
        f"{machine.accelerator or 'no accelerator'}."
    )
    if not results.complete:
        yield ""
        yield "**The run was stopped before its end.**"


def _versions(results: Results) -> Iterator[str]:
    machine: Machine = results.machine
    versions = [f"{name} {version}" for name, version in machine.versions.items() if version]
    absent = [name for name, version in machine.versions.items() if not version]
    yield f"Versions: {', '.join(versions)}." + (f" Not there: {', '.join(absent)}." if absent else "")


def _goals(results: Results) -> Iterator[str]:
    yield "| what | goal | reached | |"
    yield "| --- | --- | ---: | --- |"
    for comparison, goal in figures.judged(results):
        yield f"| {comparison.title} | {goal.text} | {_reached(comparison, goal)} | {_mark(goal)} |"
    for case in results.cases:
        for comparison in case.comparisons:
            if comparison.skipped is not None:
                yield f"| {comparison.title} | | | skipped: {comparison.skipped} |"
        if case.error is not None:
            yield f"| {case.title} | | | could not go on: {_safe(case.error)} |"
    yield ""
    sources = sorted({goal.source for _, goal in figures.judged(results)})
    yield "*Reached* says how many times as good ours is as the peer: half as fast reads 0.5 ×.  Without a peer"
    yield "it is the figure itself."
    yield ""
    yield f"Where the goals come from: {'; '.join(sources)}." if sources else ""


def _reached(comparison: ComparisonResult, goal: GoalResult) -> str:
    if goal.reached is None:
        return "–"
    if not goal.peers:
        return f"{goal.reached:.3g}"
    return f"{goal.reached:.2f} ×" + (f" ({goal.against})" if len(goal.peers) > 1 else "")


def _mark(goal: GoalResult) -> str:
    return {True: "met", False: "**missed**", None: "not measured"}[goal.met]


def _breakdown(results: Results) -> Iterator[str]:
    rows = figures.breakdowns(results)
    if not rows:
        yield "No staging was measured."
        return
    yield "Median seconds. *Start*: interpreter, imports, hashing of every file; the manifest. *Limit*: reading the"
    yield "input and writing as many bytes as the copy has, and nothing else."
    yield ""
    yield "| what | start, scan, manifest | headers | pixels, coding, sealing | sync | CPU | limit |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        cells = [f"{seconds:.2f}" for seconds in row.phases.values()]
        limit = "–" if row.limit_s is None else f"{row.limit_s:.2f}"
        yield f"| {row.title} | {' | '.join(cells)} | {row.cpu_s:.1f} | {limit} |"


def _case(case: CaseResult) -> Iterator[str]:
    yield f"### {case.title}"
    yield ""
    for comparison in case.comparisons:
        if comparison.skipped is not None:
            yield f"{comparison.title}: skipped, {comparison.skipped}."
            yield ""
            continue
        yield f"**{comparison.title}** ({comparison.cache} cache)"
        yield ""
        yield "| contender | median | ours is | lowest – highest (runs) | CPU s | |"
        yield "| --- | ---: | ---: | ---: | ---: | --- |"
        for one in comparison.contenders:
            said = one.error if one.error is not None else one.remark
            yield (
                f"| {one.name} | {show.number(one.median, comparison.unit)} | {show.compared(comparison, one)} | "
                f"{show.spread(comparison, one)} | {show.processor_seconds(one)} | {_safe(said)} |"
            )
        for other in comparison.published:
            low, high = (show.number(value, comparison.unit) for value in (other.low, other.high))
            yield f"| {other.name} | {low} – {high} | | published | | {_safe(other.remark)} |"
        yield ""
        for note in comparison.notes:
            yield f"- {note}"
        if comparison.notes:
            yield ""


def _safe(words: str) -> str:
    """Words of a program, as they may stand in a table."""
    return " ".join(words.replace("|", "\\|").replace("<", "&lt;").split())
