"""Why an item is not in the copy: the reason codes of a staging report.

``failed`` says whether it counts against the grant's ``max-failed``: broken input does, what the rules keep
out does not.  Codes are stable; they are also the anchors of ``docs/staging-reasons.md``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from imaging.deid.pixels.suspicion import rule_attributes


@dataclass(frozen=True, slots=True)
class Reason:
    """One way in which an item stays out of the copy."""

    code: str
    failed: bool
    meaning: str
    remedy: str


_ASK = "Nothing to do: the grant or the profile says so."
_KIND = "Nothing to do: this version does not stage such objects."
_OPTED_OUT = "Nothing to do: the opt-out list says so."
_TAKEN = "Nothing to do: the first of the equal instances was taken."
_WHOLE = "Nothing is lost; remove the broken copy from the archive if it should not be listed again."
_WHICH = "Find out which of them is meant, remove the others from the archive, and scan the dataset again."
_REPAIR = "Look at the item in the archive; repair or remove it and scan the dataset again."
_RESCAN = "Scan the dataset again and register the new version."
_OTHER_SLICE = "Mend the refused slice, which is listed under a code of its own."
_OTHER_PART = "See what the failed part is refused for (`unread` in the report) and stage again."
_LOOK = "Look at the held images and release those that show nobody (`imaging sheet --held`)."
_REPORT = "Keep the item and report it: a later version may read it."

_TABLE = (
    # What the file is
    ("not-dicom", True, "The file is neither DICOM nor a slide that this version reads.", _REPAIR),
    ("empty-file", True, "The file has no bytes.", _REPAIR),
    ("malformed-dicom", True, "The file begins as DICOM and then breaks its format.", _REPAIR),
    ("malformed-slide", True, "The file begins as TIFF and then breaks its format.", _REPAIR),
    ("required-attribute-missing", True, "An attribute without which pixels can't be read is missing.", _REPAIR),
    ("patient-id-missing", True, "No patient id, so the opt-out list can't be applied to it.", _REPAIR),
    ("changed-since-inventory", True, "The bytes are not those of the registered version.", _RESCAN),
    ("source-item-missing", True, "The item is no longer in the source.", _RESCAN),
    # Pixels
    ("truncated-pixel-data", True, "There are fewer pixels than the header promises.", _REPAIR),
    ("pixel-data-missing", True, "There are no pixels at all.", _REPAIR),
    ("decode-failed", True, "The compressed pixels can't be decoded.", _REPAIR),
    ("unsupported-transfer-syntax", True, "The compression is one this version has no decoder for.", _REPORT),
    ("unsupported-pixel-format", True, "Pixels of a kind this version does not store (CMYK, HSV …).", _REPORT),
    ("too-large", True, "Reading the item needs more memory than a parser may have.", _REPORT),
    # Geometry
    ("geometry-missing", True, "A segmentation of frames without a place: nobody knows what they label.", _REPAIR),
    ("label-ambiguous", True, "A segmentation with several frames of one segment at one place.", _REPORT),
    ("volume-incomplete", False, "Sound itself, but another slice of its volume was refused.", _OTHER_SLICE),
    # Slides
    ("unsupported-slide", True, "A slide format or compression that this version does not read.", _REPORT),
    ("unsupported-slide-layout", True, "A slide that is not all in this one file.", _REPORT),
    ("slide-incomplete", True, "Instances of the slide are missing, or contradict each other.", _REPAIR),
    ("truncated-tile", True, "A tile of the slide is cut short or is no JPEG image.", _REPAIR),
    # Tables
    ("malformed-table", True, "The file begins as Parquet or CSV and then breaks its format.", _REPAIR),
    ("patient-column-missing", True, "The table lacks the column of patient ids that the grant names.", _REPAIR),
    # Parsers
    ("parser-crashed", True, "The process that parsed it died, and a second one that read nothing else.", _REPORT),
    ("parser-timeout", True, "Parsing it took longer than an item may take, twice.", _REPORT),
    ("part-unread", True, "Sound itself, but a parser failed on another part of its volume or slide.", _OTHER_PART),
    # Rules
    ("unsupported-sop-class", False, "Not an image of a kind that is staged (a report, a plan …).", _KIND),
    ("not-selected", False, "Outside what the grant and the job select.", _ASK),
    ("not-in-cohort", False, "Of a patient outside the list that the grant names.", _ASK),
    ("opted-out", False, "Kept out by the opt-out list.", _OPTED_OUT),
    ("burned-in-annotation", False, "The image says, or is of a kind likely, to carry burned-in text.", _ASK),
    ("held-for-person", False, "May show who the patient is, by text or face: held until a person looked.", _LOOK),
    ("deface-uncertain", False, "A head scan whose face could not be found with confidence.", _LOOK),
    ("slide-side-image", False, "A label, overview or thumbnail of a slide: never read.", _KIND),
    ("slide-level-derived", False, "A level of a slide that is derived from a larger one instead.", _KIND),
    ("not-imaging", False, "Neither imaging nor a table: a document, drawing, script, checksum and so on.", _KIND),
    ("duplicate-instance", False, "The same instance was already taken from another item.", _TAKEN),
    ("duplicate-broken", False, "A cut or damaged copy of an instance whose whole copy was taken.", _WHOLE),
    ("duplicates-differ", True, "Whole items of one SOP Instance UID with different images: none is taken.", _WHICH),
    ("wrong-kind", False, "An item of another kind than the dataset (a slide in radiology, or the reverse).", _ASK),
)  # fmt: skip

PARSER_FAILURES = frozenset({"parser-crashed", "parser-timeout"})
"""What is said of an item where a parser failed, not a rule: it may be sound, so what it belongs to is not whole."""

REASONS: dict[str, Reason] = {row[0]: Reason(*row) for row in _TABLE}

NOT_IMAGING = frozenset(
    {"document", "drawing", "structured text", "script", "checksum", "system file", "DICOM directory"}
)
"""Kinds of what is ``not-imaging``."""
ATTRIBUTES = {
    "SOPClassUID": "(0008,0016)",
    "SOPInstanceUID": "(0008,0018)",
    "ImageType": "(0008,0008)",
    "StudyInstanceUID": "(0020,000D)",
    "SeriesInstanceUID": "(0020,000E)",
    "SamplesPerPixel": "(0028,0002)",
    "PhotometricInterpretation": "(0028,0004)",
    "NumberOfFrames": "(0028,0008)",
    "Rows": "(0028,0010)",
    "Columns": "(0028,0011)",
    "BitsAllocated": "(0028,0100)",
    "TotalPixelMatrixColumns": "(0048,0006)",
    "TotalPixelMatrixRows": "(0048,0007)",
    "PlanePositionSlideSequence": "(0048,021A)",
    "ColumnPositionInTotalImagePixelMatrix": "(0048,021E)",
    "RowPositionInTotalImagePixelMatrix": "(0048,021F)",
    "PerFrameFunctionalGroupsSequence": "(5200,9230)",
}
"""Attributes that may be named as missing, with their tags: a closed list, since a parser's word is not trusted."""
TAGS = {
    **ATTRIBUTES,
    "TransferSyntaxUID": "(0002,0010)",
    "StudyDate": "(0008,0020)",
    "Modality": "(0008,0060)",
    "ConversionType": "(0008,0064)",
    "Manufacturer": "(0008,0070)",
    "ManufacturerModelName": "(0008,1090)",
    "PatientID": "(0010,0020)",
    "PatientBirthDate": "(0010,0030)",
    "PatientSex": "(0010,0040)",
    "PatientAge": "(0010,1010)",
    "BodyPartExamined": "(0018,0015)",
    "SequenceOfUltrasoundRegions": "(0018,6011)",
    "ImagePositionPatient": "(0020,0032)",
    "ImageOrientationPatient": "(0020,0037)",
    "BurnedInAnnotation": "(0028,0301)",
    "SpecimenLabelInImage": "(0048,0010)",
    "PixelData": "(7FE0,0010)",
}
"""Tags of all attributes that are named in reports."""
TEXT_FOUND, RELEASED_FRAMES = "text-found", "released"
_OTHER_HOLDING = {
    TEXT_FOUND: ("PixelData",),
    RELEASED_FRAMES: ("PixelData",),
    "slide-says-text": ("BurnedInAnnotation",),
    "slide-says-label": ("SpecimenLabelInImage",),
}
"""What keeps images out for text beside the rules of ``deid/pixels/rules.toml``: the detector saw some; a person
released the first frames only; a level of a slide says that it shows text, or the slide's label."""
_LOOKED_AT = {
    "patient-id-missing": ("PatientID",),
    "opted-out": ("PatientID",),
    "not-in-cohort": ("PatientID",),
    "unsupported-sop-class": ("SOPClassUID",),
    "wrong-kind": ("SOPClassUID",),
    "unsupported-transfer-syntax": ("TransferSyntaxUID",),
    "unsupported-pixel-format": ("PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated"),
    "too-large": ("Rows", "Columns", "NumberOfFrames"),
    "geometry-missing": ("ImagePositionPatient", "ImageOrientationPatient"),
    "truncated-pixel-data": ("PixelData",),
    "pixel-data-missing": ("PixelData",),
    "decode-failed": ("PixelData",),
    "slide-side-image": ("ImageType",),
    "duplicate-instance": ("SOPInstanceUID",),
    "duplicate-broken": ("SOPInstanceUID",),
    "duplicates-differ": ("SOPInstanceUID",),
    "deface-uncertain": ("PixelData",),
}
"""What codes that name nothing themselves judge by; items that are no DICOM have none of it."""
SELECTION_KEYS = frozenset(
    {"Modality", "BodyPartExamined", "PatientSex", "PatientAge", "Manufacturer", "StudyDate"}
)
"""Attributes by which items are selected."""
_CONTENTS = frozenset({"text", "table", "drawing", "document", "system file"})
_DETAILS = {
    "required-attribute-missing": frozenset(ATTRIBUTES),
    "not-imaging": NOT_IMAGING,
    "not-dicom": _CONTENTS,
    "malformed-table": _CONTENTS,
    "not-selected": SELECTION_KEYS,
}
"""What a refusal may say beside its code; those for text say by which rule, see :func:`holding_rules`."""
_FOR_TEXT = frozenset({"held-for-person", "burned-in-annotation"})

UNLISTED = frozenset({"opted-out"})
"""Counted in reports without item numbers: a number would tell who opted out."""


def as_markdown() -> str:
    """The page ``docs/staging-reasons.md``."""
    lines = [
        "# Why an item is not in the copy",
        "",
        "The reason codes of a staging report. *Failed* items count against the grant's `max-failed`; the others",
        "are kept out by rule. Items are named by their number, the row of the registered inventory from 1.",
    ]
    for reason in REASONS.values():
        count = "Counts as failed." if reason.failed else "Does not count as failed."
        if reason.code in UNLISTED:
            count += " Counted, never listed."
        lines += ["", f"## {reason.code}", "", f"{reason.meaning} {count} {reason.remedy}"]
    return "\n".join(lines) + "\n"


class Refused(Exception):
    """Signals, within staging, that an item or a volume stays out for ``code``.

    ``details``: which attributes are missing or not selected, what kind of file it is, by which rule it is held.
    Messages carry both as ``code:detail,detail``, which is also the text of the exception.
    """

    def __init__(self, code: str) -> None:
        code, details = split(code)
        super().__init__(":".join(filter(None, (code, ",".join(details)))))
        self.code = code
        self.details = details


class ItemRefused(Refused):
    """The same, naming the source item at fault: the others of its volume are ``volume-incomplete``, or ``part-unread``
    where the fault may be ours."""

    def __init__(self, number: int, code: str) -> None:
        super().__init__(code)
        self.number = number

    def __reduce__(self) -> tuple[type[ItemRefused], tuple[int, str]]:
        return (ItemRefused, (self.number, str(self)))


def split(told: str) -> tuple[str, tuple[str, ...]]:
    """Code and details of what a parser or a rule said; what is in no table is not believed."""
    code, _, rest = told.partition(":")
    if code not in REASONS:
        return "parser-crashed", ()
    known = holding_rules().keys() if code in _FOR_TEXT else _DETAILS.get(code, frozenset())
    return code, tuple(dict.fromkeys(detail for detail in rest.split(",") if detail in known))


def spelled(detail: str) -> str:
    """A detail as people read it: an attribute with its tag, a rule with what it looks at."""
    if detail in TAGS:
        return f"{detail} {TAGS[detail]}"
    looked_at = holding_rules().get(detail, ())
    return f"{detail} ({', '.join(looked_at)})" if looked_at else detail


def because(code: str, details: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Rule (or kind of file, else "") and attributes that a refusal rests on."""
    attributes = tuple(detail for detail in details if detail in TAGS)
    rule = next((detail for detail in details if detail not in TAGS), "")
    return rule, attributes or holding_rules().get(rule, ()) or _LOOKED_AT.get(code, ())


@functools.cache
def holding_rules() -> dict[str, tuple[str, ...]]:
    """All that may keep an image out for text, with the attributes that each looks at."""
    return {**rule_attributes(), **_OTHER_HOLDING}
