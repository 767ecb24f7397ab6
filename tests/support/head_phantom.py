"""A head of ellipsoids (skin, skull, brain, eyes, nose, ears) in any acquisition, with contrast of CT or MR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CT = {"air": -1000, "soft": 55, "skull": 900, "brain": 35, "eye": 15, "slope": 1.0, "intercept": -1024.0}
MR = {"air": 8, "soft": 380, "skull": 30, "brain": 250, "eye": 120, "slope": 1.0, "intercept": 0.0}

AXIAL = np.eye(3)
SAGITTAL = np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])
"""Columns: the directions of x (posterior), y (downwards) and z (left) in LPS."""


@dataclass(frozen=True)
class Phantom:
    """``volume`` (z, y, x) stored; ``affine`` (z, y, x, 1) → LPS; the parts as masks of the same shape."""

    volume: NDArray[Any]
    affine: NDArray[np.float64]
    brain: NDArray[np.bool_]
    eyes: NDArray[np.bool_]
    nose: NDArray[np.bool_]
    ears: NDArray[np.bool_]
    mouth: NDArray[np.bool_]
    contrast: dict[str, float]


def rotation(degrees: float, axis: int) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def head(
    contrast: dict[str, float],
    *,
    directions: NDArray[np.float64] = AXIAL,
    spacing: tuple[float, float, float] = (2.5, 2.0, 2.0),
    size: tuple[int, int, int] = (104, 128, 112),
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    seed: int = 0,
) -> Phantom:
    """``directions``: columns are the directions of x, y, z in LPS; ``spacing`` along z, y, x in mm."""
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1] * np.array(spacing)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(size) - 1) / 2)
    z, y, x = np.meshgrid(*(np.arange(n) for n in size), indexing="ij", sparse=True)
    left, back, up = (affine[r, 0] * z + affine[r, 1] * y + affine[r, 2] * x + affine[r, 3] for r in range(3))

    def ball(at: tuple[float, float, float], half: tuple[float, float, float]) -> NDArray[np.bool_]:
        parts = ((v - c) / h for v, c, h in zip((left, back, up), at, half, strict=True))
        return np.asarray(sum(part**2 for part in parts) <= 1)

    cranium = ball((0, 0, 30), (77, 94, 74))
    face = ball((0, -25, -42), (62, 72, 78))
    neck = (left**2 + (back - 25) ** 2 <= 52**2) & (up < 0)
    nose = ball((0, -98, -32), (13, 22, 22)) & ~face & ~cranium
    ears = (ball((74, 8, -14), (9, 18, 30)) | ball((-74, 8, -14), (9, 18, 30))) & ~cranium & ~neck & ~face
    within = (up > -2) | ((back > 0) & (up > -34))
    vault = ball((0, 0, 33), (70, 87, 64)) & ((up > -9) | ((back > -7) & (up > -41)))
    brain = ball((0, 0, 33), (63, 80, 57)) & within
    foramen = (left**2 + (back - 22) ** 2 <= 14**2) & (up > -60) & (up < -30)
    skull = vault & ~brain & ~foramen
    eyes = ball((32, -76, -19), (12, 12, 12)) | ball((-32, -76, -19), (12, 12, 12))
    mouth = ball((0, -92, -75), (25, 12, 8)) & face
    values = np.full(size, contrast["air"], np.float64)
    values[cranium | face | neck | nose | ears] = contrast["soft"]
    values[skull], values[brain], values[eyes] = contrast["skull"], contrast["brain"], contrast["eye"]
    values += np.random.default_rng(seed).normal(0, 5, size)
    stored = np.rint((values - contrast["intercept"]) / contrast["slope"])
    volume = np.clip(stored, 0, 65535).astype(np.uint16)
    return Phantom(volume, affine, brain, eyes, nose, ears, mouth, contrast)
