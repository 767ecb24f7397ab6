"""Tables: counts, labels and other numbers, a row a group of patients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hdrs_hpc.catalogue.outputs import columns, sentences
from hdrs_hpc.catalogue.outputs.columns import Columns, CountColumn, UncountedTableError
from hdrs_hpc.catalogue.outputs.output_class import GrantRule, OutputClass, WrittenDeclaration
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import fault

if TYPE_CHECKING:
    from hdrs_hpc.catalogue.outputs.checking.contract import Checking


class UndeclaredColumnsError(BadDocumentError):
    code = "columns-not-declared"
    meaning = (
        "A table does not declare its columns one by one, or still names `counts` or `measures` beside them."
    )
    remedy = (
        "Replace `counts` and `measures` by `columns`, with every column of the file: "
        "`columns: {site: {key: [north, south]}, n_patients: {count: patients}, "
        "mean_hu: {measure: mean, from: -1000, to: 1000, step: 1, n: n_patients}}`."
    )


class TableRule(GrantRule):
    min_count: Annotated[int, Field(ge=1, le=1000)]
    """Counts below this are suppressed."""
    round: Annotated[int, Field(ge=1, le=1000)]
    """Counts are rounded to a multiple of this."""
    significant_digits: Annotated[int, Field(ge=1, le=6)] | None = None
    """How many digits other numbers keep."""

    def sentence(self) -> str:
        return f"tables: counts below {self.min_count} suppressed, others rounded to {self.round}"


class TableDeclaration(WrittenDeclaration):
    ENDS_IN: ClassVar[tuple[str, ...]] = (".csv",)
    MOST_BYTES: ClassVar[int] = 8 << 20

    class_: Literal["table"]
    columns: Columns
    """Every column, in the order in which the released table has them: a cell that is not what it says is refused."""

    @model_validator(mode="before")
    @classmethod
    def _by_column(cls, value: Any) -> Any:
        if isinstance(value, dict) and ("columns" not in value or "counts" in value or "measures" in value):
            fault(
                UndeclaredColumnsError,
                "a table declares each of its columns, under `columns`, and nowhere else",
            )
        return value

    @model_validator(mode="after")
    def _has_a_count(self) -> TableDeclaration:
        if not columns.names(self.columns, CountColumn):
            fault(UncountedTableError, "no column counts anything")
        return self

    def not_built(self) -> Iterator[str]:
        return columns.not_built(self.columns)


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
        "declares each, in the order in which they come out: `key` (values listed, a vocabulary, a grid or ranges), "
        "`count` (of what, in words) or `measure` (kind, from, to, step); a cell that is not exactly what its column "
        "says is refused. Counts below the grant's `min-count` are suppressed, others rounded to a multiple of its "
        "`round`. "
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
