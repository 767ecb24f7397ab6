"""What a staging makes of volumes of which parsers failed on a part: nothing, and it says so."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
from archive import REPO, SHARED, instance, real, series, write
from pydicom.uid import RLELossless

from connectors.sources.folder import FolderSource
from hdrs_hpc.confined.process_limits import ProcessLimits
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging.staging import index, inventory
from imaging.staging.engine import StagePlan, TooManyFailedError, stage
from imaging.staging.pool import ParserPool
from imaging.staging.report import StageReport
from tests.support import narrow
from tests.support.opt_outs import stated

CANARY = "LOSES-ITS-PARSER"
FAULTY = """
import os, sys, time
sys.path.insert(0, {root!r})
from imaging.staging import parser
from imaging.staging.parsing import operations
sound = operations.answer
def answer(request, file):
    file.seek(0)
    if request["op"] in {operations!r} and {canary!r} in file.read():
        try: os.mkdir({once!r} or "/dev/null")
        except FileExistsError: lost = not {once!r}
        else: lost = True
        if lost and {how!r} == "hang": time.sleep(600)
        if lost: os.abort()
    return sound(request, file)
operations.answer = answer
parser.main()
"""
"""A parser that is lost on files with the canary: at some operations, always or the first time only."""


class Staged:
    def __init__(
        self,
        archive: Path,
        folder: Path,
        operations: set[str],
        how: str = "crash",
        once: str = "",
        **plan: Any,
    ) -> None:
        code = FAULTY.format(
            root=str(REPO), operations=operations, canary=CANARY.encode(), how=how, once=once
        )
        parsers = ParserPool(2, timeout_s=4, command=[sys.executable, "-c", code], provider=ProcessLimits())
        source = FolderSource(archive)
        table = inventory.scan(source)
        self.paths: list[str] = table.column("path").to_pylist()
        builder = CopyBuilder(DirectoryStore(folder / "o"), b"k" * 32, "copy", "p", "c", folder / "j")
        settings = {"max_failed": 1000, "workers": 2, **plan}
        self.report: StageReport = stage(
            source,
            table,
            builder,
            StagePlan("radiology", "radiology-basic@1", b"d" * 32, **{"opt_out": stated(), **settings}),
            parsers=parsers,
        )
        self.rows: list[dict[str, Any]] = index.from_bytes(builder.read("index.parquet")).to_pylist()

    @property
    def refused(self) -> dict[str, set[str]]:
        """Code → paths."""
        return {
            code: {self.paths[number - 1] for number in numbers}
            for code, numbers in self.report.refused.items()
        }

    def left_out(self) -> list[tuple[set[str], set[str]]]:
        """(sound items, what they lack) of each volume that was left out, as paths."""
        named = [
            [{self.paths[number - 1] for number in one[key]} for key in ("items", "lacks")]
            for one in self.report.as_dict()["unread"]
        ]
        return [(items, lacks) for items, lacks in named]


def spoil(path: Path, packed: bool = False) -> str:
    """Put the canary into a file, and pack its pixels, so that a parser has to decode them."""
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x40004000, "LT", CANARY)  # behind the series, before the pixels
    if packed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    return path.name


@pytest.mark.parametrize("how", ["crash", "hang"])
def test_a_series_of_which_one_header_can_not_be_read_is_left_out_and_its_neighbours_are_whole(
    tmp_path: Path, how: str
) -> None:
    sick = [path.name for path in series(tmp_path / "a", name="sick", slices=5)]
    series(tmp_path / "a", name="sound", slices=4)
    series(tmp_path / "a", name="more", slices=3)
    lost = spoil(tmp_path / "a" / sick[2])
    staged = Staged(tmp_path / "a", tmp_path, {"header"}, how)
    code = "parser-crashed" if how == "crash" else "parser-timeout"
    others = {*sick} - {lost}
    assert staged.refused == {code: {lost}, "part-unread": others}
    assert staged.left_out() == [(others, {lost})]
    assert staged.report.failed == 5
    assert sorted(row["n_slices"] for row in staged.rows) == [3, 4]


def test_a_parser_that_is_lost_once_costs_no_item(tmp_path: Path) -> None:
    names = [path.name for path in series(tmp_path / "a", slices=5)]
    spoil(tmp_path / "a" / names[1])
    staged = Staged(tmp_path / "a", tmp_path, {"header"}, "hang", once=str(tmp_path / "was-lost"))
    assert (tmp_path / "was-lost").is_dir()
    assert staged.refused == {}
    assert [row["n_slices"] for row in staged.rows] == [5]


def test_a_volume_whose_pixels_can_not_be_had_from_a_parser_is_left_out_as_failed(tmp_path: Path) -> None:
    sick = [path.name for path in series(tmp_path / "a", name="sick", slices=4)]
    series(tmp_path / "a", name="sound", slices=3)
    lost = spoil(tmp_path / "a" / sick[0], packed=True)
    staged = Staged(tmp_path / "a", tmp_path, {"frames"})
    assert staged.refused == {"parser-crashed": {lost}, "part-unread": {*sick} - {lost}}
    assert staged.left_out() == [({*sick} - {lost}, {lost})]
    assert staged.report.failed == 4
    assert [row["n_slices"] for row in staged.rows] == [3]


def test_pixels_that_a_parser_was_lost_over_once_are_staged(tmp_path: Path) -> None:
    names = [path.name for path in series(tmp_path / "a", slices=4)]
    spoil(tmp_path / "a" / names[0], packed=True)
    staged = Staged(tmp_path / "a", tmp_path, {"frames"}, once=str(tmp_path / "was-lost"))
    assert (tmp_path / "was-lost").is_dir()
    assert staged.refused == {}
    assert [row["n_slices"] for row in staged.rows] == [4]


def test_where_not_even_the_series_can_be_told_the_folder_around_is_left_out(tmp_path: Path) -> None:
    near = {f"one/{path.name}" for path in series(tmp_path / "a" / "one", name="near", slices=4)}
    series(tmp_path / "a" / "two", name="far", slices=3)
    lonely = tmp_path / "a" / "one" / "deep" / "er" / "lost.dcm"
    write(instance(), lonely)
    spoil(lonely)
    staged = Staged(tmp_path / "a", tmp_path, {"header", "series"})
    assert staged.refused == {"parser-crashed": {"one/deep/er/lost.dcm"}, "part-unread": near}
    assert [row["n_slices"] for row in staged.rows] == [3]


def test_a_double_that_can_not_be_compared_leaves_its_series_out(tmp_path: Path) -> None:
    names = [path.name for path in series(tmp_path / "a", name="sick", slices=4)]
    series(tmp_path / "a", name="sound", slices=3)
    double = pydicom.dcmread(tmp_path / "a" / names[0])
    write(double, tmp_path / "a" / "double.dcm")
    spoil(tmp_path / "a" / "double.dcm", packed=True)
    staged = Staged(tmp_path / "a", tmp_path, {"frames", "content"})
    assert staged.refused["parser-crashed"] == {"double.dcm"}
    assert staged.refused["part-unread"] == {*names}
    assert [row["n_slices"] for row in staged.rows] == [3]


def test_what_belongs_to_no_series_takes_none_along(tmp_path: Path) -> None:
    series(tmp_path / "a", slices=3)
    (tmp_path / "a" / "text.dcm").write_bytes(CANARY.encode() * 10)
    staged = Staged(tmp_path / "a", tmp_path, {"header"})
    assert staged.refused == {"parser-crashed": {"text.dcm"}}
    assert [row["n_slices"] for row in staged.rows] == [3]


def test_a_rule_that_refuses_a_slice_takes_none_along(tmp_path: Path) -> None:
    names = [path.name for path in series(tmp_path / "a", slices=5)]
    (tmp_path / "a" / names[0]).write_bytes(b"")
    staged = Staged(tmp_path / "a", tmp_path, set())
    assert staged.refused == {"empty-file": {names[0]}}
    assert [row["n_slices"] for row in staged.rows] == [4]


def test_what_is_left_out_counts_against_what_may_fail(tmp_path: Path) -> None:
    names = [path.name for path in series(tmp_path / "a", slices=5)]
    spoil(tmp_path / "a" / names[0])
    with pytest.raises(TooManyFailedError):
        Staged(tmp_path / "a", tmp_path, {"header"}, max_failed=4)


def enhanced(folder: Path, count: int, frames: int) -> None:
    """Multi-frame MR with a functional group a frame: headers many times as long as the requests for them."""
    template = pydicom.dcmread(real("MR_small.dcm"))
    for number in range(count):
        dataset = pydicom.dcmread(real("MR_small.dcm"))
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.SOPInstanceUID = f"1.2.3.{number + 1}"
        dataset.SeriesInstanceUID = f"1.2.4.{number + 1}"
        dataset.Rows = dataset.Columns = 4
        dataset.NumberOfFrames = frames
        dataset.PixelData = bytes(range(32)) * frames
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        groups = []
        for frame in range(frames):
            group = pydicom.Dataset()
            position = pydicom.Dataset()
            position.ImagePositionPatient = [0, 0, 2.0 * frame]
            group.PlanePositionSequence = [position]
            groups.append(group)
        shared = pydicom.Dataset()
        measures, orientation = pydicom.Dataset(), pydicom.Dataset()
        measures.PixelSpacing, measures.SliceThickness = list(template.PixelSpacing), 2
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = groups
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            del dataset[keyword]
        write(dataset, folder / f"{number}.dcm")


def whole(archive: Path, folder: Path) -> tuple[StageReport, float]:
    builder = CopyBuilder(DirectoryStore(folder / "o"), b"k" * 32, "copy", "p", "c", folder / "j")
    source = FolderSource(archive)
    plan = StagePlan(
        "radiology", "radiology-basic@1", b"d" * 32, opt_out=stated(), max_failed=1000, workers=2
    )
    began = time.monotonic()
    return stage(source, inventory.scan(source), builder, plan), time.monotonic() - began


def test_long_headers_of_many_files_at_once_are_read_in_seconds(tmp_path: Path) -> None:
    """With the smallest buffers, so that it stands still wherever it ever could."""
    enhanced(tmp_path / "a", count=20, frames=250)
    with narrow.sockets(narrow.NarrowSocket):
        report, seconds = whole(tmp_path / "a", tmp_path)
    assert report.refused == {}
    assert report.staged["volumes"] == 20
    assert seconds < 120  # a stall takes 300


def test_the_enhanced_series_that_stood_still_are_staged_in_seconds(tmp_path: Path) -> None:
    case = SHARED / "cases" / "hang_enhanced" / "in"
    if not case.is_dir():
        pytest.skip("the shared cases are not here")
    report, seconds = whole(case, tmp_path)
    assert report.refused == {}
    assert report.staged["volumes"] == 16
    assert seconds < 60
