from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from head_phantom import AXIAL, CT, MR, SAGITTAL, Phantom, head, rotation

from imaging.deid.pixels.deface import Defaced, DefaceRefused, deface

OBLIQUE = rotation(20, 0) @ rotation(12, 2)


def defaced(phantom: Phantom, modality: str, volume: Any = None) -> Defaced:
    return deface(
        phantom.volume if volume is None else volume,
        phantom.affine,
        modality,
        slope=phantom.contrast["slope"],
        intercept=phantom.contrast["intercept"],
    )


@pytest.mark.parametrize(
    ("modality", "contrast", "directions", "spacing", "size"),
    [
        ("CT", CT, AXIAL, (2.5, 2.0, 2.0), (104, 128, 112)),
        ("MR", MR, AXIAL, (5.0, 1.5, 1.5), (52, 168, 150)),
        ("MR", MR, SAGITTAL, (2.0, 2.0, 2.0), (112, 128, 128)),
        ("CT", CT, OBLIQUE, (2.5, 2.0, 2.0), (112, 140, 128)),
    ],
    ids=["CT axial", "MR axial, thick slices", "MR sagittal", "CT oblique"],
)
def test_the_face_goes_and_the_brain_stays(
    modality: str, contrast: dict[str, float], directions: Any, spacing: Any, size: Any
) -> None:
    phantom = head(contrast, directions=directions, spacing=spacing, size=size)
    result = defaced(phantom, modality)
    mask = result.mask_for(0, phantom.volume.shape[0])
    assert result.face_in_view
    assert result.surface_removed >= 0.95
    assert not (mask & phantom.brain).any()
    assert (mask & phantom.eyes).sum() >= 0.95 * phantom.eyes.sum()
    assert (mask & phantom.nose).sum() >= 0.98 * phantom.nose.sum()
    assert (mask & phantom.mouth).sum() >= 0.95 * phantom.mouth.sum()
    assert (mask & phantom.ears).sum() >= 0.85 * phantom.ears.sum()


class Slices:
    """A volume that is read one slice at a time or not at all."""

    def __init__(self, volume: Any) -> None:
        self._volume = volume
        self.shape = volume.shape

    def __getitem__(self, index: int) -> Any:
        assert isinstance(index, int)
        return self._volume[index]


def test_slices_are_read_and_masks_given_bit_by_bit() -> None:
    phantom = head(CT)
    result = defaced(phantom, "CT", Slices(phantom.volume))
    slices = phantom.volume.shape[0]
    slabs = [result.mask_for(start, min(start + 17, slices)) for start in range(0, slices, 17)]
    assert result.mask_for(0, slices).any()
    assert np.array_equal(np.concatenate(slabs), result.mask_for(0, slices))


def test_a_scan_that_ends_above_the_eyes_says_so_and_loses_nothing() -> None:
    phantom = head(MR, centre=(0.0, 0.0, 132.0))
    result = defaced(phantom, "MR")
    assert not result.face_in_view
    assert not result.mask_for(0, phantom.volume.shape[0]).any()


def noise(_: Phantom) -> Any:
    return np.random.default_rng(1).integers(0, 50, (40, 64, 64)).astype(np.uint16)


@pytest.mark.parametrize(
    ("modality", "volume"),
    [
        ("PT", lambda phantom: phantom.volume),
        ("CT", lambda phantom: phantom.volume[:8]),
        ("CT", lambda phantom: phantom.volume[:40]),  # the neck alone
        ("CT", lambda phantom: np.zeros_like(phantom.volume)),
        ("MR", lambda phantom: np.zeros_like(phantom.volume)),
        ("MR", noise),
    ],
    ids=["modality", "few slices", "no head", "empty CT", "empty MR", "noise"],
)
def test_what_is_not_understood_is_refused(modality: str, volume: Any) -> None:
    phantom = head(CT)
    with pytest.raises(DefaceRefused) as refused:
        defaced(phantom, modality, volume(phantom))
    assert refused.value.code == "deface-uncertain"


@pytest.mark.parametrize("step", [0.0, float("nan"), 9.0])
def test_a_geometry_that_cannot_be_used_is_refused(step: float) -> None:
    phantom = head(CT)
    affine = phantom.affine.copy()
    affine[2, 0] = step
    with pytest.raises(DefaceRefused):
        deface(phantom.volume, affine, "CT", intercept=-1024)
