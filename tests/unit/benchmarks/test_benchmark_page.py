"""How results are shown: nothing dropped, what people wrote kept, the same file from the same results."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import figures, page, results, show
from benchmarks.comparing import Comparison, Contender, Goal, Published
from benchmarks.results import CaseResult, ComparisonResult, GoalResult, Machine, Results, Run
from hdrs_hpc.cli import main


def made() -> Results:
    """One comparison of staging with a peer that failed, one that was skipped, one case that broke."""
    comparison = Comparison(
        "ct",
        "64 slices",
        "s",
        (
            Contender("hdrs-hpc", ("x",)),
            Contender("script", ("y",), remark="plain | not sealed"),
            Contender("broken", ("z",)),
            Contender("reading and writing the bytes", ("w",)),
        ),
        (Goal("≥ 3 × the script", "a source", peers=("script",), least=3.0),),
        published=(Published("elsewhere", 70.0, 181.0, "their machine"),),
        notes=("A note.",),
    )
    result = results.begin(comparison)
    phases = {"wall-s": 4.0, "stage-s": 3.0, "headers-s": 1.0, "sync-s": 0.25, "user-s": 5.0, "system-s": 1.0}
    result.contenders[0].runs = [Run(round=1, figures=phases)]
    result.contenders[1].runs = [Run(round=1, figures={"wall-s": 6.0, "user-s": 6.0, "system-s": 0.0})]
    result.contenders[2].runs = [Run(round=1, error="exit code 1: <it> broke")]
    result.contenders[3].runs = [Run(round=1, figures={"wall-s": 0.5})]
    results.conclude(comparison, result)
    skipped = ComparisonResult(
        name="feed",
        title="feeding",
        figure="wall-s",
        unit="s",
        better="lower",
        cache="warm",
        skipped="no GPU",
    )
    machine = Machine(
        processor="a processor",
        cores=2,
        memory_bytes=16 << 30,
        kernel="Linux 6",
        filesystem="ext4",
        accelerator=None,
        python="3.13.0",
        versions={"zarr": "3.4.2", "torch": None},
    )
    return Results(
        begun="2026-11-25T01:02:03+00:00",
        size="full",
        rounds=3,
        machine=machine,
        cases=[
            CaseResult(name="ct-series", title="Series", comparisons=[result, skipped], seconds=9.0),
            CaseResult(name="push", title="Push", error="NoSshdError: benchmark-sshd"),
        ],
        complete=True,
    )


def test_the_page_shows_failures_and_what_was_skipped(tmp_path: Path) -> None:
    page.write(made(), tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| 64 slices | ≥ 3 × the script | 1.50 × | **missed** |" in text
    assert "exit code 1: &lt;it> broke" in text
    assert "skipped: no GPU" in text
    assert "could not go on: NoSshdError" in text
    assert "plain \\| not sealed" in text
    assert "70.0 s – 181.0 s" in text
    assert "Not there: torch." in text
    assert "| 64 slices | 0.75 | 1.00 | 2.00 | 0.25 | 6.0 | 0.50 |" in text
    assert "pictures/bench-goals.svg" in text
    assert (tmp_path / "pictures" / "bench-goals.svg").read_text().startswith("<?xml")
    assert (tmp_path / "pictures" / "bench-breakdown.svg").exists()


def test_pictures_have_titles_and_axes_that_say_what_they_measure(tmp_path: Path) -> None:
    goals, breakdown = (path.read_text() for path in figures.draw(made(), tmp_path))
    assert "Goals of speed and size: 0 of 1 met" in goals
    assert "times the goal, logarithmic" in goals
    assert "Where the time of staging goes" in breakdown
    assert "seconds from start to end of the process" in breakdown


def test_a_bar_begins_at_its_goal_where_an_axis_has_no_zero() -> None:
    (axes,) = figures._goals_figure([("missed", 0.25), ("met", 31.0)]).axes
    met, missed = axes.patches  # the first goal is drawn on top, as the last row
    assert (met.get_x(), met.get_x() + met.get_width()) == (1, 31.0)
    assert (missed.get_x(), missed.get_x() + missed.get_width()) == (1, 0.25)
    low, high = axes.get_xlim()
    assert low < 0.25 and high > 31


def test_what_people_wrote_stays_when_the_page_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    page.write(made(), path)
    path.write_text(path.read_text().replace("Nothing was written here yet.", "It is the decoder."))
    page.write(made(), path)
    assert path.read_text().count("It is the decoder.") == 1
    assert "Nothing was written" not in path.read_text()


def test_the_same_results_make_the_same_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        page.write(made(), tmp_path / folder / "p.md")
    for name in ("p.md", "pictures/bench-goals.svg", "pictures/bench-breakdown.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_table_names_a_failed_contender_and_its_error() -> None:
    out = io.StringIO()
    show.table(made(), Console(file=out, width=200))
    text = out.getvalue()
    assert "exit code 1: <it> broke" in text
    assert "goal ≥ 3 × the script: 1.5, missed" in text
    assert "SKIPPED, no GPU" in text
    assert "could not go on: NoSshdError" in text


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (GoalResult(text="", source="", peers=["p"], wanted=4.0, reached=2.0), 0.5),
        (GoalResult(text="", source="", peers=[], wanted=1.4, reached=0.7), 2.0),
        (GoalResult(text="", source="", peers=["p"], wanted=4.0), None),
    ],
)
def test_the_share_of_a_goal_is_one_where_it_is_just_met(goal: GoalResult, expected: float | None) -> None:
    assert figures.share(goal, lower=True) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1234.5, "patches/s", "1,234 patches/s"),
        (12.34, "s", "12.3 s"),
        (1.234, "s", "1.23 s"),
        (0.0123, "s", "0.012 s"),
        (3 * 2.0**20, "bytes", "3 MiB"),
        (None, "s", "–"),
    ],
)
def test_figures_are_shown_with_as_many_digits_as_they_deserve(
    value: float | None, unit: str, expected: str
) -> None:
    assert show.number(value, unit) == expected


def test_the_command_shows_draws_and_writes_a_results_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text(made().to_json())
    assert main.run(["bench", "show", str(tmp_path / "r.json")]) == 0
    assert "64 slices" in capsys.readouterr().out
    assert main.run(["bench", "plot", str(tmp_path / "r.json"), str(tmp_path / "p"), "--png"]) == 0
    assert (tmp_path / "p" / "bench-goals.png").read_bytes().startswith(b"\x89PNG")
    assert main.run(["bench", "page", str(tmp_path / "r.json"), "--out", str(tmp_path / "d" / "b.md")]) == 0
    assert (tmp_path / "d" / "b.md").exists()


def test_a_file_that_is_no_results_file_ends_with_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text("{}")
    assert main.run(["bench", "show", str(tmp_path / "r.json")]) == 3
    assert "benchmark-results-malformed" in capsys.readouterr().err


def test_the_command_lists_the_cases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert out.index("sealed-store") < out.index("patches") < out.index("feed")


def test_an_unknown_case_ends_the_command_as_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["bench", "--only", "no-such"]) == 2
    assert "no-such-benchmark-case" in capsys.readouterr().err
