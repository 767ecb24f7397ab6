"""Trees in which imaging lies among all sorts of other files: those are passed over, and what is broken still fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive import instance, series, slide, tissue, write
from click.testing import CliRunner, Result
from PIL import Image
from pydicom.fileset import FileSet
from slides import wsm

from hdrs_hpc.cli.imaging import imaging
from imaging import standalone
from tests.support.opt_outs import with_opt_out

TABLE = "patient,age,outcome\n" + "".join(f"P{n},{40 + n},well\n" for n in range(40))
OTHERS: dict[str, str | bytes] = {
    "README.md": "# An archive, and what is in it\n\nBegun in 2019, by us.\n",
    "notes.md": "a,b\n\nno table, whatever it looks like\n",
    "one-line.md": "a,b,c",
    "config.yaml": "levels: [1, 2]\nnames: {a: 1, b: 2}\n",
    "data.json": '{"a": 1, "b": [2, 3], "c": {"d": 4}}',
    "lines.jsonl": '{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n',
    "figure.svg": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0, 0, 1, 1"/>',
    "paper.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "without-suffix-but-pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "script.py": "import os, sys\n\nprint(1, 2)\n",
    "run.sh": "#!/bin/sh\nset -eu\n",
    "SHA256SUMS": f"{'a' * 64}  x.dcm\n",
    "x.dcm.md5": f"{'a' * 32}  x.dcm\n",
    "LICENSE": "Copyright (c), all of us\n\nPermission is granted, free of charge\n",
    "LICENSE.txt": "Copyright (c), all of us\n\nPermission is granted, free of charge\n",
    "Makefile": "all:\n\ttrue\n",
    ".gitkeep": b"",
    "__init__.py": b"",
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "._x.dcm": b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(200),
    "page.html": "<!DOCTYPE html><p>One, two</p>\n",
    "utf16.txt": "Some words, in UTF-16\r\n".encode("utf-16"),
}


_FORMS = {"jpg": "JPEG", "gif": "GIF", "webp": "WEBP"}


def run(*words: object) -> Result:
    return CliRunner().invoke(imaging, with_opt_out(words))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    standalone.new_secret(tmp_path / "secret")
    return tmp_path / "secret"


def mixed(folder: Path) -> int:
    """Write files of all kinds that are not imaging; gives their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in OTHERS.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    picture = Image.fromarray(tissue(40, 60))
    for name in ("chart.png", "photo.jpg", "anim.gif", "web.webp", "picture-without-suffix"):
        picture.save(folder / name, format=_FORMS.get(name.rpartition(".")[2], "PNG"))
    return len(list(folder.iterdir()))


def test_a_mixed_tree_has_no_failures(tmp_path: Path, secret: Path) -> None:
    tree = tmp_path / "tree"
    count = mixed(tree / "docs")
    series(tree / "ct", slices=3)
    slide(tree / "slides" / "a.svs")
    (tree / "clinical.csv").write_text(TABLE)
    (tmp_path / "columns.yaml").write_text("patient: patient-id\nage: number\n")
    files = FileSet()
    for path in sorted((tree / "ct").iterdir()):
        files.add(path)
    files.write(tmp_path / "media")
    (tree / "media").mkdir()
    (tree / "media" / "DICOMDIR").write_bytes((tmp_path / "media" / "DICOMDIR").read_bytes())
    result = run(
        *(
            "stage",
            tree,
            tmp_path / "copy",
            "--secret",
            secret,
            "--max-failed",
            0,
            "--columns",
            tmp_path / "columns.yaml",
        ),
        *(
            "--report",
            tmp_path / "r.json",
            "--report",
            tmp_path / "r.html",
            "--items",
            tmp_path / "items.csv",
        ),
    )
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["failed"] == 0
    assert {code: told["count"] for code, told in report["refused"].items()} == {"not-imaging": count + 1}
    assert report["refused"]["not-imaging"]["failed"] is False
    kinds = report["refused"]["not-imaging"]["details"]
    assert sum(kinds.values()) == count + 1
    assert kinds["DICOM directory"] == 1
    assert kinds["drawing"] == 6
    assert kinds["checksum"] == 2
    assert set(kinds) == {
        *("document", "drawing", "structured text", "script", "checksum", "system file", "DICOM directory")
    }
    assert report["staged"]["volumes"] == report["staged"]["slides"] == report["staged"]["tables"] == 1
    assert f"{count + 1} not-imaging (skipped): document: {kinds['document']}" in result.output
    assert f"document: {kinds['document']}" in (tmp_path / "r.html").read_text()
    assert "docs/chart.png,not-imaging,drawing," in (tmp_path / "items.csv").read_text()


@pytest.mark.parametrize("kind", ["radiology-basic@2", "slide-basic@2"])
def test_one_kind_alone_has_no_failures_either(tmp_path: Path, secret: Path, kind: str) -> None:
    tree = tmp_path / "tree"
    count = mixed(tree)
    result = run(
        "stage", tree, tmp_path / "copy", "--secret", secret, "--max-failed", 0, "--profile", kind, "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["refused"]["not-imaging"]["count"] == count


def broken(tree: Path) -> dict[str, bytes]:
    """Files that say they are wanted, or were, and can't be read."""
    whole = write(instance(), tree.parent / "whole.dcm").read_bytes()
    other = write(instance("MR_small.dcm"), tree.parent / "other.dcm").read_bytes()
    slide(tree.parent / "whole.svs")
    pyramid = (tree.parent / "whole.svs").read_bytes()
    jpeg = tree.parent / "x.jpg"
    Image.fromarray(tissue(40, 60)).save(jpeg)
    return {
        "cut.dcm": whole[: len(whole) // 2],
        "cut-without-suffix": other[: len(other) // 2],
        "cut-in-header.txt": whole[:400],
        "cut.svs": pyramid[: len(pyramid) // 3],
        "head-of.svs": pyramid[:6],
        "empty.dcm": b"",
        "IM0001": b"",
        "error-page.dcm": b"<!DOCTYPE html><p>404, not found</p>",
        "IM0002": b"Not found, sorry\n",
        "picture.dcm": jpeg.read_bytes(),
        "picture.ndpi": jpeg.read_bytes(),
        "random.bin": np.random.default_rng(3).bytes(5000),
        "random": np.random.default_rng(4).bytes(5000),
        "DICOMDIR": b"not at all, no",
        "cut.csv": TABLE[:-9].encode() + b'"',
        "ragged.csv": (TABLE + "P41,3\n").encode(),
        "ragged.txt": (TABLE + "P41,3\n").encode(),
        "other.csv": b"name,age\nx,1\n",
        "cut.parquet": b"PAR1" + bytes(50),
    }


def test_what_is_broken_still_fails_among_them(tmp_path: Path, secret: Path) -> None:
    tree = tmp_path / "tree"
    count = mixed(tree / "docs")
    bad = broken(tree)
    for name, content in bad.items():
        (tree / name).write_bytes(content)
    (tmp_path / "columns.yaml").write_text("patient: patient-id\nage: number\n")
    words = ("stage", tree, tmp_path / "copy", "--secret", secret, "--columns", tmp_path / "columns.yaml")
    report = json.loads(run(*words, "--json", "--items", tmp_path / "items.csv").stdout)
    failed = {
        line.split(",")[1]
        for line in (tmp_path / "items.csv").read_text().splitlines()
        if "not-imaging" not in line
    } - {"path"}
    assert failed == set(bad)
    assert report["failed"] == len(bad)
    assert report["refused"]["not-imaging"]["count"] == count


@pytest.mark.parametrize("kind", ["LABEL", "LOCALIZER", "OVERVIEW", "THUMBNAIL"])
def test_side_images_of_a_dicom_slide_are_skipped_whatever_they_are_made_of(
    tmp_path: Path, secret: Path, kind: str
) -> None:
    tree = tmp_path / "tree"
    pixels = tissue(512, 512)
    wsm(tree / "0.dcm", pixels)
    # As they are: no matrix of tiles, or tiles that overlap; grey, in colours of a palette.
    side: dict[str, Any] = {"name": "s", "kind": kind, "tile": 128}
    wsm(tree / "1.dcm", tissue(128, 128), **side, TotalPixelMatrixRows=None, TotalPixelMatrixColumns=None)
    wsm(
        tree / "2.dcm", tissue(128, 128), **side, PhotometricInterpretation="PALETTE COLOR", SamplesPerPixel=1
    )
    wsm(tree / "3.dcm", tissue(128, 128), **side, DimensionOrganizationType="TILED_SPARSE")
    wsm(tree / "4.dcm", tissue(128, 128), **side, BurnedInAnnotation="YES", SpecimenLabelInImage="YES")
    wsm(tree / "5.dcm", tissue(300, 300), **side, DimensionOrganizationType="3D", NumberOfFrames=7)
    result = run("stage", tree, tmp_path / "copy", "--secret", secret, "--max-failed", 0, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["staged"]["slides"] == 1
    assert list(report["refused"]) == ["slide-side-image"]
    told = report["refused"]["slide-side-image"]
    assert (told["count"], told["items"], told["failed"]) == (5, [2, 3, 4, 5, 6], False)


def test_a_side_image_that_is_cut_and_one_of_no_kind_have_failed(tmp_path: Path, secret: Path) -> None:
    tree = tmp_path / "tree"
    wsm(tree / "0.dcm", tissue(512, 512))
    wsm(tree / "1.dcm", tissue(512, 512), name="s", kind="LABEL", tile=128)
    raw = (tree / "1.dcm").read_bytes()
    (tree / "1.dcm").write_bytes(raw[:-2000])
    wsm(tree / "2.dcm", tissue(128, 128), name="s", level=3, ImageType=["ORIGINAL", "PRIMARY"])
    report = json.loads(run("stage", tree, tmp_path / "copy", "--secret", secret, "--json").stdout)
    assert {code: told["items"] for code, told in report["refused"].items()} == {
        "truncated-pixel-data": [2],
        "required-attribute-missing": [3],
    }
    assert report["refused"]["required-attribute-missing"]["details"] == {"ImageType (0008,0008)": 1}


def test_missing_attributes_are_named_wherever_it_is_told(tmp_path: Path, secret: Path) -> None:
    tree = tmp_path / "tree"
    write(instance(SeriesInstanceUID=None), tree / "1.dcm")
    write(instance(SeriesInstanceUID=None, StudyInstanceUID=None), tree / "2.dcm")
    write(instance(Rows=None), tree / "3.dcm")
    write(instance(BitsAllocated=None), tree / "4.dcm")
    write(instance(PhotometricInterpretation=""), tree / "5.dcm")
    wsm(tree / "6.dcm", tissue(300, 300), TotalPixelMatrixRows=None)
    result = run(
        *("stage", tree, tmp_path / "copy", "--secret", secret, "--items", tmp_path / "items.csv"),
        *("--report", tmp_path / "r.json", "--report", tmp_path / "r.html"),
    )
    told = json.loads((tmp_path / "r.json").read_text())["refused"]["required-attribute-missing"]
    assert told["count"] == 6
    assert told["details"] == {
        "SeriesInstanceUID (0020,000E)": 2,
        "BitsAllocated (0028,0100)": 1,
        "PhotometricInterpretation (0028,0004)": 1,
        "Rows (0028,0010)": 1,
        "StudyInstanceUID (0020,000D)": 1,
        "TotalPixelMatrixRows (0048,0007)": 1,
    }
    assert "6 required-attribute-missing (failed): SeriesInstanceUID (0020,000E): 2, " in result.output
    assert "StudyInstanceUID (0020,000D): 1" in (tmp_path / "r.html").read_text()
    assert "3.dcm,required-attribute-missing,,Rows," in (tmp_path / "items.csv").read_text()
    stopped = run("stage", tree, tmp_path / "other", "--secret", secret, "--max-failed", 5)
    assert stopped.exit_code != 0
    assert "required-attribute-missing" in str(stopped.exception)
