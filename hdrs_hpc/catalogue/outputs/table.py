"""Tables: counts, labels and other numbers, a row a group of patients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hdrs_hpc.catalogue.outputs import columns, sentences
from hdrs_hpc.catalogue.outputs.columns import (
    Columns,
    CountColumn,
    DeriveColumn,
    MeasureColumn,
    UncountedTableError,
)
from hdrs_hpc.catalogue.outputs.output_class import GrantRule, OutputClass, WrittenDeclaration
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Items, fault
from hdrs_hpc.forms.words import Line

if TYPE_CHECKING:
    from hdrs_hpc.catalogue.outputs.checking.contract import Checking


class CountsMisplacedError(BadDocumentError):
    code = "counts-misplaced"
    meaning = "A number is declared twice: as a count and as a measure, or by `counts` and `measures` beside `columns`."
    remedy = "Declare each number once, under `columns`."


class TableRule(GrantRule):
    min_count: Annotated[int, Field(ge=1, le=1000)]
    """Counts below this are suppressed."""
    round: Annotated[int, Field(ge=1, le=1000)]
    """Counts are rounded to a multiple of this."""
    significant_digits: Annotated[int, Field(ge=1, le=6)] | None = None
    """How many digits other numbers keep."""

    def sentence(self) -> str:
        return f"tables: counts below {self.min_count} suppressed, others rounded to {self.round}"


class NumbersDeclaration(WrittenDeclaration):
    """An output of numbers, of which some count people or things."""

    counts: Annotated[Items[Line], Field(min_length=1, max_length=200)] | None = None
    """Columns of a table, or names of metrics, that count people or things of the inputs."""
    measures: Annotated[Items[Line], Field(min_length=1, max_length=200)] | None = None
    """Columns or metrics whose whole numbers measure something and count nothing; ``*_mm`` names all that end so."""

    columns: Columns | None = None
    """Every column or metric, in place of ``counts`` and ``measures``: a cell that is not what it says is refused."""

    @model_validator(mode="after")
    def _declared_once(self) -> NumbersDeclaration:
        if set(self.counts or ()) & set(self.measures or ()):
            fault(CountsMisplacedError, "a number is a count or a measure, not both")
        if self.columns is not None and (self.counts or self.measures):
            fault(CountsMisplacedError, "`columns` declares all numbers: leave out `counts` and `measures`")
        return self

    def not_built(self) -> Iterator[str]:
        for name, column in (self.columns or {}).items():
            if isinstance(column, DeriveColumn):
                yield f"columns.{name}"
            elif isinstance(column, MeasureColumn) and column.df is not None:
                yield f"columns.{name}.df"


class TableDeclaration(NumbersDeclaration):
    ENDS_IN: ClassVar[tuple[str, ...]] = (".csv",)
    MOST_BYTES: ClassVar[int] = 8 << 20

    class_: Literal["table"]

    @model_validator(mode="after")
    def _has_a_count(self) -> TableDeclaration:
        if self.columns is not None and not columns.names(self.columns, CountColumn):
            fault(UncountedTableError, "no column counts anything")
        return self


def _checking() -> Checking:
    from hdrs_hpc.catalogue.outputs.checking import table

    return table.CHECKING


CLASS = OutputClass(
    name="table",
    rule=TableRule,
    declaration=TableDeclaration,
    checking=_checking,
    sentences=sentences.of_counts,
    written_in=frozenset({"text"}),
    preview="text",
    format="CSV",
    holds="counts (≤ 8 columns), labels (≤ 5), other numbers (≤ 2,000)",
    comes_out_as="new CSV, `*` for what is suppressed, no row that is suppressed whole",
    paragraph=(
        "CSV in UTF-8, commas, one header; at most 5,000 rows, 100 columns and 256 characters a cell. `columns` "
        "declares each: `key` (values listed, a vocabulary, a grid or ranges), `count` (of what, in words) or "
        "`measure` (kind, from, to, step); a cell that is not exactly what its column says is refused. Counts below "
        "the grant's `min-count` are suppressed, others rounded to a multiple of its `round`. "
        "[Output checking](output-checking.md) tells how a table that passes is written."
    ),
    grant_example="{min-count: 10, round: 5}",
    spec_example=(
        "cohort:",
        "  class: table",
        "  path: cohort.csv",
        "  max-size: 1MiB",
        "  columns:",
        "    modality:   {key: {vocabulary: dicom-modality@1}, also: [OTHER, TOTAL]}",
        "    body_part:  {key: {vocabulary: dicom-body-part@1}, also: [UNKNOWN, OTHER, TOTAL]}",
        "    n_patients: {count: patients}",
        "    n_series:   {count: series of images}",
        "spacing-bins:",
        "  class: table",
        "  path: spacing-bins.csv",
        "  max-size: 1MiB",
        "  columns:",
        "    group:      {key: {vocabulary: dicom-modality@1}, also: [OTHER, all series]}",
        "    spacing_mm: {key: {ranges: [0, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10]}}",
        "    n_patients: {count: patients}",
        "    n_series:   {count: series of images}",
    ),
)
