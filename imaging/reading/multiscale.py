"""What the attributes of a series' or slide's group say about its arrays: axes, units, scale of each level.

NGFF 0.5: axes slowest first, datasets largest first, each with one ``scale`` and then, if any, one ``translation``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imaging.layout import NAMESPACE


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution: its array's name below the group, and index × scale + translation along each axis."""

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One image.  ``axes`` are single letters out of ``t c z y x``; ``units`` has an entry an axis.

    ``ours`` is our namespace: rescale, geometry, ``axis_t``, ``channels``, attributes kept.
    """

    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    levels: tuple[Level, ...]
    ours: dict[str, Any]

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Multiscale:
        """Of a group's attributes as staging wrote them.  Raises KeyError on a group that is no image."""
        image = attributes["ome"]["multiscales"][0]
        axes = tuple(str(axis["name"]) for axis in image["axes"])
        levels = []
        for dataset in image["datasets"]:
            steps = {step["type"]: step for step in dataset["coordinateTransformations"]}
            translation = steps.get("translation", {}).get("translation", [0.0] * len(axes))
            levels.append(Level(str(dataset["path"]), tuple(steps["scale"]["scale"]), tuple(translation)))
        units = tuple(axis.get("unit") for axis in image["axes"])
        return cls(axes, units, tuple(levels), dict(attributes.get(NAMESPACE, {})))

    def scale(self, axis: str, level: int = 0) -> float:
        """Size of one step along ``axis`` at a level; 1 along an axis that there is not."""
        return self.levels[level].scale[self.axes.index(axis)] if axis in self.axes else 1.0

    def unit(self, axis: str) -> str | None:
        return self.units[self.axes.index(axis)] if axis in self.axes else None
