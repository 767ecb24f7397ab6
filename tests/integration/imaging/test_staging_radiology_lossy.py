"""Lossy compression beyond Bits Stored, through a whole staging."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from archive import SHARED, instance, write
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000
from test_staging_radiology import Staged

CASE = SHARED / "cases" / "lossy_overshoot" / "in"


def test_clipped_values_are_counted_and_noted(tmp_path: Path) -> None:
    values = np.zeros((64, 64), np.uint16)
    values[16:48, 16:48] = 4095
    stream = bytes(imagecodecs.jpeg2k_encode(values, level=45, codecformat="j2k", reversible=False))
    decoded = imagecodecs.jpeg2k_decode(stream)
    assert decoded.max() > 4095
    made = instance(
        Rows=64, Columns=64, BitsStored=12, HighBit=11, PixelRepresentation=0, LossyImageCompression="01",
        PixelPaddingValue=None, SmallestImagePixelValue=None, LargestImagePixelValue=None,
    )  # fmt: skip
    made.PixelData = encapsulate([stream])
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = JPEG2000
    write(made, tmp_path / "a" / "1.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    assert np.array_equal(staged.voxels()[0], np.minimum(decoded, 4095))
    assert staged.report.notes["overshoot-clipped"] == 1
    ours = staged.group().attrs["hdrs-hpc"]
    assert ours["source"]["clipped_values"] == np.count_nonzero(decoded > 4095)  # type: ignore[index,call-overload]


@pytest.mark.skipif(not CASE.is_dir(), reason="needs ../shared/data")
def test_the_case_decodes_as_its_codestream_does_and_is_then_clipped(tmp_path: Path) -> None:
    staged = Staged(CASE, tmp_path)
    ends = sorted((int(staged.voxels(n).min()), int(staged.voxels(n).max())) for n in range(2))
    assert ends == [(-2048, 2047), (0, 4095)]
    assert staged.report.notes["overshoot-clipped"] == 2
