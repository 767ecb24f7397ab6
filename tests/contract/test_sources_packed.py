"""Zip archives that mean harm, DICOMDIRs, and how a source is written down."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydicom.data import get_testdata_file

from connectors.sources import Source, SourceCorruptError, SourceItemMissingError
from connectors.sources.contract import SourceContract
from connectors.sources.dicomdir import DicomdirIncompleteError, DicomdirSource
from connectors.sources.opening import open_source, read_location
from connectors.sources.zipped import ZipRefusedError
from hdrs_hpc.cli.main import cli
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.models.source import SourceTextError, location_from_text, location_from_value
from imaging.staging.media import DicomdirError

DICOMDIR_FOLDER = Path(str(get_testdata_file("DICOMDIR"))).parent


def zipped(
    path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def patched(path: Path, signature: bytes, offset: int, value: bytes) -> Path:
    """Overwrite a field in the first record with this signature."""
    raw = bytearray(path.read_bytes())
    at = raw.index(signature) + offset
    raw[at : at + len(value)] = value
    path.write_bytes(raw)
    return path


DIRECTORY, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


@pytest.mark.parametrize(
    "name", ["../up", "/root", "a/../../b", "a//b", "./a", "C:/x", "a\\b", "..\\up", "a/./b"]
)
def test_names_that_lead_out_of_a_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ZipRefusedError, match="name"):
        list(open_source(str(zipped(tmp_path / "a.zip", (name, b"x")))).items())


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "a.zip", ("a", b"1"), ("a", b"2"))
    with pytest.raises(ZipRefusedError, match="one name"):
        list(open_source(str(path)).items())


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [
        (8, b"\x01\x00", "encrypted"),
        (8, b"\x40\x00", "encrypted"),
        (10, b"\x09\x00", "method 9"),  # deflate64
        (10, b"\x0e\x00", "method 14"),  # LZMA: its dictionary may ask for gigabytes
        (24, struct.pack("<I", 1 << 30), "bomb"),
        (42, struct.pack("<I", 1 << 20), "beyond|directory"),
    ],
)
def test_what_the_directory_may_not_say_is_refused(
    tmp_path: Path, offset: int, value: bytes, what: str
) -> None:
    path = patched(zipped(tmp_path / "a.zip", ("a", b"x" * 1000)), DIRECTORY, offset, value)
    with pytest.raises(ZipRefusedError, match=what):
        list(open_source(str(path)).items())


def test_entries_that_share_their_packed_bytes_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("a", b"x" * 1000), ("b", b"y" * 1000))
    raw = bytearray(path.read_bytes())
    second = raw.index(DIRECTORY, raw.index(DIRECTORY) + 4)
    raw[second + 42 : second + 46] = struct.pack("<I", 0)
    path.write_bytes(raw)
    with pytest.raises(ZipRefusedError, match="overlap"):
        list(open_source(str(path)).items())


def test_a_directory_of_excessive_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = patched(zipped(tmp_path / "a.zip", ("a", b"x")), END, 12, struct.pack("<I", 1 << 31))
    with pytest.raises(ZipRefusedError, match="larger than allowed"):
        list(open_source(str(path)).items())


@pytest.mark.parametrize("cut", [0, 10, 30, 60])
def test_what_is_no_whole_zip_is_refused(tmp_path: Path, cut: int) -> None:
    path = zipped(tmp_path / "a.zip", ("a", b"x" * 100))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ZipRefusedError):
        list(open_source(str(path)).items())


def test_an_entry_whose_bytes_do_not_fit_its_checksum_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("a", b"x" * 1000), method=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"xxx", b"xyx", 1))
    source = open_source(str(path))
    with pytest.raises(SourceCorruptError):
        source.open("a")


def test_an_entry_that_unpacks_to_more_than_stated_ends_there(tmp_path: Path) -> None:
    path = patched(zipped(tmp_path / "a.zip", ("a", b"x" * 1_000_000)), DIRECTORY, 24, struct.pack("<I", 10))
    with pytest.raises(SourceCorruptError):
        open_source(str(path)).open("a")


def test_links_in_an_archive_are_no_items(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    path = zipped(tmp_path / "a.zip", (link, b"/etc/hostname"), ("plain", b"x"))
    source = open_source(str(path))
    assert [item.path for item in source.items()] == ["plain"]
    with pytest.raises(SourceItemMissingError):
        source.open("link")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_zip_gives_an_error_of_ours_or_bytes_and_nothing_else(tmp_path: Path, seed: int) -> None:
    import random

    path = zipped(tmp_path / "a.zip", ("a", b"x" * 1000), ("b/c", bytes(range(256)) * 10))
    raw, dice = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(dice.randint(1, 8)):
        raw[dice.randrange(len(raw))] = dice.randrange(256)
    path.write_bytes(raw)
    source = open_source(str(path))
    try:
        for item in source.items():
            source.open(item.path).close()
    except HdrsError:
        pass
    finally:
        source.close()


# --- DICOMDIR


def read_references(_: Any) -> list[str]:
    return ["b/two.dcm", "B.X", "a", "B/\u00e9T\u00e9 1.DCM;1", "b/deep/er/three.dcm."]


def read_no_references(_: Any) -> list[str]:
    return []


class TestDicomdirSource(SourceContract):
    def make(self, tmp_path: Path, files: dict[str, bytes]) -> Source:
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        (tmp_path / "DICOMDIR").write_bytes(b"")
        (tmp_path / "not listed").write_bytes(b"x")
        return DicomdirSource(tmp_path / "DICOMDIR", read_references if files else read_no_references)


def test_a_real_dicomdir_gives_the_files_that_it_refers_to_and_no_others(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    shutil.copytree(DICOMDIR_FOLDER, medium)
    (medium / "stray.dcm").write_bytes(b"not referred to")
    source = open_source(str(medium / "DICOMDIR"))
    listed = [item.path for item in source.items()]
    assert len(listed) == 31
    assert "stray.dcm" not in listed
    assert "DICOMDIR" not in listed
    with source.open(listed[0]) as file:
        assert file.read(132)[128:] == b"DICM"
    with pytest.raises(SourceItemMissingError):
        source.open("stray.dcm")
    assert [item.path for item in pickle.loads(pickle.dumps(source)).items()] == listed
    (medium / listed[0]).unlink()
    with pytest.raises(DicomdirIncompleteError, match="1 of 31"):
        list(open_source(str(medium / "DICOMDIR")).items())


@pytest.mark.parametrize("name", ["CT_small.dcm", None])
def test_what_is_no_dicomdir_is_refused(tmp_path: Path, name: str | None) -> None:
    content = Path(str(get_testdata_file(name))).read_bytes() if name else b"nonsense"
    (tmp_path / "DICOMDIR").write_bytes(content)
    with pytest.raises(DicomdirError):
        list(open_source(str(tmp_path / "DICOMDIR")).items())


# --- how sources are written down


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/archive/ct", {"type": "folder", "path": "/archive/ct"}),
        ("/archive/ct.zip", {"type": "zip", "path": "/archive/ct.zip"}),
        ("/media/cd/dicomdir", {"type": "dicomdir", "path": "/media/cd/dicomdir"}),
        (
            "dicomweb+https://pacs.nhs.example/dicom-web/?modalities=CT,MR&token-file=/run/t",
            {
                "type": "dicomweb",
                "url": "https://pacs.nhs.example/dicom-web",
                "select": {"modalities": ["CT", "MR"]},
                "token-file": "/run/t",
            },
        ),
        (
            "dimses://PACS%201@pacs:2762?ca-file=/ca&study-date-from=2020-01-01&calling-ae=ME&associations=2",
            {
                "type": "dimse",
                "host": "pacs",
                "port": 2762,
                "called-ae": "PACS 1",
                "calling-ae": "ME",
                "associations": 2,
                "select": {"study-date-from": "2020-01-01"},
                "tls": {"ca-file": "/ca"},
            },
        ),
        (
            "s3://slides/cohort-1/?endpoint=https://s3.example&profile=archive",
            {
                "type": "s3",
                "bucket": "slides",
                "prefix": "cohort-1/",
                "endpoint": "https://s3.example",
                "profile": "archive",
            },
        ),
        (
            "sftp://me@files:2222/data/ct%20scans?identity=/k&host-key=ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5AAAAIHwFBFpyHarZUrY5DMpXAb4P%2FrRBJwBS7eG%2Bm3CuSnMe",
            {
                "type": "sftp",
                "host": "files",
                "port": 2222,
                "user": "me",
                "path": "/data/ct scans",
                "identity": "/k",
                "host-key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHwFBFpyHarZUrY5DMpXAb4P/rRBJwBS7eG+m3CuSnMe",
            },
        ),
    ],
)
def test_an_address_means_the_same_as_the_fields_of_a_registration(text: str, value: dict[str, Any]) -> None:
    assert location_from_text(text) == location_from_value(value)
    assert location_from_text(text).model_dump(mode="json", exclude_defaults=True) == value


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ftp://x/y", "no source of type"),
        ("dicomweb+https://x/y", "everything: true"),
        ("dicomweb+https://x/y?everything=true&modalities=CT", "everything: true"),
        ("dicomweb+http://pacs/y?everything=true&token-file=/t", "https"),
        ("dicomweb+https://x/y?everything=true&token-file=/t&login-file=/l", "not both"),
        ("dicomweb+https://x/y?everything=true&token=abc", "token"),
        ("dimse://A@h?study-date-from=2020-02-02&study-date-to=2020-01-01", "before"),
        ("dimse://A@h:0?everything=true", "port"),
        ("dimse://TOO-LONG-FOR-A-TITLE@h?everything=true", "called-ae"),
        ("sftp://me:secret@h/x", "password"),
        ("sftp://me@h/x?identity=/k", "host-key"),
        ("s3://Bucket_/x", "bucket"),
    ],
)
def test_an_address_that_can_not_be_meant_is_refused_without_repeating_it(text: str, what: str) -> None:
    with pytest.raises(SourceTextError, match=what) as raised:
        location_from_text(text)
    assert "secret" not in str(raised.value)


def test_a_source_can_be_described_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pacs.yaml"
    file.write_text("type: dicomweb\nurl: https://pacs.example/rs\nselect:\n  modalities: [CT]\n")
    assert read_location(str(file)).text == "https://pacs.example/rs"
    file.write_text("type: dicomweb\nurl: https://pacs.example/rs\n")
    with pytest.raises(SourceTextError, match="select"):
        read_location(str(file))


def test_a_zip_archive_is_scanned_for_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "ct.zip", ("1.dcm", b"one"), ("2.dcm", b"two"))

    class Home:
        def inventory(self, version: str) -> Path:
            return tmp_path / "home" / f"{version.removeprefix('sha256:')}.parquet"

    monkeypatch.setattr("hdrs_hpc.cli.options.broker_home", lambda given: Home())
    out = tmp_path / "scan.json"
    done = CliRunner().invoke(cli, ["dataset", "scan", "ct", str(path), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(out.read_text())
    assert told["source"] == {"type": "zip", "path": str(path)}
    assert (told["items"], told["bytes"], told["unreadable"]) == (2, 6, {})
    assert Home().inventory(told["version"]).is_file()
