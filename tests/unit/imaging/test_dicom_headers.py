"""What a parser says of each kind of image: place, time, scale, labels, attributes."""

import struct
from typing import Any

import numpy as np
import pytest
from dicom_files import dataset, encoded, header, item, refusal
from pydicom import uid
from pydicom.dataset import Dataset

AXIAL = [1, 0, 0, 0, 1, 0]


def _frames(count: int) -> dict[str, Any]:
    return {"NumberOfFrames": count, "PixelData": bytes(12 * count)}


@pytest.mark.parametrize(
    "sop_class",
    [
        uid.BasicTextSRStorage, uid.GrayscaleSoftcopyPresentationStateStorage, uid.KeyObjectSelectionDocumentStorage,
        uid.RTPlanStorage, uid.RTStructureSetStorage, uid.TwelveLeadECGWaveformStorage, uid.EncapsulatedPDFStorage,
        uid.EncapsulatedSTLStorage, uid.EncapsulatedCDAStorage, uid.RawDataStorage, uid.MRSpectroscopyStorage,
        uid.SpatialRegistrationStorage, uid.SurfaceSegmentationStorage,
    ],
)  # fmt: skip
def test_objects_without_pixels_are_refused_by_rule(sop_class: str) -> None:
    assert refusal(encoded(dataset(sop_class))) == "unsupported-sop-class"
    assert (
        refusal(encoded(dataset(sop_class, PixelData=None, Rows=None, Columns=None)))
        == "unsupported-sop-class"
    )


def test_a_directory_of_media_is_no_imaging() -> None:
    assert refusal(encoded(dataset(uid.MediaStorageDirectoryStorage, PixelData=None))) == "not-imaging"


@pytest.mark.parametrize(
    "sop_class",
    [
        uid.CTImageStorage, uid.EnhancedCTImageStorage, uid.MRImageStorage, uid.EnhancedMRImageStorage,
        uid.EnhancedMRColorImageStorage, uid.LegacyConvertedEnhancedMRImageStorage,
        uid.PositronEmissionTomographyImageStorage, uid.EnhancedPETImageStorage,
        uid.NuclearMedicineImageStorage, uid.UltrasoundMultiFrameImageStorage,
        uid.EnhancedUSVolumeStorage, uid.XRayAngiographicImageStorage, uid.EnhancedXAImageStorage,
        uid.DigitalMammographyXRayImageStorageForPresentation, uid.BreastTomosynthesisImageStorage, uid.RTImageStorage,
        uid.RTDoseStorage, uid.SegmentationStorage, uid.ParametricMapStorage, uid.OphthalmicTomographyImageStorage,
        uid.VLPhotographicImageStorage, uid.MultiFrameTrueColorSecondaryCaptureImageStorage, "1.2.3.4.5.6.7.8.9",
    ],
)  # fmt: skip
def test_objects_with_pixels_are_images(sop_class: str) -> None:
    assert header(encoded(dataset(sop_class)))["sop_class"] == sop_class


def test_a_classic_slice_tells_its_place_and_what_sets_it_apart() -> None:
    made = dataset(
        uid.MRImageStorage, ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=AXIAL, PixelSpacing=[0.5, 0.25],
        RescaleSlope=2, RescaleIntercept=-1024, EchoTime=30, EchoNumbers=2, FlipAngle=90, InversionTime=800,
        TriggerTime=40, TemporalPositionIdentifier=7, AcquisitionNumber=3, InstanceNumber=9, AcquisitionTime="010203.5",
        ContentTime="00:00:01", ImageType=["ORIGINAL", "PRIMARY", "M"], DiffusionBValue=1000.0,
        DiffusionGradientOrientation=[0.0, 0.6, 0.8],
    )  # fmt: skip
    (frame,) = header(encoded(made))["frames"]
    assert frame["position_mm"] == [1, 2, 3]
    assert frame["orientation"] == AXIAL
    assert frame["spacing_mm"] == [0.5, 0.25]
    assert (frame["slope"], frame["intercept"]) == (2, -1024)
    assert frame["coordinates"] == {
        "echo-time-ms": 30, "echo-number": 2, "flip-angle-deg": 90, "inversion-time-ms": 800, "trigger-time-ms": 40,
        "temporal-position": 7, "acquisition-number": 3, "instance-number": 9, "acquisition-time-s": 3723.5,
        "content-time-s": 1, "b-value": 1000, "gradient-x": 0, "gradient-y": 0.6, "gradient-z": 0.8,
    }  # fmt: skip
    assert frame["split"][0] == "ORIGINAL/PRIMARY/M"


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({"ImagerPixelSpacing": [0.1, 0.2]}, [0.1, 0.2]),
        ({"PixelSpacing": [0.3, 0.4], "ImagerPixelSpacing": [0.1, 0.2]}, [0.3, 0.4]),
        ({"NominalScannedPixelSpacing": [0.5, 0.6]}, [0.5, 0.6]),
        ({"ImagePlanePixelSpacing": [0.7, 0.8]}, [0.7, 0.8]),
        ({"PixelSpacing": [0.3, 0.4], "ImagePlanePixelSpacing": [0.7, 0.8]}, [0.3, 0.4]),
        ({"PixelSpacing": [0, 0]}, None),
        ({}, None),
    ],
)
def test_spacing_is_taken_from_the_best_attribute(
    attributes: dict[str, Any], spacing: list[float] | None
) -> None:
    assert header(encoded(dataset(**attributes)))["frames"][0]["spacing_mm"] == spacing


@pytest.mark.parametrize(
    ("attributes", "placed"),
    [
        ({}, False),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, False),
        ({"AcquisitionMatrix": [0, 1, 1, 0]}, False),
        ({"AcquisitionMatrix": [0, 3, 3, 0]}, True),  # one tile, cut out by another program
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}, True),
    ],
)
def test_a_mosaic_that_nothing_tells_how_to_cut_has_no_place(
    attributes: dict[str, Any], placed: bool
) -> None:
    mosaic: dict[str, Any] = {
        "ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": AXIAL, "PixelSpacing": [0.5, 0.25],
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
    }  # fmt: skip
    if "SamplesPerPixel" in attributes:
        mosaic |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": bytes(18)}
    (frame,) = header(encoded(dataset(uid.MRImageStorage, **mosaic | attributes)))["frames"]
    assert frame["position_mm"] == ([1, 2, 3] if placed else None)
    assert frame["orientation"] == (AXIAL if placed else None)
    assert frame["spacing_mm"] == [0.5, 0.25]


def _region(**changes: Any) -> Dataset:
    values = {
        "RegionLocationMinX0": 1, "RegionLocationMinY0": 2, "RegionLocationMaxX1": 30, "RegionLocationMaxY1": 40,
        "PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3, "PhysicalDeltaX": 0.02, "PhysicalDeltaY": -0.01,
    }  # fmt: skip
    return item(**values | changes)


def test_an_ultrasound_region_gives_its_rectangle_and_calibration() -> None:
    said = header(encoded(dataset(SequenceOfUltrasoundRegions=[_region()])))
    assert said["regions"] == [
        {"x0": 1, "y0": 2, "x1": 30, "y1": 40, "spacing_mm": [0.1, 0.2], "spatial_format": 0}
    ]
    assert said["frames"][0]["spacing_mm"] == [0.1, 0.2]


def test_regions_that_disagree_or_measure_time_calibrate_nothing() -> None:
    other = _region(PhysicalDeltaX=0.05)
    assert (
        header(encoded(dataset(SequenceOfUltrasoundRegions=[_region(), other])))["frames"][0]["spacing_mm"]
        is None
    )
    doppler = _region(PhysicalUnitsXDirection=4)
    assert header(encoded(dataset(SequenceOfUltrasoundRegions=[doppler])))["regions"][0]["spacing_mm"] is None


@pytest.mark.parametrize(
    ("attributes", "times"),
    [({"FrameTime": 40}, [0, 40, 80]), ({"FrameTimeVector": [0, 30, 50]}, [0, 30, 80]), ({}, [None] * 3)],
)
def test_cine_frames_tell_their_time(attributes: dict[str, Any], times: list[float | None]) -> None:
    said = header(encoded(dataset(uid.UltrasoundMultiFrameImageStorage, **_frames(3), **attributes)))
    assert [frame["coordinates"].get("time-offset-ms") for frame in said["frames"]] == times
    assert [frame["coordinates"]["frame-number"] for frame in said["frames"]] == [1, 2, 3]
    assert said["frames"][1]["position_mm"] is None


@pytest.mark.parametrize(("offsets", "z"), [([0, 2, 5], [-3, -1, 2]), ([-3, -1, 2], [-3, -1, 2])])
def test_a_dose_is_placed_and_scaled(offsets: list[float], z: list[float]) -> None:
    made = dataset(
        uid.RTDoseStorage, **_frames(3), GridFrameOffsetVector=offsets, DoseGridScaling=0.001, DoseUnits="GY",
        ImagePositionPatient=[1, 2, -3], ImageOrientationPatient=AXIAL, PixelSpacing=[2, 2],
    )  # fmt: skip
    said = header(encoded(made))
    assert [frame["position_mm"] for frame in said["frames"]] == [[1, 2, place] for place in z]
    assert {frame["slope"] for frame in said["frames"]} == {0.001}
    assert said["units"] == {"value": "Gy", "scheme": "UCUM"}


def test_reconstructed_nuclear_slices_are_placed_and_gates_told() -> None:
    made = dataset(
        uid.NuclearMedicineImageStorage, **_frames(4), SliceVector=[1, 2, 1, 2], TimeSlotVector=[1, 1, 2, 2],
        EnergyWindowVector=[1, 1, 1, 1], SpacingBetweenSlices=-4, PixelSpacing=[3, 3],
        DetectorInformationSequence=[item(ImagePositionPatient=[0, 0, 8], ImageOrientationPatient=AXIAL)],
        GatedInformationSequence=[item(DataInformationSequence=[item(FrameTime=50)])],
    )  # fmt: skip
    said = header(encoded(made))["frames"]
    assert [frame["position_mm"][2] for frame in said] == [8, 4, 8, 4]
    assert [frame["coordinates"]["trigger-time-ms"] for frame in said] == [0, 0, 50, 50]
    assert [frame["coordinates"]["temporal-position"] for frame in said] == [1, 1, 2, 2]
    assert said[0]["orientation"] == AXIAL


def _enhanced(**changes: Any) -> Dataset:
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)],
        PixelMeasuresSequence=[item(PixelSpacing=[1, 2], SliceThickness=5)],
        PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=0)],
        MRTimingAndRelatedParametersSequence=[item(RepetitionTime=2000.0, FlipAngle=70.0)],
        MREchoSequence=[item(EffectiveEchoTime=35.0)],
        FrameAnatomySequence=[
            item(
                FrameLaterality="U",
                AnatomicRegionSequence=[item(CodeValue="T-A0100", CodingSchemeDesignator="SRT")],
            )
        ],
    )
    frames = [
        item(
            FrameContentSequence=[
                item(StackID="1", InStackPositionNumber=number + 1, TemporalPositionIndex=4)
            ],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 3 * number])],
            PixelValueTransformationSequence=[item(RescaleSlope=number + 1, RescaleIntercept=-number)],
            MRDiffusionSequence=[
                item(
                    DiffusionBValue=500.0 * number,
                    DiffusionGradientDirectionSequence=[item(DiffusionGradientOrientation=[0.0, 0.0, 1.0])],
                )
            ],
        )
        for number in range(2)
    ]
    values = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    return dataset(uid.EnhancedMRImageStorage, **_frames(2), **values | changes)


def test_a_frames_own_groups_go_before_the_shared_ones() -> None:
    first, second = header(encoded(_enhanced()))["frames"]
    assert (first["slope"], second["slope"], second["intercept"]) == (1, 2, -1)
    assert second["position_mm"] == [0, 0, 3]
    assert second["orientation"] == AXIAL
    assert second["spacing_mm"] == [1, 2]
    assert second["coordinates"] == {
        "frame-number": 2, "temporal-position": 4, "b-value": 500, "gradient-x": 0, "gradient-y": 0, "gradient-z": 1,
        "echo-time-ms": 35, "flip-angle-deg": 70, "repetition-time-ms": 2000,
    }  # fmt: skip
    assert second["split"][2] == "1"


def test_attributes_are_found_in_groups_under_the_names_of_classic_objects() -> None:
    wanted = ["RepetitionTime", "EchoTime", "SliceThickness", "BodyPartExamined", "RescaleSlope", "Laterality",
              "FrameAnatomySequence.FrameLaterality", "AnatomicRegionSequence.CodeValue"]  # fmt: skip
    assert header(encoded(_enhanced()), *wanted)["attributes"] == {
        "RepetitionTime": 2000, "EchoTime": 35, "SliceThickness": 5, "BodyPartExamined": "BRAIN", "Laterality": "U",
        "RescaleSlope": 1, "FrameAnatomySequence.FrameLaterality": "U", "AnatomicRegionSequence.CodeValue": "T-A0100",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "scheme", "part"),
    [
        ("416775004", "SCT", "CHESTABDPELVIS"),
        ("416550000", "SCT", "CHESTABDOMEN"),
        ("816094009", "SCT", "CHEST"),
        ("T-D3000", "SRT", "CHEST"),
        ("416775004", "99HERE", None),
    ],
)
def test_a_coded_region_is_the_body_part_of_the_standard(code: str, scheme: str, part: str | None) -> None:
    region = item(CodeValue=code, CodingSchemeDesignator=scheme)
    made = dataset(AnatomicRegionSequence=[region])
    assert header(encoded(made), "BodyPartExamined")["attributes"].get("BodyPartExamined") == part


def test_an_attribute_that_varies_between_frames_is_not_told_as_one() -> None:
    made = _enhanced(SharedFunctionalGroupsSequence=[Dataset()])
    assert header(encoded(made), "RescaleSlope", "TemporalPositionIndex")["attributes"] == {
        "TemporalPositionIndex": 4
    }


def test_frames_without_their_groups_are_refused() -> None:
    made = _enhanced()
    made.PerFrameFunctionalGroupsSequence = made.PerFrameFunctionalGroupsSequence[:1]
    assert refusal(encoded(made)) == "malformed-dicom"


def test_a_segmentation_tells_segments_by_code_and_frame_and_its_sources() -> None:
    groups = [
        item(
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
            DerivationImageSequence=[
                item(SourceImageSequence=[item(ReferencedSOPInstanceUID=f"1.9.{number}")])
            ],
        )
        for number in (1, 2)
    ]
    liver = [item(CodeValue="10200004", CodingSchemeDesignator="SCT", CodeMeaning="Liver")]
    made = dataset(
        uid.SegmentationStorage, NumberOfFrames=2, PixelData=b"\x2a\x01", BitsAllocated=1, BitsStored=1, HighBit=0,
        SegmentationType="BINARY", PerFrameFunctionalGroupsSequence=groups, SharedFunctionalGroupsSequence=[Dataset()],
        SegmentSequence=[item(SegmentNumber=1, SegmentLabel="Jane's liver", SegmentAlgorithmType="MANUAL",
                              SegmentedPropertyTypeCodeSequence=liver)],
        ReferencedSeriesSequence=[
            item(SeriesInstanceUID="1.8", ReferencedInstanceSequence=[item(ReferencedSOPInstanceUID="1.9.3")])
        ],
    )  # fmt: skip
    said = header(encoded(made))
    assert said["segmentation"] == "BINARY"
    assert said["value_type"] == "bit"
    assert said["segments"] == [
        {"number": 1, "category": None, "type": {"value": "10200004", "scheme": "SCT"}, "algorithm": "MANUAL"}
    ]
    assert [frame["segment"] for frame in said["frames"]] == [1, 2]
    assert [frame["split"][-1] for frame in said["frames"]] == ["1", "2"]
    assert said["source_series"] == ["1.8"]
    assert set(said["source_instances"]) == {"1.9.1", "1.9.2", "1.9.3"}
    assert "Jane" not in str(said)


def test_a_parametric_maps_values_are_mapped_with_their_unit() -> None:
    unit = [item(CodeValue="um2/s", CodingSchemeDesignator="UCUM")]
    mapping = item(RealWorldValueSlope=0.5, RealWorldValueIntercept=2.0, MeasurementUnitsCodeSequence=unit)
    groups = [item(RealWorldValueMappingSequence=[mapping])]
    said = header(encoded(dataset(uid.ParametricMapStorage, SharedFunctionalGroupsSequence=groups)))
    assert (said["frames"][0]["slope"], said["frames"][0]["intercept"]) == (0.5, 2)
    assert said["units"] == {"value": "um2/s", "scheme": "UCUM"}


@pytest.mark.parametrize(
    ("signed", "value", "limit", "wanted"),
    [
        (1, -2000, None, [-2000, -2000]),
        (0, 63536, None, [63536, 63536]),
        (1, -2000, -1500, [-2000, -1500]),
        (0, 0, 5, [0, 5]),
    ],
)
def test_padding_is_told_as_stored_values(
    signed: int, value: int, limit: int | None, wanted: list[int]
) -> None:
    made = dataset(PixelRepresentation=signed, PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
    assert header(encoded(made))["padding"] == wanted
    assert header(encoded(made, uid.ImplicitVRLittleEndian))["padding"] == wanted


def test_a_modality_lut_is_told_whole() -> None:
    lut = item(LUTDescriptor=[4, -2, 16], LUTData=struct.pack("<4H", 1, 2, 3, 65535))
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "SS", "OW"
    made = dataset(PixelRepresentation=1, ModalityLUTSequence=[lut])
    assert header(encoded(made))["modality_lut"] == {"first": -2, "values": [1, 2, 3, 65535]}


@pytest.mark.parametrize(
    ("group", "creator", "elements", "wanted"),
    [
        (0x0019, "SIEMENS MR HEADER", {0x0C: ("IS", "800"), 0x0E: ("FD", [0.0, 0.6, 0.8])}, (800, 0.6)),
        (0x0065, "Image Private Header", {0x09: ("FD", 700.0), 0x37: ("FD", [0.0, 1.0, 0.0])}, (700, 1)),
        (0x0043, "GEMS_PARM_01", {0x39: ("IS", [1000000900, 8, 0, 0])}, (900, None)),
        (
            0x0019,
            "SIEMENS MR HEADER",
            {0x0C: ("UN", b"800 "), 0x0E: ("UN", struct.pack("<3d", 0, 0.6, 0.8))},
            (800, 0.6),
        ),
    ],
)
def test_vendors_private_diffusion_is_read(
    group: int, creator: str, elements: dict[int, tuple[str, Any]], wanted: tuple[float, float | None]
) -> None:
    made = dataset(uid.MRImageStorage)
    block = made.private_block(group, creator, create=True)
    for element, (vr, value) in elements.items():
        block.add_new(element, vr, value)
    coordinates = header(encoded(made))["frames"][0]["coordinates"]
    assert (coordinates["b-value"], coordinates.get("gradient-y")) == wanted


def test_private_elements_without_their_creator_mean_nothing() -> None:
    made = dataset(uid.MRImageStorage)
    made.add_new(0x0019100C, "IS", "800")
    assert "b-value" not in header(encoded(made))["frames"][0]["coordinates"]


def test_dotted_keywords_read_the_first_item_of_a_sequence() -> None:
    made = dataset(
        RadiopharmaceuticalInformationSequence=[
            item(RadionuclideHalfLife=6586.2, RadiopharmaceuticalVolume=3)
        ]
    )
    said = header(
        encoded(made), "RadiopharmaceuticalInformationSequence.RadionuclideHalfLife", "A.B", "PatientID.X"
    )
    assert said["attributes"] == {"RadiopharmaceuticalInformationSequence.RadionuclideHalfLife": 6586.2}


@pytest.mark.parametrize(("said", "wanted"), [("1A", "malformed-dicom"), ("0", ""), ("", ""), (" 1", "")])
def test_a_number_of_frames_that_is_none_is_refused_and_an_empty_one_is_one(said: str, wanted: str) -> None:
    data = encoded(dataset(NumberOfFrames="11"))
    raw = said.encode().ljust(2)
    assert (
        refusal(data.replace(b"\x28\x00\x08\x00IS\x02\x0011", b"\x28\x00\x08\x00IS\x02\x00" + raw)) == wanted
    )


def test_values_of_a_wrong_vr_are_read_where_their_bytes_are_plain() -> None:
    data = encoded(dataset())
    for vr in (b"UN", b"SS", b"XX"):
        changed = data.replace(
            b"\x28\x00\x10\x00US\x02\x00\x02\x00", b"\x28\x00\x10\x00" + vr + b"\x02\x00\x02\x00"
        )
        if vr == b"UN":
            changed = data.replace(
                b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00UN\x00\x00\x02\x00\x00\x00"
            )
        assert header(changed)["rows"] == 2


def test_a_float_images_bits_are_those_of_its_type() -> None:
    values = np.zeros((2, 3), dtype="<f4")
    made = dataset(
        PixelData=None, FloatPixelData=values.tobytes(), BitsAllocated=32, BitsStored=None, HighBit=None
    )
    assert header(encoded(made))["bits_allocated"] == 32
