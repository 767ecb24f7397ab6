"""Metrics: one flat JSON object of names and numbers; counts are protected as in a table of one row.

A number that would leave as a whole one is whole, however it was written; whole numbers are declared, as counts or
as measures.  Names come out sorted: their order says nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from hdrs_hpc.catalogue.outputs.checking import bounds, capacity, declared_columns, names, numbers
from hdrs_hpc.catalogue.outputs.checking.additive import CountSheet
from hdrs_hpc.catalogue.outputs.checking.contract import Checking, Neighbour
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.declared_columns import DeclaredColumn
from hdrs_hpc.catalogue.outputs.checking.disclosure import Pattern
from hdrs_hpc.catalogue.outputs.checking.granted import CountRules, count_rules
from hdrs_hpc.catalogue.outputs.checking.identifiers import IdentifierScan
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.outputs.checking.refusal import (
    ArtefactRefusedError,
    Finding,
    NothingLeftError,
    UndeclaredCountError,
)
from hdrs_hpc.core import strict_json

MEDIA_TYPE = "application/json"
MAX_ENTRIES = 64

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,39}", re.ASCII)
_NEGATIVE_ZERO = re.compile(rb":\s*-0\s*[,}]")


class MalformedMetricsError(ArtefactRefusedError):
    code = "malformed-metrics"
    meaning = "Metrics are one flat JSON object of names and finite numbers, and this is not."
    remedy = (
        f'Write {{"name": number, …}} with at most {MAX_ENTRIES} entries, no text, lists or nesting; names have at '
        "most 40 letters, digits and _ . : -."
    )


class MetricCountError(ArtefactRefusedError):
    code = "metric-count-not-whole"
    meaning = "A declared count is missing from the metrics or is not a non-negative whole number."
    remedy = "Write the plain count, small ones too: the airlock suppresses and rounds by the grant's rule."


@dataclass(frozen=True)
class Metrics:
    """Parsed metrics; ``counts`` names the entries that count something, as declared."""

    name: str
    entries: dict[str, int | float]
    counts: tuple[str, ...]
    findings: tuple[Finding, ...]
    inputs: InputFacts
    columns: Mapping[str, DeclaredColumn]
    """As declared, where they were."""

    def sheet(self) -> CountSheet:
        return CountSheet(
            name=self.name,
            columns=self.counts,
            words=tuple(
                str(self.columns[name].said[declared_columns.COUNT]) if name in self.columns else name
                for name in self.counts
            ),
            categories=({},),
            values=np.array([[self.entries[name] for name in self.counts]], dtype=np.int64).reshape(
                1, len(self.counts)
            ),
            row_is_group=False,
        )

    def rests_on_hidden(self, name: str, hidden: Set[str]) -> bool:
        """Whether a declared measure rests on a suppressed count; one that does not say on which rests on all."""
        said = self.columns.get(name)
        if said is None:
            return False
        rests_on = said.said.get("n")
        return bool(hidden) if rests_on is None else rests_on in hidden

    def compare(self, neighbours: Mapping[str, Neighbour]) -> None:
        """Metrics explain themselves."""

    def rebuild(self, rule: CountRules, pattern: Pattern | None, out: BinaryIO) -> dict[str, Any]:
        assert pattern is not None  # they have a sheet
        data, repaired = rebuild(self, pattern, rule)
        out.write(data)
        return repaired


def read(
    declared: Declared, source: BinaryIO, _seen: str, rule: CountRules, inputs: InputFacts, _out: BinaryIO
) -> Metrics:
    return parse(declared, source.read(), rule.digits, inputs)


def parse(declared: Declared, data: bytes, digits: int, inputs: InputFacts) -> Metrics:
    """The metrics in ``data``; raises a :class:`~hdrs_hpc.core.errors.BadDocumentError` with the reason.

    ``digits``: how many significant ones the grant leaves to numbers that are no counts.
    """
    value = strict_json.loads(data, max_bytes=declared.max_size, max_depth=2)
    if not isinstance(value, dict) or not value:
        raise MalformedMetricsError("not an object with entries")
    if len(value) > MAX_ENTRIES:
        raise MalformedMetricsError(f"{len(value)} entries where {MAX_ENTRIES} are allowed")
    entries: dict[str, int | float] = {}
    for position, (name, number) in enumerate(value.items(), start=1):
        where = f"entry {position}"
        if not _NAME.fullmatch(name):
            raise MalformedMetricsError("a name must begin with a letter and be short", where=where)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise MalformedMetricsError("a value that is not a number", where=where)
        if not math.isfinite(number) or not numbers.is_number(repr(number)):
            raise MalformedMetricsError("a number out of range", where=where)
        entries[name] = number
    if _NEGATIVE_ZERO.search(data):
        raise MalformedMetricsError("a whole number written as -0")
    if declared.columns:
        _check_declared(declared, entries)
    findings = _search(declared, entries)
    counts = _counts(declared, entries)
    findings += _look(declared, entries, counts, digits)
    metrics = Metrics(
        declared.name,
        entries,
        counts,
        tuple(findings),
        inputs,
        declared.by_name(),
    )
    bounds.check(metrics.sheet(), inputs)
    return metrics


def rebuild(metrics: Metrics, pattern: Pattern, rules: CountRules) -> tuple[bytes, dict[str, Any]]:
    """The new JSON, a suppressed entry as null, and what was repaired.

    When every count is hidden the other values describe a group too small to be described: nothing is left.
    """
    hidden = {metrics.counts[column] for _, column in pattern.hidden}
    if hidden and len(hidden) == len(metrics.counts):
        raise NothingLeftError()
    made: dict[str, int | float | None] = {}
    rounded = suppressed = 0
    exact = {name: int(metrics.entries[name]) for name in metrics.counts}
    for name in sorted({*metrics.entries, *metrics.columns}):
        number, said = metrics.entries.get(name), metrics.columns.get(name)
        if name in hidden:
            made[name] = None
        elif name not in metrics.counts and metrics.rests_on_hidden(name, hidden):
            made[name] = None  # a missing one too: one person has no deviation
            suppressed += 1
        elif number is None:
            continue
        elif name in metrics.counts:
            made[name] = rules.rounded(int(number))
        elif said is not None and said.tells_few(repr(number), exact, rules.min_count):
            made[name] = None
            suppressed += 1
        else:
            text = numbers.rounded(said.on_step(repr(number)) if said else repr(number), rules.digits)
            made[name] = float(text) if "." in text else int(text)
        rounded += made[name] is not None and made[name] != number
    repaired = {
        "counts-suppressed-as-small": len(pattern.primary),
        "counts-suppressed-to-protect-them": len(pattern.secondary),
        "measures-suppressed": suppressed,
        "numbers-rounded": rounded,
        "capacity-bits": capacity.metrics_bits(tuple(made), metrics.sheet(), rules, metrics.inputs),
    }
    return json.dumps(made, indent=1, allow_nan=False).encode("utf-8") + b"\n", repaired


def _search(declared: Declared, entries: dict[str, int | float]) -> list[Finding]:
    """Look for identifiers in every name and number, of counts as well."""
    scan = IdentifierScan()
    counted = {*declared.counting(), *declared.known_counts}
    for name, number in entries.items():
        where = f"entry {name}"
        scan.look_at_names([name], where)
        scan.look([repr(number)], where)
        if name in counted:
            scan.look_at_counts([repr(number)], where)
    return scan.conclude()


def _check_declared(declared: Declared, entries: dict[str, int | float]) -> None:
    """Every entry is declared and what its declaration says; declared measures may be missing."""
    by_name = declared.by_name()
    if not entries.keys() <= by_name.keys():
        raise declared_columns.ColumnsDifferError()
    for name, number in entries.items():
        by_name[name].check([repr(number)], f"entry {name}")


def _counts(declared: Declared, entries: dict[str, int | float]) -> tuple[str, ...]:
    """Declared counts must be there, since the numbers beside them rest on them; those that a built-in workload is
    known to write may be."""
    found = (*declared.counting(), *(name for name in declared.known_counts if name in entries))
    for name in found:
        number = entries.get(name)
        if not isinstance(number, int) or not numbers.is_count(str(number)):
            raise MetricCountError(where=f"entry {name}" if name in entries else None)
    return tuple(dict.fromkeys(found))


def _look(
    declared: Declared, entries: dict[str, int | float], counts: tuple[str, ...], digits: int
) -> list[Finding]:
    findings = []
    for name, number in entries.items():
        where = f"entry {name}"
        if name not in counts and numbers.whole_once_rounded([repr(abs(number))], digits):
            if not declared.is_measure(name):
                raise UndeclaredCountError(where=where)
            message = "a whole number that was declared as a measure"
            findings.append(Finding("whole-numbers-not-counts", message, where))
        if names.reads_like_code(name):
            message = "a name that reads like a code and not like words"
            findings.append(Finding("name-like-code", message, where))
        if re.search(r"(?:^|[_.-])(?:min|max)(?:$|[_.-])", name, re.IGNORECASE):
            findings.append(Finding("extreme-values", "a minimum or maximum is one person's value", where))
    if not counts:
        message = "nothing says how many people these numbers describe"
        findings.append(Finding("metrics-without-counts", message))
    return findings


CHECKING = Checking(MEDIA_TYPE, lambda granted: count_rules(granted, "metrics", "table"), read)
