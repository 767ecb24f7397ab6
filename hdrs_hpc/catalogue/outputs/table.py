"""Tables: counts, labels and other numbers, a row a group of patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hdrs_hpc.catalogue.outputs import sentences
from hdrs_hpc.catalogue.outputs.output_class import GrantRule, OutputClass, WrittenDeclaration
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.models.document import Items, fault
from hdrs_hpc.documents.models.words import Line

if TYPE_CHECKING:
    from hdrs_hpc.catalogue.outputs.checking.contract import Checking


class CountsMisplacedError(BadDocumentError):
    code = "counts-misplaced"
    meaning = "`counts` and `measures` name numbers of a table or metrics, each under one of the two."
    remedy = "Name each number once: as a count, or as a measure."


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

    @model_validator(mode="after")
    def _counts_or_measures(self) -> NumbersDeclaration:
        if set(self.counts or ()) & set(self.measures or ()):
            fault(CountsMisplacedError, "a number is a count or a measure, not both")
        return self


class TableDeclaration(NumbersDeclaration):
    ENDS_IN: ClassVar[tuple[str, ...]] = (".csv",)
    MOST_BYTES: ClassVar[int] = 8 << 20

    class_: Literal["table"]


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
        "CSV in UTF-8, commas, one header; at most 5,000 rows, 100 columns and 256 characters a cell. Every column is "
        "of one kind, and every cell is exactly what its column's kind is. Counts below the grant's `min-count` are "
        "suppressed, others rounded to a multiple of its `round`. [Output checking](output-checking.md) tells how a "
        "table that passes is written."
    ),
    grant_example="{min-count: 10, round: 5}",
    spec_example=(
        "cohort:       {class: table, path: cohort.csv, counts: [n_patients, n_series], max-size: 1MiB}",
        "spacing-bins: {class: table, path: spacing-bins.csv, counts: [n_patients, n_series], max-size: 1MiB}",
    ),
)
