"""What ``--plan`` tells before anything is decoded, against what the staging then does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from archive import instance, series, slide, tissue, uid, write
from click.testing import CliRunner, Result
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from slides import wsm

from hdrs_hpc.cli.imaging import imaging

NOBODY = ("--no-opt-out", "made for tests")
SIZE_WITHIN = 0.35
"""How far off the guess of bytes may be on real CT, MR and slides; it is told with each case below."""


def run(*argv: object, code: int = 0) -> Result:
    result = CliRunner().invoke(imaging, [str(part) for part in argv])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    run("secret", "new", tmp_path / "secret")
    return tmp_path / "secret"


def both(tmp_path: Path, secret: Path, *options: object) -> tuple[dict[str, Any], dict[str, Any], int, int]:
    """The plan, the report of the staging, and bytes and number of the copy's objects."""
    if "--opt-out" not in options:
        options = (*options, *NOBODY)
    before = sorted(tmp_path.rglob("*"))
    words = (tmp_path / "archive", "--secret", secret, "--json", *options)
    planned = json.loads(run("stage", *words, "--plan").stdout)
    assert sorted(tmp_path.rglob("*")) == before, "it writes nothing"
    report = json.loads(run("stage", words[0], tmp_path / "copy", *words[1:]).stdout)
    objects = [path for path in (tmp_path / "copy" / "objects").rglob("*") if path.is_file()]
    return planned, report, sum(path.stat().st_size for path in objects), len(objects)


def test_it_tells_what_would_be_staged_and_what_not_as_the_report_then_does(
    tmp_path: Path, secret: Path
) -> None:
    folder = tmp_path / "archive"
    series(folder / "ct", name="ct", slices=4, patient="P-1")
    shutil.copy(next((folder / "ct").iterdir()), folder / "again.dcm")
    series(folder / "mr", name="mr", slices=2, patient="P-2", template="MR_small.dcm")
    series(folder / "out", name="out", slices=2, patient="OUT-1")
    write(
        instance(
            Modality="OT",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
            ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"],
            SOPInstanceUID=uid("screen"),
            SeriesInstanceUID=uid("screens"),
        ),
        folder / "screen.dcm",
    )
    write(instance(Rows=None, SOPInstanceUID=uid("rowless")), folder / "rowless.dcm")
    (folder / "README.md").write_text("# notes\n")
    slide(folder / "one.svs", height=900, width=1300)
    wsm(folder / "two.dcm", tissue(400, 500))
    (folder / "t.csv").write_text("id,alive\nP-1,yes\n")
    (tmp_path / "out.txt").write_text("OUT-1\n")
    (tmp_path / "columns.yaml").write_text("id: patient-id\nalive: boolean\n")
    planned, report, _, objects = both(
        tmp_path,
        secret,
        *("--opt-out", tmp_path / "out.txt", "--columns", tmp_path / "columns.yaml", "--burned-in", "hold"),
    )
    assert planned["refused"] == report["refused"]
    assert planned["refused"]["held-for-person"]["details"] == {"screen-or-report (ImageType)": 1}
    assert planned["failed"] == report["failed"] == 1
    assert planned["in"] == report["in"]
    groups = [
        [one[name] for name in ("kind", "modality", "items", "source-items")]
        for one in planned["staged"]["by-modality"]
    ]
    assert groups == [
        [one[name] for name in ("kind", "modality", "items", "source-items")]
        for one in report["staged"]["by-modality"]
    ]
    assert planned["staged"]["source-items"] == report["staged"]["items"]
    assert planned["staged"]["patients"] == report["staged"]["patients"]
    assert planned["copy"]["objects"] == objects
    text = run("stage", folder, "--secret", secret, *NOBODY, "--plan", "--burned-in", "hold").output
    assert "1 held-for-person: screen-or-report (ImageType): 1" in text
    assert "README" not in text and "P-1" not in text


@pytest.mark.parametrize("form", ["native", "j2k", "jls", "rle", "slide"])
def test_the_guess_of_bytes_is_near_what_the_copy_takes(tmp_path: Path, secret: Path, form: str) -> None:
    folder = tmp_path / "archive"
    if form == "slide":
        slide(folder / "one.svs", height=3000, width=4000)
    else:
        syntax = {"j2k": JPEG2000Lossless, "jls": JPEGLSLossless, "rle": RLELossless}.get(form)
        for template in ("CT_small.dcm", "MR_small.dcm"):
            series(folder / template, name=template, patient=template, slices=40, template=template)
        for path in filter(Path.is_file, folder.rglob("*")):
            _noisy(path, syntax)
    planned, _, size, objects = both(tmp_path, secret)
    assert planned["copy"]["objects"] == objects
    off = planned["copy"]["bytes"] / size - 1
    print(f"{form}: guessed {planned['copy']['bytes']}, took {size}: {off:+.0%}")
    assert abs(off) < SIZE_WITHIN
    assert size <= planned["copy"]["bytes-at-most"]


def _noisy(path: Path, syntax: Any) -> None:
    """With the noise of a scanner, without which slices made of one would be all alike; compressed if a syntax says."""
    dataset = pydicom.dcmread(path)
    noise = np.random.default_rng(dataset.InstanceNumber).normal(0, 8, (dataset.Rows, dataset.Columns))
    dataset.PixelData = np.clip(dataset.pixel_array + noise, 0, 4095).astype("<i2").tobytes()
    dataset.PixelRepresentation = 1
    if syntax is not None:
        dataset.compress(syntax)
    dataset.save_as(path)


def test_no_pixel_is_decoded(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "archive"
    paths = series(folder, name="ct", slices=3, patient="P-1")
    # Pixels that no decoder could read: only a staging notices.
    for path in paths:
        raw = path.read_bytes()
        path.write_bytes(raw[:-20_000])
    planned, report, *_ = both(tmp_path, secret)
    assert planned["staged"]["source-items"] == 3 and report["staged"]["items"] == 0
    assert "truncated-pixel-data" in report["refused"]


def test_equal_uids_are_told_as_undecided(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "archive"
    (path,) = series(folder, name="ct", slices=1, patient="P-1")
    other = pydicom.dcmread(path)
    other.PixelData = np.zeros_like(other.pixel_array).tobytes()
    write(other, folder / "other.dcm")
    planned = json.loads(run("stage", folder, "--secret", secret, *NOBODY, "--plan", "--json").stdout)
    assert planned["undecided"] == {"files-with-one-uid": 2}
    assert planned["refused"]["duplicate-instance"]["count"] == 1


def test_what_it_can_not_do_is_a_usage_error(tmp_path: Path, secret: Path) -> None:
    series(tmp_path / "archive", name="ct", slices=1)
    words = ("stage", tmp_path / "archive", "--secret", secret, *NOBODY)
    run(*words, code=2)
    run(*words, "--plan", "--items", tmp_path / "map.csv", code=2)
    run(*words, "--plan", "--report", tmp_path / "plan.html", code=2)
    run(*words, "--plan", "--report", tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text())["schema"] == "hdrs-hpc/staging-plan/1"
