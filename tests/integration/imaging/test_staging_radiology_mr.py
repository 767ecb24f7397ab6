"""What an analysis of MR needs to know of how a volume was taken, through a whole staging."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive import instance, uid, write
from dicom_files import siemens
from test_staging_radiology import Staged

SLICES, TIMES = 4, 2


def echo_planar(folder: Path, times: list[str], **more: Any) -> None:
    """One series: first towards one end, then towards the other; ``times``: of each slice, in space order."""
    number = 0
    for polarity in ("1", "0"):
        for t in range(TIMES):
            for z in range(SLICES):
                number += 1
                hour, rest = divmod(float(times[z]) + 2.0 * (number - 1 - z) / SLICES, 3600)
                minute, second = divmod(rest, 60)
                made = instance(
                    "MR_small.dcm", StudyInstanceUID=uid("s"), SeriesInstanceUID=uid("e"), SOPInstanceUID=uid(number),
                    FrameOfReferenceUID=uid("f"), ImagePositionPatient=[0, 0, 3.0 * z], InstanceNumber=number,
                    ImageOrientationPatient=[1, 0, 0, 0, 1, 0], InPlanePhaseEncodingDirection="COL",
                    AcquisitionTime=f"{int(hour) % 24:02}{int(minute):02}{second:09.6f}",
                    TemporalPositionIdentifier=t + 1, AcquisitionNumber=1, **more,
                )  # fmt: skip
                siemens(made, PhaseEncodingDirectionPositive=[polarity])
                made.PixelData = np.full((64, 64), number, "<i2").tobytes()
                write(made, folder / f"{number:03}.dcm")


@pytest.mark.parametrize("start", [40_000.0, 86_397.9])  # the second goes over midnight
def test_a_pair_of_polarities_is_two_volumes_with_polarity_and_slice_times(
    tmp_path: Path, start: float
) -> None:
    echo_planar(tmp_path / "a", [str(start + offset) for offset in (0.0, 0.5, 0.25, 0.75)])
    staged = Staged(tmp_path / "a", tmp_path)
    assert [row["shape"] for row in staged.rows] == [[TIMES, SLICES, 64, 64]] * 2
    assert staged.report.notes["several-phase-encodings"] == 1
    found = {}
    for place in range(2):
        ours: Any = staged.group(place).attrs["hdrs-hpc"]
        found[int(staged.voxels(place)[0, 0, 0, 0])] = ours["acquisition"]
        assert "axis_t" in ours
    for first, polarity in ((1, "positive"), (9, "negative")):
        told = found[first]
        assert told["phase_encoding"] == {"axis": "column", "polarity": polarity}
        assert told["slice_times_s"] == pytest.approx([0.0, 0.5, 0.25, 0.75], abs=1e-5)
        assert told["slice_times_vary_s"] < 1e-4


def test_a_volume_that_tells_nothing_has_no_entry(tmp_path: Path) -> None:
    made = instance("MR_small.dcm", InPlanePhaseEncodingDirection=None)
    write(made, tmp_path / "a" / "1.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    assert "acquisition" not in staged.group().attrs["hdrs-hpc"]  # type: ignore[operator]
