"""Which file became which item: every input is in the map, with its item or the rule and attribute that kept it out."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from archive import instance, series, slide, uid, write
from click.testing import CliRunner, Result

from hdrs_hpc.cli.imaging import imaging
from imaging import standalone
from imaging.deid.pixels.suspicion import rule_attributes
from imaging.staging import items_map

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def run(*argv: object, code: int = 0) -> Result:
    result = CliRunner().invoke(imaging, [str(part) for part in argv])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    run("secret", "new", tmp_path / "secret")
    return tmp_path / "secret"


def archive(folder: Path) -> None:
    """One file or series of each fate."""
    series(folder / "ct", name="ct", slices=3, patient="WANTED")
    shutil.copy(next((folder / "ct").iterdir()), folder / "again.dcm")
    series(folder / "mr", name="mr", slices=2, patient="WANTED", template="MR_small.dcm")
    series(folder / "out", name="out", slices=2, patient="OUT-1")
    write(
        instance(
            PatientID="SHOWN",
            SOPClassUID=SECONDARY_CAPTURE,
            Modality="CT",
            ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"],
            SOPInstanceUID=uid("screen"),
            SeriesInstanceUID=uid("screens"),
        ),
        folder / "screen.dcm",
    )
    write(instance(Rows=None, SOPInstanceUID=uid("rowless")), folder / "rowless.dcm")
    slide(folder / "one.svs", height=600, width=700)
    (folder / "README.md").write_text("# notes\n")


def staged(tmp_path: Path, secret: Path, name: str) -> list[dict[str, Any]]:
    (tmp_path / "out.txt").write_text("OUT-1\n")
    run(
        *(
            "stage",
            tmp_path / "archive",
            tmp_path / f"copy-{name}",
            "--secret",
            secret,
            "--burned-in",
            "hold",
        ),
        *("--select", "Modality=CT", "--opt-out", tmp_path / "out.txt", "--items", tmp_path / name),
        *("--report", tmp_path / f"{name}.json"),
    )
    return list(items_map.read(tmp_path / name))


def test_every_file_is_in_the_map_with_its_item_or_what_kept_it_out(tmp_path: Path, secret: Path) -> None:
    archive(tmp_path / "archive")
    rows = staged(tmp_path, secret, "map.csv")
    files = sorted(
        str(path.relative_to(tmp_path / "archive"))
        for path in (tmp_path / "archive").rglob("*")
        if path.is_file()
    )
    assert [row["path"] for row in rows] == files
    assert [row["item"] for row in rows] == list(range(1, len(files) + 1))
    fates = Counter(
        (row["path"].split("/")[0], row["outcome"], row["rule"], *row["attributes"]) for row in rows
    )
    copied = {row["path"] for row in rows if row["outcome"] == "duplicate-instance"}
    assert len(copied) == 1, "of two equal files one is taken"
    assert {fate: count for fate, count in fates.items() if fate[0] not in ("ct", "again.dcm")} == {
        ("README.md", "not-imaging", "document"): 1,
        ("mr", "not-selected", "", "Modality"): 2,
        ("one.svs", "not-selected", "", "Modality"): 1,
        ("out", "opted-out", "", "PatientID"): 2,
        ("rowless.dcm", "required-attribute-missing", "", "Rows"): 1,
        ("screen.dcm", "held-for-person", "screen-or-report", "ImageType"): 1,
    }
    copy = standalone.open_staged(tmp_path / "copy-map.csv", secret)
    (item,) = (row["item"] for row in copy.index().to_pylist())
    assert {tuple(row["items"]) for row in rows if row["outcome"] == "staged"} == {(item,)}
    ct = next(row for row in rows if row["outcome"] == "staged")
    assert (ct["patient_id"], ct["study"], ct["series"]) == (
        "WANTED",
        uid("ct", "study"),
        uid("ct", "series"),
    )
    assert all(not row["patient_id"] and not row["instance"] for row in rows if row["outcome"] == "opted-out")


def test_the_map_is_the_same_in_all_forms_and_nowhere_but_where_it_was_asked_for(
    tmp_path: Path, secret: Path
) -> None:
    archive(tmp_path / "archive")
    assert (
        staged(tmp_path, secret, "a.csv")
        == staged(tmp_path, secret, "b.jsonl")
        == staged(tmp_path, secret, "c.parquet")
    )
    for name in ("a.csv", "b.jsonl", "c.parquet"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    copy = standalone.open_copy(tmp_path / "copy-a.csv", standalone.read_secret(secret))
    everything = b"".join(copy.read(path) for path in copy.paths())
    for word in (b"WANTED", b"again.dcm", b"screen.dcm", uid("ct", "series").encode()):
        assert word not in everything, "no path and no id is in the copy"
        assert word not in (tmp_path / "a.csv.json").read_bytes(), "nor in the report"
    new = tmp_path / "new"
    nobody = ("--no-opt-out", "made for tests")
    run("stage", tmp_path / "archive", new, "--secret", secret, *nobody, "--items", new / "map.csv", code=2)
    assert not new.exists()


def test_a_held_image_says_which_rule_holds_it_in_report_and_sheet(tmp_path: Path, secret: Path) -> None:
    archive(tmp_path / "archive")
    staged(tmp_path, secret, "map.csv")
    report = json.loads((tmp_path / "map.csv.json").read_text())
    assert report["refused"]["held-for-person"]["details"] == {"screen-or-report (ImageType)": 1}
    run("sheet", tmp_path / "copy-map.csv", "--held", "--secret", secret, "--out", tmp_path / "look")
    listed = json.loads((tmp_path / "look" / "release.json").read_text())
    (number,) = listed["held"]
    assert listed["why"] == {str(number): "screen-or-report (ImageType)"}


def test_every_rule_that_can_hold_an_image_names_what_it_looks_at() -> None:
    named = rule_attributes()
    assert named["screen-or-report"] == ("ImageType",)
    assert {rule for rule, attributes in named.items() if not attributes} == {"anything-else"}


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_another_file_is_not_taken_for_a_map(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"a": 1}\n')
    with pytest.raises(items_map.ItemsMapError):
        list(items_map.read(tmp_path / name))
