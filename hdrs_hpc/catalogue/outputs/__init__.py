"""Classes of outputs: one module a class, one row here; nothing else lists them.

Models of specs and grants, policy, drafts, output check, review and the documentation take their classes from here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from hdrs_hpc.catalogue.outputs import chart, image, metrics, table, weights
from hdrs_hpc.catalogue.outputs.output_class import OutputClass
from hdrs_hpc.forms.document import BadValueError, fault

CLASSES: tuple[OutputClass, ...] = (
    table.CLASS,
    metrics.CLASS,
    image.CLASS,
    chart.CLASS,
    weights.CLASS,
)
BY_NAME: dict[str, OutputClass] = {row.name: row for row in CLASSES}
BUILT: tuple[OutputClass, ...] = tuple(row for row in CLASSES if row.built and row.may_be_released)
"""Those that this version's output check can let out."""


def _known(name: str) -> str:
    if name not in BY_NAME:
        fault(BadValueError, f"a class is one of {', '.join(BY_NAME)}")
    return name


ClassName = Annotated[str, AfterValidator(_known), WithJsonSchema({"enum": list(BY_NAME)})]


def as_markdown() -> str:
    """The page of all classes, ``docs/output-classes.md``."""
    from hdrs_hpc.forms.words import size_text

    lines = [
        "# Classes of outputs",
        "",
        "Made from `hdrs_hpc/catalogue/outputs/` by `make docs`. How a check runs, what is repaired and what reviewers",
        "look at is told in [output-checking.md](output-checking.md).",
        "",
        "| class | written as | ends in | at most | may hold | comes out as |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in CLASSES:
        ends = " ".join(f"`{suffix}`" for suffix in row.suffixes) or "—"
        most = size_text(row.max_bytes) if row.max_bytes else "—"
        lines.append(f"| `{row.name}` | {row.format} | {ends} | {most} | {row.holds} | {row.comes_out_as} |")
    for row in CLASSES:
        lines += ["", f"## {row.name}", row.paragraph]
        if not row.built:
            lines.append("This version refuses it by name, in a spec and in a grant.")
        elif not row.may_be_released:
            lines.append("In this version none leaves: declare `keep: project`.")
    return "\n".join(lines) + "\n"
