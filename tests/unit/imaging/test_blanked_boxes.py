"""What of an image under suspicion of text is blanked once all boxes are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.deid.pixels.blanking import blank
from imaging.deid.pixels.boxes import Box
from imaging.deid.pixels.suspicion import Verdict
from imaging.staging.admission import PixelPolicy
from imaging.staging.radiology.burned_in import TextRules

# As of a Philips ultrasound image of 600 × 800: a banner and what lies around the region, overlapping.
AROUND = (Box(0, 0, 60, 800), Box(0, 0, 70, 800), Box(60, 0, 519, 120), Box(519, 0, 600, 800))


def blanked(found: dict[int, list[Box]] | None) -> NDArray[Any]:
    rules = TextRules(
        PixelPolicy(burned_in="blank"), ((1, Verdict("areas", "ultrasound-regions", AROUND)),), (600, 800)
    )
    frame = np.full((600, 800), 200, np.uint8)
    return blank(frame, rules.boxes(found)[1]) == 0


def test_boxes_around_an_ultrasound_region_leave_the_region() -> None:
    gone = blanked(None)
    assert not gone[70:519, 120:].any()
    assert gone.sum() == 600 * 800 - (519 - 70) * (800 - 120)


def test_text_across_the_edge_of_a_region_takes_only_its_own_place_from_the_region() -> None:
    gone = blanked({1: [Box(300, 100, 320, 160)]})
    inside = gone[70:519, 120:]
    assert inside.sum() == 20 * 40
