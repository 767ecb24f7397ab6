"""Which counts add up to which: the relations by which a reader could win a suppressed count back.

Found by label (a category called Total, All …), by arithmetic within a sheet (rows and columns that add up
everywhere), and between sheets of one job (the same cell, or the margin of a finer table).  A relation is
homogeneous: it says how counts move together, so a margin with a constant difference counts as a margin too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hdrs_hpc.catalogue.outputs.checking import counted
from hdrs_hpc.catalogue.outputs.checking.labels import one_spelling
from hdrs_hpc.catalogue.outputs.checking.totals import is_total_label

_MAX_TOTAL_CATEGORIES = 5
_MAX_SUBSET_COLUMNS = 12
_ROWS_TO_RULE_OUT_CHANCE = 4

CellId = tuple[str, int, int]
"""(sheet, row, count column)."""
Relation = Mapping[CellId, int]


@dataclass(frozen=True)
class CountSheet:
    """The counts of one table, or of one metrics file (a table of one row without categories).

    ``values`` (rows, count columns); ``words`` says of each column what it counts, as it was declared;
    ``categories`` gives each row's text cells as {column: value}.
    ``row_is_group``: the counts of a row describe the same people, as in a table; metrics need not.
    """

    name: str
    columns: tuple[str, ...]
    words: tuple[str, ...]
    categories: tuple[Mapping[str, str], ...]
    values: NDArray[np.int64]
    row_is_group: bool = True

    def total_columns(self, row: int) -> frozenset[str]:
        """The category columns over which this row sums up, by their labels or by their numbers."""
        return frozenset(
            column
            for column, text in self.categories[row].items()
            if is_total_label(text) or (column, text) in self.summing_labels[0]
        )

    @cached_property
    def summing_labels(self) -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
        """(column, label) that equal the sum of their siblings; columns of which a label does so in places only.

        Siblings are the labels of rows that agree on all other keys.  Two groups must agree, since one can by chance;
        none may disagree but those that lack a sibling, of which the total may be more.
        """
        found: set[tuple[str, str]] = set()
        doubtful: set[str] = set()
        for column in self.categories[0] if len(self.values) else ():
            labels: dict[str, list[bool]] = {}
            groups: dict[frozenset[tuple[str, str]], dict[str, NDArray[np.int64]]] = {}
            for categories, counts in zip(self.categories, self.values, strict=True):
                if not is_total_label(categories[column]):
                    rest = frozenset(
                        (name, one_spelling(text)) for name, text in categories.items() if name != column
                    )
                    groups.setdefault(rest, {})[categories[column]] = counts
                    labels[categories[column]] = []
            for group in groups.values():
                copies = Counter(counts.tobytes() for counts in group.values())
                together = sum(group.values(), np.zeros(len(self.columns), np.int64))
                for label, counts in group.items():
                    others = together - copies[counts.tobytes()] * counts
                    if np.array_equal(others, counts):
                        parts = [
                            part for part in group.values() if part.any() and not np.array_equal(part, counts)
                        ]
                        labels[label] += [True] if len(parts) >= 2 else []
                    elif len(group) == len(labels) or (others > counts).any():
                        labels[label].append(False)
            for label, agreed in labels.items():
                if agreed.count(True) >= 2 and all(agreed):
                    found.add((column, label))
                elif any(agreed):
                    doubtful.add(column)
        return frozenset(found), frozenset(doubtful)

    def leaf_rows(self) -> list[int]:
        """Rows that sum up nothing, as far as labels and unlabelled totals tell."""
        unlabelled = {row for row, _ in _unlabelled_totals(self)}
        return [
            row for row in range(len(self.values)) if not self.total_columns(row) and row not in unlabelled
        ]

    def key(self, row: int) -> dict[str, str]:
        """The categories that select this row's people: totals select nobody out."""
        totals = self.total_columns(row)
        return {
            one_spelling(column): one_spelling(text)
            for column, text in self.categories[row].items()
            if column not in totals
        }


def relations(sheets: Sequence[CountSheet]) -> list[Relation]:
    """All relations within and between the sheets, without repeats."""
    found: list[Relation] = []
    for sheet in sheets:
        found += _row_relations(sheet)
        found += _column_relations(sheet)
    for coarse in sheets:
        for fine in sheets:
            if coarse.name != fine.name:
                found += _between(coarse, fine)
    seen: dict[frozenset[tuple[CellId, int]], Relation] = {}
    for relation in found:
        items = frozenset(relation.items())
        if frozenset((cell, -factor) for cell, factor in items) not in seen:
            seen.setdefault(items, relation)
    return list(seen.values())


def linked_columns(sheet: CountSheet) -> list[frozenset[int]]:
    """Groups of count columns that add up among each other; a column by itself is a group of one."""
    group = {column: frozenset([column]) for column in range(len(sheet.columns))}
    for total, parts in _column_sums(sheet):
        merged = frozenset().union(*(group[column] for column in (total, *parts)))
        for column in merged:
            group[column] = merged
    return sorted(set(group.values()), key=min)


def known_totals(sheet: CountSheet, groups: Sequence[frozenset[int]], min_count: int) -> list[Relation]:
    """Each column's total over the leaf rows, which a reader may know from elsewhere, exactly.

    Left out for a group with a total below ``min_count``: who knows that already knows a small count.
    """
    leaves = sheet.leaf_rows()
    if len(leaves) < 2:
        return []
    sums = sheet.values[leaves].sum(axis=0)
    return [
        {(sheet.name, row, column): 1 for row in leaves}
        for group in groups
        if all(sums[column] >= min_count for column in group)
        for column in sorted(group)
    ]


def _row_relations(sheet: CountSheet) -> Iterator[Relation]:
    for total, parts in (*_labelled_totals(sheet), *_unlabelled_totals(sheet)):
        for column in range(len(sheet.columns)):
            yield _sum_relation((sheet.name, total, column), [(sheet.name, row, column) for row in parts])


def _sum_relation(total: CellId, parts: Iterable[CellId]) -> Relation:
    return {total: -1, **dict.fromkeys(parts, 1)}


def _labelled_totals(sheet: CountSheet) -> Iterator[tuple[int, list[int]]]:
    totals = [sheet.total_columns(row) for row in range(len(sheet.values))]
    # Rows by which columns they sum over, and by the values of the others, so that parts are looked up.
    rows_by_key: dict[tuple[frozenset[str], frozenset[tuple[str, str]]], list[int]] = {}
    shapes = sorted(set(totals), key=sorted)
    spans = sorted({span for shape in shapes for span in _subsets(shape)}, key=sorted)
    for row, own in enumerate(totals):
        for span in spans:
            if not own & span:
                rest = _rest(sheet, row, span, own)
                rows_by_key.setdefault((span, rest), []).append(row)
    for row, own in enumerate(totals):
        for span in _subsets(own):
            rest = _rest(sheet, row, span, own)
            if parts := rows_by_key.get((span, rest)):
                yield row, parts


def _rest(
    sheet: CountSheet, row: int, span: frozenset[str], totals: frozenset[str]
) -> frozenset[tuple[str, str]]:
    """The categories outside ``span``, each total under one name however it was worded."""
    return frozenset(
        (column, "\0total" if column in totals else one_spelling(text))
        for column, text in sheet.categories[row].items()
        if column not in span
    )


def _subsets(columns: frozenset[str]) -> list[frozenset[str]]:
    names = sorted(columns)
    if len(names) > _MAX_TOTAL_CATEGORIES:
        return [columns]
    return [frozenset(some) for size in range(1, len(names) + 1) for some in combinations(names, size)]


def _unlabelled_totals(sheet: CountSheet) -> list[tuple[int, list[int]]]:
    """Rows without a label that are the sum of all other rows, or of the run of rows before or behind them.

    A run must be three rows long, or agree in two columns: shorter agreements are mostly chance.  So is a
    second total over everything where the rows have labelled ones.
    """
    rows = [row for row in range(len(sheet.values)) if not sheet.total_columns(row)]
    if len(rows) < 3 or not len(sheet.columns):
        return []
    values = sheet.values[rows]
    prefix = np.vstack([np.zeros((1, values.shape[1]), np.int64), values.cumsum(axis=0)])
    first: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    for index, line in enumerate(prefix):
        first.setdefault(line.tobytes(), index)
        last[line.tobytes()] = index
    shortest = 2 if values.shape[1] > 1 else 3
    found = []
    for index, row in enumerate(rows):
        others = [other for other in range(len(rows)) if other != index]
        begin = first.get((prefix[index] - values[index]).tobytes())
        end = last.get((prefix[index + 1] + values[index]).tobytes())
        if len(rows) == len(sheet.values) and np.array_equal(2 * values[index], prefix[-1]):
            parts = others
        elif begin is not None and index - begin >= shortest:
            parts = list(range(begin, index))
        elif end is not None and end - index - 1 >= shortest:
            parts = list(range(index + 1, end))
        else:
            continue
        if ((values[parts] > 0).any(axis=1)).sum() >= 2:
            found.append((row, [rows[part] for part in parts]))
    return found


def _column_relations(sheet: CountSheet) -> Iterator[Relation]:
    for total, parts in _column_sums(sheet):
        for row in range(len(sheet.values)):
            yield _sum_relation((sheet.name, row, total), [(sheet.name, row, part) for part in parts])


def _column_sums(sheet: CountSheet) -> list[tuple[int, tuple[int, ...]]]:
    """(total, parts) for columns that equal another, or the sum of others, in every row."""
    values = sheet.values
    count = values.shape[1]
    if not len(values) or count < 2:
        return []
    live = [column for column in range(count) if values[:, column].any()]
    # An empty column may be a part of every sum: a reader who thinks so learns that it is empty.
    empty = tuple(column for column in range(count) if column not in live)
    sums = [
        (total, (*parts, *empty))
        for total in live
        for parts in _candidate_parts([column for column in live if column != total], len(values))
        if np.array_equal(values[:, total], values[:, list(parts)].sum(axis=1))
    ]
    if len(values) == 1:
        return sums  # one row: equal numbers are chance
    # Equal columns are copies; or the last is the total and an empty one the rest: male, female, all.
    rest = () if sums else empty
    first: dict[bytes, int] = {}
    for column in live:
        like = first.setdefault(values[:, column].tobytes(), column)
        if like != column:
            sums.append((column, (like, *rest)))
    return sums


def _candidate_parts(others: list[int], rows: int) -> Iterator[tuple[int, ...]]:
    """Pairs and what stands side by side; all subsets when there are rows enough to rule chance out."""
    if len(others) >= _MAX_SUBSET_COLUMNS or rows < _ROWS_TO_RULE_OUT_CHANCE:
        yield from combinations(others, 2)
        for start in range(len(others)):
            for stop in range(start + 3, len(others) + 1):
                yield tuple(others[start:stop])
        return
    for size in range(2, len(others) + 1):
        yield from combinations(others, size)


def _between(coarse: CountSheet, fine: CountSheet) -> Iterator[Relation]:
    """Cells of ``coarse`` that are, or sum up, cells of ``fine`` in a column of the same name or that counts the same.

    Zeros agree too easily: they tie nothing, and are hidden wherever they stand.
    """
    leaves = fine.leaf_rows()
    if not leaves or not len(coarse.values):
        return
    keys = [fine.key(row) for row in leaves]
    names = set(keys[0])
    shared = same_counts(coarse, fine)
    if not shared:
        return
    projected: dict[frozenset[str], dict[frozenset[tuple[str, str]], list[int]]] = {}
    ours = [coarse.key(row) for row in range(len(coarse.values))]
    # A key with one value, which the other table lacks, chooses nobody out.
    idle = {name for name in ours[0] if name not in names and len({key.get(name) for key in ours}) == 1}
    for row, whole in enumerate(ours):
        key = {name: label for name, label in whole.items() if name not in idle}
        over = frozenset(key)
        if not over <= names:
            continue
        if over not in projected:
            lookup: dict[frozenset[tuple[str, str]], list[int]] = {}
            for leaf, leaf_key in zip(leaves, keys, strict=True):
                lookup.setdefault(frozenset((name, leaf_key[name]) for name in over), []).append(leaf)
            projected[over] = lookup
        rows = projected[over].get(frozenset(key.items()), [])
        for mine, theirs in shared:
            if (
                rows
                and coarse.values[row, mine]
                and int(fine.values[rows, theirs].sum()) == int(coarse.values[row, mine])
            ):
                yield _sum_relation((coarse.name, row, mine), [(fine.name, leaf, theirs) for leaf in rows])


def same_counts(one: CountSheet, other: CountSheet) -> list[tuple[int, int]]:
    """Columns of two sheets that have one name, or count the same in the same words."""
    return [
        (mine, theirs)
        for mine, (name, words) in enumerate(zip(one.columns, one.words, strict=True))
        for theirs, (others_name, others_words) in enumerate(zip(other.columns, other.words, strict=True))
        if one_spelling(name) == one_spelling(others_name) or counted.same(words, others_words)
    ]
