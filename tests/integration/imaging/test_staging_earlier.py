"""A new version of a copy: what is unchanged is sealed again, what is new is decoded, and the outcome is that of a
staging from nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from archive import instance, series, slide, tissue, uid, write
from click.testing import CliRunner, Result
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from slides import wsm

from hdrs_hpc.cli.imaging import imaging
from imaging import standalone
from imaging.staging import earlier as records
from imaging.staging import engine, writing
from imaging.staging.items import Task


def run(*argv: object, code: int = 0) -> Result:
    result = CliRunner().invoke(imaging, [str(part) for part in argv])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    run("secret", "new", tmp_path / "secret")
    return tmp_path / "secret"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of items that were decoded, in the order in which they were begun."""
    begun: list[str] = []

    class Watching(writing.Writer):
        def write(self, tasks: Any) -> Any:
            return super().write(_noted(tasks, begun))

    monkeypatch.setattr(engine, "Writer", Watching)
    return begun


def _noted(tasks: Sequence[Task], begun: list[str]) -> Any:
    for task in tasks:
        begun.append(task.path)
        yield task


def archive(folder: Path) -> None:
    series(folder / "b-ct", name="a", patient="P-1", slices=5)
    series(folder / "b-mr", name="m", patient="P-3", slices=3, template="MR_small.dcm")
    series(folder / "b-two", name="c", patient="P-2", slices=4, RescaleSlope=2, RescaleIntercept=-100)
    ultrasound(folder / "b-us.dcm")
    segmentation(
        series(folder / "b-seg" / "ct", name="s", patient="P-5", slices=3), folder / "b-seg" / "seg.dcm"
    )
    wsm(folder / "b-wsm.dcm", tissue(300, 300))
    slide(folder / "b-he" / "one.svs", height=700, width=1000)
    (folder / "b-table.csv").write_text("id,alive\nP-1,yes\nP-2,no\n")


def ultrasound(path: Path) -> None:
    """An image whose banner is blanked, by what the rules find in this very file."""
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 10, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 69, 59
    region.RegionSpatialFormat, region.RegionDataType = 1, 1
    made = instance(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1",
        Modality="US",
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        Rows=60,
        Columns=80,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        SequenceOfUltrasoundRegions=[region],
    )
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made["PixelData"].VR = "OB"
    made.PixelData = np.arange(60 * 80, dtype=np.uint32).astype(np.uint8).tobytes()
    write(made, path)


def segmentation(sources: list[Path], path: Path) -> None:
    """A label that lies on these slices."""
    masks = np.zeros((len(sources), 128, 128), np.uint8)
    masks[:, 20:40, 30:60] = 1
    segment = SegmentDescription(
        segment_number=1,
        segment_label="lesion",
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Lung,
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
    )
    made = Segmentation(
        source_images=[pydicom.dcmread(one) for one in sources],
        pixel_array=masks,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=uid("seg"),
        series_number=9,
        sop_instance_uid=uid("seg", "i"),
        instance_number=1,
        manufacturer="hdrs",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    write(made, path)


def stage(tmp_path: Path, name: str, secret: Path, *more: object) -> dict[str, Any]:
    (tmp_path / "columns.yaml").write_text("id: patient-id\nalive: boolean\n")
    words = ("stage", tmp_path / "archive", tmp_path / name, "--secret", secret, "--burned-in", "blank")
    if "--opt-out" not in more:
        more = (*more, "--no-opt-out", "made for tests")
    told = run(*words, "--columns", tmp_path / "columns.yaml", "--json", *more)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def contents(dest: Path, secret: Path) -> dict[str, bytes]:
    copy = standalone.open_copy(dest, standalone.read_secret(secret))
    return {path: copy.read(path) for path in copy.paths()}


def files(dest: Path) -> dict[str, bytes]:
    return {str(path.relative_to(dest)): path.read_bytes() for path in dest.rglob("*") if path.is_file()}


def test_new_studies_are_decoded_and_the_rest_is_taken_over_bit_for_bit(
    tmp_path: Path, secret: Path, made: list[str]
) -> None:
    archive(tmp_path / "archive")
    first = stage(tmp_path, "one", secret)
    kinds = {kind: count for kind, count in first["staged"].items() if kind.endswith("s")}
    assert {kind: kinds[kind] for kind in ("volumes", "slides", "tables", "labels", "images")} == {
        "volumes": 4,
        "slides": 2,
        "tables": 1,
        "labels": 1,
        "images": 1,
    }
    assert first["notes"]["blanked"] == 1
    count = len(made)
    before = files(tmp_path / "one")
    # New files sort before and between the old ones: item numbers move, items do not.
    series(tmp_path / "archive" / "a-new", name="new", patient="P-9", slices=3)
    series(tmp_path / "archive" / "b-later", name="later", patient="P-1", slices=2)
    made.clear()
    told = stage(tmp_path, "two", secret, "--from", tmp_path / "one")
    assert told["run"]["taken-over"] == count
    assert len(made) == 2
    made.clear()
    stage(tmp_path, "fresh", secret)
    assert len(made) == count + 2
    assert contents(tmp_path / "two", secret) == contents(tmp_path / "fresh", secret)
    assert files(tmp_path / "one") == before, "the earlier copy stays as it is"
    # Nothing of the earlier copy is needed any more, and no sealed byte is shared.
    shutil.rmtree(tmp_path / "one")
    run("verify", tmp_path / "two", "--secret", secret)
    again = stage(tmp_path, "three", secret, "--from", tmp_path / "two")
    assert again["run"]["taken-over"] == count + 2
    names = {path.rpartition("/")[2] for path in before if path.startswith("objects")}
    assert names.isdisjoint(path.rpartition("/")[2] for path in files(tmp_path / "two"))


def test_who_opted_out_or_was_removed_is_gone(tmp_path: Path, secret: Path, made: list[str]) -> None:
    archive(tmp_path / "archive")
    stage(tmp_path, "one", secret)
    shutil.rmtree(tmp_path / "archive" / "b-mr")
    (tmp_path / "archive" / "b-he" / "one.svs").unlink()
    (tmp_path / "out.txt").write_text("P-2\n")
    made.clear()
    options = ("--opt-out", tmp_path / "out.txt")
    told = stage(tmp_path, "two", secret, "--from", tmp_path / "one", *options)
    assert [path.partition("/")[0] for path in made] == ["tables"], "rows of tables are chosen anew"
    assert told["refused"]["opted-out"]["count"] == 4
    stage(tmp_path, "fresh", secret, *options)
    assert contents(tmp_path / "two", secret) == contents(tmp_path / "fresh", secret)


def test_a_slice_more_makes_a_volume_another_one(tmp_path: Path, secret: Path, made: list[str]) -> None:
    archive(tmp_path / "archive")
    stage(tmp_path, "one", secret)
    series(tmp_path / "archive" / "b-ct", name="a", patient="P-1", slices=6)
    made.clear()
    stage(tmp_path, "two", secret, "--from", tmp_path / "one")
    assert len(made) == 1
    stage(tmp_path, "fresh", secret)
    assert contents(tmp_path / "two", secret) == contents(tmp_path / "fresh", secret)


@pytest.mark.parametrize("change", ["policy", "code", "profile"])
def test_under_another_policy_profile_or_code_nothing_is_taken_over(
    tmp_path: Path, secret: Path, made: list[str], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    series(tmp_path / "archive" / "ct", name="a", patient="P-1", slices=3)
    stage(tmp_path, "one", secret)
    made.clear()
    options = {
        "policy": ("--burned-in", "hold"),
        "profile": ("--profile", "radiology-basic@1"),
        "code": (),
    }[change]
    if change == "code":
        monkeypatch.setattr(records, "code_digest", lambda: "another")
    told = stage(tmp_path, "two", secret, "--from", tmp_path / "one", *options)
    assert (told["run"]["taken-over"], len(made)) == (0, 1)


def test_what_the_earlier_copy_lost_is_decoded_again(tmp_path: Path, secret: Path, made: list[str]) -> None:
    series(tmp_path / "archive" / "ct", name="a", patient="P-1", slices=3)
    series(tmp_path / "archive" / "ct2", name="b", patient="P-2", slices=3)
    stage(tmp_path, "one", secret)
    largest = max((tmp_path / "one" / "objects").rglob("o*"), key=lambda path: path.stat().st_size)
    damaged = bytearray(largest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    largest.write_bytes(damaged)
    made.clear()
    told = stage(tmp_path, "two", secret, "--from", tmp_path / "one")
    assert (told["run"]["taken-over"], len(made)) == (1, 1)
    stage(tmp_path, "fresh", secret)
    assert contents(tmp_path / "two", secret) == contents(tmp_path / "fresh", secret)


def test_mistakes_are_told(tmp_path: Path, secret: Path) -> None:
    series(tmp_path / "archive" / "ct", name="a", patient="P-1", slices=2)
    stage(tmp_path, "one", secret)
    run("secret", "new", tmp_path / "other")
    nobody = ("--no-opt-out", "made for tests")
    words = ("stage", tmp_path / "archive", tmp_path / "two", *nobody, "--secret")

    def code(*more: object) -> str:
        result = CliRunner().invoke(imaging, [str(word) for word in (*words, *more)])
        assert not (tmp_path / "two").exists(), "nothing was begun"
        return str(getattr(result.exception, "code", None))

    assert code(tmp_path / "other", "--from", tmp_path / "one") == "seal-broken"
    assert code(secret, "--from", tmp_path / "archive") == "not-a-copy"
    record = (tmp_path / "one" / "record").read_bytes()
    (tmp_path / "one" / "record").write_bytes(record[:-1] + bytes([record[-1] ^ 1]))
    assert code(secret, "--from", tmp_path / "one") == "staging-record"
    (tmp_path / "one" / "record").unlink()
    assert code(secret, "--from", tmp_path / "one") == "staging-record"
    one = tmp_path / "one"
    run("stage", tmp_path / "archive", one, "--secret", secret, *nobody, "--from", one, code=2)


def test_the_record_is_sealed_and_names_no_file(tmp_path: Path, secret: Path) -> None:
    series(tmp_path / "archive" / "NAME-OF-SOMEBODY", name="a", patient="P-1", slices=2)
    stage(tmp_path, "one", secret)
    described = standalone.folder.read_copy_file(tmp_path / "one")
    assert described is not None
    raw = standalone.folder.read_record(tmp_path / "one", standalone.read_secret(secret), described["copy"])
    assert raw is not None
    for held in (raw, (tmp_path / "one" / "record").read_bytes()):
        assert b"NAME-OF-SOMEBODY" not in held
    assert "record" not in " ".join(contents(tmp_path / "one", secret))
