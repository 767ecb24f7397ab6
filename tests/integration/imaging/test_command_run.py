"""Programs of a bundle: what they are given, files made for them, and how their ends are told."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from archive import series, slide
from staged_copies import served, stage_archive

from hdrs_hpc.protocol.outputs import BundleLine, Ending, WorkloadExit
from imaging import standalone
from tests.support.launched import Launched, launch

WELL = WorkloadExit(Ending.EXITED, 0, None, None, None)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("command")
    series(root / "archive", name="a", patient="P-1", slices=5)
    series(root / "archive", name="c", patient="P-2", slices=4, RescaleSlope=2, RescaleIntercept=-100)
    slide(root / "archive" / "one.svs", height=700, width=1000)
    stage_archive(root / "archive", root / "copy", root / "secret")
    return root


@pytest.fixture
def job(copy: Path) -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(prefix="hdrs-") as short,
        served({"both": (copy / "copy", copy / "secret")}, Path(short, "data.sock")),
    ):
        yield


def command(folder: Path, run: list[str], files: dict[str, str], **fields: Any) -> Launched:
    return launch(
        folder,
        {"kind": "command", "run": run, **fields},
        files,
        {"result": "made/result.json"},
        ("both",),
    )


def test_a_script_is_given_its_arguments_as_they_are_and_no_shell(tmp_path: Path, job: None) -> None:
    script = '#!/bin/sh\nprintf "%s|" "$@" > "$1"\necho "$HDRS_INPUTS" "$HDRS_OUTPUT_RESULT" >> "$1"\n'
    done = command(tmp_path, ["bin/mine", "{outputs.result}", "$(id)", "a b; c"], {"bin/mine": script})
    assert done.ended == WELL, done.printed
    path = done.out / "made/result.json"
    assert path.read_text() == f"{path}|$(id)|a b; c|both {path}\n"


def test_python_reads_by_the_socket_and_finds_its_own_modules(tmp_path: Path, job: None) -> None:
    files = {
        "mine.py": "import json, sys, helper\nfrom imaging.reading import open_staged\n"
        "if __name__ == '__main__':\n"
        "    json.dump([sys.argv[1:], helper.N, len(open_staged('both').series())], open(sys.argv[1], 'w'))\n",
        "helper.py": "N = 7\n",
    }
    done = command(tmp_path, ["python3", "mine.py", "{outputs.result}", "--x=1"], files)
    assert done.ended == WELL, done.printed
    path = done.out / "made/result.json"
    assert json.loads(path.read_text()) == [[str(path), "--x=1"], 7, 2]


def test_the_example_runs(tmp_path: Path, job: None) -> None:
    from hdrs_hpc.catalogue.workloads.command import EXAMPLE

    done = command(tmp_path, list(EXAMPLE.fields["run"]), dict(EXAMPLE.bundle))
    assert done.ended == WELL, done.printed
    found = json.loads((done.out / "made/result.json").read_text())
    assert found["n_series"] == 2


CRASH = "class Mine(Exception):\n    pass\nraise Mine('9434765919')\n"


@pytest.mark.parametrize(
    ("run", "files", "told"),
    [
        (["python3", "mine.py"], {"mine.py": CRASH}, ("crashed", "Mine", 1, None, BundleLine("mine.py", 3))),
        (["python3", "mine.py"], {"mine.py": "import sys\nsys.exit(0)\n"}, ("exited", None, 0, None, None)),
        (["python3", "mine.py"], {"mine.py": "x = (\n"}, ("crashed", "SyntaxError", 1, None, BundleLine("mine.py", 1))),
        (["mine"], {"mine": "#!/bin/sh\nexit 43\n"}, ("crashed", None, 1, None, None)),
        (["mine"], {"mine": "#!/bin/sh\nexit 200\n"}, ("crashed", None, 1, None, None)),
        (["mine"], {"mine": "#!/bin/sh\nkill -9 $$\n"}, ("crashed", None, None, 9, None)),
        (["mine"], {"mine": "#!/no/such/interpreter\n"}, ("program-not-run", None, 1, None, None)),
        (["mine"], {"mine": "plain text"}, ("program-not-run", None, 1, None, None)),
        (["absent"], {"mine": "x"}, ("program-not-run", None, 1, None, None)),
    ],
)  # fmt: skip
def test_an_end_tells_type_and_line_or_that_it_went_wrong(
    tmp_path: Path, job: None, run: list[str], files: dict[str, str], told: tuple[Any, ...]
) -> None:
    ended = command(tmp_path, run, files).ended
    found = (ended.ending, ended.exception_type, ended.exit_code, ended.signal, ended.bundle_line)
    assert found == told


LOOK = """#!/bin/sh
cd "$1" && find . -type f | LC_ALL=C sort > "$2"
"""


def test_a_copy_as_zarr_is_what_any_reader_of_zarr_opens(tmp_path: Path, copy: Path, job: None) -> None:
    made = {"materialise": {"both": "zarr"}, "materialise-size": "64MiB"}
    done = command(tmp_path, ["look", "{inputs.both}", "{outputs.result}"], {"look": LOOK}, **made)
    assert done.ended == WELL, done.printed
    files = (done.out / "made/result.json").read_text().split()
    reference = standalone.open_copy(copy / "copy", standalone.read_secret(copy / "secret"))
    assert files == sorted(f"./{path}" for path in reference.paths())
    staged = standalone.open_staged(copy / "copy", copy / "secret")
    group = zarr.open_group(str(tmp_path / "tmp/inputs/both"), mode="r")
    for item in staged.series():
        assert np.array_equal(np.asarray(group[f"series/{item}/0"]), np.asarray(staged.volume(item)[:]))


@pytest.mark.parametrize("how", ["zarr", "nifti"])
def test_nothing_is_written_where_it_would_be_larger_than_the_spec_says(
    tmp_path: Path, job: None, how: str
) -> None:
    made = {"materialise": {"both": how}, "materialise-size": "1KiB"}
    done = command(tmp_path, ["look", "{inputs.both}", "{outputs.result}"], {"look": LOOK}, **made)
    assert done.ended.ending == "materialised-too-large", done.printed
    assert not (tmp_path / "tmp/inputs").exists() and not (done.out / "made").exists()


NIFTI = importlib.util.find_spec("nibabel") is not None and importlib.util.find_spec("SimpleITK") is not None


@pytest.mark.skipif(not NIFTI, reason="torch is not here: nor is nibabel, which its flavour brings")
def test_a_copy_as_nifti_lies_where_the_images_lie(tmp_path: Path, copy: Path, job: None) -> None:
    """Values, affine and what is left out, by nibabel and by SimpleITK, which has the other convention."""
    import nibabel
    import SimpleITK

    made = {"materialise": {"both": "nifti"}, "materialise-size": "64MiB"}
    done = command(tmp_path, ["look", "{inputs.both}", "{outputs.result}"], {"look": LOOK}, **made)
    assert done.ended == WELL, done.printed
    staged = standalone.open_staged(copy / "copy", copy / "secret")
    series, folder = staged.series(), tmp_path / "tmp/inputs/both"
    files = (done.out / "made/result.json").read_text().split()
    assert files == sorted(["./index.parquet", "./left-out.json", *(f"./{item}.nii" for item in series)])
    assert json.loads((folder / "left-out.json").read_text()) == {staged.slides()[0]: "a slide is no volume"}
    for item in series:
        geometry, values = staged.geometry(item), staged.physical(item)
        assert geometry is not None and len(series) == 2
        image = nibabel.load(folder / f"{item}.nii")
        assert np.allclose(image.affine, geometry.affine_ras_xyz, atol=1e-4)
        assert np.array_equal(np.asarray(image.dataobj), values.transpose(2, 1, 0))
        itk = SimpleITK.ReadImage(str(folder / f"{item}.nii"))
        assert np.array_equal(SimpleITK.GetArrayFromImage(itk), values)
        for at in ((0, 0, 0), (3, 5, 2)):  # in DICOM's own coordinates, from the positions in the headers
            expected = geometry.world((at[2], at[1], at[0]))
            assert np.allclose(itk.TransformIndexToPhysicalPoint(at), expected, atol=1e-3)
