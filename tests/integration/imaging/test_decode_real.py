"""Real files of many vendors against second readers: pydicom with GDCM or libjpeg, and nibabel for mosaics."""

import gzip
import io
import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pydicom.data
import pytest
from archive import SHARED
from dicom_files import frames, header
from nibabel.nicom.dicomwrappers import wrapper_from_data
from pydicom.pixels import apply_color_lut, pixel_array

from imaging.staging.parsing.dicom.pixels import decode_frames
from imaging.staging.parsing.unreadable import Unreadable

OWN = Path(pydicom.data.__file__).parent / "test_files"
NIBABEL = Path(nibabel.__file__).parent / "nicom/tests/data"
FILES = sorted([*OWN.glob("*.dcm"), *(SHARED / "radiology/pydicom-data").glob("*.dcm")])
LOSSY = {"JPEG-lossy.dcm", "JPGExtended.dcm"}  # GDCM has no 12-bit decoder; libjpeg's differs by a level
TURNED = {"OBXXXX1A_expb.dcm", "OBXXXX1A_expb_2frame.dcm"}
"""Big-endian palettes, whose bytes pydicom leaves turned: held against their little-endian twins below."""
NOT_DECODED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "decode-failed",  # made by hand, broken on purpose
    "MR_truncated.dcm": "truncated-pixel-data",
    "badVR.dcm": "malformed-dicom",  # says it has 1A frames
}


def _expected(path: Path, count: int) -> np.ndarray | None:
    """What pydicom makes of the file, or None where it reads none."""
    dataset = pydicom.dcmread(path, force=True)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        )
    try:
        pixels = pixel_array(dataset)
    except (RuntimeError, AttributeError, NotImplementedError, ValueError):
        return None
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
    return pixels if count > 1 else pixels[None]


def _count(path: Path) -> int:
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    said = dataset.get("NumberOfFrames") or 1
    return int(said) if str(said).isdigit() else 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_real_file_decodes_as_by_a_second_reader(path: Path) -> None:
    count = _count(path)
    expected = _expected(path, count)
    try:
        got = np.stack(list(decode_frames(io.BytesIO(path.read_bytes()), list(range(count)))))
    except Unreadable as unreadable:
        assert expected is None or NOT_DECODED.get(path.name) == unreadable.code
        return
    if expected is None:
        pytest.skip("not applicable: pydicom reads no pixels of it")
    if path.name in TURNED:
        pytest.skip("not applicable: pydicom reads another palette than of the same image in little-endian")
    differs = np.abs(got.astype(float) - expected.reshape(got.shape))
    # Overlays in high bits are ours to clear; luminance and chrominance may be rounded either way.
    assert differs.max() <= (1 if path.name in LOSSY or "ybr" in path.name or "YBR" in path.name else 0)


TWINS = [
    ("liver.dcm", "liver_expb.dcm"), ("liver.dcm", "liver_rle.dcm"), ("liver.dcm", "liver_j2k.dcm"),
    ("liver.dcm", "liver_deflate.dcm"), ("liver_nonbyte_aligned.dcm", "liver_nonbyte_aligned_rle.dcm"),
    ("liver_nonbyte_aligned.dcm", "liver_nonbyte_aligned_j2k.dcm"),
    ("liver_nonbyte_aligned.dcm", "liver_nonbyte_aligned_deflate.dcm"),
    ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"), ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm"),
    ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"), ("emri_small.dcm", "emri_small_big_endian.dcm"),
    ("emri_small.dcm", "emri_small_RLE.dcm"), ("emri_small.dcm", "emri_small_jpeg_2k_lossless.dcm"),
    ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm"), ("SC_rgb.dcm", "SC_rgb_expb.dcm"),
    ("693_UNCR.dcm", "693_J2KR.dcm"), ("MR2_UNCR.dcm", "MR2_J2KR.dcm"), ("US1_UNCR.dcm", "US1_J2KR.dcm"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_an_image_is_the_same_in_every_encoding_it_was_saved_in(one: str, other: str) -> None:
    folder = SHARED / "radiology/pydicom-data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    count = range(_count(folder / one))
    decoded = [
        np.stack(list(decode_frames(io.BytesIO((folder / name).read_bytes()), list(count))))
        for name in (one, other)
    ]
    assert np.array_equal(*decoded)


@pytest.mark.parametrize("name", ["siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz"])
def test_a_mosaic_is_cut_and_placed_as_nibabel_does(name: str) -> None:
    data = gzip.decompress((NIBABEL / name).read_bytes())
    second = wrapper_from_data(pydicom.dcmread(io.BytesIO(data)))
    said = header(data)
    rows, columns, tiles = second.image_shape
    assert (said["rows"], said["columns"], len(said["frames"])) == (rows, columns, tiles)
    places = second.image_position + np.arange(tiles)[:, None] * second.slice_normal * second.voxel_sizes[2]
    assert np.allclose([frame["position_mm"] for frame in said["frames"]], places, atol=1e-4)
    assert np.array_equal(np.moveaxis(frames(data, *range(tiles)), 0, 2), second.get_unscaled_data())
    assert {frame["coordinates"]["b-value"] for frame in said["frames"]} == {
        float(name.split("_")[2].split(".")[0])
    }


def test_headers_of_real_files_take_milliseconds() -> None:
    path = OWN / "MR_small.dcm"
    data = path.read_bytes()
    started = os.times().user
    for _ in range(50):
        header(data)
    assert (os.times().user - started) / 50 < 0.02
