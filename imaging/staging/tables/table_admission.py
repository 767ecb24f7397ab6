"""Which table files go into the copy, and with which columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imaging.staging.admission import Judged, Rules
from imaging.staging.headers import Header
from imaging.staging.tables.columns import Column, parse
from imaging.staging.tables.headers import TableHeader
from imaging.staging.tables.task import TableTask


class Tables:
    """The kind ``table``.  ``columns`` as a grant writes them; raises :class:`ColumnsError`."""

    def __init__(self, rules: Rules, columns: Mapping[str, Any]) -> None:
        self._rules = rules
        self._columns: tuple[Column, ...] = parse(columns)

    @property
    def keywords(self) -> frozenset[str]:
        return frozenset()

    def takes(self, header: Header) -> bool:
        return isinstance(header, TableHeader)

    def identity(self, number: int, header: TableHeader) -> None:
        return None

    def judge(self, headers: Mapping[int, TableHeader], paths: Sequence[str]) -> Judged:
        judged = Judged()
        for number, header in headers.items():
            names = header.columns
            kept = tuple(column for column in self._columns if names.count(column.name) == 1)
            if not any(column.rule == "patient-id" for column in kept):
                judged.refused[number] = "patient-column-missing"
            elif any((column.only or column.within) and column not in kept for column in self._columns):
                # Without the column that rows are selected by, every row would go.
                judged.refused[number] = "not-selected"
            else:
                item = self._rules.key.item("table", self._rules.issuer, paths[number - 1])
                judged.tasks.append(TableTask(item, number, header, kept, self._rules))
        return judged
