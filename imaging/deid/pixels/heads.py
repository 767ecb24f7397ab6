"""Where the head and the brain lie in a scan, by classical means: thresholds, morphology, connected parts.

Works on a grid along the patient's axes, 2 mm apart, whatever way the scan was acquired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID_MM = 2.0
_HEAD_TALL_MM = 260.0
"""From crown to below the chin of a large head: what lies lower is neck and trunk."""
_BRAIN_TALL_MM = 165.0
"""From crown to the end of the medulla."""
_COVER_MM = 6.0
"""Skin and skull over the brain are never thinner together."""
_AIR_HU = -300.0
_BRAIN_HU = (-5.0, 90.0)

Mask = NDArray[np.bool_]
Grey = NDArray[np.float32]


class DefaceRefused(Exception):
    """The face can't be removed with confidence; ``code`` is stable, ``why`` a sentence without any identifier."""

    def __init__(self, why: str, code: str = "deface-uncertain") -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


@dataclass(frozen=True)
class PatientGrid:
    """``values`` (s, p, l): index 0 the lowest, the most anterior, the rightmost; NaN outside the scan.

    ``to_index`` (4, 4): LPS in mm → (s, p, l) as fractional indices.
    """

    values: Grey
    to_index: NDArray[np.float64]


def to_patient_grid(volume: Any, slope: float, intercept: float, affine: NDArray[np.float64]) -> PatientGrid:
    """Resample (z, y, x) stored values, read slice by slice, to the patient's axes.

    ``affine``: (z, y, x, 1) → LPS mm.  Raises :class:`DefaceRefused` for a geometry that can't be used.
    """
    from scipy import ndimage

    shape = tuple(int(size) for size in volume.shape)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or steps.min() <= 0 or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise DefaceRefused("the geometry does not span a volume")
    if steps.max() > 6.5 or shape[0] < 12 or min(shape[1:]) < 32:
        raise DefaceRefused("too few slices or pixels, or slices further apart than 6.5 mm")
    blocks = np.maximum(1, np.floor(GRID_MM / steps + 1e-6)).astype(int)
    coarse = _averaged(volume, shape, blocks) * np.float32(slope) + np.float32(intercept)
    # Index of a block's centre: block · i + (block - 1) / 2.
    blocked = affine @ np.block(
        [[np.diag(blocks), ((blocks - 1) / 2)[:, np.newaxis]], [np.zeros((1, 3)), np.ones((1, 1))]]
    )
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)], np.float64)
    corners[:, :3] *= np.array(coarse.shape) - 1
    places = (blocked @ corners.T)[:3]
    low, high = places.min(axis=1), places.max(axis=1)
    if (high - low).max() > 2500:
        raise DefaceRefused("the scan is larger than a person")
    size = np.ceil((high - low) / GRID_MM).astype(int) + 1  # l, p, s
    # (s, p, l) index → LPS: L and P grow with their indices, S with its own.
    to_lps = np.array(
        [[0, 0, GRID_MM, low[0]], [0, GRID_MM, 0, low[1]], [GRID_MM, 0, 0, low[2]], [0, 0, 0, 1]]
    )
    matrix = np.linalg.inv(blocked) @ to_lps
    values = ndimage.affine_transform(
        coarse, matrix[:3, :3], matrix[:3, 3], (size[2], size[1], size[0]), order=1, cval=np.nan
    )
    return PatientGrid(np.asarray(values, np.float32), np.linalg.inv(to_lps))


def _averaged(volume: Any, shape: tuple[int, ...], blocks: NDArray[np.int64]) -> Grey:
    """Means over blocks; a rest at the far edges is left out."""
    bz, by, bx = (int(block) for block in blocks)
    nz, ny, nx = (size // block for size, block in zip(shape, (bz, by, bx), strict=True))
    out = np.zeros((nz, ny, nx), np.float32)
    for z in range(nz * bz):
        part = np.asarray(volume[z], np.float32)[: ny * by, : nx * bx]
        out[z // bz] += part.reshape(ny, by, nx, bx).mean(axis=(1, 3)) / bz
    return out


def head_of(values: Grey, *, ct: bool) -> Mask:
    """The head, filled, without table or head rest; nothing lower than a head is tall.

    Raises :class:`DefaceRefused` where there is none.
    """
    from scipy import ndimage

    inside = np.nan_to_num(values, nan=-np.inf) > (_AIR_HU if ct else _noise_level(values))
    for level in inside:  # in MR the skull is as dark as air: skin alone would be taken for a thin thing
        level[:] = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(level, 2), iterations=2))[
            2:-2, 2:-2
        ]
    # Thin things around the head (tables, straps, tubes) are cut off before the largest part is taken.
    solid = _largest(ndimage.binary_opening(inside, _ball(3)))
    solid = ndimage.binary_propagation(solid, mask=ndimage.binary_dilation(solid, _ball(4)) & inside)
    top = int(np.flatnonzero(solid.any(axis=(1, 2)))[-1]) if solid.any() else 0
    solid[: max(0, top - int(_HEAD_TALL_MM / GRID_MM))] = False
    closed = ndimage.binary_closing(np.pad(solid, 6), _ball(5))[6:-6, 6:-6, 6:-6]
    for level in closed:
        level[:] = ndimage.binary_fill_holes(level)
    if _litres(closed) < 1.0:
        raise DefaceRefused("no head was found")
    if float(closed[np.isfinite(values)].mean()) > 0.95:
        raise DefaceRefused("the view shows no air around a head")
    return np.asarray(closed, bool)


def brain_of(values: Grey, head: Mask, *, ct: bool) -> Mask:
    """An estimate of the brain.  Raises :class:`DefaceRefused` where what is found is no brain."""
    from scipy import ndimage

    grey = np.nan_to_num(values, nan=-np.inf)
    levels = np.flatnonzero(head.any(axis=(1, 2)))
    # Where the scan cuts through the head there is no skin: padded by its own edge.
    inner = ndimage.distance_transform_edt(np.pad(head, 1, "edge"))[1:-1, 1:-1, 1:-1] * GRID_MM > _COVER_MM
    inner[: max(0, int(levels[-1] - _BRAIN_TALL_MM / GRID_MM))] = False
    if ct:
        choices = [inner & (grey > _BRAIN_HU[0]) & (grey < _BRAIN_HU[1])]
    else:
        noise = _noise_level(values)
        choices = [inner & (grey > noise * step) for step in (1.3, 1.6, 1.9, 2.2, 2.5, 2.8, 3.1, 3.4)]
    for tissue in choices:
        away = ndimage.distance_transform_edt(np.pad(tissue, 1))[1:-1, 1:-1, 1:-1]
        for radius in (2, 3, 4, 5, 6):
            # Muscle and eyes hang together with the brain by bridges thinner than this.
            core = _upper(away > radius, head)
            if _litres(core) < 0.1:
                break
            brain = np.asarray((ndimage.distance_transform_edt(~core) <= radius + 0.5) & head, bool)
            if _is_brain(brain, int(levels[-1])):
                return brain
    raise DefaceRefused("the brain could not be told from the rest of the head")


def _is_brain(brain: Mask, crown: int) -> bool:
    """By size, and by having no part where the face is: low, and as far in front as the frontal lobes."""
    if not 0.5 <= _litres(brain) <= 2.0:
        return False
    levels, fronts, _ = np.nonzero(brain)
    upper = fronts[levels >= crown - 75 / GRID_MM]
    if upper.size < 1000:
        return False
    front = float(np.percentile(upper, 0.5))
    in_face = (levels < crown - 120 / GRID_MM) & (fronts <= front + 30 / GRID_MM)
    return float(in_face.mean()) < 0.002 and float((fronts < front - 6 / GRID_MM).mean()) < 0.001


def _upper(core: Mask, head: Mask) -> Mask:
    """The largest part, among those that reach into the upper half of the head."""
    from scipy import ndimage

    labels, count = ndimage.label(core)
    if not count:
        return core
    levels = np.flatnonzero(head.any(axis=(1, 2)))
    middle = int(
        levels[-1] - 90 / GRID_MM
    )  # the brain's own middle lies about here, whatever is below in view
    sizes = np.bincount(labels.ravel())
    reaching = np.unique(labels[max(middle, 0) :])
    reaching = reaching[reaching > 0]
    if not reaching.size:
        return np.zeros_like(core)
    return np.asarray(labels == reaching[np.argmax(sizes[reaching])], bool)


def _noise_level(values: Grey) -> float:
    """Between air and tissue in an MR: half of Otsu's threshold, which lies between dark and bright tissue."""
    seen = values[np.isfinite(values)]
    high = float(np.percentile(seen, 99)) if seen.size else 0.0
    low = float(seen.min()) if seen.size else 0.0
    if high <= low:
        raise DefaceRefused("no head was found")
    counts, edges = np.histogram(np.clip(seen, low, high), 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, weighted = np.cumsum(counts), np.cumsum(counts * centres)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (weighted / below - (weighted[-1] - weighted) / above) ** 2
    return low + 0.5 * (float(centres[int(np.nanargmax(between))]) - low)


def _largest(mask: Mask) -> Mask:
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if not count:
        raise DefaceRefused("no head was found")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == int(sizes.argmax()), bool)


def _ball(radius: int) -> Mask:
    axis = np.arange(-radius, radius + 1)
    return np.asarray((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) <= radius**2, bool)


def _litres(mask: Mask) -> float:
    return float(mask.sum()) * GRID_MM**3 / 1e6
