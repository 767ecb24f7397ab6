"""Weights of trained models.  They stay in the project; there is no way out for them yet."""

from __future__ import annotations

from typing import ClassVar, Literal

from hdrs_hpc.catalogue.outputs import sentences
from hdrs_hpc.catalogue.outputs.output_class import (
    FileOfSpec,
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
    FILES: ClassVar[tuple[str, ...]] = ("architecture",)

    class_: Literal["weights"]
    architecture: FileOfSpec | None = None
    """Names and shapes of all tensors."""


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
    comes_out_as="nothing: it stays in the project",
    paragraph=(
        "Tensors in the safetensors format, for later jobs of the project (`keep: project`). A job that takes them in "
        "gets a file built anew from them: tensors by name, dtype and shape, and nothing else."
    ),
    grant_example="{keep: project}",
    spec_example=(),
    may_be_released=False,
)
