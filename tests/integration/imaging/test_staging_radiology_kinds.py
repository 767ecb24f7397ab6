"""Kinds of images beside CT and MR volumes: labels on their source, doses, maps, colour, cine, radiographs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dicom_files
import highdicom
import matplotlib
import numpy as np
import pydicom
import pytest
from archive import instance, real, series, uid, write
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from PIL import Image, ImageDraw, ImageFont
from pydicom.sr.codedict import codes
from test_staging_radiology import Staged

SECRET_LABEL = "Dr Doe's lesion"


def described(number: int) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=SECRET_LABEL,
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=(codes.SCT.Lung, codes.SCT.Bone)[(number - 1) % 2],
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
    )


def segmentation(
    sources: list[Path], masks: np.ndarray[Any, Any], kind: str = "BINARY", **changes: Any
) -> pydicom.Dataset:
    """Of ``masks`` (slices in the order of ``sources``, y, x[, segments])."""
    segments = (
        masks.shape[3] if masks.ndim == 4 else max(1, int(masks.max()) if masks.dtype.kind in "iu" else 1)
    )
    made = Segmentation(
        source_images=[pydicom.dcmread(path) for path in sources],
        pixel_array=masks,
        segmentation_type=SegmentationTypeValues(kind),
        segment_descriptions=[described(number) for number in range(1, segments + 1)],
        series_instance_uid=uid("seg"),
        series_number=9,
        sop_instance_uid=uid("seg", "i"),
        instance_number=1,
        manufacturer="hdrs",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
        max_fractional_value=200,
    )
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def ours(staged: Staged, number: int) -> Any:
    return staged.group(number).attrs["hdrs-hpc"]


def of_kind(staged: Staged, kind: str) -> int:
    (number,) = (number for number, row in enumerate(staged.rows) if row["kind"] == kind)
    return number


def ascending(tmp_path: Path, slices: int = 6) -> list[Path]:
    """Files of a CT series, lowest first."""
    return series(tmp_path / "a", slices=slices)[::-1]


def test_a_segmentation_lies_voxel_for_voxel_on_its_series(tmp_path: Path) -> None:
    sources = ascending(tmp_path)
    masks = np.zeros((6, 128, 128), np.uint8)
    masks[2, 10:20, 30:50] = 1
    masks[4, 40:60, 5:9] = 2
    masks[4, 70:80, 5:9] = 1
    segmentation(sources, masks).save_as(tmp_path / "a" / "seg.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    label, volume = of_kind(staged, "label"), of_kind(staged, "volume")
    row = staged.rows[label]
    assert (row["aligned_to"], row["same_grid"]) == (staged.rows[volume]["item"], True)
    assert (row["axes"], row["shape"], row["dtype"]) == ("zyx", [6, 128, 128], "uint8")
    assert np.array_equal(staged.voxels(label), masks)
    assert ours(staged, label)["affine_lps_mm"] == ours(staged, volume)["affine_lps_mm"]
    assert [segment["number"] for segment in ours(staged, label)["segments"]] == [1, 2]
    assert ours(staged, label)["segments"][0]["type"] == {"scheme": "SCT", "value": codes.SCT.Lung.value}
    ome: Any = staged.group(label).attrs["ome"]
    assert ome["image-label"]["source"]["image"] == "../" + staged.rows[volume]["item"].split("/")[1]


def test_no_word_of_a_segments_label_reaches_the_copy(tmp_path: Path) -> None:
    sources = ascending(tmp_path, 2)
    segmentation(sources, np.ones((2, 128, 128), np.uint8)).save_as(tmp_path / "a" / "seg.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    assert len(staged.rows) == 2
    for path in staged.builder.paths():
        assert b"Doe" not in staged.builder.read(path)


def test_segments_that_overlap_are_channels(tmp_path: Path) -> None:
    sources = ascending(tmp_path, 3)
    masks = np.zeros((3, 128, 128, 2), np.uint8)
    masks[1, 10:30, 10:30, 0] = 1
    masks[1, 20:40, 20:40, 1] = 1
    segmentation(sources, masks).save_as(tmp_path / "a" / "seg.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    label = of_kind(staged, "label")
    assert (staged.rows[label]["axes"], staged.rows[label]["shape"]) == ("czyx", [2, 3, 128, 128])
    assert np.array_equal(staged.voxels(label), masks.transpose(3, 0, 1, 2))
    assert ours(staged, label)["encoding"] == "channels"
    assert staged.report.notes["label-overlap"] == 1


def test_fractions_stay_fractions(tmp_path: Path) -> None:
    sources = ascending(tmp_path, 2)
    masks = np.zeros((2, 128, 128), np.float32)
    masks[1, 5:9, 5:9] = 0.5
    segmentation(sources, masks, "FRACTIONAL").save_as(tmp_path / "a" / "seg.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    label = of_kind(staged, "label")
    assert staged.rows[label]["axes"] == "czyx"
    assert ours(staged, label)["fraction_of"] == 200
    assert np.array_equal(staged.voxels(label)[0], np.where(masks > 0, 100, 0))


def test_a_segmentation_without_its_series_keeps_a_grid_of_its_own_with_the_gaps_filled(
    tmp_path: Path,
) -> None:
    sources = ascending(tmp_path)
    masks = np.zeros((6, 128, 128), np.uint8)
    masks[1, :9] = masks[2, :8] = masks[5, :7] = 1
    segmentation(sources, masks).save_as(tmp_path / "a" / "seg.dcm")
    for path in sources:
        path.unlink()
    staged = Staged(tmp_path / "a", tmp_path)
    (row,) = staged.rows
    assert (row["shape"], row["aligned_to"], row["uniform_spacing"]) == ([5, 128, 128], None, True)
    assert np.array_equal(staged.voxels(), masks[1:])
    assert staged.report.notes == {"label-own-grid": 1, "source-not-staged": 1}


def test_the_opt_out_and_the_selection_hold_for_labels_too(tmp_path: Path) -> None:
    sources = ascending(tmp_path, 2)
    segmentation(sources, np.ones((2, 128, 128), np.uint8)).save_as(tmp_path / "a" / "seg.dcm")
    staged = Staged(tmp_path / "a", tmp_path, select={"Modality": ["CT"]})
    assert [row["kind"] for row in staged.rows] == ["volume"]
    assert staged.refused == {"not-selected": (3,)}


def test_a_dose_keeps_its_own_grid_and_its_scale(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shutil.copy(real("rtdose.dcm"), tmp_path / "a")
    staged = Staged(tmp_path / "a", tmp_path)
    (row,) = staged.rows
    dataset = pydicom.dcmread(real("rtdose.dcm"))
    offsets = [float(part) for part in dataset.GridFrameOffsetVector]
    frames = dataset.pixel_array
    if offsets[-1] < offsets[0]:
        frames = frames[::-1]
    assert (row["kind"], row["shape"]) == ("dose", list(frames.shape))
    assert np.array_equal(staged.voxels(), frames)
    assert ours(staged, 0)["rescale"]["slope"] == float(dataset.DoseGridScaling)
    positions = [position[2] for position in ours(staged, 0)["slice_positions_mm"]]
    assert np.ptp(positions) == pytest.approx(abs(offsets[-1] - offsets[0]))


def test_a_parametric_map_stays_float_and_lies_on_its_source(tmp_path: Path) -> None:
    sources = ascending(tmp_path, 3)
    values = np.random.default_rng(2).normal(size=(3, 128, 128)).astype(np.float32)
    highdicom.pm.ParametricMap(
        source_images=[pydicom.dcmread(path) for path in sources],
        pixel_array=values,
        series_instance_uid=uid("pm"),
        series_number=3,
        sop_instance_uid=uid("pm", "i"),
        instance_number=1,
        manufacturer="hdrs",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            highdicom.pm.RealWorldValueMapping(
                lut_label="1",
                lut_explanation="none",
                unit=codes.UCUM.Millimeter,
                value_range=(-1e6, 1e6),
                slope=2.0,
                intercept=1.0,
            )
        ],
        window_center=0,
        window_width=1,
    ).save_as(tmp_path / "a" / "pm.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    number = of_kind(staged, "map")
    row = staged.rows[number]
    assert (row["dtype"], row["units"], row["same_grid"]) == ("float32", "mm", True)
    assert np.array_equal(staged.voxels(number), values)
    assert ours(staged, number)["rescale"]["slope"] == 2.0


def test_a_colour_cine_is_time_by_channel(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shutil.copy(real("examples_ybr_color.dcm"), tmp_path / "a")
    staged = Staged(tmp_path / "a", tmp_path, released=frozenset({1}))
    ((row,), attributes) = staged.rows, ours(staged, 0)
    dataset = pydicom.dcmread(real("examples_ybr_color.dcm"))
    assert (row["kind"], row["axes"]) == ("cine", "tcyx")
    assert row["shape"] == [int(dataset.NumberOfFrames), 3, dataset.Rows, dataset.Columns]
    assert [channel["name"] for channel in attributes["channels"]] == ["red", "green", "blue"]
    assert attributes["axis_t"]["meaning"] == "time-offset-ms"
    assert attributes["source"]["lossy"]
    assert attributes["affine_lps_mm"] is None
    array: Any = staged.group()["0"]
    assert array.chunks[1] == 3  # one read gives a whole colour


def test_a_large_radiograph_is_read_in_tiles(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 4096, (1500, 1100), dtype=np.uint16)
    dataset = instance(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2",
        Modality="MG",
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        Rows=1500,
        Columns=1100,
        PixelRepresentation=0,
        PhotometricInterpretation="MONOCHROME1",
        ImagerPixelSpacing=[0.07, 0.07],
        PixelData=pixels.tobytes(),
        BurnedInAnnotation="NO",
    )
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    write(dataset, tmp_path / "a" / "mg.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    (row,) = staged.rows
    assert (row["kind"], row["axes"], row["spacing_mm"]) == ("image", "yx", [0.07, 0.07])
    array: Any = staged.group()["0"]
    assert array.chunks == (512, 512)
    assert np.array_equal(staged.voxels(), pixels)
    assert staged.report.notes["inverted-greyscale"] == 1
    assert [path for path in staged.builder.paths(row["item"]) if "/c/" in path] == [f"{row['item']}/0/c/0/0"]


def test_slices_keep_their_own_rescale(tmp_path: Path) -> None:
    for place in range(3):
        dataset = instance(
            SeriesInstanceUID=uid("pet"),
            SOPInstanceUID=uid("pet", place),
            SOPClassUID="1.2.840.10008.5.1.4.1.1.128",
            Modality="PT",
            Units="BQML",
            ImagePositionPatient=[0.0, 0.0, 4.0 * place],
            RescaleSlope=str(0.5 + place),
            RescaleIntercept="0",
        )
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        write(dataset, tmp_path / "a" / f"{place}.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    assert ours(staged, 0)["rescale"] == {"slope": [0.5, 1.5, 2.5], "intercept": 0.0, "per_slice": True}
    assert staged.rows[0]["units"] == "Bq/mL"


def ultrasound(path: Path, **attributes: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A colour ultrasound image with one region and a banner above it; gives its pixels."""
    pixels = np.random.default_rng(6).integers(1, 255, (60, 80, 3), dtype=np.uint8)
    region = pydicom.Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 10, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 69, 59
    region.RegionSpatialFormat, region.RegionDataType = 1, 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.03
    values: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1",
        "Modality": "US",
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": "RGB",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "Rows": 60,
        "Columns": 80,
        "ImagePositionPatient": None,
        "ImageOrientationPatient": None,
        "PixelSpacing": None,
        "SequenceOfUltrasoundRegions": [region],
    }
    dataset = instance(**{**values, **attributes})
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset["PixelData"].VR = "OB"
    dataset.PixelData = pixels.tobytes()
    write(dataset, path)
    return pixels


@pytest.mark.parametrize(
    ("policy", "code"), [("refuse", "burned-in-annotation"), ("hold", "held-for-person")]
)
def test_an_ultrasound_image_stays_out_unless_it_may_be_blanked(
    tmp_path: Path, policy: str, code: str
) -> None:
    ultrasound(tmp_path / "a" / "us.dcm")
    staged = Staged(tmp_path / "a", tmp_path, burned_in=policy)
    assert staged.refused == {code: (1,)}
    assert staged.report.failed == 0


def test_outside_the_ultrasound_region_nothing_is_left_and_inside_nothing_changes(tmp_path: Path) -> None:
    pixels = ultrasound(tmp_path / "a" / "us.dcm")
    staged = Staged(tmp_path / "a", tmp_path, burned_in="blank")
    got = staged.voxels().transpose(1, 2, 0)
    assert np.array_equal(got[20:60, 10:70], pixels[20:60, 10:70])
    got[20:60, 10:70] = 0
    assert not got.any()
    assert staged.rows[0]["spacing_mm"] == [0.3, 0.2]
    assert staged.report.notes["blanked"] == 1
    assert ours(staged, 0)["ultrasound_regions"][0]["rows"] == [20, 59]
    assert ours(staged, 0)["blanked"]


def test_an_image_that_a_person_released_is_taken_whole(tmp_path: Path) -> None:
    pixels = ultrasound(tmp_path / "a" / "us.dcm")
    staged = Staged(tmp_path / "a", tmp_path, burned_in="hold", released=frozenset({1}))
    assert np.array_equal(staged.voxels().transpose(1, 2, 0), pixels)


def radiograph(path: Path, pixels: np.ndarray[Any, np.dtype[np.uint16]]) -> None:
    dataset = instance(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1",
        Modality="DX",
        BurnedInAnnotation="NO",
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        PixelRepresentation=0,
        PixelPaddingValue=None,
        PixelData=pixels.tobytes(),
    )
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    write(dataset, path)


def without_text() -> np.ndarray[Any, np.dtype[np.uint16]]:
    y, x = np.mgrid[0:400, 0:500]
    return (600 + 200 * np.sin(y / 61) * np.cos(x / 83)).astype(np.uint16)


def with_text() -> np.ndarray[Any, np.dtype[np.uint16]]:
    pixels = without_text()
    face = Image.new("L", (500, 400))
    font = ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size=28
    )
    ImageDraw.Draw(face).text((40, 30), "SMITH JOHN 12/03/1956", fill=255, font=font)
    pixels[np.asarray(face) > 100] = 3000
    return pixels


@pytest.mark.parametrize(
    ("policy", "refused"),
    [("refuse", {"burned-in-annotation": (1,)}), ("hold", {"held-for-person": (1,)}), ("blank", {})],
)
def test_the_detector_finds_text_that_a_header_denies(
    tmp_path: Path, policy: str, refused: dict[str, tuple[int, ...]]
) -> None:
    radiograph(tmp_path / "a" / "dx.dcm", with_text())
    staged = Staged(tmp_path / "a", tmp_path, burned_in=policy, find_text=True)
    assert staged.refused == refused
    if policy == "blank":
        letters = with_text() == 3000
        assert not (staged.voxels()[letters] == 3000).any()
        untouched = staged.voxels() == with_text()
        assert untouched[150:].all()
    else:
        assert staged.rows == []


def test_an_image_without_text_passes_the_detector_untouched(tmp_path: Path) -> None:
    pixels = without_text()
    radiograph(tmp_path / "a" / "dx.dcm", pixels)
    staged = Staged(tmp_path / "a", tmp_path, find_text=True)
    assert np.array_equal(staged.voxels(), pixels)


DOSE, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.66.7"


def painted(path: Path, sop_class: str, modality: str, **changes: Any) -> None:
    """A computed object that is really a screen with text."""
    pixels = with_text().astype("<u2")
    made = dicom_files.dataset(
        sop_class,
        Modality=modality,
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        PixelData=pixels.tobytes(),
        **changes,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom_files.encoded(made))


@pytest.mark.parametrize("changes", [{}, {"BurnedInAnnotation": "YES"}])
def test_text_in_a_dose_is_found_and_blanked_as_in_any_image(tmp_path: Path, changes: dict[str, str]) -> None:
    painted(tmp_path / "a" / "dose.dcm", DOSE, "RTDOSE", DoseGridScaling="0.1", **changes)
    staged = Staged(tmp_path / "a", tmp_path, burned_in="blank", find_text=True)
    assert not (staged.voxels()[with_text() == 3000] == 3000).any()


@pytest.mark.parametrize("find_text", [True, False])
@pytest.mark.parametrize(("modality", "declared"), [("SEG", "YES"), ("US", None)])
def test_a_label_that_may_hold_text_is_held_since_nothing_blanks_labels(
    tmp_path: Path, find_text: bool, modality: str, declared: str | None
) -> None:
    changes = {"SegmentationType": "LABELMAP", "BurnedInAnnotation": declared}
    painted(tmp_path / "a" / "seg.dcm", LABEL_MAP, modality, **changes)
    staged = Staged(tmp_path / "a", tmp_path, burned_in="blank", find_text=find_text)
    assert staged.refused == {"held-for-person": (1,)}
