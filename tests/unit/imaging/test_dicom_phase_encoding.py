"""Phase-encoding polarity and slice timing, as each vendor writes them."""

from typing import Any

import numpy as np
import pytest
from dicom_files import dataset, encoded, header, item, siemens
from pydicom import uid
from pydicom.dataset import Dataset

MR = {"Modality": "MR", "InPlanePhaseEncodingDirection": "COL"}


def private(made: Dataset, group: int, creator: str, element: int, vr: str, value: Any) -> Dataset:
    made.private_block(group, creator, create=True).add_new(element, vr, value)
    return made


def first(made: Dataset) -> dict[str, Any]:
    frame: dict[str, Any] = header(encoded(made))["frames"][0]
    return frame


def mr(**attributes: Any) -> Dataset:
    return dataset(uid.MRImageStorage, **{**MR, **attributes})


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (lambda: siemens(mr(), PhaseEncodingDirectionPositive=["1"]), "column+"),
        (lambda: siemens(mr(), PhaseEncodingDirectionPositive=["0"]), "column-"),
        (lambda: siemens(mr(InPlanePhaseEncodingDirection="ROW"), PhaseEncodingDirectionPositive=["1"]), "row+"),
        (lambda: siemens(mr(), PhaseEncodingDirectionPositive=[]), "column"),
        (lambda: private(mr(), 0x0021, "SIEMENS MR SDI 02", 0x1C, "IS", "0"), "column-"),
        (lambda: private(mr(), 0x0065, "Image Private Header", 0x58, "IS", "1"), "column-"),
        (
            lambda: mr(
                Manufacturer="GE MEDICAL SYSTEMS", ScanningSequence=["EP", "SE"],
                RectilinearPhaseEncodeReordering="REVERSE_LINEAR",
            ),
            "column+",
        ),
        (
            lambda: mr(
                Manufacturer="GE MEDICAL SYSTEMS", ScanningSequence="EP", RectilinearPhaseEncodeReordering="LINEAR"
            ),
            "column-",
        ),
        (lambda: mr(Manufacturer="Philips", RectilinearPhaseEncodeReordering="LINEAR"), "column"),
        (lambda: mr(InPlanePhaseEncodingDirection="OTHER"), ""),
        (lambda: mr(InPlanePhaseEncodingDirection=None), ""),
    ],
)  # fmt: skip
def test_axis_and_polarity_as_vendors_write_them(made: Any, wanted: str) -> None:
    assert first(made())["phase_encoding"] == wanted


def test_axis_and_polarity_of_each_frame_of_an_enhanced_image() -> None:
    groups = []
    for positive in ("1", "0"):
        group = item(MRFOVGeometrySequence=[item(InPlanePhaseEncodingDirection="COLUMN")])
        inner = private(Dataset(), 0x0021, "SIEMENS MR SDI 02", 0x1C, "IS", positive)
        groups.append(private(group, 0x0021, "SIEMENS MR SDI 02", 0xFE, "SQ", [inner]))
    made = dataset(
        uid.EnhancedMRImageStorage, NumberOfFrames=2, Modality="MR", PerFrameFunctionalGroupsSequence=groups,
        PixelData=bytes(24),
    )  # fmt: skip
    frames = header(encoded(made))["frames"]
    assert [frame["phase_encoding"] for frame in frames] == ["column+", "column-"]


@pytest.mark.parametrize("by", ["csa", "element"])
def test_a_mosaics_tiles_have_their_own_times(by: str) -> None:
    made = mr(
        Rows=4, Columns=4, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"], PixelData=bytes(32),
        ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[2, 2],
        SliceThickness=3, AcquisitionTime="101112.5",
    )  # fmt: skip
    times = ["0", "1250", "62.5"]
    if by == "csa":
        siemens(made, MosaicRefAcqTimes=times, NumberOfImagesInMosaic=["3"])
    else:
        private(made, 0x0019, "SIEMENS MR HEADER", 0x29, "FD", [float(time) for time in times])
        made.private_block(0x0019, "SIEMENS MR HEADER").add_new(0x0A, "US", 3)
    frames = header(encoded(made))["frames"]
    assert [frame["coordinates"]["slice-time-s"] for frame in frames] == [0, 1.25, 0.0625]


def test_trigger_times_of_ges_echo_planar_images_are_slice_times() -> None:
    made = mr(Manufacturer="GE MEDICAL SYSTEMS", ScanningSequence=["EP", "GR"], TriggerTime=733)
    assert first(made)["coordinates"]["slice-time-s"] == 0.733
    made.Manufacturer = "SIEMENS"
    assert "slice-time-s" not in first(made)["coordinates"]


@pytest.mark.parametrize(
    "change",
    [
        {"ScanningSequence": "SE"}, {"ReceiveCoilName": "HEAD"}, {"SliceThickness": 5}, {"ScanOptions": ["MT", "FS"]},
        {"ContrastBolusAgent": "GADO"}, {"ReconstructionMethod": "OSEM"}, {"CorrectedImage": ["ATTN", "SCAT"]},
        {"MRAcquisitionType": "3D"}, {"FilterType": "B"},
    ],
)  # fmt: skip
def test_how_an_image_was_taken_is_a_digest_that_tells_settings_apart(change: dict[str, Any]) -> None:
    plain, again, changed = first(mr()), first(mr(PatientName="X", InstanceNumber=7)), first(mr(**change))
    assert plain["acquired"] == again["acquired"] != changed["acquired"]
    assert len(changed["acquired"]) == 16
    assert np.all([character in "0123456789abcdef" for character in changed["acquired"]])


@pytest.mark.parametrize("changed", [{"PixelBandwidth": 400}, {"PatientPosition": "FFS"}])
def test_bandwidth_and_how_the_patient_lay_tell_acquisitions_apart(changed: dict[str, Any]) -> None:
    settings = {"PixelBandwidth": 100, "PatientPosition": "HFS"}
    assert first(mr(**settings))["acquired"] != first(mr(**settings | changed))["acquired"]


def test_the_bandwidth_of_an_enhanced_image_tells_too() -> None:
    made = [
        first(
            dataset(
                uid.EnhancedMRImageStorage,
                NumberOfFrames=1,
                SharedFunctionalGroupsSequence=[
                    item(MRImagingModifierSequence=[item(PixelBandwidth=bandwidth)])
                ],
                PerFrameFunctionalGroupsSequence=[item()],
            )
        )["acquired"]
        for bandwidth in (100, 100, 400)
    ]
    assert made[0] == made[1] != made[2]
