"""What a person reviews: thumbnails sealed with the copy, held images sealed apart, and the list that releases them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive import series
from click.testing import CliRunner, Result
from PIL import Image

from hdrs_hpc.cli.imaging import imaging
from hdrs_hpc.sealing.cipher import SealBrokenError
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy
from imaging import standalone
from imaging.staging import engine, release_list
from imaging.staging.admission import Judged, Rules
from imaging.staging.radiology.series_admission import Radiology
from tests.support.opt_outs import with_opt_out


class HoldsTheFirstSeries(Radiology):
    """Holds the instances of one series unless a person released them."""

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self._released = rules.pixels.released

    def judge(self, headers: Mapping[int, Any], paths: Sequence[str]) -> Judged:
        held = {n for n in headers if paths[n - 1].startswith("held") and n not in self._released}
        judged = super().judge({n: header for n, header in headers.items() if n not in held}, paths)
        judged.refused |= dict.fromkeys(held, "held-for-person")
        return judged


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    standalone.new_secret(tmp_path / "secret")
    return tmp_path / "secret"


@pytest.fixture
def stage(tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setitem(engine.KINDS, "radiology", lambda rules, plan: HoldsTheFirstSeries(rules))
    series(tmp_path / "a", name="held", slices=2)
    series(tmp_path / "a", name="open", slices=3)

    def run(dest: str, *more: object) -> Result:
        words = ["stage", tmp_path / "a", tmp_path / dest, "--secret", secret, *more]
        return CliRunner().invoke(imaging, with_opt_out(words))

    return run


def sheet(tmp_path: Path, *more: object) -> Result:
    return CliRunner().invoke(
        imaging, ["sheet", *map(str, more), "--secret", str(tmp_path / "secret"), "--json"]
    )


def test_a_held_image_is_shown_to_a_person_only_and_comes_in_once_released(
    tmp_path: Path, secret: Path, stage: Callable[..., Result]
) -> None:
    told = stage("one", "--burned-in", "hold", "--contact-sheet", "--json")
    assert told.exit_code == 0, told.exception
    report = json.loads(told.stdout)
    held = report["refused"]["held-for-person"]
    assert (held["count"], held["items"], held["failed"]) == (2, [1, 2], False)
    assert report["staged"]["volumes"] == 1
    # The copy, which workloads read, holds nothing of it.
    copy = standalone.open_copy(tmp_path / "one", standalone.read_secret(secret))
    assert [path for path in copy.paths() if "held" in path] == []
    page = Image.open(io.BytesIO(copy.read("contact-sheet/001.png")))
    assert np.asarray(page)[20:200, 20:200].std() > 20
    described = json.loads((tmp_path / "one" / "copy.json").read_text())
    name, raw = described["copy"], standalone.read_secret(secret)
    objects = DirectoryStore(tmp_path / "one" / "held" / "objects")
    place = (standalone.PROJECT, f"{name}-held", described["held"])
    SealedCopy.open(objects, standalone.held_key(raw, name), "copy", *place)
    with pytest.raises(SealBrokenError):
        SealedCopy.open(objects, standalone.copy_key(raw, name), "copy", *place)
    done = sheet(tmp_path, tmp_path / "one", "--held", "--out", tmp_path / "pages")
    assert done.exit_code == 0, done.exception
    assert np.asarray(Image.open(tmp_path / "pages" / "001.png")).std() > 20
    assert (tmp_path / "pages").stat().st_mode & 0o777 == 0o700
    listed = json.loads((tmp_path / "pages" / "release.json").read_text())
    assert (listed["items"], listed["held"]) == ([], [1, 2])
    listed["items"] = listed.pop("held")
    (tmp_path / "approved.json").write_text(json.dumps(listed))
    told = stage("two", "--burned-in", "hold", "--release", tmp_path / "approved.json", "--json")
    assert json.loads(told.stdout)["staged"]["volumes"] == 2
    assert not (tmp_path / "two" / "held").exists()
    assert sheet(tmp_path, tmp_path / "two", "--held", "--out", tmp_path / "p2").exit_code != 0
    assert sheet(tmp_path, tmp_path / "two", "--out", tmp_path / "p3").exit_code != 0


def test_a_release_for_another_version_of_the_data_names_other_images_and_is_refused(
    tmp_path: Path, stage: Callable[..., Result]
) -> None:
    (tmp_path / "r.json").write_bytes(release_list.to_bytes("sha256:" + "0" * 64, [1], []))
    told = stage("one", "--burned-in", "hold", "--release", tmp_path / "r.json")
    assert getattr(told.exception, "code", None) == "release-for-other-data"


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b'{"schema":"hdrs-hpc/released-items/1","items":[1]}',
        b'{"schema":"hdrs-hpc/released-items/1","inventory":"x","items":[0]}',
        b'{"schema":"hdrs-hpc/released-items/1","inventory":"x","items":[true]}',
        b'{"schema":"hdrs-hpc/released-items/2","inventory":"x","items":[1]}',
    ],
)
def test_a_list_of_another_form_releases_nothing(raw: bytes) -> None:
    with pytest.raises(release_list.ReleaseListError):
        release_list.parse(raw)


def test_the_index_is_filtered_by_conditions(tmp_path: Path, secret: Path) -> None:
    series(tmp_path / "a", name="ct", slices=2)
    series(tmp_path / "a", name="mr", slices=3, template="MR_small.dcm")
    staged = ["stage", str(tmp_path / "a"), str(tmp_path / "c"), "--secret", str(secret)]
    assert CliRunner().invoke(imaging, with_opt_out(staged)).exit_code == 0

    def rows(*conditions: str) -> list[str]:
        words = [word for one in conditions for word in ("--where", one)]
        told = CliRunner().invoke(
            imaging, ["index", str(tmp_path / "c"), "--secret", str(secret), "--json", *words]
        )
        assert told.exit_code == 0, told.output
        return sorted(row["modality"] for row in json.loads(told.stdout))

    assert rows() == ["CT", "MR"]
    assert rows("modality=MR") == rows("n_slices>=3") == rows("modality!=CT") == ["MR"]
    assert rows("modality=MR,CT", "n_slices<3") == ["CT"]
    for wrong in ("nonsense", "shape=3", "n_slices=many", "unknown=1"):
        argv = ["index", str(tmp_path / "c"), "--secret", str(secret), "--where", wrong]
        assert CliRunner().invoke(imaging, argv).exit_code == 2
