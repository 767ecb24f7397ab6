"""NGFF 0.5 metadata (multiscales), and plain JSON of de-identified attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imaging.deid.rules import Value
from imaging.layout import NGFF_VERSION

RGB_CHANNELS = [{"name": name} for name in ("red", "green", "blue")]


def multiscales(
    axes: list[dict[str, str]], scales: list[list[float]], translations: list[list[float]]
) -> dict[str, Any]:
    """The value of ``ome``: axes slowest first, levels largest first, each with one scale and one translation."""
    return {
        "version": NGFF_VERSION,
        "multiscales": [
            {
                "name": "image",
                "axes": axes,
                "datasets": [
                    {
                        "path": str(level),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": scale},
                            {"type": "translation", "translation": translation},
                        ],
                    }
                    for level, (scale, translation) in enumerate(zip(scales, translations, strict=True))
                ],
            }
        ],
    }


def plain(attributes: Mapping[str, Value]) -> dict[str, Any]:
    """Attributes as JSON, sorted by keyword."""
    return {
        keyword: list(value) if isinstance(value, tuple) else value
        for keyword, value in sorted(attributes.items())
    }


def plain_list(values: list[Value]) -> list[Any]:
    """Values as JSON."""
    return [list(value) if isinstance(value, tuple) else value for value in values]
