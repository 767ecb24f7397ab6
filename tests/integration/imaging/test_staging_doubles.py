"""Several files with one SOP Instance UID, through a whole staging."""

import shutil
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from archive import SHARED, series, uid, write
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless
from slides import he, jpeg, tiles_of, wsm
from test_staging_radiology import Staged

CASE = SHARED / "cases" / "dup_uid" / "in"


def compressed(path: Path, dest: Path, damage: str = "") -> None:
    """The same image as JPEG-LS; ``damage``: ``cut`` leaves out the second half of its codestream, ``spoil`` breaks its
    beginning."""
    made = pydicom.dcmread(path)
    stream = bytes(imagecodecs.jpegls_encode(made.pixel_array.astype(np.int16).view(np.uint16)))
    if damage == "cut":
        stream = stream[: len(stream) // 4 * 2]
    if damage == "spoil":
        stream = stream[:40] + b"\xff\xd9" + stream[42:]
    made.PixelData = encapsulate([stream])
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = JPEGLSLossless
    write(made, dest)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless])
@pytest.mark.parametrize("name", ["a.dcm", "z.dcm"])
def test_a_codestream_cut_short_loses_though_decoders_fill_it_up(
    tmp_path: Path, name: str, syntax: str
) -> None:
    (path,) = series(tmp_path / "a", name="m", slices=1)
    made = pydicom.dcmread(path)
    values = (made.pixel_array % 251).astype(np.uint8)
    jpeg_baseline = syntax == JPEGBaseline8Bit
    stream = bytes(
        imagecodecs.jpeg8_encode(values)
        if jpeg_baseline
        else imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k")
    )
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    del made.PixelPaddingValue
    made.file_meta.TransferSyntaxUID = UID(syntax)
    for given, dest in ((stream, path), (stream[: len(stream) // 4 * 2], tmp_path / "a" / name)):
        made.PixelData = encapsulate([given])
        made["PixelData"].is_undefined_length = True
        made["PixelData"].VR = "OB"
        write(made, dest)
    staged = Staged(tmp_path / "a", tmp_path)
    decode = imagecodecs.jpeg8_decode if jpeg_baseline else imagecodecs.jpeg2k_decode
    assert np.array_equal(staged.voxels()[0], decode(stream))
    assert {code: len(numbers) for code, numbers in staged.refused.items()} == {"duplicate-broken": 1}


def cut(path: Path, dest: Path) -> None:
    data = path.read_bytes()
    dest.write_bytes(data[:-5000])


@pytest.mark.parametrize("name", ["a.dcm", "z.dcm"])
@pytest.mark.parametrize("damage", ["native", "cut", "spoil", "torn"])
def test_a_whole_copy_wins_over_a_broken_one_whichever_comes_first(
    tmp_path: Path, name: str, damage: str
) -> None:
    paths = series(tmp_path / "a", name="m", slices=4)
    broken = tmp_path / "a" / name
    if damage == "native":
        cut(paths[1], broken)
    elif damage == "torn":
        compressed(paths[1], broken)
        cut(broken, broken)
    else:
        compressed(paths[1], broken, damage)
    staged = Staged(tmp_path / "a", tmp_path)
    (tmp_path / "b").mkdir()
    whole = staged_of(paths, tmp_path / "b")
    assert np.array_equal(staged.voxels(), whole.voxels())
    assert {code: len(numbers) for code, numbers in staged.refused.items()} == {"duplicate-broken": 1}
    assert staged.report.failed == 0


def staged_of(paths: list[Path], folder: Path) -> Staged:
    (folder / "a").mkdir()
    for path in paths:
        shutil.copy(path, folder / "a")
    return Staged(folder / "a", folder)


def test_the_same_image_in_another_compression_is_the_same(tmp_path: Path) -> None:
    paths = series(tmp_path / "a", name="m", slices=3)
    compressed(paths[1], tmp_path / "a" / "a.dcm")
    again = pydicom.dcmread(paths[1])
    again.compress(RLELossless, generate_instance_uid=False)
    write(again, tmp_path / "a" / "z.dcm")
    shutil.copy(paths[0], tmp_path / "a" / "y.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    assert staged.rows[0]["shape"] == [3, 128, 128]
    assert {code: len(numbers) for code, numbers in staged.refused.items()} == {"duplicate-instance": 3}


@pytest.mark.parametrize(
    "change",
    [{"PixelData": None}, {"ImagePositionPatient": [-10.0, -20.0, 99.0]}, {"RescaleIntercept": -1000}],
)
def test_images_that_differ_in_pixels_or_place_are_both_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    paths = series(tmp_path / "a", name="m", slices=4)
    other = pydicom.dcmread(paths[1])
    for keyword, value in change.items():
        setattr(other, keyword, bytes(reversed(other.PixelData)) if value is None else value)
    write(other, tmp_path / "a" / "z.dcm")
    cut(paths[1], tmp_path / "a" / "b.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    assert {code: len(numbers) for code, numbers in staged.refused.items()} == {
        "duplicates-differ": 2, "truncated-pixel-data": 1
    }  # fmt: skip
    assert staged.report.notes["differing-duplicates"] == 1
    assert staged.rows[0]["n_slices"] == 3
    assert staged.report.failed == 3


@pytest.mark.parametrize(("damage", "refused"), [
    ("", {"duplicates-differ": 2}),
    ("cut", {"duplicate-broken": 1}),
    ("same", {"duplicate-instance": 1}),
])  # fmt: skip
@pytest.mark.parametrize("name", ["a.dcm", "z.dcm"])
def test_instances_of_slides_are_judged_alike(
    tmp_path: Path, name: str, damage: str, refused: dict[str, int]
) -> None:
    pixels = he(512, 512)
    tiles = [jpeg(tile) for tile in tiles_of(pixels, 256)]
    one = uid("slide", "sop")
    wsm(tmp_path / "a" / "m.dcm", pixels, frames=tiles, SOPInstanceUID=one)
    changed = {"": [*reversed(tiles)], "cut": [*tiles[:3], tiles[3][: len(tiles[3]) // 4]], "same": tiles}[
        damage
    ]
    wsm(tmp_path / "a" / name, pixels, frames=changed, SOPInstanceUID=one, StudyTime="101112")
    staged = Staged(tmp_path / "a", tmp_path, kind="pathology", profile="slide-basic@2")
    assert {code: len(numbers) for code, numbers in staged.refused.items()} == refused
    assert len(staged.rows) == (1 if damage else 0)
    if damage:
        assert np.array_equal(
            staged.voxels()[:, :256, :256].transpose(1, 2, 0), imagecodecs.jpeg8_decode(tiles[0])
        )
        assert np.array_equal(
            staged.voxels()[:, 256:, 256:].transpose(1, 2, 0), imagecodecs.jpeg8_decode(tiles[3])
        )


@pytest.mark.skipif(not CASE.is_dir(), reason="needs ../shared/data")
def test_the_case(tmp_path: Path) -> None:
    staged = Staged(CASE, tmp_path)
    assert staged.refused == {"duplicate-broken": (1,), "duplicates-differ": (4, 6)}
    wanted = [pydicom.dcmread(CASE / f"{name}.dcm").pixel_array for name in ("b0", "b1", "b3")]
    assert np.array_equal(staged.voxels(), wanted)
