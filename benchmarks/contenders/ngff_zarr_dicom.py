"""ngff-zarr on a stack read by pydicom: ``SRC DEST``.  Its own DICOM reader (ITK) takes one file, or needs the whole
ITK; so the reading is pydicom's and the writing its own, full resolution only."""

from __future__ import annotations

import sys
from pathlib import Path

import ngff_zarr
import numpy as np
from pydicom import dcmread


def main(source: Path, dest: Path) -> None:
    slices = []
    for path in sorted(source.rglob("*")):
        if path.is_file():
            dataset = dcmread(path)
            slices.append((float(dataset.ImagePositionPatient[2]), dataset.pixel_array))
    slices.sort(key=lambda one: one[0])
    volume = np.stack([pixels for _, pixels in slices])
    image = ngff_zarr.to_ngff_image(volume, dims=["z", "y", "x"], scale={"z": 1.0, "y": 0.7, "x": 0.7})
    multiscales = ngff_zarr.to_multiscales(image, scale_factors=[])
    ngff_zarr.to_ngff_zarr(str(dest), multiscales, version="0.5")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
