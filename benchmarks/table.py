"""The cases there are, in the order in which they run: an explicit table, no scanning."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import import_module

from benchmarks.bench import Bench
from benchmarks.comparing import Comparison, Skipped
from hdrs_hpc.core.errors import UsageError

type Comparisons = Callable[[Bench], Generator[Comparison | Skipped, None, None]]


class NoSuchCaseError(UsageError):
    code = "no-such-benchmark-case"
    meaning = "The benchmark has no case of that name."
    remedy = "`hdrs-hpc bench --list` lists them."


@dataclass(frozen=True, slots=True)
class Case:
    """``module`` has a function ``comparisons(bench)``; it is imported when the case runs."""

    name: str
    title: str
    module: str

    def comparisons(self, bench: Bench) -> Generator[Comparison | Skipped, None, None]:
        """What is compared; data are made as it goes along."""
        found: Comparisons = import_module(self.module).comparisons
        return found(bench)


def _case(name: str, title: str) -> Case:
    return Case(name, title, f"benchmarks.cases.{name.replace('-', '_')}")


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        _case("sealed-store", "Large objects through the sealed store"),
        _case("ct-series", "DICOM series to a de-identified sealed volume"),
        _case("slide", "Slide to a sealed pyramid"),
        _case("patches", "Random patches of a slide for training"),
        _case("volumes", "Whole volumes and slabs"),
        _case("push", "Push of a sealed copy over SFTP"),
        _case("memory", "Memory of staging under a budget"),
        _case("growth", "Time per item as a copy grows"),
        _case("training-step", "A training step on sealed and on plain data"),
        _case("feed", "A loader that feeds a model on an accelerator"),
    )
}


def chosen(names: tuple[str, ...]) -> list[Case]:
    """The cases named, in the table's order; all where none is.  Raises :class:`NoSuchCaseError`."""
    for name in names:
        if name not in CASES:
            raise NoSuchCaseError(where=name[:60])
    return [case for case in CASES.values() if not names or case.name in names]
