from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from imaging.deid import object_profiles
from imaging.deid.codestreams import without_comments
from imaging.deid.engine import deidentify
from imaging.deid.keyed import DeidKey


def jpeg(**options: object) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", **options)
    return file.getvalue()


def test_a_comment_and_exif_go_and_every_pixel_stays() -> None:
    exif = Image.Exif()
    exif[0x010E] = "Pemberthy Josephine"
    stream = jpeg(comment=b"Pemberthy Josephine", exif=exif)
    clean = without_comments(stream)
    assert b"Pemberthy" in stream
    assert b"Pemberthy" not in clean
    with Image.open(io.BytesIO(stream)) as one, Image.open(io.BytesIO(clean)) as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_a_stream_without_comments_is_given_back_as_it_is() -> None:
    stream = jpeg()
    assert without_comments(stream) == stream


@pytest.mark.parametrize(
    "stream",
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xfe\xff\xff", b"\xff\xd8\xff\xfe\0\0", b"\xff\xd8abcd", b"\0" * 64,
     b"\xff\x4f\xff\x51\0\x03", jpeg()[:100]],
)  # fmt: skip
def test_a_broken_stream_is_left_alone(stream: bytes) -> None:
    assert without_comments(stream) == stream


@pytest.mark.parametrize(
    "name", ["693_J2KI.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_a_comment_inside_a_compressed_frame_does_not_survive_the_engine(name: str) -> None:
    path = get_testdata_file(name)
    assert path is not None
    dataset = pydicom.dcmread(str(path))
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    mark = b"\xff\x64" if frame.startswith(b"\xff\x4f") else b"\xff\xfe"
    comment = mark + (2 + 2 + 9).to_bytes(2, "big") + b"\0\1Pemberthy"
    # Behind SIZ, which must come first in JPEG 2000; behind SOI in the others.
    at = 2 if mark == b"\xff\xfe" else 4 + int.from_bytes(frame[4:6], "big")
    dataset.PixelData = encapsulate([frame[:at] + comment + frame[at:]])
    dataset["PixelData"].is_undefined_length = True
    before = dataset.pixel_array.copy()
    result = deidentify(dataset, object_profiles.load("dicom-research@1"), DeidKey(b"k" * 32))
    assert b"Pemberthy" not in result.PixelData
    assert np.array_equal(result.pixel_array, before)
