"""What derived objects (segmentations, doses, parametric maps) say of themselves and of their source."""

from __future__ import annotations

from typing import Literal

from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.functional_groups import FunctionalGroups
from imaging.staging.parsing.dicom.sop_classes import LABEL_MAP, PARAMETRIC_MAP, RT_DOSE, SEGMENTATIONS
from imaging.staging.parsing.dicom.values import first, integer, items, text
from imaging.staging.radiology.headers import Code, Segment

_MAX_SEGMENTS = 4096
_MAX_SERIES = 64
_MAX_INSTANCES = 100_000


SegmentationType = Literal["BINARY", "FRACTIONAL", "LABELMAP", ""]
_TYPES: dict[str, SegmentationType] = {
    "BINARY": "BINARY",
    "FRACTIONAL": "FRACTIONAL",
    "LABELMAP": "LABELMAP",
}


def segmentation_type(dataset: Dataset) -> SegmentationType:
    """Segmentation Type (0062,0001) of a segmentation."""
    sop_class = text(dataset, "SOPClassUID")
    if sop_class not in SEGMENTATIONS:
        return ""
    return _TYPES.get(text(dataset, "SegmentationType"), "LABELMAP" if sop_class == LABEL_MAP else "")


def segments(dataset: Dataset) -> tuple[Segment, ...]:
    """Segment Sequence (0062,0002), codes only."""
    found = []
    for item in items(dataset, "SegmentSequence")[:_MAX_SEGMENTS]:
        number = integer(item, "SegmentNumber")
        if number is None or not 0 <= number <= 65535:
            continue
        found.append(
            Segment(
                number=number,
                category=code(first(item, "SegmentedPropertyCategoryCodeSequence")),
                type=code(first(item, "SegmentedPropertyTypeCodeSequence")),
                algorithm=text(item, "SegmentAlgorithmType")[:16],
            )
        )
    return tuple(found)


def code(item: Dataset | None) -> Code | None:
    """Code Value and Coding Scheme Designator of a code sequence's item."""
    if item is None:
        return None
    value = text(item, "CodeValue") or text(item, "LongCodeValue")
    scheme = text(item, "CodingSchemeDesignator")
    return Code(value=value[:64], scheme=scheme[:32]) if value else None


def units(dataset: Dataset, groups: FunctionalGroups) -> Code | None:
    """The unit that slope and intercept lead to, where coded."""
    sop_class = text(dataset, "SOPClassUID")
    if sop_class == RT_DOSE:
        return Code(value="Gy", scheme="UCUM") if text(dataset, "DoseUnits") == "GY" else None
    if sop_class != PARAMETRIC_MAP:
        return None
    mapped = groups.constant_group("RealWorldValueMappingSequence") or first(
        dataset, "RealWorldValueMappingSequence"
    )
    return code(first(mapped, "MeasurementUnitsCodeSequence")) if mapped is not None else None


def sources(dataset: Dataset, groups: FunctionalGroups) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(series, instances) that the object says it was made of, each once, in the order told."""
    if text(dataset, "SOPClassUID") not in (*SEGMENTATIONS, PARAMETRIC_MAP, RT_DOSE):
        return (), ()
    series: dict[str, None] = {}
    instances: dict[str, None] = {}
    for one in items(dataset, "ReferencedSeriesSequence"):
        if uid := text(one, "SeriesInstanceUID")[:128]:
            series[uid] = None
        _add(instances, one, ("ReferencedInstanceSequence", "ReferencedSOPSequence"))
    _add(instances, dataset, ("SourceImageSequence", "ReferencedImageSequence"))
    for frame in (groups.shared, *groups.per_frame):
        for derivation in items(frame, "DerivationImageSequence"):
            _add(instances, derivation, ("SourceImageSequence",))
        if len(instances) >= _MAX_INSTANCES:
            break
    return tuple(series)[:_MAX_SERIES], tuple(instances)[:_MAX_INSTANCES]


def _add(instances: dict[str, None], item: Dataset, sequences: tuple[str, ...]) -> None:
    for sequence in sequences:
        for reference in items(item, sequence):
            if uid := text(reference, "ReferencedSOPInstanceUID")[:128]:
                instances[uid] = None
