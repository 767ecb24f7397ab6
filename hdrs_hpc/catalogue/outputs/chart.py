"""Charts: drawn by the broker from a released table.  Not built yet: refused by name."""

from __future__ import annotations

from typing import ClassVar, Literal

from hdrs_hpc.catalogue.outputs import sentences
from hdrs_hpc.catalogue.outputs.output_class import (
    Declaration,
    FileOfSpec,
    GrantRule,
    OutputClass,
    no_checking,
)
from hdrs_hpc.forms.words import Name


class ChartRule(GrantRule):
    """Charts add nothing to their table; no parameter."""

    def sentence(self) -> str:
        return "charts: drawn by the broker from released tables"


class ChartDeclaration(Declaration):
    FILES: ClassVar[tuple[str, ...]] = ("spec",)

    class_: Literal["chart"]
    data: Name
    """The table that it shows."""
    spec: FileOfSpec
    """How it is drawn, in Vega-Lite."""

    def drawn_from(self) -> str | None:
        return self.data


CLASS = OutputClass(
    name="chart",
    rule=ChartRule,
    declaration=ChartDeclaration,
    checking=no_checking,
    sentences=sentences.nothing,
    written_in=frozenset(),
    preview="file",
    format="Vega-Lite",
    holds="a drawing that the broker makes of a released table",
    comes_out_as="PNG and SVG",
    paragraph="Drawn by the broker from a released table by a Vega-Lite file signed with the job: it adds no bit.",
    grant_example="{}",
    spec_example=(),
    built=False,
    needs="table",
)
