"""The straight script that most would write: ``SRC DEST``, every file's pixels, sorted, stacked, into one zarr array.

Plain and not de-identified: nothing is checked, hashed, minimised or sealed.  Codecs and chunks are zarr's defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import zarr
from pydicom import dcmread


def main(source: Path, dest: Path) -> None:
    slices = []
    for path in sorted(source.rglob("*")):
        if path.is_file():
            dataset = dcmread(path)
            position = float(dataset.ImagePositionPatient[2])
            time = int(dataset.get("TemporalPositionIdentifier") or 0)
            slices.append((time, position, dataset.pixel_array))
    slices.sort(key=lambda one: one[:2])
    volume = np.stack([pixels for _, _, pixels in slices])
    times = len({time for time, _, _ in slices})
    if times > 1:
        volume = volume.reshape(times, -1, *volume.shape[1:])
    zarr.create_array(str(dest), data=volume)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
