"""Where each frame of an instance lies, single-frame or multi-frame (PS3.3 C.7.6.2, C.7.6.16)."""

from __future__ import annotations

import math
from typing import Any

from pydicom.dataset import Dataset

from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.radiology.headers import Coordinate, FrameHeader

_MAX_FRAMES = 100_000


def frame_headers(dataset: Dataset) -> tuple[FrameHeader, ...]:
    """One header a frame, in stored order; absent geometry stays None.

    For multi-frame objects a per-frame functional group wins over the shared one, as the standard says.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= count <= _MAX_FRAMES:
        raise Unreadable("malformed-dicom")
    if "SharedFunctionalGroupsSequence" not in dataset and "PerFrameFunctionalGroupsSequence" not in dataset:
        header = _single(dataset)
        # A multi-frame object without functional groups has no position per frame.
        return (header,) if count == 1 else tuple(header.model_copy(update=_UNPLACED) for _ in range(count))
    shared = _first(dataset, "SharedFunctionalGroupsSequence") or Dataset()
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(per_frame) not in (0, count):
        raise Unreadable("malformed-dicom")
    return tuple(
        _multi(dataset, shared, per_frame[index] if per_frame else Dataset(), index) for index in range(count)
    )


_UNPLACED = {"position_mm": None, "orientation": None}


def _single(dataset: Dataset) -> FrameHeader:
    return FrameHeader(
        position_mm=_vector(dataset.get("ImagePositionPatient"), 3),
        orientation=_vector(dataset.get("ImageOrientationPatient"), 6),
        spacing_mm=_vector(dataset.get("PixelSpacing"), 2),
        slope=_number(dataset.get("RescaleSlope"), 1.0),
        intercept=_number(dataset.get("RescaleIntercept"), 0.0),
        coordinates=_present(
            {
                "temporal-position": dataset.get("TemporalPositionIdentifier"),
                "b-value": dataset.get("DiffusionBValue"),
                "trigger-time-ms": dataset.get("TriggerTime"),
                "acquisition-number": dataset.get("AcquisitionNumber"),
                "instance-number": dataset.get("InstanceNumber"),
            }
        ),
        split=(
            _joined(dataset.get("ImageType")),
            _joined(dataset.get("EchoTime")),
            _joined(dataset.get("ConvolutionKernel")),
        ),
    )


def _multi(dataset: Dataset, shared: Dataset, frame: Dataset, index: int) -> FrameHeader:
    def group(sequence: str) -> Dataset:
        return _first(frame, sequence) or _first(shared, sequence) or Dataset()

    content = group("FrameContentSequence")
    values = group("PixelValueTransformationSequence")
    diffusion = group("MRDiffusionSequence")
    kind = group("MRImageFrameTypeSequence").get("FrameType") or group("CTImageFrameTypeSequence").get(
        "FrameType"
    )
    return FrameHeader(
        position_mm=_vector(group("PlanePositionSequence").get("ImagePositionPatient"), 3),
        orientation=_vector(group("PlaneOrientationSequence").get("ImageOrientationPatient"), 6),
        spacing_mm=_vector(group("PixelMeasuresSequence").get("PixelSpacing"), 2),
        slope=_number(values.get("RescaleSlope"), 1.0),
        intercept=_number(values.get("RescaleIntercept"), 0.0),
        coordinates=_present(
            {
                "temporal-position": content.get("TemporalPositionIndex"),
                "b-value": diffusion.get("DiffusionBValue"),
                "trigger-time-ms": group("CardiacSynchronizationSequence").get(
                    "NominalCardiacTriggerDelayTime"
                ),
                "acquisition-number": content.get("FrameAcquisitionNumber"),
                "frame-number": index + 1,
            }
        ),
        split=(
            _joined(kind or dataset.get("ImageType")),
            _joined(group("MREchoSequence").get("EffectiveEchoTime")),
            _joined(group("CTReconstructionSequence").get("ConvolutionKernel")),
            _joined(content.get("StackID")),
        ),
    )


def _first(dataset: Dataset, sequence: str) -> Dataset | None:
    items = dataset.get(sequence)
    return items[0] if items else None


def _vector(value: Any, length: int) -> Any:
    """``length`` finite numbers as a tuple, else None."""
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        numbers = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == length and all(map(math.isfinite, numbers)) else None


def _number(value: Any, default: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return number if math.isfinite(number) else default


def _present(values: dict[Coordinate, Any]) -> dict[Coordinate, float]:
    """Those of ``values`` that are finite numbers."""
    numbers = {name: _number(value, math.nan) for name, value in values.items()}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def _joined(value: Any) -> str:
    if value is None:
        return ""
    parts = value if not isinstance(value, str | bytes) and hasattr(value, "__iter__") else [value]
    return "/".join(str(part) for part in parts)[:256]
