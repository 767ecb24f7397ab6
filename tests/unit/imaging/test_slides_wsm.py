from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pydicom
import pytest
import wsidicom_data
from archive import SHARED
from PIL import Image
from pydicom.uid import UID
from slide_copy import KEY, make
from slides import LABEL_CANARY, he, jpeg, picture_of_text, pyramid, tiles_of, wsm
from wsidicom import WsiDicom

from imaging.staging.admission import PixelPolicy

REAL = SHARED / "pathology" / "dicom-wsm-cmu1"
ENCODED = Path(wsidicom_data.__file__).parent / "data" / "encoded"
# Of the files' names: transfer syntax, and whether its codestreams are kept as they are.
SYNTAXES = {
    "Explicit_VR_Big_Endian": ("1.2.840.10008.1.2.2", False),
    "Explicit_VR_Little_Endian": ("1.2.840.10008.1.2.1", False),
    "Implicit_VR_Little_Endian": ("1.2.840.10008.1.2", False),
    "JPEG-LS_Lossless_Image_Compression": ("1.2.840.10008.1.2.4.80", False),
    "JPEG-LS_Lossy_(Near-Lossless)_Image_Compression": ("1.2.840.10008.1.2.4.81", False),
    "JPEG_2000_Image_Compression": ("1.2.840.10008.1.2.4.91", True),
    "JPEG_2000_Image_Compression_(Lossless_Only)": ("1.2.840.10008.1.2.4.90", True),
    "JPEG_Baseline_(Process_1)": ("1.2.840.10008.1.2.4.50", True),
    "JPEG_Lossless,_Non-Hierarchical_(Process_14)": ("1.2.840.10008.1.2.4.57", False),
    "JPEG_Lossless,_Non-Hierarchical,_First-Order_Prediction_(Process_14_[Selection_Value_1])": (
        "1.2.840.10008.1.2.4.70",
        False,
    ),
    "RLE_Lossless": ("1.2.840.10008.1.2.5", False),
}
FILES = sorted(path.name for path in ENCODED.iterdir() if "12." not in path.name)


def test_a_real_pyramid_of_instances_equals_wsidicom_and_openslide_to_the_bit() -> None:
    if not REAL.is_dir():
        pytest.skip("needs ../shared/data")
    paths = sorted(REAL.glob("*.dcm"))
    made = make(paths)
    assert len(made.rows) == 1
    pixels = made.level(0)
    with openslide.OpenSlide(REAL / "level-0-frames-0-30.dcm") as slide:
        reference = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    assert np.array_equal(pixels, reference.transpose(2, 0, 1))
    sizes = [level.shape[1:] for _, level in sorted(made.group().arrays())]
    assert sizes[:4] == [(2967, 2220), (1483, 1110), (741, 555), (370, 277)]
    assert made.rows[0]["spacing_mm"] == [0.000499, 0.000499]


@pytest.mark.parametrize("name", FILES)
def test_a_tile_in_every_encoding_gives_wsidicoms_pixels(tmp_path: Path, name: str) -> None:
    syntax, color, bits = name.rsplit(".", 1)[0].rsplit("-", 2)
    if syntax not in SYNTAXES:
        pytest.skip("not applicable: an encoding that slides do not have")
    with Image.open(ENCODED.parent / "test_tile.png") as tile:
        width, height = tile.size
    shape = (height, width, 3) if color in ("RGB", "YBR") else (height, width)
    frame = (ENCODED / name).read_bytes()
    photometric = {"RGB": "RGB", "YBR": "YBR_FULL_422", "GRAYSCALE": "MONOCHROME2"}[color]
    if color == "YBR" and "2000" in name:
        photometric = "YBR_RCT" if "Lossless" in name else "YBR_ICT"
    if "Lossless,_Non" in name and color == "YBR":
        photometric = "YBR_FULL"
    path = tmp_path / "a.dcm"
    wsm(
        path,
        np.zeros(shape, f"u{int(bits) // 8}"),
        tile=height,
        frames=[frame],
        syntax=UID(SYNTAXES[syntax][0]),
        PhotometricInterpretation=photometric,
        Columns=width,
    )
    made = make([path])
    assert made.refused == {}
    origin = made.ours()["levels"][0]["pixels"]
    assert origin.startswith("original") == SYNTAXES[syntax][1]
    reference = _reference(pydicom.dcmread(path))
    pixels = made.level(0).transpose(1, 2, 0).reshape(shape)
    difference = np.abs(pixels.astype(int) - reference.astype(int))
    if origin == "re-encoded-jpeg":
        assert difference.mean() < 2
    else:
        assert difference.max() <= (1 if origin == "original-jpeg2000" and "RCT" not in photometric else 0)


def _reference(dataset: pydicom.Dataset) -> np.ndarray[Any, Any]:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == "1.2.840.10008.1.2.4.50" and dataset.SamplesPerPixel == 3:
        space = "RGB" if dataset.PhotometricInterpretation == "RGB" else "YCbCr"
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        return np.asarray(imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace="RGB"))
    if syntax == "1.2.840.10008.1.2.4.57" and dataset.SamplesPerPixel == 3:
        # Its codestream says RGB where the header says YBR_FULL, and is what it was made of.
        with Image.open(ENCODED.parent / "test_tile.png") as tile:
            return np.asarray(tile.convert("RGB"))
    return np.asarray(dataset.pixel_array)


def test_levels_in_several_instances_are_one_slide_of_one_patient(tmp_path: Path) -> None:
    paths = [tmp_path / f"{level}.dcm" for level in range(3)]
    for level, pixels in enumerate(pyramid(he(700, 900))):
        wsm(paths[level], pixels, level=level, mpp=0.25 * 2**level)
    wsm(tmp_path / "other.dcm", he(300, 300), name="other", patient="PATIENT-2")
    made = make([*paths, tmp_path / "other.dcm"])
    assert made.refused == {}
    whole = next(row for row in made.rows if row["shape"] == [3, 700, 900])
    assert (whole["source_items"], whole["spacing_mm"]) == (3, [0.00025, 0.00025])
    assert whole["patient"] == KEY.patient("", "PATIENT-1")
    with WsiDicom.open(paths) as opened:
        reference = np.asarray(opened.read_region((0, 0), 0, (900, 700)))
    assert np.array_equal(made.level(0, made.rows.index(whole)).transpose(1, 2, 0), reference)


def test_label_overview_and_thumbnail_are_kept_out_and_leave_nothing(tmp_path: Path) -> None:
    label = picture_of_text(LABEL_CANARY, 128, 128)
    wsm(tmp_path / "v.dcm", he(300, 400))
    for kind in ("LABEL", "OVERVIEW", "THUMBNAIL"):
        tile = [jpeg(label, subsampling=0)]
        wsm(tmp_path / f"{kind}.dcm", label, tile=128, kind=kind, frames=tile)
    wsm(tmp_path / "w.dcm", he(300, 400), name="with-label", SpecimenLabelInImage="YES")
    made = make([tmp_path / f"{name}.dcm" for name in ("v", "LABEL", "OVERVIEW", "THUMBNAIL", "w")])
    assert made.refused == dict.fromkeys((2, 3, 4, 5), "slide-side-image")
    whole = made.everything()
    scan = (tmp_path / "LABEL.dcm").read_bytes().split(b"\xff\xda")[1][12:200]
    for canary in (LABEL_CANARY.encode(), scan, b"PATIENT-1", b"CANARY", b"BARCODE"):
        assert canary not in whole


def test_sparse_tiles_are_where_their_frames_say_and_glass_is_white(tmp_path: Path) -> None:
    pixels = he(512, 768)
    every = tiles_of(pixels, 256)
    places = [(1, 2, 0.0, "1"), (0, 0, 0.0, "1")]
    wsm(tmp_path / "s.dcm", pixels, frames=[jpeg(every[5]), jpeg(every[0])], sparse=places)
    made = make([tmp_path / "s.dcm"])
    got = made.level(0).transpose(1, 2, 0)
    assert np.array_equal(got[:256, :256], imagecodecs.jpeg8_decode(jpeg(every[0])))
    assert np.array_equal(got[256:, 512:], imagecodecs.jpeg8_decode(jpeg(every[5])))
    assert (got[:256, 256:] == 255).all()
    assert (got[256:, :512] == 255).all()
    assert made.notes == ["slide-without-some-tiles"]
    assert (made.level(1).transpose(1, 2, 0)[:100, 130:] == 255).all()


def test_optical_paths_and_focal_planes_are_axes(tmp_path: Path) -> None:
    planes = {
        (path, z): np.full((256, 256), 1000 * int(path) + int(z * 10) + 100, np.uint16)
        for path in "12"
        for z in (0.0, 1.5, 3.0)
    }
    items = [pydicom.Dataset(), pydicom.Dataset()]
    for item, path in zip(items, "12", strict=True):
        item.OpticalPathIdentifier = path
        item.IlluminationWaveLength = 400.0 + 100 * int(path)
    wsm(
        tmp_path / "f.dcm",
        np.zeros((256, 256), np.uint16),
        frames=[plane.tobytes() for plane in planes.values()],
        sparse=[(0, 0, z, path) for path, z in planes],
        syntax=UID("1.2.840.10008.1.2.1"),
        OpticalPathSequence=pydicom.Sequence(items),
    )
    made = make([tmp_path / "f.dcm"])
    array = made.level(0)
    assert array.shape == (2, 3, 256, 256)
    assert array[:, :, 0, 0].tolist() == [[1100, 1115, 1130], [2100, 2115, 2130]]
    assert made.ours()["focal_planes_um"] == [0.0, 1.5, 3.0]
    assert [one["excitation_nm"] for one in made.ours()["channels"]] == [500.0, 600.0]
    assert made.rows[0]["axes"] == "czyx"


def test_focal_planes_without_their_distance_get_none(tmp_path: Path) -> None:
    planes = [np.full((256, 256), value, np.uint16).tobytes() for value in (100, 200)]
    wsm(
        tmp_path / "f.dcm",
        np.zeros((256, 256), np.uint16),
        frames=planes,
        syntax=UID("1.2.840.10008.1.2.1"),
        TotalPixelMatrixFocalPlanes=2,
    )
    made = make([tmp_path / "f.dcm"])
    assert made.refused == {}
    assert made.level(0)[0, :, 0, 0].tolist() == [100, 200]
    assert (made.rows[0]["spacing_mm"][0], made.notes) == (None, ["no-focal-distance"])
    assert "focal_planes_um" not in made.ours()


def test_instances_of_a_concatenation_are_one_level(tmp_path: Path) -> None:
    pixels = he(512, 512)
    encoded = [jpeg(tile) for tile in tiles_of(pixels, 256)]
    for number in range(2):
        wsm(
            tmp_path / f"{number}.dcm",
            pixels,
            frames=encoded[2 * number : 2 * number + 2],
            ConcatenationUID="1.2.3.4",
            InConcatenationNumber=number + 1,
            ConcatenationFrameOffsetNumber=2 * number,
        )
    made = make([tmp_path / "0.dcm", tmp_path / "1.dcm"])
    assert (made.refused, made.notes, made.rows[0]["source_items"]) == ({}, [], 2)
    got = made.level(0).transpose(1, 2, 0)
    assert np.array_equal(got[256:, 256:], imagecodecs.jpeg8_decode(encoded[3]))
    assert np.array_equal(got[:256, :256], imagecodecs.jpeg8_decode(encoded[0]))


def test_the_same_instance_twice_is_taken_once(tmp_path: Path) -> None:
    wsm(tmp_path / "a.dcm", he(300, 300))
    (tmp_path / "b.dcm").write_bytes((tmp_path / "a.dcm").read_bytes())
    wsm(tmp_path / "c.dcm", he(300, 300))  # the same level resent under another UID
    made = make([tmp_path / "a.dcm", tmp_path / "b.dcm", tmp_path / "c.dcm"])
    assert (len(made.rows), made.refused) == (1, {2: "duplicate-instance", 3: "duplicate-instance"})


@pytest.mark.parametrize("identifier", ["PATIENT-1", "barcode-s"])
def test_a_patients_or_specimens_slides_are_opted_out(tmp_path: Path, identifier: str) -> None:
    wsm(tmp_path / "a.dcm", he(300, 300))
    made = make([tmp_path / "a.dcm"], opt_out=[KEY.opt_out_hash("", identifier)])
    assert (made.rows, made.refused) == ([], {1: "opted-out"})


def test_frames_in_several_fragments_without_an_offset_table_are_found(tmp_path: Path) -> None:
    pixels = he(256, 512)
    dataset = wsm(tmp_path / "a.dcm", pixels)
    encoded = [jpeg(tile) for tile in tiles_of(pixels, 256)]
    dataset.PixelData = pydicom.encaps.encapsulate(encoded, fragments_per_frame=3, has_bot=False)
    dataset.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert np.array_equal(make([tmp_path / "a.dcm"]).level(0), make([tmp_path / "b.dcm"]).level(0))


@pytest.mark.parametrize("cut", [10, 3000, 12_000])
def test_a_truncated_instance_is_refused(tmp_path: Path, cut: int) -> None:
    wsm(tmp_path / "a.dcm", he(600, 600))
    raw = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(raw[:-cut])
    made = make([tmp_path / "a.dcm"])
    assert not made.rows
    assert made.refused[1] in {"truncated-pixel-data", "truncated-tile", "malformed-slide"}


def test_dates_times_and_names_stay_out(tmp_path: Path) -> None:
    wsm(
        tmp_path / "a.dcm",
        he(300, 300),
        AcquisitionDateTime="19991231235959",
        DeviceSerialNumber="SN-CANARY",
        SeriesDescription="JANE CANARY",
        StudyDate="19991231",
    )
    whole = make([tmp_path / "a.dcm"]).everything()
    assert not re.search(rb"CANARY|1999|PATIENT|BARCODE", whole)


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (PixelPolicy("refuse"), "burned-in-annotation:slide-says-text"),
        (PixelPolicy("blank"), "burned-in-annotation:slide-says-text"),
        (PixelPolicy("hold"), "held-for-person:slide-says-text"),
        (PixelPolicy("hold", released=frozenset({1})), None),
    ],
)
def test_a_level_that_says_it_shows_text_waits_for_a_person_or_stays_out(
    tmp_path: Path, policy: PixelPolicy, code: str | None
) -> None:
    wsm(tmp_path / "a.dcm", he(300, 300), BurnedInAnnotation="YES")
    made = make([tmp_path / "a.dcm"], pixels=policy)
    assert made.refused == ({} if code is None else {1: code})
    assert len(made.rows) == (code is None)


@pytest.mark.parametrize("tile", [256, 100])  # of a size that is kept undecoded, and of one that is not
def test_what_a_lossy_codec_gives_beyond_bits_stored_is_white(tmp_path: Path, tile: int) -> None:
    pixels = np.zeros((tile, tile), np.uint16)
    pixels[:, ::8], pixels[tile // 4 : tile // 2, tile // 4 : tile // 2] = 4095, 4095
    stream = bytes(imagecodecs.jpeg2k_encode(pixels, level=45, codecformat="j2k", reversible=False))
    decoded = imagecodecs.jpeg2k_decode(stream)
    assert decoded.max() > 4095
    wsm(
        tmp_path / "a.dcm",
        pixels,
        tile=tile,
        frames=[stream],
        syntax="1.2.840.10008.1.2.4.91",
        BitsStored=12,
        HighBit=11,
    )
    got = make([tmp_path / "a.dcm"]).level(0)
    assert np.array_equal(got.reshape(tile, tile), np.minimum(decoded, 4095))
