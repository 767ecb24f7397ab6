"""Synthetic patients written into carriers of many SOP classes, with what must become of every inserted value.

Nobody here is real.  The expectations are stated beside each insertion and know nothing of the engine: neither its
vocabulary, nor its tables, nor how it makes pseudonyms.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from phantom_phi_carriers import CARRIERS
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

TYPES = (
    "tag_retained",
    "text_retained",
    "text_removed",
    "text_notnull",
    "uid_changed",
    "uid_consistent",
    "patid_consistent",
    "date_shifted",
    "pixels_hidden",
    "pixels_retained",
)
"""The ten action types that the MIDI-B challenge scored."""

# Family names: some rare, some also words, some short, some not ASCII.
FAMILIES = [
    "Pemberthy",
    "Okonjo-Reyes",
    "Trzebiatowski",
    "O'Shaughnessy",
    "Müllerová",
    "Abdulkarimov",
    "Featherstonhaugh",
    "Nguyễn",
    "Brown",
    "Young",
    "Grey",
    "Foot",
    "Marsh",
    "Ng",
    "Zellweger-Quist",
    "Haldorsen",
    "Umarji",
    "Tchernavin",
    "Wolstencroft",
    "Ibarretxe",
    "Long",
    "May",
    "Baptiste",
    "Kowalczyk",
    "Sørensen",
    "D'Angelillo",
    "Vanderbilke",
    "Yilmazoglu",
    "Quartermaine",
    "Hepplewhite",
]
GIVEN = [
    "Josephine",
    "Bartholomew",
    "Xiomara",
    "Thorvald",
    "Agnieszka",
    "Desdemona",
    "Cornelius",
    "Wilhelmina",
    "Fitzgerald",
    "Persephone",
    "Rose",
    "Grace",
    "Mark",
    "Olufemi",
    "Ngozi",
    "Søren",
    "Zbigniew",
    "Clementine",
    "Ignatius",
    "Marguerite",
]
OTHERS = [
    "Pettigrew",
    "Blenkinsop",
    "Oyelaran",
    "Dzhugashvili",
    "Castellanos",
    "Winterbottom",
    "Achterberg",
    "Llewellyn-Rhys",
]
STREETS = ("Birchwood Close", "Old Mill Lane", "Kingsbury Road", "Station Terrace", "Harbour View Gardens")
TOWNS = ("Biggleswade", "Llandudno", "Auchtermuchty", "Cleethorpes", "Ballymoney")


@dataclass(frozen=True, slots=True)
class Person:
    """One invented patient."""

    family: str
    given: str
    number: str
    issuer: str
    birth: date
    phone: str
    address: str
    accession: str
    study_day: date
    study_uid: str
    frame_uid: str
    doctor: str
    hospital: str
    email: str


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation: ``path`` leads to an element (keyword, then item number and keyword …; empty = anywhere)."""

    kind: str
    path: tuple[str | int, ...]
    value: Any = None


@dataclass
class Phantom:
    """One instance and all that is expected of it."""

    carrier: str
    dataset: Dataset
    person: Person
    checks: list[Check] = field(default_factory=list)
    canaries: set[str] = field(default_factory=set)
    """Strings of which no byte sequence may be left."""


def persons(count: int, seed: int = 20251124) -> list[Person]:
    """Equal for equal seed.  Two hospitals number their patients alike: one number, two people."""
    rng = random.Random(seed)
    found = []
    for index in range(count):
        family, given = FAMILIES[index % len(FAMILIES)], rng.choice(GIVEN)
        number = "".join(rng.choice("0123456789") for _ in range(10))
        if index % 9 == 8:
            number = found[index - 1].number
        birth = date(1921, 1, 1) + timedelta(days=rng.randrange(32000))
        found.append(
            Person(
                family=family,
                given=given,
                number=f"{number[:3]} {number[3:6]} {number[6:]}" if index % 4 == 1 else number,
                issuer=f"TRUST-{index % 9 == 8}" if index % 9 in (7, 8) else "",
                birth=birth,
                phone=f"0{rng.randrange(1200, 1999)} {rng.randrange(100000, 999999)}",
                address=f"{rng.randrange(2, 240)} {rng.choice(STREETS)}, {rng.choice(TOWNS)}",
                accession=f"ACC{rng.randrange(10**6, 10**7)}",
                study_day=date(2011, 1, 1) + timedelta(days=rng.randrange(4000)),
                study_uid=f"1.2.826.0.1.3680043.2.1143.{rng.randrange(10**12)}.{index}",
                frame_uid=f"1.2.826.0.1.3680043.2.1143.{rng.randrange(10**12)}.9",
                doctor=OTHERS[index % len(OTHERS)],
                hospital=f"St Ethelburga's Infirmary {rng.choice(TOWNS)}",
                email=f"{given[0].lower()}.x{rng.randrange(100, 999)}@examplemail.org",
            )
        )
    return found


def phantoms(count_persons: int = 84, each: int = 7) -> Iterator[Phantom]:
    """``each`` instances a person, carriers in turn."""
    rng = random.Random(7)
    names = list(CARRIERS)
    for index, person in enumerate(persons(count_persons)):
        for place in range(each):
            name = names[(index * each + place) % len(names)]
            yield _phantom(name, CARRIERS[name](), person, place, rng)


def _phantom(name: str, dataset: Dataset, person: Person, place: int, rng: random.Random) -> Phantom:
    phantom = Phantom(name, dataset, person)
    for write in (
        _identity,
        _uids,
        _dates,
        _descriptions,
        _nested,
        _private,
        _technical,
        _odd_places,
        _pixels,
    ):
        write(phantom, place, rng)
    return phantom


def _removed(phantom: Phantom, value: str, *path: str | int, canary: bool = True) -> None:
    phantom.checks.append(Check("text_removed", path, value))
    if canary and len(value) >= 5:
        phantom.canaries.add(value)


def _identity(phantom: Phantom, place: int, rng: random.Random) -> None:
    ds, who = phantom.dataset, phantom.person
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = f"{who.family}^{who.given}"
    ds.PatientID = who.number
    if who.issuer:
        ds.IssuerOfPatientID = who.issuer
    ds.PatientBirthDate = who.birth.strftime("%Y%m%d")
    ds.PatientAddress = who.address
    ds.PatientTelephoneNumbers = who.phone
    ds.OtherPatientIDs = ["MRN" + who.number[-4:] + "77", who.number.replace(" ", "")]
    ds.PatientMotherBirthName = f"{OTHERS[place % len(OTHERS)]}^Edna"
    ds.AccessionNumber = who.accession
    ds.ReferringPhysicianName = f"{who.doctor}^Hortensia^^Dr"
    ds.OperatorsName = f"{OTHERS[(place + 3) % len(OTHERS)]}^Op"
    ds.InstitutionName = who.hospital
    ds.InstitutionAddress = "1 Infirmary Way, " + TOWNS[place % len(TOWNS)]
    ds.StationName = "STN-QUAGGA-7"
    ds.DeviceSerialNumber = f"SN{rng.randrange(10**6, 10**7)}"
    ds.RequestingPhysician = f"{who.doctor}^Hortensia"
    ds.PatientComments = f"lives with {who.given}, call {who.phone} or {who.email}"
    years = min(120, (who.study_day - who.birth).days // 365)
    ds.PatientAge = f"{years:03d}Y"
    for keyword in ("PatientAddress", "PatientTelephoneNumbers", "InstitutionAddress", "StationName",
                    "DeviceSerialNumber", "InstitutionName", "AccessionNumber"):  # fmt: skip
        _removed(phantom, str(ds[keyword].value), keyword)
    for value in ds.OtherPatientIDs:
        _removed(phantom, str(value), "OtherPatientIDs")
    _removed(phantom, who.family, "PatientName", canary=who.family not in ("Young", "Brown", "Marsh"))
    _removed(phantom, who.given, "PatientName")
    _removed(phantom, who.number, "PatientID")
    _removed(phantom, who.birth.strftime("%Y%m%d"), "PatientBirthDate")
    _removed(phantom, who.doctor, "ReferringPhysicianName")
    _removed(phantom, OTHERS[(place + 3) % len(OTHERS)], "OperatorsName")
    _removed(phantom, OTHERS[place % len(OTHERS)], "PatientMotherBirthName")
    _removed(phantom, who.email, "PatientComments")
    if years > 90:
        _removed(phantom, f"{years:03d}Y", "PatientAge", canary=False)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality",
                    "AccessionNumber"):  # fmt: skip
        phantom.checks.append(Check("text_notnull", (keyword,)))
    phantom.checks.append(Check("patid_consistent", ("PatientID",), (who.issuer, who.number)))


def _uids(phantom: Phantom, place: int, rng: random.Random) -> None:
    ds, who = phantom.dataset, phantom.person
    ds.StudyInstanceUID = who.study_uid
    ds.SeriesInstanceUID = f"{who.study_uid}.{place}"
    ds.SOPInstanceUID = f"{who.study_uid}.{place}.1"
    ds.FrameOfReferenceUID = who.frame_uid
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    reference.ReferencedSOPInstanceUID = f"{who.study_uid}.{(place + 1) % 7}.1"
    ds.ReferencedImageSequence = Sequence([reference])
    nested = ("ReferencedImageSequence", 0, "ReferencedSOPInstanceUID")
    for path in (
        ("StudyInstanceUID",),
        ("SeriesInstanceUID",),
        ("SOPInstanceUID",),
        ("FrameOfReferenceUID",),
        nested,
    ):
        value = str(_at(ds, path))
        phantom.checks.append(Check("uid_changed", path, value))
        phantom.checks.append(Check("uid_consistent", path, value))
        phantom.canaries.add(value)
    phantom.checks.append(
        Check(
            "text_retained",
            ("ReferencedImageSequence", 0, "ReferencedSOPClassUID"),
            ("1.2.840.10008.5.1.4.1.1.2",),
        )
    )
    phantom.checks.append(Check("text_retained", ("SOPClassUID",), (str(ds.SOPClassUID),)))


def _dates(phantom: Phantom, place: int, rng: random.Random) -> None:
    ds, who = phantom.dataset, phantom.person
    day = who.study_day.strftime("%Y%m%d")
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = day
    ds.AcquisitionDateTime = f"{day}{rng.randrange(8, 18):02d}3015.250000+0100"
    ds.StudyTime = "093015"
    ds.PerformedProcedureStepStartDate = (who.study_day - timedelta(days=3)).strftime("%Y%m%d")
    ds.InstanceCreationDate = (who.study_day + timedelta(days=40)).strftime("%Y%m%d")
    for keyword in (
        "PerformedProcedureStepStartDate",
        "InstanceCreationDate",
        "StudyDate",
        "SeriesDate",
        "ContentDate",
        "AcquisitionDateTime",
    ):
        phantom.checks.append(Check("date_shifted", (keyword,), str(ds[keyword].value)))
        phantom.checks.append(Check("text_notnull", (keyword,)))
    phantom.checks.append(Check("text_retained", ("StudyTime",), ("093015",)))


# What stands around the inserted text, and the words of it that must stay.
_TEMPLATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("AX T1 POST GAD {name}", ("AX", "T1", "POST", "GAD")),
    ("CT CHEST W CONTRAST {mrn}", ("CT", "CHEST", "CONTRAST")),
    ("{FAMILY} SAG T2 FLAIR 3mm", ("SAG", "T2", "FLAIR", "3mm")),
    ("Lung nodule follow up, seen by Dr {doctor} on {slashed}", ("Lung", "nodule", "follow", "up")),
    ("MRI brain without contrast / {given} {family} DOB {birth}", ("MRI", "brain", "without", "contrast")),
    ("Abdomen pelvis portal venous {phone}", ("Abdomen", "pelvis", "portal", "venous")),
    ("left knee lateral view, call {email}", ("left", "knee", "lateral", "view")),
    ("Bone scan whole body ({compact})", ("Bone", "scan", "whole", "body")),
    ("Cardiac cine short axis - {address}", ("Cardiac", "cine", "short", "axis")),
    ("ultrasound liver {worded} for {doctor}", ("ultrasound", "liver")),
    ("DWI b1000 ADC map disc w {other}", ("DWI", "b1000", "ADC", "map")),
    ("routine screening mammogram {accession}", ("routine", "screening", "mammogram")),
    ("Hip AP {family}_{given}_{dashed}", ("Hip", "AP")),
    ("{lower} thorax PA", ("thorax", "PA")),
    ("Spine MR of {family}'s lumbar region", ("Spine", "MR", "lumbar", "region")),
    ("Mr {family} - contrast reaction known; kidney protocol", ("contrast", "reaction", "kidney", "protocol")),
    ("{glued} head ct", ("head", "ct")),
    ("3D TOF circle of willis {dashed_number}", ("3D", "TOF", "circle", "of", "willis")),
    ("breast MLO, comparison with study from {us_date}", ("breast", "MLO", "comparison", "study")),
    ("Pancreas mass, refer to {other} or {doctor}, ext {phone}", ("Pancreas", "mass")),
    ("{month_year} restaging, prostate biopsy", ("prostate", "biopsy")),
)  # fmt: skip


def _said(who: Person, rng: random.Random) -> dict[str, str]:
    return {
        "name": f"{who.family} {who.given}",
        "family": who.family,
        "given": who.given,
        "FAMILY": who.family.upper(),
        "mrn": f"MRN {who.number}",
        "compact": who.number.replace(" ", ""),
        "doctor": who.doctor,
        "other": rng.choice(OTHERS),
        "slashed": who.study_day.strftime("%d/%m/%Y"),
        "dashed": who.study_day.strftime("%Y-%m-%d"),
        "worded": who.study_day.strftime("%d %B %Y"),
        "birth": who.birth.strftime("%d.%m.%Y"),
        "phone": who.phone,
        "email": who.email,
        "address": who.address,
        "accession": who.accession,
        "lower": f"{who.given} {who.family}".lower(),
        "glued": f"{who.family}{who.given}",
        "dashed_number": "-".join((who.number.replace(" ", "")[:3], who.number.replace(" ", "")[3:])),
        "us_date": who.study_day.strftime("%m-%d-%y"),
        "month_year": who.study_day.strftime("%b %Y"),
    }


def _write_text(phantom: Phantom, holder: Dataset, path: tuple[str | int, ...], rng: random.Random) -> None:
    template, stays = rng.choice(_TEMPLATES)
    said = _said(phantom.person, rng)
    setattr(holder, str(path[-1]), template.format(**said))
    phantom.checks.append(Check("text_retained", path, stays))
    for name, value in said.items():
        if "{" + name + "}" in template:
            parts = value.split() if name in ("name", "lower") else [value.removeprefix("MRN ")]
            for part in parts:
                _removed(phantom, part, *path, canary=part.casefold() not in ("young", "brown", "marsh"))


def _descriptions(phantom: Phantom, place: int, rng: random.Random) -> None:
    ds = phantom.dataset
    for keyword in ("StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments"):
        _write_text(phantom, ds, (keyword,), rng)
    ds.RequestedProcedureDescription = "CT THORAX"
    phantom.checks.append(Check("text_retained", ("RequestedProcedureDescription",), ("CT", "THORAX")))


def _nested(phantom: Phantom, place: int, rng: random.Random) -> None:
    ds, who = phantom.dataset, phantom.person
    request = Dataset()
    _write_text(phantom, request, ("RequestAttributesSequence", 0, "ScheduledProcedureStepDescription"), rng)
    request.RequestedProcedureID = "RP" + who.accession[-5:]
    person = Dataset()
    person.PersonName = f"{who.doctor}^Nested"
    request.ScheduledPerformingPhysicianName = f"{who.doctor}^Nested"
    ds.RequestAttributesSequence = Sequence([request])
    _removed(phantom, request.RequestedProcedureID, "RequestAttributesSequence", 0, "RequestedProcedureID")
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID = "ALT" + who.number[-4:] + "9", "Elsewhere General"
    ds.OtherPatientIDsSequence = Sequence([other])
    _removed(phantom, other.PatientID, "OtherPatientIDsSequence", 0, "PatientID")
    original = Dataset()
    modified = Dataset()
    modified.PatientName = f"{who.family}^Previously"
    original.ModifiedAttributesSequence = Sequence([modified])
    ds.OriginalAttributesSequence = Sequence([original])
    _removed(phantom, "Previously")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "818983003", "SCT", "Abdomen"
    ds.AnatomicRegionSequence = Sequence([code])
    phantom.checks.append(Check("text_retained", ("AnatomicRegionSequence", 0, "CodeMeaning"), ("Abdomen",)))
    if "ContentSequence" in ds:
        _report(phantom, rng)


def _report(phantom: Phantom, rng: random.Random) -> None:
    """A text, a person, a measurement and a date inside a report's tree."""
    who, tree = phantom.person, list(phantom.dataset.ContentSequence)
    start = len(tree)

    def item(kind: str, code: tuple[str, str], **values: Any) -> Dataset:
        made = Dataset()
        made.RelationshipType, made.ValueType = "CONTAINS", kind
        concept = Dataset()
        concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = code[0], "DCM", code[1]
        made.ConceptNameCodeSequence = Sequence([concept])
        for keyword, value in values.items():
            setattr(made, keyword, value)
        return made

    text = item("TEXT", ("121071", "Finding"))
    _write_text(phantom, text, ("ContentSequence", start, "TextValue"), rng)
    observer = item("PNAME", ("121008", "Person Observer Name"), PersonName=f"{who.doctor}^Observer")
    day = item(
        "DATE", ("121125", "DateTime of Recording of Log Entry"), Date=who.study_day.strftime("%Y%m%d")
    )
    tree += [text, observer, day]
    phantom.dataset.ContentSequence = Sequence(tree)
    for number, kind in enumerate(("TEXT", "PNAME", "DATE")):
        phantom.checks.append(
            Check("text_retained", ("ContentSequence", start + number, "ValueType"), (kind,))
        )
    _removed(phantom, who.doctor, "ContentSequence", start + 1, "PersonName")
    phantom.checks.append(Check("text_notnull", ("ContentSequence", start + 1, "PersonName")))
    phantom.checks.append(
        Check("date_shifted", ("ContentSequence", start + 2, "Date"), who.study_day.strftime("%Y%m%d"))
    )


def _private(phantom: Phantom, place: int, rng: random.Random) -> None:
    ds, who = phantom.dataset, phantom.person
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x08, "LO", f"{who.family} {who.given}")
    phantom.checks.append(Check("tag_retained", ("private", 0x0019, 0x0C), "SIEMENS MR HEADER"))
    unsafe = ds.private_block(0x0029, f"QUAGGA WORKS {who.family[:4]}", create=True)
    unsafe.add_new(0x01, "LO", who.number)
    unsafe.add_new(0x02, "UN", f"{who.address}".encode())
    inner = Dataset()
    inner.PatientName = f"{who.family}^Hidden"
    unsafe.add_new(0x03, "SQ", Sequence([inner]))
    ds.add_new(0x00E11001, "LO", f"orphan {who.phone}")
    _removed(phantom, f"{who.family} {who.given}")
    _removed(phantom, "Hidden")
    _removed(phantom, "orphan")


def _technical(phantom: Phantom, place: int, rng: random.Random) -> None:
    ds = phantom.dataset
    ds.Manufacturer = "SIEMENS"
    ds.ManufacturerModelName = "SOMATOM Force"
    ds.SoftwareVersions = "VB10A"
    ds.KVP = "120"
    ds.SliceThickness = "1.25"
    ds.BodyPartExamined = "CHEST"
    ds.PatientSex, ds.PatientSize, ds.PatientWeight = "F", "1.68", "64"
    ds.ConvolutionKernel = "Br40d"
    for keyword, stays in (
        ("Manufacturer", "SIEMENS"), ("ManufacturerModelName", "SOMATOM Force"), ("SoftwareVersions", "VB10A"),
        ("KVP", "120"), ("SliceThickness", "1.25"), ("BodyPartExamined", "CHEST"), ("PatientSex", "F"),
        ("PatientWeight", "64"), ("ConvolutionKernel", "Br40d"),
    ):  # fmt: skip
        phantom.checks.append(Check("text_retained", (keyword,), (stays,)))
    for keyword in ("SOPClassUID", "Modality", "StudyDate", "SeriesDescription", "PatientID", "PatientAge",
                    "SpecificCharacterSet", "ReferencedImageSequence"):  # fmt: skip
        phantom.checks.append(Check("tag_retained", (keyword,)))
    for keyword in ("Rows", "Columns", "BitsAllocated", "PixelSpacing", "RescaleSlope", "ImageType",
                    "ImageOrientationPatient", "PixelData", "NumberOfFrames", "WaveformSequence",
                    "DoseGridScaling", "SegmentSequence", "ROIContourSequence", "BeamSequence",
                    "ConceptNameCodeSequence", "RadiopharmaceuticalInformationSequence"):  # fmt: skip
        if keyword in ds:
            phantom.checks.append(Check("tag_retained", (keyword,)))


def _odd_places(phantom: Phantom, place: int, rng: random.Random) -> None:
    """Identifiers where no rule of the standard expects them."""
    ds, who = phantom.dataset, phantom.person
    capitals = (
        unicodedata.normalize("NFKD", who.family.replace("ø", "o"))
        .encode("ascii", "ignore")
        .decode()
        .upper()[:16]
    )
    ds.SequenceName = who.family[:16]
    ds.FilterType = f"{who.doctor[:12]}"
    ds.ReceiveCoilName = who.number.replace(" ", "")[:10]
    ds.AcquisitionDeviceProcessingDescription = f"SHARP {who.given}"
    ds.TransmitCoilName = "Hathersage"
    ds.SecondaryCaptureDeviceManufacturerModelName = "Magnetom Skyra Hathersage"
    _removed(phantom, "Hathersage", "TransmitCoilName")
    phantom.checks.append(
        Check("text_retained", ("SecondaryCaptureDeviceManufacturerModelName",), ("Magnetom", "Skyra"))
    )
    ds.DerivationDescription = f"Subtraction of {who.study_day:%Y%m%d} by {who.doctor}"
    ds.RequestingService = who.hospital
    ds.NameOfPhysiciansReadingStudy = [f"{who.doctor}^Reading", f"{OTHERS[(place + 5) % len(OTHERS)]}^Second"]
    ds.PatientBirthName = f"{who.family}^Née"
    ds.MedicalAlerts = f"latex; tell {who.given}"
    ds.DeviceDescription = f"scanner in {who.hospital}"
    ds.ImageType = [*list(ds.get("ImageType") or ["ORIGINAL", "PRIMARY"])[:2], capitals]
    ds.InstanceCreatorUID = f"1.2.826.{int(who.number.replace(' ', ''))}"
    ds.add_new(0x60020010, "US", 8)
    ds.add_new(0x60020011, "US", 8)
    ds.add_new(0x60020040, "CS", "G")
    ds.add_new(0x60020022, "LO", f"drawn by {who.doctor}")
    ds.add_new(0x60023000, "OW", who.given.encode("utf-8")[:8].ljust(8, b"\0"))
    ds.add_new(0x50000022, "LO", f"curve of {who.family}")
    for keyword, value in (
        ("SequenceName", who.family[:16]), ("FilterType", who.doctor[:12]),
        ("ReceiveCoilName", who.number.replace(" ", "")[:10]), ("AcquisitionDeviceProcessingDescription", who.given),
        ("DerivationDescription", who.study_day.strftime("%Y%m%d")), ("DerivationDescription", who.doctor),
        ("RequestingService", who.hospital), ("NameOfPhysiciansReadingStudy", who.doctor),
        ("PatientBirthName", who.family), ("MedicalAlerts", who.given), ("DeviceDescription", who.hospital),
        ("ImageType", capitals), ("InstanceCreatorUID", str(int(who.number.replace(" ", "")))),
    ):  # fmt: skip
        _removed(phantom, value, keyword, canary=value.casefold() not in ("young", "brown", "marsh"))
    _removed(phantom, "drawn by")
    _removed(phantom, "curve of")
    phantom.checks.append(Check("text_retained", ("AcquisitionDeviceProcessingDescription",), ("SHARP",)))
    phantom.checks.append(Check("text_retained", ("DerivationDescription",), ("Subtraction",)))
    phantom.checks.append(Check("tag_retained", ("ImageType",)))


def _pixels(phantom: Phantom, place: int, rng: random.Random) -> None:
    ds = phantom.dataset
    ds.preamble = phantom.person.family.encode().ljust(128, b"\0")[:128]
    ds.DataSetTrailingPadding = f"padding {phantom.person.given}".encode() + b"\0" * 10
    if "PixelData" not in ds:
        return
    if phantom.carrier.startswith("burned"):
        phantom.checks.append(Check("pixels_hidden", (), (0, 24)))
        return
    kept = bytes(ds.PixelData)
    phantom.checks.append(Check("pixels_retained", (), (ds, kept)))
    if not ds["PixelData"].is_undefined_length and not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        ds.PixelData = (
            kept + b"Behind the last sample: " + phantom.person.given.encode("ascii", "replace") + b" " * 7
        )


def _at(dataset: Dataset, path: tuple[str | int, ...]) -> Any:
    value: Any = dataset
    for step in path:
        value = value[step] if isinstance(step, int) else value[step].value
    return value
