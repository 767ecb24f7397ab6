from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from archive import instance, real, write
from burned_text import Burned, burned, covered

from imaging.deid.pixels import text
from imaging.deid.pixels.boxes import Box
from imaging.staging import sandbox
from imaging.staging.pool import ParserPool

pytestmark = pytest.mark.skipif(not text.available(), reason="the extra 'text' is not installed: no detector")

BACKGROUNDS = ("examples_overlay.dcm", "J2K_pixelrep_mismatch.dcm")  # an MR of a trunk, a CT


def frame(name: str) -> Any:
    return pydicom.dcmread(real(name)).pixel_array


@pytest.fixture(scope="module")
def lines() -> list[tuple[Burned, list[Box]]]:
    made = [one for seed, name in enumerate(BACKGROUNDS) for one in burned(frame(name), 6, seed)]
    return [(one, text.find_text(one.frame)) for one in made]


def test_made_up_identifiers_are_found_on_real_pixels(lines: list[tuple[Burned, list[Box]]]) -> None:
    touched = [any(box.touches(one.box) for box in found) for one, found in lines]
    assert len(lines) >= 10
    assert np.mean(touched) >= 0.9
    assert np.mean([covered(one.box, found) for one, found in lines]) >= 0.85


def test_little_else_is_taken_for_text(lines: list[tuple[Burned, list[Box]]]) -> None:
    strays = [sum(not box.touches(one.box) for box in found) for one, found in lines]
    assert np.mean(strays) <= 1


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_frames_without_text_are_left_whole(name: str) -> None:
    assert text.find_text(frame(name)) == []


def test_the_banner_of_a_real_ultrasound_is_found() -> None:
    found = text.find_text(frame("examples_rgb_color.dcm"))
    assert any(box.y0 < 60 for box in found)


@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "f4"])
def test_type_and_polarity_do_not_matter(kind: str) -> None:
    ramp = np.tile(np.linspace(40, 90, 256, dtype=np.int16), (128, 1))
    one = next(one for one in burned(ramp, 20, 3) if one.size_px >= 16 and one.contrast == 1)
    for picture in (one.frame, 160 - one.frame):
        shown = (picture.astype(float) * 0.7).astype(kind)
        assert covered(one.box, text.find_text(shown)) > 0.8


@pytest.mark.parametrize("shape", [(1, 1), (8, 900), (40, 40), (33, 65, 3)])
@pytest.mark.parametrize("value", [0, 1])
def test_flat_and_tiny_frames_show_none(shape: tuple[int, ...], value: int) -> None:
    assert text.find_text(np.full(shape, value, np.uint8)) == []


def test_the_detector_loads_nothing_until_it_is_used() -> None:
    code = (
        "import sys, imaging.staging.parsing.text, imaging.deid.pixels.text as t; t.available();"
        "print([m for m in ('onnxruntime', 'rapidocr', 'cv2', 'scipy.ndimage') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


OPERATION = """
import sys
from imaging.staging.parsing import operations
from imaging.staging.parsing import text
import json

def _text(request, file):
    found = text.find(file, [int(index) for index in request["frames"]])
    state = {"boxes": found, "loaded": [m for m in ("rapidocr", "cv2") if m in sys.modules]}
    yield json.dumps(state).encode(), b""

operations._OPERATIONS["text"] = _text
from imaging.staging import parser
parser.main()
"""


def test_it_works_in_the_parsers_sandbox(tmp_path: Path) -> None:
    """No network, no file may be written, 4 GiB, 64 descriptors, one core: and nothing but the networks loaded."""
    one = next(one for one in burned(frame(BACKGROUNDS[0]), 20, 5) if one.size_px >= 16 and one.contrast == 1)
    dataset = instance(BACKGROUNDS[0])
    dataset.PixelData = one.frame.astype(np.uint16).tobytes()
    path = write(dataset, tmp_path / "one.dcm")
    assert sandbox.COMMAND[-2:] == ("-m", "imaging.staging.parser")
    command = [*sandbox.COMMAND[:-2], "-c", OPERATION]
    with ParserPool(1, command=command) as pool, path.open("rb") as file:
        ((header, _),) = list(pool.ask(file, "text", frames=[0]))
    answer = json.loads(header)
    assert answer["loaded"] == []
    assert covered(one.box, [Box(*box) for box in answer["boxes"][0]]) > 0.9
