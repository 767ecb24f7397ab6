"""From an output of a signed spec to what the checker is told of it."""

from __future__ import annotations

from hdrs_hpc.catalogue.outputs.checking import declared_columns
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.metrics import MetricsDeclaration
from hdrs_hpc.catalogue.outputs.output_class import WrittenDeclaration
from hdrs_hpc.catalogue.outputs.table import TableDeclaration
from hdrs_hpc.catalogue.workloads.builtin import Numbers
from hdrs_hpc.catalogue.workloads.builtin import numbers as numbers_of


def declare(name: str, output: WrittenDeclaration, builtin: str | None) -> Declared:
    columns = output.columns if isinstance(output, TableDeclaration | MetricsDeclaration) else None
    metrics = output if isinstance(output, MetricsDeclaration) and columns is None else None
    known = numbers_of(builtin, name) if metrics else Numbers()
    counts = (metrics.counts if metrics else None) or ()
    return Declared(
        name=name,
        cls=output.class_,
        path=output.path,
        columns=declared_columns.from_pairs(
            (name, column.model_dump(mode="json", by_alias=True, exclude_none=True))
            for name, column in (columns or {}).items()
        ),
        data=output.drawn_from(),
        max_size=output.max_size,
        counts=counts,
        known_counts=tuple(count for count in known.counts if count not in counts),
        measures=(*((metrics.measures if metrics else None) or ()), *known.measures),
    )
