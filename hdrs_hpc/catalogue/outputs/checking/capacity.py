"""How many bits a workload that lies can send out at most in one artefact that passed the rules.

An upper bound by counting: each part of the new file has so many forms that the rules let through, and the logarithm
of their number bounds what the choice among them can say.  A table's columns and labels were declared before the data
were seen, and its rows stand in the order of their labels: only which labels and which numbers is chosen.  An image's
bound is the size of its new file.  The bound is for the reviewers' judgement and for the security model;
``tests/unit/broker/airlock/test_airlock_capacity.py`` sends bits through and
reads them back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hdrs_hpc.catalogue.outputs.checking import bounds
from hdrs_hpc.catalogue.outputs.checking.additive import CountSheet
from hdrs_hpc.catalogue.outputs.checking.declared_columns import DeclaredColumn
from hdrs_hpc.catalogue.outputs.checking.granted import CountRules
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts

METRIC_NAME_CHARACTERS = 68
_EXPONENTS = 61


@dataclass(frozen=True)
class Column:
    """One column of a table as it leaves; ``kind``: count, statistic, axis or category."""

    kind: str
    said: DeclaredColumn
    values: tuple[str, ...]


def number_bits(digits: int) -> float:
    """Of one number with so many significant digits: sign, digits, exponent; or zero, or hidden."""
    return math.log2(2 * 9 * 10 ** (digits - 1) * _EXPONENTS + 2)


def count_bits(most: int, rules: CountRules) -> float:
    """Of one count: the multiples of ``round`` up to ``most``, or hidden."""
    return math.log2(most // rules.round_to + 3)


def table_bits(columns: Sequence[Column], rules: CountRules, inputs: InputFacts) -> int:
    """Of a table with these columns, rounded up."""
    bits = math.log2(len(columns[0].values) + 1)  # how many rows
    for column in columns:
        rows = len(column.values)
        if column.kind == "count":
            bits += rows * count_bits(bounds.most(column.said.said["count"], inputs), rules)
        elif column.kind == "statistic":
            filled = sum(bool(value) for value in column.values)
            each = min(number_bits(rules.digits), math.log2(column.said.choices() + 1))
            bits += filled * each + math.log2(math.comb(rows, filled))
        else:
            bits += rows * math.log2(column.said.choices())
    return math.ceil(bits)


def metrics_bits(names: Sequence[str], sheet: CountSheet, rules: CountRules, inputs: InputFacts) -> int:
    """Of metrics with these names, of which those of ``sheet`` are counts, rounded up."""
    words = dict(zip(sheet.columns, sheet.words, strict=True))
    bits = sum((len(name) + 1) * math.log2(METRIC_NAME_CHARACTERS) for name in names)
    for name in names:
        most = bounds.most(words[name], inputs) if name in words else None
        bits += number_bits(rules.digits) if most is None else count_bits(most, rules)
    return math.ceil(bits)
