"""Ranges of a column that overlap: counts that no cell shows could be worked out by subtraction.

Ages 0 to 10 of one site, 0 to 5 and 5 to 10 of another: neither tells anything of the other.  But where a row, or
another table of the job, sums over the sites, ``all 0 to 5`` less ``b 0 to 5`` is ``a 0 to 5``, and with ``a 0 to 10``
that gives ``a 5 to 10``, which may be small and is no cell that could be suppressed.  So ranges may differ between
groups, but neither between rows of one group nor between a group and what sums over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement, product

from hdrs_hpc.catalogue.outputs.checking import labels
from hdrs_hpc.catalogue.outputs.checking.additive import CountSheet, same_counts
from hdrs_hpc.catalogue.outputs.checking.refusal import CannotProtectError

Interval = tuple[float, float]
Group = frozenset[tuple[str, str]]
"""The labels by which a row's people are chosen, but for its range: keys that are summed over are absent."""
Groups = Mapping[Group, set[Interval]]


class RangesOverlapError(CannotProtectError):
    code = "ranges-overlap"
    meaning = (
        "Two ranges of one column overlap, in rows of one group, or in a group and a row or table that sums over it: "
        "a count that is not shown could be worked out from those that are."
    )
    remedy = (
        "Use ranges that do not overlap, and pool neighbours into one where a group is too small: in all groups alike "
        "if rows of totals, or another table, sum over the groups."
    )


def check(sheets: Sequence[CountSheet]) -> None:
    """Raise :class:`RangesOverlapError` with the names of the sheets whose ranges can be subtracted."""
    for one, other in combinations_with_replacement(sheets, 2):
        if not same_counts(one, other):
            continue
        for column, others_column in product(one.categories[0], other.categories[0]):
            if labels.one_spelling(column) == labels.one_spelling(others_column) and _overlap(
                _groups(one, column), _groups(other, others_column)
            ):
                error = RangesOverlapError(where=f"column {column}")
                error.sheets = frozenset((one.name, other.name))
                raise error


def _groups(sheet: CountSheet, column: str) -> Groups:
    found: dict[Group, set[Interval]] = {}
    for row, categories in enumerate(sheet.categories):
        if interval := labels.interval(categories[column]):
            group = frozenset(
                item for item in sheet.key(row).items() if item[0] != labels.one_spelling(column)
            )
            found.setdefault(group, set()).add(interval)
    return found


def _overlap(mine: Groups, theirs: Groups) -> bool:
    """Whether ranges overlap in two groups of which one may hold the other: all keys that both choose by agree."""
    for ours, others in product(_by_keys(mine).items(), _by_keys(theirs).items()):
        shared = ours[0] & others[0]
        left, right = _projected(ours[1], shared), _projected(others[1], shared)
        if any(_cross(left[group], right[group]) for group in left.keys() & right.keys()):
            return True
    return False


def _by_keys(groups: Groups) -> dict[frozenset[str], dict[Group, set[Interval]]]:
    found: dict[frozenset[str], dict[Group, set[Interval]]] = {}
    for group, intervals in groups.items():
        found.setdefault(frozenset(name for name, _ in group), {})[group] = intervals
    return found


def _projected(groups: Groups, names: frozenset[str]) -> dict[Group, set[Interval]]:
    found: dict[Group, set[Interval]] = {}
    for group, intervals in groups.items():
        found.setdefault(frozenset(item for item in group if item[0] in names), set()).update(intervals)
    return found


def _cross(some: Iterable[Interval], others: Iterable[Interval]) -> bool:
    return any(a != b and a[0] < b[1] and b[0] < a[1] for a, b in product(some, others))
