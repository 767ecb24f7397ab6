"""Medians, ratios, goals and the results file: arithmetic with numbers chosen by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import results
from benchmarks.comparing import Comparison, Contender, Goal
from benchmarks.results import (
    BadResultsError,
    CaseResult,
    ComparisonResult,
    Machine,
    OtherMachineError,
    Results,
    Run,
)

MACHINE = Machine(
    processor="a processor",
    cores=2,
    memory_bytes=1 << 34,
    kernel="Linux",
    filesystem="ext4",
    accelerator=None,
    python="3.13.0",
    versions={"zarr": "3.4.0", "zarrs": None},
)


def compared(values: dict[str, list[float]], goal: Goal, **more: Any) -> ComparisonResult:
    """A comparison whose contenders had these wall seconds, the first one a warm-up."""
    scales = more.pop("scales", {})
    contenders = tuple(Contender(name, ("x",), scale=scales.get(name, 1.0)) for name in values)
    comparison = Comparison("c", "title", "s", contenders, (goal,), **more)
    result = results.begin(comparison)
    for one, given in zip(result.contenders, values.values(), strict=True):
        one.runs = [
            Run(round=number, figures={comparison.figure: value}, counted=number > 0)
            for number, value in enumerate(given)
        ]
    results.conclude(comparison, result)
    return result


def test_the_median_leaves_the_warm_up_out() -> None:
    result = compared({"ours": [99.0, 1.0, 5.0, 2.0]}, Goal("g", "s", limit=2.0))
    assert result.contenders[0].median == 2.0
    assert result.goals[0].met is True


def test_lower_seconds_are_that_many_times_as_good() -> None:
    result = compared({"ours": [0, 2.0], "theirs": [0, 8.0]}, Goal("g", "s", peers=("theirs",), least=4.0))
    assert result.goals[0].reached == 4.0
    assert result.goals[0].met is True


def test_higher_rates_are_that_many_times_as_good() -> None:
    goal = Goal("g", "s", peers=("theirs",), least=0.95)
    result = compared({"ours": [0, 90.0], "theirs": [0, 100.0]}, goal, figure="rate", better="higher")
    assert result.goals[0].reached == pytest.approx(0.9)
    assert result.goals[0].met is False


def test_the_best_of_the_peers_counts() -> None:
    goal = Goal("g", "s", peers=("slow", "fast"), least=2.0)
    result = compared({"ours": [0, 1.0], "slow": [0, 9.0], "fast": [0, 1.5]}, goal)
    assert result.goals[0].against == "fast"
    assert result.goals[0].reached == 1.5
    assert result.goals[0].met is False


def test_a_contender_that_is_no_peer_of_the_goal_does_not_count() -> None:
    goal = Goal("g", "s", peers=("theirs",), least=2.0)
    result = compared({"ours": [0, 1.0], "theirs": [0, 3.0], "cp": [0, 0.1]}, goal)
    assert result.goals[0].reached == 3.0


def test_a_part_of_the_work_is_scaled_to_the_whole() -> None:
    goal = Goal("g", "s", peers=("part",), least=10.0)
    result = compared({"ours": [0, 2.0], "part": [0, 1.0]}, goal, scales={"part": 25.0})
    assert result.contenders[1].median == 25.0
    assert result.goals[0].reached == 12.5


def test_the_start_of_a_program_is_not_scaled_where_it_is_known() -> None:
    comparison = Comparison("c", "t", "s", (Contender("ours", ()), Contender("part", (), scale=10.0)))
    result = results.begin(comparison)
    result.contenders[1].runs = [
        Run(round=1, figures={"wall-s": 5.0, "work-s": 1.5, "sync-s": 0.5, "user-s": 4.0})
    ]
    results.conclude(comparison, result)
    assert result.contenders[1].median == 3.0 + 10 * 2.0
    assert result.contenders[1].median_of("user-s") == 4.0, "processor time is shown as measured"


def test_a_limit_is_held_against_our_figure_alone() -> None:
    result = compared({"ours": [0, 1.5], "theirs": [0, 0.1]}, Goal("g", "s", limit=1.4))
    assert result.goals[0].reached == 1.5
    assert result.goals[0].met is False


def test_a_goal_that_no_peer_could_be_measured_for_is_neither_met_nor_missed() -> None:
    result = compared({"ours": [0, 1.0]}, Goal("g", "s", peers=("absent",), least=1.0))
    assert result.goals[0].reached is None
    assert result.goals[0].met is None


def test_a_failed_contender_keeps_its_error_and_has_no_median() -> None:
    comparison = Comparison("c", "t", "s", (Contender("ours", ("x",)), Contender("theirs", ("y",))))
    result = results.begin(comparison)
    result.contenders[0].runs = [Run(round=1, figures={"wall-s": 1.0})]
    result.contenders[1].runs = [Run(round=1, error="exit code 1: no")]
    results.conclude(comparison, result)
    assert result.contenders[1].median is None
    assert result.contenders[1].error == "exit code 1: no"


def test_a_contender_that_tells_no_such_figure_is_shown_as_failed() -> None:
    comparison = Comparison("c", "t", "MB/s", (Contender("ours", ("x",)),), figure="mb-per-s")
    result = results.begin(comparison)
    result.contenders[0].runs = [Run(round=1, figures={"wall-s": 1.0})]
    results.conclude(comparison, result)
    assert result.contenders[0].error == "told no such figure"


def test_results_read_back_as_they_were_written(tmp_path: Path) -> None:
    made = Results(begun="2026-11-25T00:00:00+00:00", size="small", rounds=3, machine=MACHINE)
    (tmp_path / "r.json").write_text(made.to_json())
    assert '"schema": "hdrs-hpc/benchmark/1"' in made.to_json()
    assert results.load(tmp_path / "r.json") == made


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "hdrs-hpc/benchmark/2"}', "[1]"])
def test_what_is_no_results_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadResultsError):
        results.load(tmp_path / "r.json")


def case(name: str, seconds: float) -> CaseResult:
    return CaseResult(name=name, title=name, seconds=seconds)


def test_cases_that_ran_now_replace_those_of_before_and_the_others_stay_in_order() -> None:
    kept: dict[str, Any] = {"begun": "x", "size": "full", "machine": MACHINE}
    old = Results(**kept, rounds=1, cases=[case("a", 1), case("b", 1), case("c", 1)])
    new = Results(**kept, rounds=3, cases=[case("b", 2)])
    made = results.merged(old, new, ["a", "b", "c"])
    assert [(one.name, one.seconds) for one in made.cases] == [("a", 1), ("b", 2), ("c", 1)]
    assert made.rounds == 1


@pytest.mark.parametrize(
    "changed", [{"size": "small"}, {"machine": MACHINE.model_copy(update={"cores": 64})}]
)
def test_results_of_another_machine_or_size_are_not_put_together(changed: dict[str, Any]) -> None:
    kept: dict[str, Any] = {"begun": "x", "size": "full", "machine": MACHINE, "rounds": 3}
    with pytest.raises(OtherMachineError):
        results.merged(Results(**kept), Results(**{**kept, **changed}), [])
