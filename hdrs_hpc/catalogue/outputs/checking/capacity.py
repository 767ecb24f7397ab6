"""How many bits a workload that lies can send out at most in one artefact that passed the rules.

An upper bound by counting: each part of the new file has so many forms that the rules let through, and the logarithm
of their number bounds what the choice among them can say.  Rows stand in the order of their labels, so their order
says nothing.  An image's bound is the size of its new file.  The bound is for the reviewers' judgement and for the
security model; ``tests/unit/broker/airlock/test_airlock_capacity.py`` sends bits through and reads them back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hdrs_hpc.catalogue.outputs.checking import bounds
from hdrs_hpc.catalogue.outputs.checking.declared import CountRules, InputFacts

LABEL_CHARACTERS = 264
"""What a label may be written in, or its end; counted by a test."""
TABLE_NAME_CHARACTERS = 74
METRIC_NAME_CHARACTERS = 68
_EXPONENTS = 61


@dataclass(frozen=True)
class Column:
    """One column of a table as it leaves; ``kind``: count, statistic, axis or category."""

    kind: str
    counts_people: bool
    values: tuple[str, ...]


def number_bits(digits: int) -> float:
    """Of one number with so many significant digits: sign, digits, exponent; or zero, or hidden."""
    return math.log2(2 * 9 * 10 ** (digits - 1) * _EXPONENTS + 2)


def count_bits(most: int, rules: CountRules) -> float:
    """Of one count: the multiples of ``round`` up to ``most``, or hidden."""
    return math.log2(most // rules.round_to + 3)


def table_bits(
    header: Sequence[str], columns: Sequence[Column], rules: CountRules, inputs: InputFacts
) -> int:
    """Of a table with this header and these columns, rounded up."""
    bits = sum((len(name) + 1) * math.log2(TABLE_NAME_CHARACTERS) for name in header)
    bits += math.log2(len(columns[0].values) + 1)  # how many rows
    for column in columns:
        rows = len(column.values)
        if column.kind == "count":
            bits += rows * count_bits(inputs.people if column.counts_people else inputs.instances, rules)
        elif column.kind == "statistic":
            filled = sum(bool(value) for value in column.values)
            bits += filled * number_bits(rules.digits) + math.log2(math.comb(rows, filled))
        else:
            distinct = set(column.values)
            text = sum(len(label) + 1 for label in distinct) * math.log2(LABEL_CHARACTERS)
            axis = 2 * number_bits(rules.digits) + math.log2(rows + 1)  # where it begins, its step, how far
            bits += (axis if column.kind == "axis" else text) + rows * math.log2(len(distinct))
    return math.ceil(bits)


def metrics_bits(names: Sequence[str], counts: Sequence[str], rules: CountRules, inputs: InputFacts) -> int:
    """Of metrics with these names, of which ``counts`` are counts, rounded up."""
    bits = sum((len(name) + 1) * math.log2(METRIC_NAME_CHARACTERS) for name in names)
    for name in names:
        bits += count_bits(bounds.most(name, inputs), rules) if name in counts else number_bits(rules.digits)
    return math.ceil(bits)
