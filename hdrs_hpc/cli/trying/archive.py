"""A made-up archive: DICOM series with a body-like blob, slides with tissue-like blobs, a linked table.

Nothing of it is anybody's: shapes, noise, names and numbers come from a seed.  It goes through the real stager, so what
a job meets of it has the columns, names and attributes of what is staged from a hospital.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from scipy import ndimage

from hdrs_hpc.catalogue.data_kinds import PATHOLOGY, RADIOLOGY, TABLE
from hdrs_hpc.cli.trying.recipe import ANY_KIND, Recipe

SIDE = 64
SLICES = (10, 16)
BOTH = 0.4
"""Of the patients: how many have series in two modalities."""
SLIDES = 4
SLIDE_SIDE = 1536
TILE = 256
MICRONS_PER_PIXEL = 0.5
_ROOT = "1.2.826.0.1.3680043.10.1453.7"
COLUMNS: dict[str, Any] = {
    "patient": {"rule": "patient-id"},
    "label": {"rule": "category", "values": ["benign", "malignant"]},
    "score": {"rule": "number"},
}
"""Of a table of which nothing is known."""


def columns(recipe: Recipe) -> dict[str, Any]:
    """The columns of the recipe's table, as a grant writes them."""
    return recipe.columns or COLUMNS


def make(folder: Path, recipe: Recipe) -> None:
    """Write the archive below ``folder``."""
    for kind, draw in DRAWN.items():
        if recipe.kind in (kind, ANY_KIND):
            draw(folder / kind, recipe)


def _radiology(folder: Path, recipe: Recipe) -> None:
    """A series of each patient, of some in two modalities.  Who has what is drawn, each value once at least: groups of
    regular sizes add up to one another, and the airlock takes one that does for a total."""
    chance = np.random.default_rng(recipe.seed)
    first = _drawn(recipe.modalities, recipe.patients, chance)
    for patient, usual in enumerate(first):
        others = [other for other in recipe.modalities if other != usual]
        both = others and chance.random() < BOTH
        for number, modality in enumerate([usual, *([str(chance.choice(others))] if both else [])]):
            _series(folder / f"{patient:03}-{number}", recipe, patient, number, modality, chance)


def _drawn(values: Sequence[str], count: int, chance: np.random.Generator) -> list[str]:
    """``count`` of the values, the first ones more often, each once at least where there is room."""
    weights = 1 / np.arange(1, len(values) + 1)
    drawn = chance.choice(values, count, p=weights / weights.sum())
    return [str(value) for value in (*values, *drawn)][:count]


def _series(
    folder: Path, recipe: Recipe, patient: int, number: int, modality: str, chance: np.random.Generator
) -> None:
    folder.mkdir(parents=True)
    thickness = float(chance.choice((1.25, 2.5, 5.0)))
    spacing = float(chance.choice((0.7, 0.8, 0.98)))
    voxels = _body(int(chance.integers(*SLICES, endpoint=True)), modality, chance)
    uid = f"{_ROOT}.{recipe.seed}.{patient}.{number}"
    shared = _described(recipe, patient, modality, uid, chance)
    shared.PixelSpacing = [spacing, spacing]
    shared.SliceThickness = shared.SpacingBetweenSlices = thickness
    shared.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for index, plane in enumerate(voxels):
        image = Dataset()
        image.update(shared)
        image.SOPInstanceUID = f"{uid}.{index + 1}"
        image.InstanceNumber = index + 1
        image.ImagePositionPatient = [-spacing * SIDE / 2, -spacing * SIDE / 2, index * thickness]
        image.PixelData = plane.astype("<i2").tobytes()
        image["PixelData"].VR = "OW"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
            image.SOPClassUID,
            image.SOPInstanceUID,
        )
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta = meta
        image.save_as(folder / f"{index:04}.dcm", enforce_file_format=True)


def _described(recipe: Recipe, patient: int, modality: str, uid: str, chance: np.random.Generator) -> Dataset:
    day = recipe.first + timedelta(days=int(chance.integers(0, (recipe.last - recipe.first).days + 1)))
    age = int(chance.integers(30, 86))
    ds = Dataset()
    ds.SOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
    ds.Modality = modality
    ds.PatientID, ds.PatientName = patient_id(patient), f"Madeup^{patient:03}"
    ds.PatientSex = _of_patient(recipe, patient, "sex", recipe.sexes)
    ds.PatientAge, ds.PatientBirthDate = f"{age:03}Y", f"{day.year - age}0101"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101500"
    ds.StudyInstanceUID = f"{_ROOT}.{recipe.seed}.{patient}"
    ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uid, f"{uid}.0"
    ds.BodyPartExamined = _of_patient(recipe, patient, "body part", recipe.body_parts)
    ds.Manufacturer = _of_patient(recipe, patient, "manufacturer", recipe.manufacturers)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesNumber = ds.AcquisitionNumber = 1
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    if modality == "MR":
        ds.MagneticFieldStrength, ds.RepetitionTime, ds.EchoTime, ds.FlipAngle = 1.5, 500.0, 15.0, 90.0
        ds.ScanningSequence, ds.SequenceVariant, ds.MRAcquisitionType = "SE", "SK", "2D"
    else:
        ds.KVP, ds.ConvolutionKernel = 120.0, "B30f"
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1.0, -1024.0, "HU"
    return ds


def _of_patient(recipe: Recipe, patient: int, what: str, values: Sequence[str]) -> str:
    """The same for all series of a patient."""
    chance = np.random.default_rng((recipe.seed, *what.encode()))
    return _drawn(values, recipe.patients, chance)[patient]


def _body(slices: int, modality: str, chance: np.random.Generator) -> NDArray[np.int16]:
    """(slices, SIDE, SIDE): an ellipse of soft tissue with two dark lungs and a bright spine, and noise."""
    z, y, x = np.mgrid[-1 : 1 : slices * 1j, -1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    width = 0.75 + 0.1 * chance.random() - 0.1 * z**2
    body = (x / width) ** 2 + (y / (0.75 * width)) ** 2 < 1
    lungs = ((np.abs(x) - 0.33) / 0.2) ** 2 + (y / 0.32) ** 2 < 1 - 0.5 * z**2
    spine = x**2 + (y - 0.42) ** 2 < 0.015
    air, soft, lung, bone = (24, 1064, 224, 1724) if modality != "MR" else (5, 420, 60, 180)
    values = np.select([spine, lungs & body, body], [bone, lung, soft], air).astype(np.float64)
    values = ndimage.gaussian_filter(values, (0, 0.7, 0.7)) + chance.normal(0, 12, values.shape)
    drawn: NDArray[np.int16] = np.clip(values, 0, 4095).astype(np.int16)
    return drawn


def _pathology(folder: Path, recipe: Recipe) -> None:
    folder.mkdir(parents=True)
    for number in range(SLIDES):
        pixels = _tissue(np.random.default_rng((recipe.seed, number)))
        with tifffile.TiffWriter(folder / f"slide-{number}.svs") as tiff:
            for factor in (1, 4):
                level = np.ascontiguousarray(pixels[::factor, ::factor])
                tiff.write(
                    level,
                    tile=(TILE, TILE),
                    photometric="rgb",
                    compression="jpeg",
                    compressionargs={"level": 85},
                    subsampling=(1, 1),
                    description=_aperio(level, factor),
                    metadata=None,
                    software=False,
                )


def _aperio(level: NDArray[np.uint8], factor: int) -> str:
    height, width = level.shape[:2]
    told = "" if factor > 1 else f"|AppMag = 20|MPP = {MICRONS_PER_PIXEL:.4f}"
    return (
        f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] ({TILE}x{TILE}) "
        f"JPEG/RGB Q=85{told}"
    )


def _tissue(chance: np.random.Generator) -> NDArray[np.uint8]:
    """(SLIDE_SIDE, SLIDE_SIDE, 3): pink islands with purple nuclei on white glass."""
    coarse = SLIDE_SIDE // 16
    island = ndimage.zoom(ndimage.gaussian_filter(chance.normal(size=(coarse, coarse)), 9), 16, order=1)
    tissue = island > np.quantile(island, 0.55)
    fine = ndimage.zoom(
        ndimage.gaussian_filter(chance.normal(size=(coarse * 4, coarse * 4)), 1.2), 4, order=1
    )
    nuclei = tissue & (fine > np.quantile(fine, 0.88))
    stain = chance.integers(-10, 11, 3)
    pixels = np.empty((SLIDE_SIDE, SLIDE_SIDE, 3), np.int16)
    for where, colour in ((~tissue, (243, 242, 244)), (tissue, (224, 158, 196)), (nuclei, (112, 76, 150))):
        pixels[where] = np.array(colour) + stain * (colour[1] < 240)
    pixels += chance.integers(-5, 6, pixels.shape[:2], dtype=np.int16)[..., None]
    drawn: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return drawn


def patient_id(patient: int) -> str:
    """The same person in all made-up data of one seed."""
    return f"MADEUP{patient:04}"


def _table(folder: Path, recipe: Recipe) -> None:
    """One row a patient, with a value of each column's rule."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng((recipe.seed, 99))
    made = {name: _column(rule, recipe, chance) for name, rule in columns(recipe).items()}
    pq.write_table(pa.table(made), folder / "linked.parquet")


def _column(rule: dict[str, Any], recipe: Recipe, chance: np.random.Generator) -> list[Any]:
    span = (recipe.last - recipe.first).days + 1
    days = [recipe.first + timedelta(days=int(day)) for day in chance.integers(0, span, recipe.patients)]
    if rule.get("within"):
        first, last = (np.datetime64(day) for day in str(rule["within"]).split("/"))
        whole = int((last - first).astype(int)) + 1
        days = [(first + int(day)).item() for day in chance.integers(0, whole, recipe.patients)]
    people = range(recipe.patients)
    made: dict[str, list[Any]] = {
        "patient-id": [patient_id(patient) for patient in people],
        "uid": [f"{_ROOT}.{recipe.seed}.{patient}" for patient in people],
        "keyed-id": [f"ROW{patient:05}" for patient in people],
        "shifted-date": [day.isoformat() for day in days],
        "age": [str(age) for age in chance.integers(30, 86, recipe.patients)],
        "integer": [str(number) for number in chance.integers(0, 100, recipe.patients)],
        "number": [json.dumps(round(float(number), 3)) for number in chance.random(recipe.patients)],
        "boolean": [("true", "false")[int(bit)] for bit in chance.integers(0, 2, recipe.patients)],
        "category": [str(chance.choice(rule.get("values", ["-"]))) for _ in people],
    }
    return made[rule["rule"]]


DRAWN = {RADIOLOGY.name: _radiology, PATHOLOGY.name: _pathology, TABLE.name: _table}
"""What draws each kind of data."""
