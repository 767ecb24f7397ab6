"""Disclosure control of counts: primary suppression, and secondary suppression that holds against arithmetic.

The attacker.  He has every released file of the job, knows the grant's rules and this program, and knows
which counts add up to which.  He is given more than he has: the *exact* value of every count that is shown
(he only sees rounded ones) and the exact total of every column, when that total is not small itself.

The promise.  A count below ``min_count`` (a zero is one: "nobody here" is a statement about everybody there)
is suppressed, and for each there are two worlds, both in agreement with all that he has: one where it is 0
and one where it is ``min_count - 1`` or a little more.  A count that is suppressed because another of its
row is small could as well be ``min_count - 1`` less, or more.  Each world is a proof found by :mod:`witness`
and checked in whole numbers.  Beyond that, even a reader who learns which of the suppressed counts were
small finds at least two values for each, or the reviewers are told.

Not covered: other jobs of the same project, other publications, what he knows of single people, a workload
that encodes counts elsewhere on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hdrs_hpc.catalogue.outputs.checking import additive, ranges
from hdrs_hpc.catalogue.outputs.checking.additive import CellId, CountSheet, Relation
from hdrs_hpc.catalogue.outputs.checking.granted import CountRules
from hdrs_hpc.catalogue.outputs.checking.refusal import CannotProtectError, Finding
from hdrs_hpc.catalogue.outputs.checking.witness import Moves, find_move

_MAX_LINKED_CELLS = 4_000
_MAX_WORK = 80_000_000
"""Linked cells × small ones × relations: beyond it a table is hardly a summary, and the search too slow."""


Grouped = dict[CellId, list[Relation]]
"""Relations by the component they belong to."""


class TooLargeToProtectError(CannotProtectError):
    code = "table-too-large-to-protect"
    meaning = "The table has so many small counts that suppressing some would not make it a summary."
    remedy = "Use broader categories; a released table should mostly hold counts above the threshold."


@dataclass
class Pattern:
    """Which counts of one sheet are hidden, as (row, count column); the two sets are disjoint."""

    primary: set[tuple[int, int]] = field(default_factory=set)
    secondary: set[tuple[int, int]] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    @property
    def hidden(self) -> set[tuple[int, int]]:
        return self.primary | self.secondary

    @property
    def rows(self) -> set[int]:
        """Rows with a hidden count: their other statistics go too."""
        return {row for row, _ in self.hidden}


def protect(sheets: Sequence[CountSheet], rules: dict[str, CountRules]) -> dict[str, Pattern]:
    """The pattern of each sheet, by name; all sheets of a job together, since they explain each other.

    Raises :class:`CannotProtectError` with the names of the sheets that stand in each other's way.
    """
    ranges.check(sheets)
    return _Protection(sheets, rules).run()


class _Protection:
    def __init__(self, sheets: Sequence[CountSheet], rules: dict[str, CountRules]) -> None:
        self.sheets = {sheet.name: sheet for sheet in sheets}
        self.floor = {sheet.name: rules[sheet.name].min_count for sheet in sheets}
        self.groups = {sheet.name: additive.linked_columns(sheet) for sheet in sheets}
        self.value: dict[CellId, int] = {
            (sheet.name, row, column): int(sheet.values[row, column])
            for sheet in sheets
            for row in range(len(sheet.values))
            for column in range(len(sheet.columns))
        }
        in_table = additive.relations(sheets)
        outside = {
            sheet.name: additive.known_totals(sheet, self.groups[sheet.name], self.floor[sheet.name])
            for sheet in sheets
        }
        every_total = [total for totals in outside.values() for total in totals]
        self.totals = {cell for relation in in_table for cell, factor in relation.items() if factor < 0}
        self.parts = _Components(self.value, [*in_table, *every_total])
        self.in_table = self.parts.group(in_table)
        self.outside = self.parts.group(every_total)
        self.outside_of = {name: self.parts.group(totals) for name, totals in outside.items()}
        self.primary = {cell for cell, count in self.value.items() if count < self.floor[cell[0]]}
        self.secondary: set[CellId] = set()
        self.companions: set[CellId] = set()
        self.patterns = {name: Pattern() for name in self.sheets}

    def run(self) -> dict[str, Pattern]:
        self._check_size()
        done: set[CellId] = set()
        while True:
            sensitive = [cell for cell in sorted(self.primary | self._find_companions()) if cell not in done]
            if not sensitive:
                break
            for cell in sensitive:
                self._protect_cell(cell)
                done.add(cell)
        for cell in sorted(self.primary):
            self._keep_two_values(cell)
        self._find_companions()  # the last step may have hidden cells in new rows
        for sheet, row, column in self.primary:
            self.patterns[sheet].primary.add((row, column))
        for sheet, row, column in self.secondary | self.companions:
            self.patterns[sheet].secondary.add((row, column))
        return self.patterns

    def _check_size(self) -> None:
        for cells in self.parts.all():
            small = len(self.primary & cells)
            if not small:
                continue
            root = self.parts.root(next(iter(cells)))
            relations = len(self.in_table.get(root, [])) + len(self.outside.get(root, []))
            if len(cells) > _MAX_LINKED_CELLS or len(cells) * small * (relations + 20) > _MAX_WORK:
                error = TooLargeToProtectError(f"{small} of {len(cells)} counts that add up are small")
                error.sheets = frozenset(cell[0] for cell in cells)
                raise error

    def _find_companions(self) -> set[CellId]:
        """Hide the other counts of rows with a hidden one: they tell about it (two series a patient, always).

        Counts that add up with the hidden one are the business of the relations instead.  Gives the
        companions of small counts: they describe a small group, so they are protected like it.
        """
        sensitive: set[CellId] = set()
        for sheet, row, column in self.primary | self.secondary:
            if not self.sheets[sheet].row_is_group:
                continue
            others = {
                (sheet, row, other) for group in self.groups[sheet] if column not in group for other in group
            } - self.primary
            self.companions |= others
            if (sheet, row, column) in self.primary:
                sensitive |= others
        return sensitive

    def _hide(self, cells: Iterable[CellId]) -> None:
        self.secondary |= {cell for cell in cells if cell not in self.primary}

    def _protect_cell(self, cell: CellId) -> None:
        count, reach = self.value[cell], self.floor[cell[0]] - 1
        # where parity forbids exactly that far up, a little farther is as good
        ways: tuple[Iterable[int], ...] = ([-count], range(reach - count, 2 * reach - count + 1))
        if cell not in self.primary:  # a companion is not small: one direction is enough
            ways = ([-min(reach, count), reach],)
        for steps in ways:
            if 0 in steps:
                continue
            # Knowing the totals of two tables that overlap can be too much: then those of this one count.
            for known in (self.outside, self.outside_of[cell[0]], {}):
                moved = self._first_move(cell, steps, known)
                if moved is not None:
                    break
                self._tell(
                    cell,
                    "known-total-would-reveal",
                    "who knows exact totals from elsewhere could narrow a suppressed count",
                )
            else:
                raise self._refusal(cell)
            self._hide(moved)

    def _first_move(self, cell: CellId, steps: Iterable[int], known: Grouped) -> list[CellId] | None:
        return next((moved for by in steps if (moved := self._move(cell, by, known)) is not None), None)

    def _keep_two_values(self, cell: CellId) -> None:
        """For a reader who knows which cells are the small ones: a step of one that keeps each on its side."""
        count, top = self.value[cell], self.floor[cell[0]] - 1
        if top < 1:
            return
        for by in (1, -1):
            if 0 <= count + by <= top:
                moved = self._move(cell, by, {}, keep_sides=True)
                if moved is not None:
                    self._hide(moved)
                    return
        self._tell(
            cell,
            "small-cells-known-would-reveal",
            "who learned which suppressed counts were small could work one of them out",
        )

    def _move(
        self, cell: CellId, by: int, known: Grouped, *, keep_sides: bool = False
    ) -> list[CellId] | None:
        """The cells that take part in a move of ``cell`` by ``by``; None when nothing makes room."""
        root = self.parts.root(cell)
        relations = [*self.in_table.get(root, []), *known.get(root, [])]
        everything = {cell, *(other for relation in relations for other in relation)}
        hidden = {other for other in everything if self._is_hidden(other)}
        # what is hidden already costs nothing, and the smaller search is the faster one
        for pool in (sorted(hidden), sorted(everything)):
            found = self._search(pool, relations, cell, by, keep_sides)
            if found is not None:
                return found
        return None

    def _search(
        self, cells: list[CellId], relations: list[Relation], cell: CellId, by: int, keep_sides: bool
    ) -> list[CellId] | None:
        """As :meth:`_move`, with all but ``cells`` held in place."""
        index = {other: position for position, other in enumerate(cells)}
        matrix = np.zeros((len(relations), len(cells)), dtype=np.int64)
        for line, relation in enumerate(relations):
            for other, factor in relation.items():
                if other in index:
                    matrix[line, index[other]] = factor
        matrix = matrix[matrix.any(axis=1)]
        lower = np.array([-self.value[other] for other in cells], dtype=np.float64)
        upper = np.full(len(cells), np.inf)
        if keep_sides:
            for position, other in enumerate(cells):
                if other in self.primary:
                    upper[position] = self.floor[other[0]] - 1 - self.value[other]
                else:
                    lower[position] = self.floor[other[0]] - self.value[other]
        price = np.array([self._price(other) for other in cells])
        move = find_move(Moves(matrix, lower, upper, price), index[cell], by)
        return None if move is None else [cells[position] for position in np.flatnonzero(move)]

    def _is_hidden(self, cell: CellId) -> bool:
        return cell in self.primary or cell in self.secondary or cell in self.companions

    def _price(self, cell: CellId) -> float:
        """What hiding it costs: nothing when hidden already, more for large counts, most for totals."""
        if self._is_hidden(cell):
            return 0.001
        return (8.0 if cell in self.totals else 1.0) * (1.0 + float(np.log2(1 + self.value[cell])) / 8)

    def _refusal(self, cell: CellId) -> CannotProtectError:
        error = CannotProtectError("a suppressed count follows from the others", where=self._place(cell))
        error.sheets = frozenset(other[0] for other in self.parts.of(cell))
        return error

    def _tell(self, cell: CellId, code: str, message: str) -> None:
        finding = Finding(code, message, self._place(cell))
        if finding not in self.patterns[cell[0]].findings:
            self.patterns[cell[0]].findings.append(finding)

    def _place(self, cell: CellId) -> str:
        """The column only: naming the row would tell which of the suppressed counts is the small one."""
        return f"column {self.sheets[cell[0]].columns[cell[2]]}"


class _Components:
    """Cells that are linked through relations: each search needs only its own."""

    def __init__(self, cells: Iterable[CellId], relations: Sequence[Relation]) -> None:
        self._parent: dict[CellId, CellId] = {cell: cell for cell in cells}
        for relation in relations:
            first, *others = relation
            for other in others:
                self._parent[self.root(other)] = self.root(first)
        self._members: dict[CellId, set[CellId]] = {}
        for cell in self._parent:
            self._members.setdefault(self.root(cell), set()).add(cell)

    def root(self, cell: CellId) -> CellId:
        while self._parent[cell] != cell:
            self._parent[cell] = self._parent[self._parent[cell]]
            cell = self._parent[cell]
        return cell

    def all(self) -> Iterable[set[CellId]]:
        return self._members.values()

    def of(self, cell: CellId) -> set[CellId]:
        return self._members[self.root(cell)]

    def group(self, relations: Iterable[Relation]) -> Grouped:
        grouped: Grouped = {}
        for relation in relations:
            grouped.setdefault(self.root(next(iter(relation))), []).append(relation)
        return grouped
