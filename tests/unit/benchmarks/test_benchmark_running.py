"""Who runs when, what is kept after each comparison, and what a broken case costs the others."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from benchmarks import measure, running, table
from benchmarks.bench import Bench
from benchmarks.comparing import Comparison, Contender, Skipped
from benchmarks.results import Results, Run
from benchmarks.sizes import SIZES
from benchmarks.table import CASES, Case, NoSuchCaseError


class Quiet:
    def making(self, name: str, done: int, total: int) -> None: ...

    def running(self, comparison: str, contender: str, number: int, rounds: int) -> None: ...


class Scripted(Case):
    """A case whose comparisons are given."""

    def __init__(self, name: str, given: list[Comparison | Skipped | BaseException]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "title", name)
        object.__setattr__(self, "module", "")
        object.__setattr__(self, "given", given)

    def comparisons(self, bench: Bench) -> Generator[Comparison | Skipped, None, None]:
        for one in self.given:  # type: ignore[attr-defined]
            if isinstance(one, BaseException):
                raise one
            yield one


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "scratch").mkdir()
    return Bench(SIZES["small"], tmp_path / "data", tmp_path / "scratch", Quiet())


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names in the order in which they ran; each takes no time and says one second."""
    ran: list[str] = []

    def run(contender: Contender, number: int, cache: str) -> Run:
        ran.append(contender.name)
        return Run(round=number, figures={"wall-s": 1.0})

    monkeypatch.setattr(measure, "run", run)
    return ran


def pair(name: str = "c") -> Comparison:
    return Comparison(name, name, "s", (Contender("A", ()), Contender("B", ())))


def test_contenders_run_in_turn_after_a_warm_up_of_each(bench: Bench, order: list[str]) -> None:
    made = running.run([Scripted("case", [pair()])], bench, 2, lambda results: None)
    assert order == ["A", "B"] * 3
    assert [run.counted for run in made.cases[0].comparisons[0].contenders[0].runs] == [False, True, True]


def test_a_single_round_has_no_warm_up(bench: Bench, order: list[str]) -> None:
    made = running.run([Scripted("case", [pair()])], bench, 1, lambda results: None)
    assert order == ["A", "B"]
    assert [run.counted for run in made.cases[0].comparisons[0].contenders[1].runs] == [True]
    assert made.cases[0].comparisons[0].contenders[0].median == 1.0


def test_what_reports_a_rate_warms_up_inside(bench: Bench, order: list[str]) -> None:
    rate = Comparison("c", "c", "MB/s", (Contender("A", ()), Contender("B", ())), figure="mb-per-s")
    running.run([Scripted("case", [rate])], bench, 2, lambda results: None)
    assert order == ["A", "B"] * 2


def test_a_long_warm_up_counts_as_the_first_round(
    bench: Bench, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LONG_WARM_UP_S", -1.0)
    running.run([Scripted("case", [pair()])], bench, 2, lambda results: None)
    assert order == ["A", "B"] * 2


def test_who_took_too_long_sits_out_the_rounds_that_are_left(
    bench: Bench, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "PATIENCE_S", -1.0)
    running.run([Scripted("case", [pair()])], bench, 3, lambda results: None)
    assert order == ["A", "B"] * 2  # the warm-up, and one that counts


def test_a_contender_that_fails_is_tried_once_more_and_shown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(contender: Contender, number: int, cache: str) -> Run:
        ran.append(contender.name)
        return (
            Run(round=number, error="no")
            if contender.name == "B"
            else Run(round=number, figures={"wall-s": 1.0})
        )

    monkeypatch.setattr(measure, "run", run)
    made = running.run([Scripted("case", [pair()])], bench, 3, lambda results: None)
    assert ran.count("B") == 2
    assert made.cases[0].comparisons[0].contenders[1].error == "no"


def test_results_are_kept_after_each_comparison(bench: Bench, order: list[str]) -> None:
    kept: list[tuple[int, bool]] = []

    def save(results: Results) -> None:
        kept.append((sum(len(case.comparisons) for case in results.cases), results.complete))

    running.run([Scripted("one", [pair("a"), pair("b")]), Scripted("two", [pair("c")])], bench, 1, save)
    assert [count for count, _ in kept] == [1, 2, 2, 3, 3, 3]
    assert kept[-1][1] is True
    assert not any(complete for _, complete in kept[:-1])


def test_a_case_that_cannot_go_on_says_so_and_the_next_one_runs(bench: Bench, order: list[str]) -> None:
    broken = Scripted("broken", [pair("a"), OSError("no space left")])
    made = running.run([broken, Scripted("next", [pair("b")])], bench, 1, lambda results: None)
    assert made.cases[0].error == "OSError: no space left"
    assert len(made.cases[0].comparisons) == 1
    assert made.cases[1].error is None
    assert made.complete


def test_what_is_skipped_is_in_the_results_with_its_reason(bench: Bench, order: list[str]) -> None:
    made = running.run([Scripted("case", [Skipped("feed", "t", "no GPU")])], bench, 1, lambda results: None)
    assert made.cases[0].comparisons[0].skipped == "no GPU"
    assert order == []


def test_being_stopped_keeps_what_had_ended(bench: Bench, order: list[str]) -> None:
    kept: list[Results] = []
    stopped = Scripted("case", [pair("a"), KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        running.run([stopped], bench, 1, lambda results: kept.append(results.model_copy(deep=True)))
    assert [one.name for one in kept[-1].cases[0].comparisons] == ["a"]
    assert not kept[-1].complete


def test_scratch_is_empty_after_a_case(bench: Bench, order: list[str]) -> None:
    (bench.scratch / "copy").mkdir()
    (bench.scratch / "secret").write_text("x")
    running.run([Scripted("case", [pair()])], bench, 1, lambda results: None)
    assert list(bench.scratch.iterdir()) == []


def test_an_unknown_case_is_refused_by_name() -> None:
    with pytest.raises(NoSuchCaseError):
        table.chosen(("patches", "no-such"))


def test_cases_run_in_the_order_of_the_table() -> None:
    assert [case.name for case in table.chosen(("growth", "ct-series"))] == ["ct-series", "growth"]
    assert len(table.chosen(())) == len(CASES)


def test_data_that_were_interrupted_leave_nothing_and_are_made_anew(bench: Bench) -> None:
    def broken(folder: Path, told: object) -> None:
        (folder / "half").write_text("x")
        raise OSError("stopped")

    with pytest.raises(OSError, match="stopped"):
        bench.made("thing", {"a": 1}, broken)
    assert list(bench.data.iterdir()) == []
    made = bench.made("thing", {"a": 1}, lambda folder, told: (folder / "whole").write_text("y") and None)
    assert [path.name for path in made.iterdir()] == ["whole"]
    assert bench.made("thing", {"a": 1}, broken) == made
    assert bench.made("thing", {"a": 2}, lambda folder, told: None) != made
