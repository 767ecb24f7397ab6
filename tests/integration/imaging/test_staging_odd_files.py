"""What lies beside images in research folders: arrays, models, programs, recordings, databases, tables."""

import io
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from archive import series
from click.testing import CliRunner, Result

from hdrs_hpc.cli.imaging import imaging
from imaging import standalone
from imaging.staging.parsing import other_files
from tests.support.opt_outs import with_opt_out

OTHERS: dict[str, bytes] = {
    "features.npy": b"\x93NUMPY\x01\0" + bytes(200),
    "model.pt": b"PK\3\4" + bytes(60),
    "model.pkl": b"\x80\x04\x95" + bytes(60),
    "raw.h5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "work.mat": b"MATLAB 5.0 MAT-file" + bytes(200),
    "viewer.exe": b"MZ" + bytes(200),
    "lib.so": b"\x7fELF" + bytes(200),
    "dictation.wav": b"RIFF\0\0\0\0WAVEfmt " + bytes(60),
    "theatre.mp4": b"\0\0\0\x18ftypmp42" + bytes(60),
    "dwi.bval": b"0 1000 1000\n",
    "dwi.bvec": b"0 1 0\n0 0 1\n1 0 0\n",
    "mesh.stl": b"solid a\nfacet normal 0 0 1\n",
    "mail.eml": b"From: a, b\nTo: c\n",
    "adt.hl7": b"MSH|^~\\&|A|B\rPID|1||123\r",
    "two-lines.txt": b"a note, of us\nwith one, two, three commas\n",
}
TABLES = {
    "participants.tsv": b"participant_id\tage\nsub-1\t3\n",
    "events.tsv": b"onset, s\tduration\n0\t1\n",
    "prose.csv": b"a,b\n1,2\nand then, one day, no more\nend\n",
}


def run(*words: object) -> Result:
    return CliRunner().invoke(imaging, with_opt_out(words))


def tree_of(folder: Path) -> Path:
    series(folder / "ct", slices=3)
    for name, content in (OTHERS | TABLES).items():
        (folder / name).write_bytes(content)
    for name in ("index.sqlite", "catalogue.db"):
        base = sqlite3.connect(folder / name)
        base.execute("create table a (b)")
        base.commit()
        base.close()
    return folder


def test_none_of_it_has_failed(tmp_path: Path) -> None:
    standalone.new_secret(tmp_path / "secret")
    tree = tree_of(tmp_path / "tree")
    words = ("stage", tree, tmp_path / "copy", "--secret", tmp_path / "secret", "--json")
    result = run(*words, "--max-failed", 0)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["staged"]["volumes"] == 1
    assert {code: told["count"] for code, told in report["refused"].items()} == {
        "not-imaging": len(OTHERS) + 2, "wrong-kind": len(TABLES)
    }  # fmt: skip
    kinds = report["refused"]["not-imaging"]["details"]
    assert {kind: kinds[kind] for kind in ("array or model", "program", "recording", "database")} == {
        "array or model": 5, "program": 2, "recording": 2, "database": 2
    }  # fmt: skip


def test_tables_that_cannot_be_read_have_failed_where_tables_are_staged(tmp_path: Path) -> None:
    standalone.new_secret(tmp_path / "secret")
    tree = tree_of(tmp_path / "tree")
    (tmp_path / "columns.yaml").write_text("patient: patient-id\nage: number\n")
    words = ("stage", tree, tmp_path / "copy", "--secret", tmp_path / "secret", "--json")
    report = json.loads(run(*words, "--columns", tmp_path / "columns.yaml").stdout)
    assert report["failed"] == len(TABLES)


@pytest.mark.parametrize(("text", "found"), [
    ("a, b\nc", "text"), ("a,b\n1,2", "table"), ("a,b\n1,2\n3,4\n", "table"), ("a,b\nx, y, z\n", "text"),
])  # fmt: skip
def test_two_lines_are_a_table_only_where_they_agree(text: str, found: str) -> None:
    assert other_files.content(io.BytesIO(text.encode())) == found


def test_a_table_that_is_cut_by_the_look_is_still_one() -> None:
    rows = "".join(f"{number},{number}\n" for number in np.arange(30_000))
    assert other_files.content(io.BytesIO(b"a,b\n" + rows.encode())) == "table"
