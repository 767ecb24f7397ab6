"""Where each frame of an instance lies, and what tells it from others there (PS3.3 C.7.6.2, C.7.6.16)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.frame_increments import increment_frames
from imaging.staging.parsing.dicom.functional_groups import FunctionalGroups
from imaging.staging.parsing.dicom.mosaic import Mosaic, is_uncut, mosaic_frames
from imaging.staging.parsing.dicom.phase_encoding import (
    acquired_by,
    phase_encoding,
    siemens_frame,
    slice_time_s,
)
from imaging.staging.parsing.dicom.pixel_format import PixelFormat
from imaging.staging.parsing.dicom.regions import read_regions
from imaging.staging.parsing.dicom.sop_classes import PARAMETRIC_MAP
from imaging.staging.parsing.dicom.values import as_text, first, integer, number, numbers, text, value, vector
from imaging.staging.parsing.dicom.vendors import complex_component, diffusion
from imaging.staging.radiology.headers import Coordinate, FrameHeader


def frame_headers(
    dataset: Dataset, form: PixelFormat, groups: FunctionalGroups, mosaic: Mosaic | None
) -> list[FrameHeader]:
    """One header a frame, in stored order; absent geometry stays None."""
    if groups.present:
        constants = _constants(dataset)
        return [_enhanced(dataset, groups, index, constants) for index in range(form.frames)]
    whole = _single(dataset)
    if mosaic is not None:
        return mosaic_frames(dataset, form, mosaic, whole)
    if is_uncut(dataset, form, mosaic):
        return [whole.model_copy(update={"position_mm": None, "orientation": None})]
    if form.frames == 1 and "GridFrameOffsetVector" not in dataset and "SliceVector" not in dataset:
        return [whole]
    return increment_frames(dataset, form.frames, whole)


def _single(dataset: Dataset) -> FrameHeader:
    """The one frame of a classic object, or what all frames of an old multi-frame object share."""
    dose = number(dataset, "DoseGridScaling")
    slope = dose if dose is not None else number(dataset, "RescaleSlope")
    return FrameHeader(
        position_mm=vector(dataset, "ImagePositionPatient", 3),
        orientation=vector(dataset, "ImageOrientationPatient", 6),
        spacing_mm=_spacing(dataset),
        slope=1.0 if slope is None else slope,
        intercept=number(dataset, "RescaleIntercept") or 0.0,
        coordinates=present(
            {
                "temporal-position": number(dataset, "TemporalPositionIdentifier"),
                "time-offset-ms": number(dataset, "FrameReferenceTime"),
                "trigger-time-ms": _else(
                    number(dataset, "TriggerTime"), number(dataset, "NominalCardiacTriggerDelayTime")
                ),
                "cardiac-phase-percent": number(dataset, "NominalPercentageOfCardiacPhase"),
                "respiratory-phase-percent": number(dataset, "NominalPercentageOfRespiratoryPhase"),
                "echo-time-ms": _else(number(dataset, "EchoTime"), number(dataset, "EffectiveEchoTime")),
                "echo-number": number(dataset, "EchoNumbers"),
                "tube-voltage-kv": number(dataset, "KVP"),
                "inversion-time-ms": number(dataset, "InversionTime"),
                "flip-angle-deg": number(dataset, "FlipAngle"),
                "repetition-time-ms": number(dataset, "RepetitionTime"),
                "slice-time-s": slice_time_s(dataset),
                "acquisition-number": number(dataset, "AcquisitionNumber"),
                "acquisition-time-s": _else(
                    clock_s(text(dataset, "AcquisitionTime")), _clock_of(text(dataset, "AcquisitionDateTime"))
                ),
                "content-time-s": clock_s(text(dataset, "ContentTime")),
                "instance-number": _else(number(dataset, "InstanceNumber"), number(dataset, "ImageIndex")),
            }
        )
        | diffusion(dataset),
        split=(
            _joined(dataset, "ImageType"),
            _joined(dataset, "ConvolutionKernel"),
            text(dataset, "StackID")[:64],
            text(dataset, "ComplexImageComponent") or complex_component(dataset),
            text(dataset, "AcquisitionContrast"),
            "",
        ),
        phase_encoding=phase_encoding(text(dataset, "InPlanePhaseEncodingDirection"), (dataset,)),
        acquired=acquired_by(
            *(_joined(dataset, keyword) for keyword in _SETTINGS),
            text(first(dataset, "ContrastBolusAgentSequence") or Dataset(), "CodeValue"),
            _thickness(dataset),
        ),
    )


_SETTINGS = (
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "PulseSequenceName",
    "RectilinearPhaseEncodeReordering",
    "MagnetizationTransfer",
    "PixelBandwidth",
    "PatientPosition",
    "ReceiveCoilName",
    "ImagedNucleus",
    "ContrastBolusAgent",
    "ReconstructionAlgorithm",
    "ReconstructionMethod",
    "FilterType",
    "CorrectedImage",
)
"""What an analysis must know of how an image was taken, and that no other rule looks at."""


def _thickness(dataset: Dataset) -> str:
    told = number(dataset, "SliceThickness")
    return "" if told is None else f"{told:.2f}"


def _spacing(dataset: Dataset) -> Any:
    # Image Plane Pixel Spacing of RT Image is that of the plane at RT Image SID from the source, as Imager Pixel
    # Spacing is the detector's: neither is scaled to the isocentre (PS3.3 C.8.8.2).
    for keyword in (
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
        "ImagePlanePixelSpacing",
    ):
        spacing = vector(dataset, keyword, 2)
        if spacing is not None and min(spacing) > 0:
            return spacing
    calibrated = {region.spacing_mm for region in read_regions(dataset)}
    return calibrated.pop() if len(calibrated) == 1 else None


_FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
    "XRay3DFrameTypeSequence",
    "USImageDescriptionSequence",
    "ParametricMapFrameTypeSequence",
    "OphthalmicTomographyFrameTypeSequence",
)


def _constants(dataset: Dataset) -> dict[Coordinate, float | None]:
    return {"instance-number": number(dataset, "InstanceNumber")}


def _enhanced(
    dataset: Dataset, groups: FunctionalGroups, index: int, constants: Mapping[Coordinate, float | None]
) -> FrameHeader:
    absent = Dataset()

    def group(sequence: str) -> Dataset:
        return groups.group(sequence, index) or absent

    content = group("FrameContentSequence")
    echo, timing = group("MREchoSequence"), group("MRTimingAndRelatedParametersSequence")
    cardiac, respiratory = (
        group("CardiacSynchronizationSequence"),
        group("RespiratorySynchronizationSequence"),
    )
    offset_s = number(group("TemporalPositionSequence"), "TemporalPositionTimeOffset")
    segment = integer(group("SegmentIdentificationSequence"), "ReferencedSegmentNumber")
    kind = next((found for name in _FRAME_TYPES if (found := groups.group(name, index)) is not None), absent)
    slope, intercept = _mapping(dataset, groups, index)
    coordinates: dict[Coordinate, float | None] = {
        **constants,
        "temporal-position": number(content, "TemporalPositionIndex"),
        "time-offset-ms": _else(
            None if offset_s is None else offset_s * 1000, number(content, "FrameReferenceTime")
        ),
        "trigger-time-ms": number(cardiac, "NominalCardiacTriggerDelayTime"),
        "cardiac-phase-percent": _else(
            number(cardiac, "NominalPercentageOfCardiacPhase"),
            number(content, "NominalPercentageOfCardiacPhase"),
        ),
        "respiratory-phase-percent": _else(
            number(respiratory, "NominalPercentageOfRespiratoryPhase"),
            number(content, "NominalPercentageOfRespiratoryPhase"),
        ),
        "echo-time-ms": number(echo, "EffectiveEchoTime"),
        "tube-voltage-kv": number(group("CTXRayDetailsSequence"), "KVP"),
        "inversion-time-ms": number(group("MRModifierSequence"), "InversionTimes"),
        "flip-angle-deg": number(timing, "FlipAngle"),
        "repetition-time-ms": number(timing, "RepetitionTime"),
        "acquisition-number": number(content, "FrameAcquisitionNumber"),
        "acquisition-time-s": _clock_of(text(content, "FrameAcquisitionDateTime")),
        "frame-number": index + 1.0,
    }
    return FrameHeader(
        position_mm=_else(
            vector(group("PlanePositionSequence"), "ImagePositionPatient", 3),
            vector(group("PlanePositionVolumeSequence"), "ImagePositionVolume", 3),
        ),
        orientation=_else(
            vector(group("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
            vector(group("PlaneOrientationVolumeSequence"), "ImageOrientationVolume", 6),
        ),
        spacing_mm=_else(
            _spacing(group("PixelMeasuresSequence")),
            _else(_spacing(group("FramePixelDataPropertiesSequence")), _spacing(dataset)),
        ),
        slope=slope,
        intercept=intercept,
        coordinates=present(coordinates) | _diffusion(group("MRDiffusionSequence")),
        split=(
            _joined(kind, "FrameType") or _joined(dataset, "ImageType"),
            _joined(group("CTReconstructionSequence"), "ConvolutionKernel"),
            text(content, "StackID")[:64],
            text(kind, "ComplexImageComponent") or text(dataset, "ComplexImageComponent"),
            text(kind, "AcquisitionContrast") or text(dataset, "AcquisitionContrast"),
            "" if segment is None else str(segment),
        ),
        phase_encoding=phase_encoding(
            text(group("MRFOVGeometrySequence"), "InPlanePhaseEncodingDirection"),
            (*_vendor_items(groups, index), dataset),
        ),
        acquired=acquired_by(
            *(_joined(dataset, keyword) for keyword in _SETTINGS),
            text(group("MRModifierSequence"), "MagnetizationTransfer"),
            text(group("MRModifierSequence"), "InversionRecovery"),
            text(group("MRImagingModifierSequence"), "PixelBandwidth"),
            text(group("MRReceiveCoilSequence"), "ReceiveCoilName"),
            text(group("ContrastBolusUsageSequence"), "ContrastBolusAgentAdministered"),
            text(group("CTReconstructionSequence"), "ReconstructionAlgorithm"),
            _thickness(group("PixelMeasuresSequence")),
        ),
        segment=segment if segment is not None and 0 <= segment <= 65535 else None,
    )


def _vendor_items(groups: FunctionalGroups, index: int) -> list[Dataset]:
    own = siemens_frame(groups.per_frame[index]) if groups.per_frame else []
    return own + siemens_frame(groups.shared)


def _mapping(dataset: Dataset, groups: FunctionalGroups, index: int) -> tuple[float, float]:
    """(slope, intercept): of a parametric map its one linear real world mapping, else rescale."""
    if text(dataset, "SOPClassUID") == PARAMETRIC_MAP:
        keyword = "RealWorldValueMappingSequence"
        mapped = groups.group(keyword, index) or first(dataset, keyword) or Dataset()
        told = number(mapped, "RealWorldValueSlope")
        if told is not None:  # its rescale is an identity that only old viewers look at
            return told, number(mapped, "RealWorldValueIntercept") or 0.0
    values = groups.group("PixelValueTransformationSequence", index)
    if values is not None and number(values, "RescaleSlope") is not None:
        return number(values, "RescaleSlope") or 0.0, number(values, "RescaleIntercept") or 0.0
    slope = number(dataset, "RescaleSlope")
    return (1.0, 0.0) if slope is None else (slope, number(dataset, "RescaleIntercept") or 0.0)


def _diffusion(group: Dataset) -> dict[Coordinate, float]:
    b_value = number(group, "DiffusionBValue")
    if b_value is None and text(group, "DiffusionDirectionality") == "NONE":
        b_value = 0.0
    if b_value is None:
        return {}
    found: dict[Coordinate, float] = {"b-value": b_value}
    direction = first(group, "DiffusionGradientDirectionSequence")
    gradient = numbers(direction, "DiffusionGradientOrientation") if direction is not None else None
    if gradient is not None and len(gradient) == 3 and any(gradient):
        found |= {"gradient-x": gradient[0], "gradient-y": gradient[1], "gradient-z": gradient[2]}
    return found


def clock_s(time: str) -> float | None:
    """Seconds of the day of a DICOM time (HHMMSS.ffffff, or old HH:MM:SS)."""
    digits = time.replace(":", "")
    if len(digits) < 4 or not digits[:4].isdigit():
        return None
    try:
        seconds = float(digits[4:] or 0)
    except ValueError:
        return None
    return int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + seconds if math.isfinite(seconds) else None


def _clock_of(moment: str) -> float | None:
    """The same of a DICOM date-time (YYYYMMDDHHMMSS.ffffff&ZZXX)."""
    return clock_s(moment[8:].split("+")[0].split("-")[0])


def present(values: Mapping[Coordinate, float | None]) -> dict[Coordinate, float]:
    """Those of ``values`` that are told."""
    return {name: told for name, told in values.items() if told is not None}


def _else(found: Any, other: Any) -> Any:
    return other if found is None else found


def _joined(dataset: Dataset, keyword: str) -> str:
    found = value(dataset, keyword)
    return "" if found is None else as_text(found).replace("\\", "/")[:256]
