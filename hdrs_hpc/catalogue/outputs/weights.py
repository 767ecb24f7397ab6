"""Weights of trained models.  Not built yet: refused by name."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hdrs_hpc.catalogue.outputs import sentences
from hdrs_hpc.catalogue.outputs.output_class import (
    GrantRule,
    Keep,
    OutputClass,
    WrittenDeclaration,
    no_checking,
)


class WeightsRule(GrantRule):
    keep: Keep = "project"

    def sentence(self) -> str:
        return "weights: may leave" if self.may_leave() else "weights: stay in the project and die with it"

    def may_leave(self) -> bool:
        return self.keep == "release"


class WeightsDeclaration(WrittenDeclaration):
    ENDS_IN: ClassVar[tuple[str, ...]] = (".safetensors",)
    MOST_BYTES: ClassVar[int] = 64 << 30

    class_: Literal["weights"]
    architecture: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """Names and shapes of all tensors: a file, relative to the spec."""


CLASS = OutputClass(
    name="weights",
    rule=WeightsRule,
    declaration=WeightsDeclaration,
    checking=no_checking,
    sentences=sentences.nothing,
    written_in=frozenset({"safetensors"}),
    preview="file",
    format="safetensors",
    holds="the tensors of a model",
    comes_out_as="nothing yet",
    paragraph="Tensors in the safetensors format. There is no rule yet by which they could leave.",
    grant_example="{keep: project}",
    spec_example=(),
    built=False,
)
