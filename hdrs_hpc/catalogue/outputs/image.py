"""Images: drawings of a released table, never of real data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hdrs_hpc.catalogue.outputs.output_class import DrawnDeclaration, GrantRule, OutputClass

if TYPE_CHECKING:
    from hdrs_hpc.catalogue.outputs.checking.contract import Checking


class ImageRule(GrantRule):
    """Images are encoded anew from their pixels; no parameter yet."""

    def sentence(self) -> str:
        return "images: encoded anew from their pixels; none of real data"


class ImageDeclaration(DrawnDeclaration):
    ENDS_IN: ClassVar[tuple[str, ...]] = (".png",)
    MOST_BYTES: ClassVar[int] = 64 << 20

    class_: Literal["image"]


def _checking() -> Checking:
    from hdrs_hpc.catalogue.outputs.checking import image

    return image.CHECKING


def _sentences(report: Mapping[str, Any]) -> list[str]:
    repaired = report["repaired"]
    if "encoded-anew-from" not in repaired:
        return []
    said = [
        f"Decoded from {repaired['encoded-anew-from'].upper()} and encoded anew as PNG, "
        f"{repaired['width']} × {repaired['height']} pixels, {repaired['bits-kept-per-channel']} bits a channel."
    ]
    if repaired["metadata-removed-bytes"]:
        names = ", ".join(repaired["metadata-removed"])
        said.append(f"{repaired['metadata-removed-bytes']} bytes of metadata removed ({names}).")
    return said


CLASS = OutputClass(
    name="image",
    rule=ImageRule,
    declaration=ImageDeclaration,
    checking=_checking,
    sentences=_sentences,
    written_in=frozenset({"png", "jpeg"}),
    preview="file",
    format="PNG or JPEG",
    holds="a drawing of a released table; **never of real data**",
    comes_out_as="new PNG, RGB, five bits a channel, no metadata",
    paragraph=(
        "A still PNG or JPEG of at most 4,096 pixels a side and 12 million in all. It names, under `data`, the table "
        "that it draws, and leaves only where nothing of that table was suppressed. A workload's pixels can hide "
        "patients' images in shades that no reviewer sees, so none is made of real data: release the table and draw it "
        "outside."
    ),
    grant_example="{}",
    spec_example=("spacing:      {class: image, path: spacing.png, data: spacing-bins, max-size: 2MiB}",),
    needs="table",
    refused_sensitivities=frozenset({"real"}),
)
