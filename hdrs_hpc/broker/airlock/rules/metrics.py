"""Metrics: one flat JSON object of names and numbers; counts are protected as in a table of one row.

A number that would leave as a whole one is whole, however it was written.  Names come out sorted: their order
says nothing.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from hdrs_hpc.broker.airlock import names, numbers
from hdrs_hpc.broker.airlock.additive import CountSheet
from hdrs_hpc.broker.airlock.declared import CountRules, Declared
from hdrs_hpc.broker.airlock.disclosure import Pattern
from hdrs_hpc.broker.airlock.identifiers import IdentifierScan
from hdrs_hpc.broker.airlock.refusal import ArtefactRefusedError, Finding
from hdrs_hpc.core import strict_json

MEDIA_TYPE = "application/json"
MAX_BYTES = 64 << 10
MAX_ENTRIES = 64

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,39}", re.ASCII)
_COUNT_NAME = re.compile(
    r"(?:n|num|number|count|freq|frequency|total)(?:[_.:-].*)?|.*[_.:-](?:n|num|counts?|freq|totals?)",
    re.IGNORECASE,
)


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
    """Parsed metrics; ``counts`` names the entries that count something, declared or by their name."""

    name: str
    entries: dict[str, int | float]
    counts: tuple[str, ...]
    findings: tuple[Finding, ...]

    def sheet(self) -> CountSheet:
        return CountSheet(
            name=self.name,
            columns=self.counts,
            categories=({},),
            values=np.array([[self.entries[name] for name in self.counts]], dtype=np.int64).reshape(
                1, len(self.counts)
            ),
            row_is_group=False,
        )


def parse(declared: Declared, data: bytes, digits: int) -> Metrics:
    """The metrics in ``data``; raises a :class:`~hdrs_hpc.core.errors.BadDocumentError` with the reason.

    ``digits``: how many significant ones the grant leaves to numbers that are no counts.
    """
    value = strict_json.loads(data, max_bytes=MAX_BYTES, max_depth=2)
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
    entries = {name: _whole_as_whole(number, digits) for name, number in entries.items()}
    scan = IdentifierScan()
    for name, number in entries.items():
        scan.look([name, repr(number)], f"entry {name}")
    counts, findings = _counts(declared, entries)
    return Metrics(declared.name, entries, counts, (*findings, *scan.conclude()))


def rebuild(metrics: Metrics, pattern: Pattern, rules: CountRules) -> tuple[bytes, dict[str, Any]]:
    """The new JSON, a suppressed entry as null, and what was repaired.

    When every count is hidden the other values describe a group too small to be described: hidden as well.
    """
    hidden = {metrics.counts[column] for _, column in pattern.hidden}
    nobody_left = bool(hidden) and len(hidden) == len(metrics.counts)
    made: dict[str, int | float | None] = {}
    rounded = hidden_statistics = 0
    for name, number in sorted(metrics.entries.items()):
        if name in hidden:
            made[name] = None
        elif name in metrics.counts:
            made[name] = rules.rounded(int(number))
        elif nobody_left:
            made[name] = None
            hidden_statistics += 1
        else:
            text = numbers.rounded(repr(number), rules.digits)
            made[name] = float(text) if "." in text else int(text)
        rounded += made[name] is not None and made[name] != number
    repaired = {
        "counts-suppressed-as-small": len(pattern.primary),
        "counts-suppressed-to-protect-them": len(pattern.secondary),
        "statistics-suppressed": hidden_statistics,
        "numbers-rounded": rounded,
    }
    return json.dumps(made, indent=1, allow_nan=False).encode("utf-8") + b"\n", repaired


def _whole_as_whole(number: int | float, digits: int) -> int | float:
    """The int that ``number`` would leave as, where that is one a count could be."""
    text = repr(number)
    if isinstance(number, float) and numbers.whole_once_rounded([text], digits):
        return int(number) if number.is_integer() else int(numbers.rounded(text, digits))
    return number


def _counts(declared: Declared, entries: dict[str, int | float]) -> tuple[tuple[str, ...], list[Finding]]:
    for name in declared.counts:
        number = entries.get(name)
        if not isinstance(number, int) or not numbers.is_count(str(number)):
            raise MetricCountError(where=f"entry {name}" if name in entries else None)
    whole = [
        name
        for name, number in entries.items()
        if name not in declared.counts and isinstance(number, int) and numbers.is_count(str(number))
    ]
    named = [name for name in whole if _COUNT_NAME.fullmatch(name)]
    findings = [
        Finding("treated-as-count", "a whole number named like a count was protected as one", f"entry {name}")
        for name in named
    ]
    findings += [
        Finding(
            "whole-numbers-not-counts",
            "a whole number that was not declared as a count",
            f"entry {name}",
        )
        for name in whole
        if name not in named
    ]
    findings += [
        Finding("name-like-code", "a name that reads like a code and not like words", f"entry {name}")
        for name in entries
        if names.reads_like_code(name)
    ]
    findings += [
        Finding("extreme-values", "a minimum or maximum is one person's value", f"entry {name}")
        for name in entries
        if re.search(r"(?:^|[_.-])(?:min|max)(?:$|[_.-])", name, re.IGNORECASE)
    ]
    if not declared.counts and not named:
        findings.append(
            Finding("metrics-without-counts", "nothing says how many people these numbers describe")
        )
    return (*declared.counts, *named), findings
