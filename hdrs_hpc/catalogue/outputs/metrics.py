"""Metrics: numbers by name, protected as a table of one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hdrs_hpc.catalogue.outputs import columns, sentences
from hdrs_hpc.catalogue.outputs.columns import BadColumnError, KeyColumn
from hdrs_hpc.catalogue.outputs.output_class import GrantRule, OutputClass
from hdrs_hpc.catalogue.outputs.table import NumbersDeclaration
from hdrs_hpc.forms.document import fault

if TYPE_CHECKING:
    from hdrs_hpc.catalogue.outputs.checking.contract import Checking


class MetricsRule(GrantRule):
    """What is absent here follows the table's rule."""

    min_count: Annotated[int, Field(ge=1, le=1000)] | None = None
    round: Annotated[int, Field(ge=1, le=1000)] | None = None
    significant_digits: Annotated[int, Field(ge=1, le=6)] | None = None

    def sentence(self) -> str:
        return "metrics: by the same rules as tables"


class MetricsDeclaration(NumbersDeclaration):
    ENDS_IN: ClassVar[tuple[str, ...]] = (".json",)
    MOST_BYTES: ClassVar[int] = 64 << 10

    class_: Literal["metrics"]

    @model_validator(mode="after")
    def _one_row(self) -> MetricsDeclaration:
        if columns.names(self.columns or {}, KeyColumn):
            fault(BadColumnError, "metrics are one row: no key tells rows apart")
        return self


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
