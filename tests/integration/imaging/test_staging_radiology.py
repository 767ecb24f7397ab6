from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import zarr
from archive import SHARED, instance, real, series, uid, write
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from connectors.sources.folder import FolderSource
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging.deid.keyed import DeidKey
from imaging.staging import index, inventory
from imaging.staging.engine import Progress, StagePlan, StagingChangedError, TooManyFailedError, stage
from imaging.staging.report import StageReport
from tests.support.opt_outs import stated

DEID = b"d" * 32


class Staged:
    """A staging in ``folder``, with what it gave."""

    def __init__(self, archive: Path, folder: Path, **plan: Any) -> None:
        self.builder = CopyBuilder(DirectoryStore(folder / "o"), b"k" * 32, "copy", "p", "c", folder / "j")
        self.seen: list[Progress] = []
        (folder / "j").mkdir(parents=True, exist_ok=True)
        source = FolderSource(archive)
        values: dict[str, Any] = {"kind": "radiology", "profile": "radiology-basic@1", "deid_key": DEID}
        if "released" in plan:  # by a person who looked at this very archive
            values["released_of"] = inventory.digest(inventory.scan(source))
        plan["opt_out"] = stated(plan.get("opt_out", ()))
        settings = StagePlan(**{**values, "max_failed": 1000, "workers": 2, **plan})
        self.report: StageReport = stage(
            source, inventory.scan(source), self.builder, settings, self.seen.append
        )
        self.rows: list[dict[str, Any]] = index.from_bytes(self.builder.read("index.parquet")).to_pylist()

    def group(self, number: int = 0) -> zarr.Group:
        return zarr.open_group(self.builder.store(), path=self.rows[number]["item"], mode="r")

    def voxels(self, number: int = 0) -> np.ndarray[Any, Any]:
        return np.asarray(self.group(number)["0"][:])  # type: ignore[index]  # an array by construction

    @property
    def refused(self) -> dict[str, tuple[int, ...]]:
        return dict(self.report.refused)


def test_a_series_becomes_one_volume_in_space_order_with_its_geometry(tmp_path: Path) -> None:
    series(tmp_path / "a", slices=5, order=[3, 0, 4, 1, 2])
    staged = Staged(tmp_path / "a", tmp_path)
    real_pixels = pydicom.dcmread(real("CT_small.dcm")).pixel_array
    assert np.array_equal(staged.voxels(), np.stack([np.roll(real_pixels, k, axis=0) for k in range(5)]))
    assert staged.voxels().dtype == np.int16
    group = staged.group()
    multiscale = group.attrs["ome"]["multiscales"][0]  # type: ignore[index,call-overload]
    assert group.attrs["ome"]["version"] == "0.5"  # type: ignore[index,call-overload]
    assert [axis["name"] for axis in multiscale["axes"]] == ["z", "y", "x"]
    assert multiscale["datasets"][0]["coordinateTransformations"][0] == {
        "type": "scale",
        "scale": [2.5, 0.661468, 0.661468],
    }
    ours: Any = group.attrs["hdrs-hpc"]
    affine = np.asarray(ours["affine_lps_mm"])
    # The world position of voxel (z, y, x) = (4, 2, 3), worked out from the DICOM attributes by hand.
    assert affine @ [4, 2, 3, 1] == pytest.approx([-10 + 3 * 0.661468, -20 + 2 * 0.661468, 5 + 4 * 2.5, 1])
    assert ours["rescale"] == {"slope": 1.0, "intercept": -1024.0, "per_slice": False}
    assert ours["deidentification"]["PatientIdentityRemoved"] == "YES"
    assert group["0"].metadata.dimension_names == ("z", "y", "x")  # type: ignore[union-attr]
    (row,) = staged.rows
    assert (row["shape"], row["n_slices"], row["source_items"]) == ([5, 128, 128], 5, 5)
    assert row["age_years"] == 0  # "000Y" in the file
    assert staged.report.failed == 0


def test_identifiers_are_replaced_equally_and_dates_move_together(tmp_path: Path) -> None:
    for name, day in (("one", "20190101"), ("two", "20190211")):
        series(tmp_path / "a", name=name, slices=2, patient="943 476 5919", StudyDate=day)
    series(tmp_path / "a", name="three", slices=2, patient="OTHER", StudyDate="20190101")
    staged = Staged(tmp_path / "a", tmp_path)
    key = DeidKey(DEID)
    by_patient: dict[str, list[Any]] = {}
    for row in staged.rows:
        by_patient.setdefault(row["patient"], []).append(row["study_date"])
        assert row["study"].startswith("2.25.")
    first, second = by_patient[key.patient("", "9434765919")]
    assert abs((second - first).days) == 41
    assert set(by_patient) == {key.patient("", "9434765919"), key.patient("", "OTHER")}
    assert {row["series"] for row in staged.rows} == {
        key.uid(uid(name, "series")) for name in ("one", "two", "three")
    }


def test_an_enhanced_multi_frame_object_is_ordered_by_its_functional_groups(tmp_path: Path) -> None:
    path = SHARED / "radiology" / "pydicom-data" / "eCT_Supplemental.dcm"
    if not path.is_file():
        pytest.skip("needs ../shared/data")
    (tmp_path / "a").mkdir()
    shutil.copy(path, tmp_path / "a")
    staged = Staged(tmp_path / "a", tmp_path)
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array
    places = [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        for group in dataset.PerFrameFunctionalGroupsSequence
    ]
    volumes = [staged.voxels(number) for number in range(len(staged.rows))]
    assert sum(volume.shape[0] for volume in volumes) == len(frames) == len(places)
    for volume in volumes:
        for pixels in volume:
            assert any(np.array_equal(pixels, frame) for frame in frames)


SYNTAXES = [
    ("MR_small.dcm", ExplicitVRLittleEndian),
    ("MR_small_implicit.dcm", ImplicitVRLittleEndian),
    ("MR_small_bigendian.dcm", ExplicitVRBigEndian),
    ("MR_small_RLE.dcm", RLELossless),
    ("MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless),
    ("MR_small_jp2klossless.dcm", JPEG2000Lossless),
]


@pytest.mark.parametrize(("name", "syntax"), SYNTAXES)
def test_every_lossless_syntax_gives_the_same_voxels(tmp_path: Path, name: str, syntax: str) -> None:
    assert pydicom.dcmread(real(name)).file_meta.TransferSyntaxUID == syntax
    (tmp_path / "a").mkdir()
    shutil.copy(real(name), tmp_path / "a")
    staged = Staged(tmp_path / "a", tmp_path)
    reference = np.frombuffer(pydicom.dcmread(real("MR_small.dcm")).PixelData, "<i2").reshape(64, 64)
    assert np.array_equal(staged.voxels()[0], reference)


def test_bits_outside_bits_stored_do_not_reach_the_copy(tmp_path: Path) -> None:
    # Retired overlays lie in the unused high bits and may be burned-in text.
    clean = np.random.default_rng(0).integers(0, 1 << 12, (128, 128), dtype=np.uint16)
    for signed in (0, 1):
        dataset = instance(
            BitsStored=12, HighBit=11, PixelRepresentation=signed, PixelData=(clean | 0xA000).tobytes()
        )
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid("s", signed), uid("i", signed)
        write(dataset, tmp_path / "a" / f"{signed}.dcm")
    staged = Staged(tmp_path / "a", tmp_path)
    by_type = {staged.voxels(n).dtype.name: staged.voxels(n)[0] for n in range(2)}
    assert np.array_equal(by_type["uint16"], clean)
    assert np.array_equal(by_type["int16"], np.where(clean >= 2048, clean.astype(np.int16) - 4096, clean))


def make_broken_files(folder: Path) -> None:
    """A file for each name in :data:`BROKEN`."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = real("CT_small.dcm").read_bytes()
    length_at = whole.rindex(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    (folder / "empty").write_bytes(b"")
    (folder / "random").write_bytes(np.random.default_rng(1).bytes(5000))
    (folder / "text").write_bytes(b"Dear Jane, please find the images attached.\n" * 20)
    (folder / "cut-header").write_bytes(whole[:400])
    (folder / "cut-pixels").write_bytes(whole[:-5000])
    (folder / "no-pixels").write_bytes(whole[:length_at])
    (folder / "tiff").write_bytes(b"II*\0" + b"\xff" * 200)
    shutil.copy(real("rtplan.dcm"), folder / "plan")
    shutil.copy(real("MR_small_RLE.dcm"), folder / "rle")
    break_rle(folder / "rle")


def break_rle(path: Path) -> None:
    """Spoil the table of segments: the header promises what the pixels can't keep."""
    rle = bytearray(path.read_bytes())
    at = rle.rindex(b"\xfe\xff\x00\xe0", 0, len(rle) - 40)
    rle[at + 8 : at + 72] = b"\xff" * 64
    path.write_bytes(bytes(rle))


BROKEN = {
    "empty": "empty-file",
    "random": "not-dicom",
    "text": "wrong-kind",  # lines with commas could be a table
    "cut-header": "required-attribute-missing",
    "cut-pixels": "truncated-pixel-data",
    "no-pixels": "pixel-data-missing",
    "tiff": "malformed-slide",
    "plan": "unsupported-sop-class",
    "rle": "decode-failed",
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_costs_one_line_of_the_report(tmp_path: Path, name: str) -> None:
    make_broken_files(tmp_path / "made")
    series(tmp_path / "a", slices=3)
    shutil.copy(tmp_path / "made" / name, tmp_path / "a" / "000-broken")
    staged = Staged(tmp_path / "a", tmp_path)
    assert staged.refused == {BROKEN[name]: (1,)}
    assert [row["shape"] for row in staged.rows] == [[3, 128, 128]]


def test_a_volume_with_a_slice_that_can_not_be_decoded_is_left_out_whole(tmp_path: Path) -> None:
    paths = series(tmp_path / "a", name="x", slices=4)
    series(tmp_path / "a", name="y", slices=3)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    break_rle(paths[1])
    staged = Staged(tmp_path / "a", tmp_path)
    assert staged.refused == {"decode-failed": (2,), "volume-incomplete": (1, 3, 4)}
    assert staged.report.failed == 1
    assert [row["shape"] for row in staged.rows] == [[3, 128, 128]]
    assert {path.split("/")[1] for path in staged.builder.paths("series/") if path.count("/") > 1} == {
        staged.rows[0]["item"].split("/")[1]
    }


def test_a_volume_with_a_slice_that_is_cut_short_is_left_out_whole(tmp_path: Path) -> None:
    paths = series(tmp_path / "a", slices=4)
    paths[1].write_bytes(paths[1].read_bytes()[:-3000])
    staged = Staged(tmp_path / "a", tmp_path)
    assert staged.refused == {"truncated-pixel-data": (2,), "volume-incomplete": (1, 3, 4)}
    assert staged.rows == []


def test_one_failure_too_many_stages_nothing(tmp_path: Path) -> None:
    series(tmp_path / "a", slices=3)
    for number in range(3):
        (tmp_path / "a" / f"junk-{number}").write_bytes(b"junk" * 100)
    assert Staged(tmp_path / "a", tmp_path / "fits", max_failed=3).report.failed == 3
    with pytest.raises(TooManyFailedError) as refused:
        Staged(tmp_path / "a", tmp_path / "not", max_failed=2)
    assert "junk" not in str(refused.value)


def test_what_rules_keep_out_does_not_count_as_failed(tmp_path: Path) -> None:
    series(tmp_path / "a", name="ct", slices=2, StudyDate="20190131", patient="A")
    series(tmp_path / "a", name="late", slices=2, StudyDate="20210131", patient="A")
    series(tmp_path / "a", name="out", slices=2, StudyDate="20190131", patient="opted 7")
    series(tmp_path / "a", name="text", slices=1, StudyDate="20190131", BurnedInAnnotation="YES")
    shutil.copy(real("rtplan.dcm"), tmp_path / "a" / "plan.dcm")
    staged = Staged(
        tmp_path / "a",
        tmp_path,
        max_failed=0,
        select={"Modality": ["CT"], "StudyDate": "2019-01-01/2019-12-31"},
        opt_out=frozenset({DeidKey(DEID).opt_out_hash("", "OPTED7")}),
    )
    assert len(staged.rows) == 1
    codes = {code: len(numbers) for code, numbers in staged.refused.items()}
    assert codes == {"not-selected": 2, "opted-out": 2, "burned-in-annotation": 1, "unsupported-sop-class": 1}
    told = staged.report.as_dict()["refused"]["opted-out"]
    assert (told["count"], told["items"], told["failed"]) == (2, [], False)
    assert staged.report.as_dict()["refused"]["not-selected"]["items"] == [3, 4]


def test_with_an_opt_out_list_an_image_without_patient_is_refused(tmp_path: Path) -> None:
    series(tmp_path / "a", slices=1, patient="")
    assert len(Staged(tmp_path / "a", tmp_path / "1").rows) == 1
    staged = Staged(tmp_path / "a", tmp_path / "2", opt_out=frozenset({"0" * 64}))
    assert staged.refused == {"patient-id-missing": (1,)}


def test_bytes_that_are_not_the_registered_ones_are_refused(tmp_path: Path) -> None:
    paths = series(tmp_path / "a", slices=1)
    source = FolderSource(tmp_path / "a")
    table = inventory.scan(source)
    changed = bytearray(paths[0].read_bytes())
    changed[-100] ^= 1
    paths[0].write_bytes(bytes(changed))
    builder = CopyBuilder(DirectoryStore(tmp_path / "o"), b"k" * 32, "copy", "p", "c", tmp_path)
    plan = StagePlan("radiology", "radiology-basic@1", DEID, opt_out=stated(), max_failed=1)
    assert dict(stage(source, table, builder, plan).refused) == {"changed-since-inventory": (1,)}


def test_an_interrupted_staging_under_another_plan_is_refused(tmp_path: Path) -> None:
    series(tmp_path / "a", slices=1, patient="LEAVES")
    Staged(tmp_path / "a", tmp_path)
    out = frozenset({DeidKey(DEID).opt_out_hash("", "LEAVES")})
    with pytest.raises(StagingChangedError):
        Staged(tmp_path / "a", tmp_path, opt_out=out)


def test_progress_ends_at_the_whole_of_both_phases(tmp_path: Path) -> None:
    series(tmp_path / "a", name="x", slices=3)
    series(tmp_path / "a", name="y", slices=3)
    staged = Staged(tmp_path / "a", tmp_path)
    last = {step.phase: step for step in staged.seen}
    size = sum(path.stat().st_size for path in (tmp_path / "a").iterdir())
    assert (last["reading"].items_done, last["reading"].items_total) == (6, 6)
    assert (last["writing"].items_done, last["writing"].items_total) == (2, 2)
    assert last["reading"].bytes_done == last["writing"].bytes_done == last["writing"].bytes_total == size


def test_the_report_page_needs_nothing_else_and_names_no_file(tmp_path: Path) -> None:
    series(tmp_path / "a", name="jane-doe", slices=2)
    (tmp_path / "a" / "jane-doe-scan.txt").write_bytes(b"text")
    (tmp_path / "a" / "jane-doe-scan.dcm").write_bytes(b"text")
    page = Staged(tmp_path / "a", tmp_path).report.as_html()
    assert "not-imaging" in page
    assert "not-dicom" in page
    assert "jane" not in page.lower()
    assert "http" not in page
    assert "src=" not in page
