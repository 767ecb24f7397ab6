"""What may leave: a class of outputs as a grant bounds it, an output as a spec declares it."""

from __future__ import annotations

from collections.abc import Iterator

from hdrs_hpc.catalogue.outputs.columns import Column, CountColumn, DeriveColumn, KeyColumn
from hdrs_hpc.catalogue.outputs.metrics import MetricsDeclaration, MetricsRule
from hdrs_hpc.catalogue.outputs.output_class import Declaration, GrantRule
from hdrs_hpc.catalogue.outputs.table import TableDeclaration
from hdrs_hpc.client.pages.layout import count
from hdrs_hpc.forms.words import FileRef


def output_rule(rule: GrantRule) -> str:
    """The sentence of a class in a grant, with what the grant says of the class alone."""
    words = [rule.sentence()]
    if isinstance(rule, MetricsRule):
        if rule.min_count is not None:
            words.append(f"but counts below {rule.min_count} suppressed")
        if rule.round is not None:
            words.append(f"but counts rounded to {rule.round}")
    digits = getattr(rule, "significant_digits", None)
    if digits is not None:
        words.append(f"other numbers keep {count(digits, 'significant digit')}")
    return "; ".join(words)


def holds(output: Declaration) -> Iterator[str]:
    """What an output may hold: each column, the table that it shows, files that are signed with it."""
    if shown := output.drawn_from():
        yield f"drawn from {shown}"
    for field in output.FILES:
        file = getattr(output, field)
        if isinstance(file, FileRef):
            yield f"{field} of {file.size:,} bytes, {file.digest}"
    if isinstance(output, TableDeclaration | MetricsDeclaration):
        for name, column in (output.columns or {}).items():
            yield f"{name}: {_column(column)}"
    if isinstance(output, MetricsDeclaration):
        if output.counts:
            yield f"counts of people or things: {', '.join(output.counts)}"
        if output.measures:
            yield f"whole numbers that measure: {', '.join(output.measures)}"


def number(value: float) -> str:
    """``0.5``, ``10``: every digit, and no more."""
    return str(int(value)) if float(value).is_integer() else repr(value)


def _column(column: Column) -> str:
    if isinstance(column, KeyColumn):
        also = f"; also {', '.join(column.also)}" if column.also else ""
        return f"labels {_labels(column)}{also}"
    if isinstance(column, CountColumn):
        return f"counts {column.count}" + (f", at most {column.most:,}" if column.most is not None else "")
    if isinstance(column, DeriveColumn):
        return f"{column.derive} of {column.of}, computed by the broker"
    rests = f", of {column.n}" if column.n else ""
    freedom = f", {column.df:,} degrees of freedom" if column.df is not None else ""
    return f"{column.measure} from {_steps(column.from_, column.to, column.step)}{rests}{freedom}"


def _labels(column: KeyColumn) -> str:
    if isinstance(column.key, tuple):
        return ", ".join(column.key)
    if column.key.grid is not None:
        return f"from {_steps(column.key.grid.from_, column.key.grid.to, column.key.grid.step)}"
    if column.key.ranges is not None:
        return f"of ranges between {', '.join(map(number, column.key.ranges))}"
    return f"of the vocabulary {column.key.vocabulary}"


def _steps(first: float, last: float, step: float) -> str:
    return f"{number(first)} to {number(last)} in steps of {number(step)}"
