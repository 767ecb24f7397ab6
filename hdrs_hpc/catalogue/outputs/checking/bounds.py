"""A count is at most what it counts: the broker knows how many patients and items the job's inputs hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hdrs_hpc.catalogue.outputs.checking import counted
from hdrs_hpc.catalogue.outputs.checking.additive import CountSheet
from hdrs_hpc.catalogue.outputs.checking.counted import Counted
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError


class CountExceedsInputsError(ArtefactRefusedError):
    code = "count-exceeds-inputs"
    meaning = (
        "A count is larger than what it counts, or the rows of a table together hold more than the inputs do."
    )
    remedy = (
        "Count patients, series, slides or images of this job's inputs, each once a table; declare what is no count of "
        "them (voxels, days) as a measure; call rows of totals Total, and give groups that overlap tables of their own."
    )


class RowsFinerThanPeopleError(ArtefactRefusedError):
    code = "rows-finer-than-people"
    meaning = (
        "A table counts no people, and has more rows than the inputs have groups of enough different people: "
        "a row could be one patient, whose many images make its count large."
    )
    remedy = "Add a column with the number of patients behind each row and declare it, `n_patients: {count: patients}`."


def counts_people(words: str) -> bool:
    return counted.what(words) is Counted.PEOPLE


def most(words: str, inputs: InputFacts) -> int:
    """The largest that a count of ``words`` may be.  What it is stays unsaid: researchers need not be told."""
    return {
        Counted.PEOPLE: inputs.people,
        Counted.ITEMS: inputs.items,
        Counted.THINGS: inputs.instances,
    }[counted.what(words)]


def most_together(words: str, inputs: InputFacts) -> int:
    """The largest sum over rows that don't overlap: a person is in as many of them as there are items of theirs."""
    return max(most(words, inputs), inputs.items) if counts_people(words) else most(words, inputs)


def check_rows(sheet: CountSheet, kept: Iterable[int], min_count: int, inputs: InputFacts) -> None:
    """Raise :class:`RowsFinerThanPeopleError`: rows that don't overlap can't all be of ``min_count`` people.

    One patient has hundreds of images, so only a count of people tells that a row is no single one.  Where a table has
    none, its rows are at most as many as such groups of different people; where it has one, that is suppressed and
    bounded.
    """
    if any(map(counts_people, sheet.words)):
        return
    levels = Counter(sheet.total_columns(row) for row in kept)
    if any(rows * min_count > inputs.people for rows in levels.values() if rows > 1):
        raise RowsFinerThanPeopleError()


def check(sheet: CountSheet, inputs: InputFacts) -> None:
    """Raise :class:`CountExceedsInputsError` unless every count, and every sum over groups, fits the inputs.

    Rows that sum over the same columns are one level of the table; each level counts everything once.  A label
    alone makes no row a total of nothing, so the rows of a level of totals are summed up as well.
    """
    levels: dict[frozenset[str], list[int]] = {}
    for row in range(len(sheet.values)):
        levels.setdefault(sheet.total_columns(row), []).append(row)
    for column, (name, words) in enumerate(zip(sheet.columns, sheet.words, strict=True)):
        counts = [int(count) for count in sheet.values[:, column]]
        if any(count > most(words, inputs) for count in counts):
            raise CountExceedsInputsError(where=f"column {name}" if sheet.row_is_group else f"entry {name}")
        if not sheet.row_is_group:
            continue
        for rows in levels.values():
            if sum(counts[row] for row in rows) > most_together(words, inputs):
                raise CountExceedsInputsError("the rows together", where=f"column {name}")
