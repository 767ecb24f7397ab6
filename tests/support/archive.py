"""Small archives for tests: DICOM series whose pixels are those of real files, and slides of real JPEG tiles."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import tifffile
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

REPO = Path(__file__).resolve().parents[2]
SHARED = REPO.parent / "shared" / "data"


def real(name: str) -> Path:
    """A real file from pydicom's wheel."""
    found = get_testdata_file(name, download=False)
    assert found, name
    return Path(found)


def uid(*parts: object) -> str:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return "1.2.826.0.1.3680043.8.498." + str(int.from_bytes(digest[:12], "big"))


def instance(template: str = "CT_small.dcm", **attributes: Any) -> Dataset:
    """A real instance with attributes replaced (None removes one)."""
    dataset = pydicom.dcmread(real(template))
    for keyword, value in attributes.items():
        if value is None:
            if keyword in dataset:
                del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset


def write(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if "SOPInstanceUID" in dataset:
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path,
    *,
    name: str = "s",
    slices: int = 5,
    patient: str = "PATIENT-1",
    spacing: float = 2.5,
    template: str = "CT_small.dcm",
    order: list[int] | None = None,
    **attributes: Any,
) -> list[Path]:
    """Write ``slices`` axial slices, file names in the order given (default: reversed in space).

    Voxel values of slice k are the real ones rolled by k rows, so that every slice is different.
    """
    pixels = instance(template).pixel_array
    paths = []
    for file_number, place in enumerate(order if order is not None else range(slices - 1, -1, -1)):
        dataset = instance(
            template,
            PatientID=patient,
            StudyInstanceUID=uid(name, "study"),
            SeriesInstanceUID=uid(name, "series"),
            FrameOfReferenceUID=uid(name, "frame"),
            SOPInstanceUID=uid(name, "sop", place),
            ImagePositionPatient=[-10.0, -20.0, 5.0 + spacing * place],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            InstanceNumber=file_number + 1,
            **attributes,
        )
        dataset.PixelData = np.roll(pixels, place, axis=0).tobytes()
        paths.append(write(dataset, folder / f"{name}-{file_number:03d}.dcm"))
    return paths


def tissue(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An RGB image with smooth colour and fine structure: (y, x, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    red = 200 + 40 * np.sin(x / 17) * np.cos(y / 23)
    green = 150 + 60 * np.sin((x + y) / 31)
    blue = 180 + 50 * np.cos(x / 11)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def slide(
    path: Path, *, height: int = 700, width: int = 1000, extra: str = "", photometric: str = "rgb"
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Write an SVS: tiled JPEG baseline, stripped thumbnail, label and macro; gives the source pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = tissue(height, width)
    description = (
        f"Aperio Image Library v11.2.1 \r\n{width}x{height} (240x240) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990"
    )
    jpeg = {"compression": "jpeg", "compressionargs": {"level": 90}}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            pixels,
            tile=(240, 240),
            photometric=photometric,
            description=description + extra,
            metadata=None,
            **jpeg,
        )
        tiff.write(
            pixels[::4, ::4], photometric="rgb", description="Aperio thumbnail" + extra, metadata=None, **jpeg
        )
        label = np.zeros((96, 128, 3), np.uint8)
        label[:] = np.frombuffer(b"LABEL-CANARY-" * 3000, np.uint8)[: label.size].reshape(label.shape)
        tiff.write(
            label, photometric="rgb", subfiletype=1, description="Aperio\nlabel" + extra, metadata=None
        )
        tiff.write(
            label, photometric="rgb", subfiletype=9, description="Aperio\nmacro" + extra, metadata=None
        )
    return pixels
