"""CT and MR series with the pixels of real scans and the identifiers of made-up patients.

The pixels come from the real files inside pydicom's wheel, cropped, turned and mirrored so that series differ.
A little noise, as between two scans of one patient, makes every 64-byte window belong to this archive alone:
otherwise pydicom's own files, which lie in every environment, would look like a leak.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hdrs_hpc.cli.demo.identities import UID_ROOT, Canaries, Identities, Patient

WINDOWS_PER_FILE = 8
WINDOW_BYTES = 64
MIN_DISTINCT_BYTES = 18
"""A window of air or padding proves nothing: it occurs everywhere."""

_AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
_SAGITTAL = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]


@dataclass(frozen=True)
class Scan:
    """One real image: its dataset without pixels, and the pixels as stored, shape (rows, columns)."""

    template: Dataset
    pixels: NDArray[np.int16]
    bodies: tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """How a series is laid out: lengths in millimetres, cosines as in DICOM (0020,0037)."""

    slices: int
    spacing_mm: float
    thickness_mm: float
    cosines: list[float]


def real_scans() -> dict[str, list[Scan]]:
    """The real images by modality; body parts as they are, small ones twice as likely to be shared out."""
    return {
        "CT": [
            _scan("CT_small.dcm", 0, 128, ("CHEST", "CHEST", "ABDOMEN")),
            _scan("J2K_pixelrep_mismatch.dcm", 176, 144, ("HEAD", "HEAD", "NECK")),
        ],
        "MR": [
            _scan("MR_small.dcm", 0, 64, ("HEAD", "HEAD", "SPINE")),
            _scan("examples_overlay.dcm", 90, 128, ("ABDOMEN", "ABDOMEN", "PELVIS")),
        ],
    }


def _scan(name: str, start: int, size: int, bodies: tuple[str, ...]) -> Scan:
    path = get_testdata_file(name, download=False)
    if not isinstance(path, str):
        raise FileNotFoundError(f"pydicom's wheel holds no {name}")
    with pydicom.config.disable_value_validation():
        template = pydicom.dcmread(path)
        pixels = template.pixel_array[start : start + size, start : start + size].astype(np.int16)
    for tag in list(template.keys()):
        if 0x6000 <= tag.group < 0x6020:  # overlays
            del template[tag]
    for keyword in ("PixelData", "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
        template.pop(keyword, None)
    template.Rows, template.Columns = pixels.shape
    template.BitsAllocated = template.BitsStored = 16
    template.HighBit = 15
    template.PixelRepresentation = 1
    template.PhotometricInterpretation = "MONOCHROME2"
    return Scan(template, np.ascontiguousarray(pixels), bodies)


class SeriesWriter:
    """Writes whole series; deterministic in its seed."""

    def __init__(self, seed: int, identities: Identities, canaries: Canaries) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._noise = np.random.default_rng(seed)
        self._identities = identities
        self._canaries = canaries
        self._scans = real_scans()

    def study_uid(self) -> str:
        return self._identities.uid(UID_ROOT, "study-uid")

    def write(self, folder: Path, patient: Patient, modality: str, study_uid: str) -> int:
        """One series into ``folder``, which is made; gives the number of files."""
        scan = self._random.choice(self._scans[modality])
        shape = self._shape(modality)
        series = self._series(scan, patient, modality, study_uid, shape)
        body = self._random.choice(scan.bodies) if self._random.random() > 0.05 else "KNEE"
        series.BodyPartExamined = body
        folder.mkdir(parents=True)
        implicit = self._random.random() < 0.1
        for number, pixels in enumerate(self._slices(scan, shape.slices)):
            image = self._slice(series, shape, number, pixels)
            _save(image, folder / f"IM{number:04d}.dcm", implicit=implicit)
        return shape.slices

    def write_without_geometry(self, path: Path, patient: Patient, study_uid: str) -> None:
        """One image that tells neither where nor how large its pixels are."""
        scan = self._scans["CT"][0]
        shape = Shape(1, 1.0, 1.0, _AXIAL)
        series = self._series(scan, patient, "CT", study_uid, shape)
        image = self._slice(series, shape, 0, next(self._slices(scan, 1)))
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceLocation"):
            del image[keyword]
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(image, path, implicit=False)

    def write_truncated(self, path: Path, patient: Patient, study_uid: str) -> None:
        """One image whose file ends in the middle of its pixels, as after a broken transfer."""
        scan = self._scans["CT"][0]
        shape = Shape(1, 0.7, 2.5, _AXIAL)
        series = self._series(scan, patient, "CT", study_uid, shape)
        image = self._slice(series, shape, 0, next(self._slices(scan, 1)), windows_from=0.4)
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(image, path, implicit=False)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) - len(image.PixelData) // 2])

    def _shape(self, modality: str) -> Shape:
        pick = self._random.choice
        slices = self._random.randint(6, 10)
        if modality == "CT":
            return Shape(slices, pick((0.62, 0.68, 0.74, 0.82, 0.98)), pick((1.25, 2.5, 2.5, 5.0)), _AXIAL)
        return Shape(slices, pick((0.31, 0.47, 0.94, 1.25)), pick((1.0, 3.0, 5.0)), pick((_AXIAL, _SAGITTAL)))

    def _slices(self, scan: Scan, count: int) -> Iterator[NDArray[np.int16]]:
        turned = np.rot90(scan.pixels, self._random.randrange(4))
        if self._random.random() < 0.5:
            turned = turned[:, ::-1]
        shift = self._random.randrange(1, 4)
        for number in range(count):
            noise = self._noise.integers(-3, 4, size=turned.shape, dtype=np.int16)
            yield np.ascontiguousarray(np.roll(turned, shift * number, axis=0) + noise)

    def _series(self, scan: Scan, patient: Patient, modality: str, study_uid: str, shape: Shape) -> Dataset:
        """Everything that the images of one series have in common."""
        known = self._identities
        ds = copy.deepcopy(scan.template)
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.Modality = modality
        _identify(ds, patient)
        ds.StudyInstanceUID = study_uid
        ds.SeriesInstanceUID = known.uid(UID_ROOT, "series-uid")
        ds.FrameOfReferenceUID = known.uid(UID_ROOT, "frame-of-reference-uid")
        ds.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{'2' if modality == 'CT' else '4'}"
        moment = known.moment("acquisition-moment")
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = moment[:8]
        ds.AcquisitionDateTime = moment
        ds.StudyTime, ds.SeriesTime = known.time("study-time"), known.time("series-time")
        ds.AcquisitionTime = ds.ContentTime = moment[8:]
        ds.StudyID, ds.AccessionNumber = known.code("ST", "study-id"), known.code("ACC", "accession-number")
        ds.SeriesNumber, ds.AcquisitionNumber = self._random.randint(1, 9), 1
        ds.StudyDescription = known.text("study-description", f"{modality} as asked by Dr")
        ds.SeriesDescription = known.text("series-description", f"{modality} series for")
        ds.ProtocolName = known.text("protocol", "Protocol of")
        ds.InstitutionName = known.text("institution", "Infirmary of")
        ds.InstitutionAddress = known.text("institution-address", "Long Lane")
        ds.StationName = known.code("STN", "station")
        ds.DeviceSerialNumber = known.code("SER", "device-serial")
        for keyword in ("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName"):
            setattr(ds, keyword, known.person("staff-name"))
        ds.ImageComments = known.text("image-comments", "Seen again by")
        ds.PixelSpacing = [shape.spacing_mm, shape.spacing_mm]
        ds.SliceThickness = ds.SpacingBetweenSlices = shape.thickness_mm
        ds.ImageOrientationPatient = shape.cosines
        self._nest(ds, patient)
        return ds

    def _nest(self, ds: Dataset, patient: Patient) -> None:
        """Identifiers where a careless reader does not look: in sequences and private elements."""
        known = self._identities
        request = Dataset()
        request.RequestedProcedureDescription = known.text("request", "Asked for by")
        request.ScheduledProcedureStepID = known.code("SPS", "procedure-step")
        ds.RequestAttributesSequence = Sequence([request])
        reference = Dataset()
        reference.ReferencedSOPClassUID = ds.SOPClassUID
        reference.ReferencedSOPInstanceUID = known.uid(UID_ROOT, "referenced-uid")
        ds.ReferencedImageSequence = Sequence([reference])
        before = Dataset()
        before.PatientName, before.PatientID = patient.name, patient.patient_id
        changed = Dataset()
        changed.ModifiedAttributesSequence = Sequence([before])
        changed.ModifyingSystem = known.text("modifying-system", "Archive of")
        changed.AttributeModificationDateTime = known.moment("modification-moment")
        changed.ReasonForTheAttributeModification = "CORRECT"
        ds.OriginalAttributesSequence = Sequence([changed])
        private = ds.private_block(0x0019, "DEMO HOSPITAL", create=True)
        private.add_new(0x31, "LO", known.text("private-text", "Bed of"))
        private.add_new(0x32, "UN", known.text("private-bytes", "Ward note").encode("ascii").ljust(64))
        inner = Dataset()
        inner.add_new(0x00190010, "LO", "DEMO HOSPITAL")
        inner.add_new(0x00191033, "LT", known.text("private-nested", "Next of kin"))
        private.add_new(0x34, "SQ", Sequence([inner]))

    def _slice(
        self,
        series: Dataset,
        shape: Shape,
        number: int,
        pixels: NDArray[np.int16],
        *,
        windows_from: float = 1.0,
    ) -> Dataset:
        """One image; windows are planted from the first ``windows_from`` of its pixels."""
        image = copy.copy(series)
        image.SOPInstanceUID = f"{series.SeriesInstanceUID}.{number + 1}"
        image.InstanceNumber = number + 1
        along = np.cross(shape.cosines[:3], shape.cosines[3:]) * shape.thickness_mm * number
        image.ImagePositionPatient = [round(float(v), 4) for v in np.array([-40.0, -60.0, 80.0]) + along]
        image.SliceLocation = round(shape.thickness_mm * number, 4)
        image.Rows, image.Columns = pixels.shape
        image.PixelData = pixels.astype("<i2").tobytes()
        data = image.PixelData[: int(len(image.PixelData) * windows_from)]
        for window in pick_windows(data, WINDOWS_PER_FILE, self._random):
            self._canaries.plant_window(window, "pixels")
        return image


def pick_windows(data: bytes, count: int, chance: random.Random) -> list[bytes]:
    """Up to ``count`` windows of 64 bytes at even offsets, each with enough different bytes to be telling."""
    found: list[bytes] = []
    for _ in range(count * 12):
        start = chance.randrange(0, max(len(data) - WINDOW_BYTES, 1)) & ~1
        window = data[start : start + WINDOW_BYTES]
        if len(window) == WINDOW_BYTES and len(set(window)) >= MIN_DISTINCT_BYTES:
            found.append(window)
            if len(found) == count:
                break
    return found


def _identify(ds: Dataset, patient: Patient) -> None:
    ds.PatientName, ds.PatientID = patient.name, patient.patient_id
    ds.PatientBirthDate, ds.PatientBirthTime = patient.birth_date, patient.birth_time
    ds.PatientSex, ds.PatientAge = patient.sex, patient.age
    ds.PatientAddress, ds.PatientTelephoneNumbers = patient.address, patient.telephone
    ds.PatientComments = patient.comments
    nhs, other = Dataset(), Dataset()
    nhs.PatientID, nhs.IssuerOfPatientID, nhs.TypeOfPatientID = patient.nhs_number, "NHS", "TEXT"
    other.PatientID, other.TypeOfPatientID = patient.other_id, "TEXT"
    ds.OtherPatientIDsSequence = Sequence([nhs, other])


def _save(image: Dataset, path: Path, *, implicit: bool) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = image.SOPClassUID
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    image.file_meta = meta
    image["PixelData"].VR = "OW"
    image.save_as(path, enforce_file_format=True)
