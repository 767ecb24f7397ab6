"""``hdrs-hpc imaging`` as a pipeline team uses it: without a broker, from folder to picture, killed on the way."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from archive import instance, real, series, slide, write
from click.testing import CliRunner, Result
from PIL import Image

from hdrs_hpc.cli.imaging import imaging
from imaging import standalone
from imaging.staging.selection import SelectionError
from tests.support.opt_outs import NOBODY, with_opt_out

REPO = Path(__file__).resolve().parents[3]
CANARIES = (
    "CANARYSURNAME",
    "CANARY-NHS-943476",
    "18830417",
    "18810203.12",
    "CANARY HOSPITAL",
    "CANARY-REMARK",
)


def run(*argv: object, code: int = 0) -> Result:
    result = CliRunner().invoke(imaging, with_opt_out(argv))
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    run("secret", "new", tmp_path / "secret")
    return tmp_path / "secret"


def plant(folder: Path) -> list[bytes]:
    """An archive full of canaries; gives them as bytes, pixel windows included."""
    identity: dict[str, Any] = {
        "PatientName": "CANARYSURNAME^JANE",
        "PatientBirthDate": "18830417",
        "StudyDate": "18830417",
        "SeriesDate": "18830417",
        "AcquisitionDateTime": "18810203.12",
        "StudyTime": "111111.18810203",
        "AccessionNumber": "CANARY-REMARK",
        "InstitutionName": "CANARY HOSPITAL",
        "StudyDescription": "CANARY-REMARK",
        "SeriesDescription": "CANARYSURNAME",
        "ProtocolName": "CANARY-REMARK",
        "ImageComments": "seen CANARYSURNAME",
        "ReferringPhysicianName": "CANARYSURNAME^DR",
        "BodyPartExamined": "CANARYSURNAME",
        "Manufacturer": "CANARY HOSPITAL",
        "PatientSex": "CANARY-REMARK",
        "PatientAge": "",
        "KVP": None,
    }
    series(folder / "CANARYSURNAME", name="a", slices=3, patient="CANARY-NHS-943476", **identity)
    odd = instance(PatientID="CANARY-NHS-943476", ImagePositionPatient=None, **identity)
    write(odd, folder / "CANARYSURNAME" / "without-place.dcm")
    pixels = slide(folder / "CANARYSURNAME" / "s.svs", extra="|Patient = CANARYSURNAME|User = CANARY-REMARK")
    voxels = np.frombuffer(pydicom.dcmread(real("CT_small.dcm")).PixelData, np.uint8)
    windows = [bytes(voxels[at : at + 64]) for at in range(2048, len(voxels) - 64, 4096)]
    stored = (folder / "CANARYSURNAME" / "s.svs").read_bytes()
    windows += [stored[at : at + 64] for at in range(4000, len(stored) - 64, 9973)]
    assert pixels.size
    return [canary.encode() for canary in CANARIES] + windows


def everything_below(folder: Path) -> bytes:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\0".join(str(path).encode() + b"\0" + path.read_bytes() for path in files)


def test_no_identifier_and_no_pixel_window_appears_anywhere_outside_the_archive(
    tmp_path: Path, secret: Path
) -> None:
    canaries = plant(tmp_path / "archive")
    found = everything_below(tmp_path / "archive")
    assert all(canary in found for canary in canaries)  # the search itself works
    out = tmp_path / "out"
    out.mkdir()
    result = run(
        "stage", tmp_path / "archive", out / "copy", "--secret", secret, "--workers", 2, "--report", out / "r.json",
        "--report", out / "r.html",
    )  # fmt: skip
    listing = run("index", out / "copy", "--secret", secret, "--json")
    checked = run("verify", out / "copy", "--secret", secret, "--json")
    haystack = everything_below(out)
    for text in (result, listing, checked):
        haystack += text.output.encode() + text.stderr.encode()
    assert [canary for canary in canaries if canary in haystack] == []
    # The copy's plaintext may hold the pixels, which it is for; identifiers not even there.
    copy = standalone.open_copy(out / "copy", standalone.read_secret(secret))
    plain = b"\0".join(path.encode() + copy.read(path) for path in copy.paths())
    assert [canary for canary in CANARIES if canary.encode() in plain] == []
    rows = json.loads(listing.stdout)
    assert sorted(row["kind"] for row in rows) == ["slide", "volume"]
    (row,) = (row for row in rows if row["kind"] == "volume")
    assert row["body_part"] is None
    assert row["manufacturer"] == "OTHER"
    assert row["study_date"] != "1883-04-17"
    # A CT image without a place in the patient may be a screen with the patient's name on it.
    assert json.loads((out / "r.json").read_text())["refused"]["burned-in-annotation"]["items"] == [5]


STAGE = [sys.executable, "-c", "from hdrs_hpc.cli.imaging import imaging; imaging()", "stage"]


def contents(dest: Path, secret: Path) -> dict[str, bytes]:
    copy = standalone.open_copy(dest, standalone.read_secret(secret))
    return {path: copy.read(path) for path in copy.paths()}


def test_a_staging_killed_on_the_way_goes_on_to_the_same_copy(tmp_path: Path, secret: Path) -> None:
    for number in range(6):
        series(tmp_path / "archive", name=f"n{number}", slices=4, patient=f"P{number}")
    slide(tmp_path / "archive" / "s.svs")
    run("stage", tmp_path / "archive", tmp_path / "straight", "--secret", secret, "--workers", 1)
    argv = [
        *STAGE,
        str(tmp_path / "archive"),
        str(tmp_path / "killed"),
        "--secret",
        str(secret),
        "--workers",
        "1",
        *NOBODY,
    ]
    kills = 0
    for finished in (1, 3):
        process = subprocess.Popen(argv, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # The journals are sealed; each finished item is one line that ends in a flush: watch objects instead.
        while process.poll() is None and len(list((tmp_path / "killed").glob("objects/o*"))) < 4 * finished:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        assert not (tmp_path / "killed" / "copy.json").read_text().count("digest")
    assert kills
    subprocess.run(argv, cwd=REPO, check=True, capture_output=True)
    assert contents(tmp_path / "killed", secret) == contents(tmp_path / "straight", secret)
    assert not (tmp_path / "killed" / "journal").exists()


def test_secret_stage_verify_index_inspect(tmp_path: Path, secret: Path) -> None:
    series(tmp_path / "archive", slices=20)
    slide(tmp_path / "archive" / "s.svs")
    assert oct(secret.stat().st_mode & 0o777) == "0o600"
    staged = json.loads(
        run("stage", tmp_path / "archive", tmp_path / "c", "--secret", secret, "--json").stdout
    )
    assert staged["staged"]["volumes"] == staged["staged"]["slides"] == 1
    assert json.loads(run("verify", tmp_path / "c", "--secret", secret, "--json").stdout)["items"] == 2
    rows = json.loads(run("index", tmp_path / "c", "--secret", secret, "--json").stdout)
    assert [row["kind"] for row in rows] == ["volume", "slide"]
    assert rows[0]["item"] in run("index", tmp_path / "c", "--secret", secret).stdout
    run("inspect", tmp_path / "c", "--secret", secret, "--png", tmp_path / "v.png")
    run("inspect", tmp_path / "c", "slides", "--secret", secret, "--png", tmp_path / "s.png")
    montage = np.asarray(Image.open(tmp_path / "v.png"))
    assert montage.shape == (4 * 192, 4 * 192)
    assert montage[:128, :128].std() > 20  # it shows the slice
    thumbnail = np.asarray(Image.open(tmp_path / "s.png"))
    assert thumbnail.shape[:2] == (538, 768)
    assert thumbnail.std() > 10


def test_select_and_profile_narrow_what_is_staged(tmp_path: Path, secret: Path) -> None:
    series(tmp_path / "archive", slices=2)
    slide(tmp_path / "archive" / "s.svs")
    only = run(
        "stage", tmp_path / "archive", tmp_path / "c", "--secret", secret, "--select", "Modality=SM", "--json"
    )
    assert json.loads(only.stdout)["refused"]["not-selected"]["count"] == 2
    other = run(
        "stage",
        tmp_path / "archive",
        tmp_path / "d",
        "--secret",
        secret,
        "--profile",
        "radiology-basic@1",
        "--json",
    )
    assert json.loads(other.stdout)["refused"]["wrong-kind"]["count"] == 1


def code_of(result: Result) -> str:
    return str(getattr(result.exception, "code", None))


def test_lists_of_patients_and_columns_narrow_what_is_staged(tmp_path: Path, secret: Path) -> None:
    archive = tmp_path / "archive"
    for name in ("A-1", "B-2", "C-3"):
        series(archive / name, name=name, slices=2, patient=name)
    (archive / "outcomes.csv").write_text("id,alive,note\nA-1,yes,x\nB-2,no,y\nC-3,yes,z\n")
    (tmp_path / "out.txt").write_text("a1\n")
    (tmp_path / "cohort.txt").write_text("A-1\nB-2\n")
    (tmp_path / "columns.yaml").write_text("id: patient-id\nalive: boolean\n")
    told = run(
        *("stage", archive, tmp_path / "copy", "--secret", secret, "--json"),
        *("--opt-out", tmp_path / "out.txt", "--cohort", tmp_path / "cohort.txt"),
        *("--columns", tmp_path / "columns.yaml", "--items", tmp_path / "items.csv"),
    )
    with (tmp_path / "items.csv").open(newline="") as file:
        rows_of = list(csv.DictReader(file))
    outcomes = {row["path"].split("/")[0]: (row["outcome"], row["attributes"]) for row in rows_of}
    assert outcomes == {
        "A-1": ("opted-out", "PatientID"),
        "B-2": ("staged", ""),
        "C-3": ("not-in-cohort", "PatientID"),
        "outcomes.csv": ("staged", ""),
    }
    assert {row["patient_id"] for row in rows_of} == {"", "B-2", "C-3"}, (
        "of who opted out only the file is named"
    )
    assert (tmp_path / "items.csv").stat().st_mode & 0o777 == 0o600
    refused = json.loads(told.stdout)["refused"]
    assert (refused["opted-out"]["count"], refused["not-in-cohort"]["count"]) == (2, 2)
    copy = standalone.open_staged(tmp_path / "copy", secret)
    rows = {row["kind"]: row for row in copy.index().to_pylist()}
    assert copy.table().to_pylist() == [{"patient": rows["volume"]["patient"], "alive": False}]


def test_mistakes_are_told_by_code_and_touch_nothing(tmp_path: Path, secret: Path) -> None:
    series(tmp_path / "archive", slices=1)
    invoke = CliRunner().invoke
    a, c, s = str(tmp_path / "archive"), str(tmp_path / "c"), str(secret)
    run("stage", a, c, "--secret", s)
    before = everything_below(tmp_path / "c")
    run("secret", "new", tmp_path / "other")
    (tmp_path / "short").write_bytes(b"x" * 31)
    (tmp_path / "short").chmod(0o600)
    (tmp_path / "open").write_bytes(b"x" * 32)
    (tmp_path / "open").chmod(0o644)
    table = [
        (["secret", "new", s], "secret-exists"),
        (["stage", a, c, "--secret", s], "copy-exists"),
        (["stage", a, str(tmp_path / "archive"), "--secret", s], "copy-exists"),
        (["stage", str(tmp_path / "absent"), str(tmp_path / "e"), "--secret", s], "source-item-missing"),
        (["stage", a, str(tmp_path / "e"), "--secret", s, "--select", "Name=X"], "selection-invalid"),
        (["stage", a, str(tmp_path / "e"), "--secret", s, "--profile", "x@9"], "profile-unknown"),
        (["verify", c, "--secret", str(tmp_path / "short")], "secret-file"),
        (["verify", c, "--secret", str(tmp_path / "open")], "secret-file"),
        (["verify", c, "--secret", str(tmp_path / "absent")], "secret-file"),
        (["verify", a, "--secret", s], "not-a-copy"),
        (["inspect", c, "series/nothing", "--secret", s, "--png", str(tmp_path / "x.png")], "not-a-copy"),
    ]
    assert [code_of(invoke(imaging, with_opt_out(argv))) for argv, _ in table] == [code for _, code in table]
    assert invoke(imaging, ["verify", c, "--secret", str(tmp_path / "other")]).exit_code != 0
    assert everything_below(tmp_path / "c") == before
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "delete"])
def test_verify_notices_any_damage(tmp_path: Path, secret: Path, damage: str) -> None:
    series(tmp_path / "archive", slices=2)
    run("stage", tmp_path / "archive", tmp_path / "c", "--secret", secret)
    run("verify", tmp_path / "c", "--secret", secret)
    first, second = sorted((tmp_path / "c" / "objects").glob("o*"))[:2]
    data = first.read_bytes()
    first.chmod(0o600)
    if damage == "flip":
        first.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    elif damage == "cut":
        first.write_bytes(data[:-1])
    elif damage == "swap":
        second.chmod(0o600)
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
    else:
        first.unlink()
    result = CliRunner().invoke(imaging, ["verify", str(tmp_path / "c"), "--secret", str(secret)])
    assert result.exit_code != 0
    assert re.match(r"[a-z-]+$", code_of(result))


def test_two_secrets_make_pseudonyms_that_can_not_be_joined(tmp_path: Path, secret: Path) -> None:
    series(tmp_path / "archive", slices=1)
    run("secret", "new", tmp_path / "other")
    seen = []
    for number, key in enumerate((secret, secret, tmp_path / "other")):
        run("stage", tmp_path / "archive", tmp_path / f"c{number}", "--secret", key)
        (row,) = json.loads(run("index", tmp_path / f"c{number}", "--secret", key, "--json").stdout)
        seen.append({name: row[name] for name in ("item", "patient", "study", "series", "study_date")})
    assert seen[0] == seen[1]
    assert all(seen[0][name] != seen[2][name] for name in seen[0])


def test_help_ends_with_an_example_everywhere() -> None:
    for command in (["stage"], ["verify"], ["inspect"], ["index"], ["secret"], ["secret", "new"], []):
        assert "Example:" in run(*command, "--help").output


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = ("zarr", "dask", "pydicom", "pyarrow", "numpy")
    code = f"import sys, hdrs_hpc.cli.imaging; print([n for n in {heavy!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("where", ["nowhere/report.html", "."])
def test_a_report_that_could_not_be_written_is_refused_before_anything_is_staged(
    tmp_path: Path, secret: Path, where: str
) -> None:
    plant(tmp_path / "source")
    staged = run(
        "stage",
        tmp_path / "source",
        tmp_path / "copy",
        "--secret",
        secret,
        "--report",
        tmp_path / where,
        code=2,
    )
    assert "--report" in staged.output
    assert not (tmp_path / "copy").exists()


def test_a_selection_by_an_unknown_key_is_refused_before_the_source_is_read(
    tmp_path: Path, secret: Path
) -> None:
    plant(tmp_path / "source")
    result = CliRunner().invoke(
        imaging,
        [
            "stage",
            str(tmp_path / "source"),
            str(tmp_path / "copy"),
            "--secret",
            str(secret),
            "--select",
            "Foo=1",
            *NOBODY,
        ],
    )
    assert isinstance(result.exception, SelectionError)
    assert not (tmp_path / "copy").exists()


def test_a_picture_that_could_not_be_written_is_a_usage_error(tmp_path: Path, secret: Path) -> None:
    drawn = run("inspect", tmp_path / "copy", "--secret", secret, "--png", tmp_path / "nowhere/a.png", code=2)
    assert "--png" in drawn.output


def test_a_file_given_as_source_is_told_from_a_missing_folder(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"")
    result = CliRunner().invoke(
        imaging, with_opt_out(["stage", tmp_path / "a.dcm", tmp_path / "copy", "--secret", secret])
    )
    assert "is a file" in str(result.exception)
