"""Carriers for synthetic patients: real files that pydicom brings along, and small generated objects."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

_FILES = (
    "CT_small.dcm",
    "693_J2KI.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "JPEG-lossy.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "rtdose_1frame.dcm",
    "rtplan.dcm",
    "rtstruct.dcm",
    "liver_1frame.dcm",
    "reportsi.dcm",
    "test-SR.dcm",
    "examples_palette.dcm",
    "waveform_ecg.dcm",
)
_GENERATED = {
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "XA": "1.2.840.10008.5.1.4.1.1.12.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
}
_ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"


def _bare(sop_class: str, modality: str, rows: int, columns: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.set_original_encoding(False, True)
    ds.SOPClassUID, ds.Modality = sop_class, modality
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    noise = np.random.default_rng(rows).integers(0, 4096, (rows, columns), dtype="<u2")
    ds.PixelData = noise.tobytes()
    return ds


def _generated(modality: str) -> Dataset:
    ds = _bare(_GENERATED[modality], modality, 16, 20)
    if modality == "PT":
        dose = Dataset()
        dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = "370000000", "6586.2"
        ds.RadiopharmaceuticalInformationSequence = Sequence([dose])
    return ds


def _burned_ultrasound() -> Dataset:
    """A banner of 24 rows with bright strokes above the image region that the header names."""
    ds = _bare(_ULTRASOUND, "US", 96, 128)
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(96, 128).copy()
    pixels[:24] = 0
    pixels[6:18, 4:120:3] = 4095
    ds.PixelData = pixels.tobytes()
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 24
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 127, 95
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    ds.BurnedInAnnotation = "YES"
    return ds


@functools.cache
def _read(name: str) -> Dataset:
    path = get_testdata_file(name)
    assert path is not None, name
    ds = pydicom.dcmread(str(path), force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    for _ in ds.iterall():  # every raw element read once, so that copies are plain
        pass
    return ds


def _from_file(name: str) -> Dataset:
    return copy.deepcopy(_read(name))


CARRIERS: dict[str, Callable[[], Dataset]] = {
    **{name: functools.partial(_from_file, name) for name in _FILES},
    **{f"generated {modality}": functools.partial(_generated, modality) for modality in _GENERATED},
    "burned-in US": _burned_ultrasound,
}
