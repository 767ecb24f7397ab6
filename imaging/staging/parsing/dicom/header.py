"""A DICOM file's header: identity, pixel format, geometry per frame, and the attributes a profile may keep."""

from __future__ import annotations

from typing import BinaryIO, Literal

from pydantic import ValidationError
from pydicom.dataset import Dataset

from imaging.staging.headers import Header
from imaging.staging.parsing.dicom.dataset import Opened, open_dataset
from imaging.staging.parsing.dicom.functional_groups import FunctionalGroups
from imaging.staging.parsing.dicom.geometry import frame_headers
from imaging.staging.parsing.dicom.keywords import attributes
from imaging.staging.parsing.dicom.labels import segmentation_type, segments, sources, units
from imaging.staging.parsing.dicom.luts import modality_lut, padding
from imaging.staging.parsing.dicom.mosaic import read_mosaic
from imaging.staging.parsing.dicom.pixel_format import PixelFormat, pixel_format
from imaging.staging.parsing.dicom.pixels import bare
from imaging.staging.parsing.dicom.plain import remember
from imaging.staging.parsing.dicom.regions import read_regions
from imaging.staging.parsing.dicom.sop_classes import DIRECTORY, WHOLE_SLIDE, is_image, is_other_object
from imaging.staging.parsing.dicom.values import MALFORMED, text, texts
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.transfer_syntaxes import LOSSY, is_video


def read_header(file: BinaryIO, keywords: frozenset[str]) -> Header:
    """Everything the stager needs to judge, group and order this instance; raises :class:`Unreadable`.

    An :class:`InstanceHeader`, or what the pathology side makes of a whole slide image.
    """
    opened = open_dataset(file)
    try:
        sop_class = text(opened.dataset, "SOPClassUID") or opened.media_class
        _check_kind(opened, sop_class)
        if sop_class == WHOLE_SLIDE:
            return _whole_slide(file, keywords)
        header = _header(opened, sop_class, keywords)
        if opened.plain is not None:
            remember(opened.dataset, opened.plain)
        return header
    except (*MALFORMED, ValidationError):
        raise Unreadable("malformed-dicom") from None


def _check_kind(opened: Opened, sop_class: str) -> None:
    """Refuse what is no image by rule, and what should be one but has no pixels as broken."""
    dataset = opened.dataset
    if sop_class == DIRECTORY:
        raise Unreadable("not-imaging", "DICOM directory")
    if is_other_object(sop_class) or is_video(opened.syntax):
        raise Unreadable("unsupported-sop-class")
    shaped = "Rows" in dataset and "Columns" in dataset
    if not shaped and opened.pixels is None and not is_image(sop_class):
        raise Unreadable("unsupported-sop-class" if sop_class else "malformed-dicom")
    identity = text(dataset, "SOPInstanceUID") or opened.media_instance
    needed = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": identity,
        "StudyInstanceUID": text(dataset, "StudyInstanceUID"),
        "SeriesInstanceUID": text(dataset, "SeriesInstanceUID"),
    }
    absent = [keyword for keyword, value in needed.items() if not value]
    if absent:
        raise Unreadable("required-attribute-missing", *absent)


def _whole_slide(file: BinaryIO, keywords: frozenset[str]) -> Header:
    """Loaded when the first slide comes: an archive of series alone starts its parsers sooner."""
    from imaging.staging.parsing.slides import reading

    return reading.read_header(file, keywords)


def _header(opened: Opened, sop_class: str, keywords: frozenset[str]) -> InstanceHeader:
    dataset = opened.dataset
    form = pixel_format(opened)
    groups = FunctionalGroups(dataset, form.frames)
    mosaic = read_mosaic(dataset, form)
    series, instances = sources(dataset, groups)
    allocated, stored, high, signed = _given_bits(form)
    return InstanceHeader(
        sop_class=sop_class,
        sop_instance=text(dataset, "SOPInstanceUID") or opened.media_instance,
        transfer_syntax=str(opened.syntax),
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        patient_id=text(dataset, "PatientID"),
        issuer=text(dataset, "IssuerOfPatientID"),
        modality=text(dataset, "Modality") or "OT",
        rows=form.rows if mosaic is None else mosaic.rows,
        columns=form.columns if mosaic is None else mosaic.columns,
        samples=3 if form.colour else 1,
        photometric=form.photometric,
        value_type=form.value_type,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=signed,
        lossy=text(dataset, "LossyImageCompression") == "01" or opened.syntax in LOSSY,
        padding=padding(dataset, form),
        modality_lut=modality_lut(dataset, form, opened.big_endian),
        burned_in=_yes_no(dataset, "BurnedInAnnotation"),
        recognizable=_yes_no(dataset, "RecognizableVisualFeatures"),
        image_type=tuple(texts(dataset, "ImageType")[:16]),
        conversion_type=text(dataset, "ConversionType"),
        regions=tuple(read_regions(dataset)),
        segmentation=segmentation_type(dataset),
        segments=segments(dataset),
        units=units(dataset, groups),
        source_series=series,
        source_instances=instances,
        frames=tuple(frame_headers(dataset, form, groups, mosaic)),
        bare=bare(opened, form) if mosaic is None else None,
        attributes=attributes(dataset, groups, keywords),
    )


def _given_bits(form: PixelFormat) -> tuple[int, int, int, bool]:
    """(allocated, stored, high bit, signed) of what the parser's frames hold."""
    if form.value_type == "bit":
        return 1, 1, 0, False
    if form.palette is not None:
        return form.palette.bits, form.palette.bits, form.palette.bits - 1, False
    return form.container, form.stored, form.stored - 1, form.signed


def _yes_no(dataset: Dataset, keyword: str) -> Literal["YES", "NO", ""]:
    said = text(dataset, keyword).upper()
    return "YES" if said == "YES" else "NO" if said == "NO" else ""
