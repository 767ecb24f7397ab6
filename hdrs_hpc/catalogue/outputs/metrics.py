"""Metrics: numbers by name, protected as a table of one row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hdrs_hpc.catalogue.outputs import columns, sentences
from hdrs_hpc.catalogue.outputs.columns import BadColumnError, Columns, KeyColumn
from hdrs_hpc.catalogue.outputs.output_class import GrantRule, OutputClass, WrittenDeclaration
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Items, fault
from hdrs_hpc.forms.words import Line

if TYPE_CHECKING:
    from hdrs_hpc.catalogue.outputs.checking.contract import Checking


class CountsMisplacedError(BadDocumentError):
    code = "counts-misplaced"
    meaning = "A metric is declared twice: as a count and as a measure, or by `counts` and `measures` beside `columns`."
    remedy = "Declare each metric once."


class MetricsRule(GrantRule):
    """What is absent here follows the table's rule."""

    min_count: Annotated[int, Field(ge=1, le=1000)] | None = None
    round: Annotated[int, Field(ge=1, le=1000)] | None = None
    significant_digits: Annotated[int, Field(ge=1, le=6)] | None = None

    def sentence(self) -> str:
        return "metrics: by the same rules as tables"


_Names = Annotated[Items[Line], Field(min_length=1, max_length=200)]


class MetricsDeclaration(WrittenDeclaration):
    ENDS_IN: ClassVar[tuple[str, ...]] = (".json",)
    MOST_BYTES: ClassVar[int] = 64 << 10

    class_: Literal["metrics"]
    columns: Columns | None = None
    """Every metric: one that is not what it says is refused."""
    counts: _Names | None = None
    """In place of ``columns``: names that count people or things of the inputs."""
    measures: _Names | None = None
    """In place of ``columns``: whole numbers that measure something; ``*_mm`` names all that end so."""

    @model_validator(mode="after")
    def _declared_once(self) -> MetricsDeclaration:
        if set(self.counts or ()) & set(self.measures or ()):
            fault(CountsMisplacedError, "a metric is a count or a measure, not both")
        if self.columns is not None and (self.counts or self.measures):
            fault(CountsMisplacedError, "`columns` declares all metrics: leave out `counts` and `measures`")
        if columns.names(self.columns or {}, KeyColumn):
            fault(BadColumnError, "metrics are one row: no key tells rows apart")
        return self

    def not_built(self) -> Iterator[str]:
        return columns.not_built(self.columns or {})


def _checking() -> Checking:
    from hdrs_hpc.catalogue.outputs.checking import metrics

    return metrics.CHECKING


CLASS = OutputClass(
    name="metrics",
    rule=MetricsRule,
    declaration=MetricsDeclaration,
    checking=_checking,
    sentences=sentences.of_counts,
    written_in=frozenset({"text"}),
    preview="text",
    format="flat JSON",
    holds="≤ 64 names and finite numbers",
    comes_out_as="new JSON, `null` for what is suppressed",
    paragraph=(
        "One flat JSON object of names and finite numbers, at most 64. Counts are protected as in a table of one row; "
        "where the grant says nothing of its own for metrics, the table's rule holds."
    ),
    grant_example="{}",
    spec_example=(
        "summary:      {class: metrics, path: summary.json, counts: [n_patients, n_series], max-size: 64KiB}",
    ),
)
