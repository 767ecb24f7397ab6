"""Identification by content: what may never leave is named, whatever it is called."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
import zlib

import pytest
import zstandard

from hdrs_hpc.broker.workers.airlock.check import check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.identifiers import is_nhs_number
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
RULES = OutputRules.from_dict({"table": {}, "image": {}, "metrics": {}})


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("a", "b")
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        made.addfile(tarfile.TarInfo("a"))
    return out.getvalue()


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"n": [1]}), out)
    return out.getvalue()


REFUSED = {
    "zip": _zip(),
    "tar": _tar(),
    "gzip": gzip.compress(b"site,n\na,20\n"),
    "xz": b"\xfd7zXZ\x00" + bytes(20),
    "bzip2": b"BZh91AY&SY" + bytes(range(128, 160)),
    "zstd": zstandard.compress(b"site,n\na,20\n"),
    "zlib": zlib.compress(b"site,n\na,20\n"),
    "pickle 0": pickle.dumps(_zip, protocol=0),
    "pickle 2": pickle.dumps({"n": 20}, protocol=2),
    "pickle 5": pickle.dumps([1, 2, 3], protocol=5),
    "pickle that runs": b"cos\nsystem\n(S'true'\ntR.",
    "notebook": json.dumps({"cells": [], "metadata": {}, "nbformat": 4}).encode(),
    "html": b"<!DOCTYPE html><script>alert(1)</script>",
    "html after white space and a BOM": b"\xef\xbb\xbf\n\n <html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>',
    "svg after a declaration": b'<?xml version="1.0"?><svg/>',
    "pdf": b"%PDF-1.7\n",
    "dicom": bytes(128) + b"DICM" + bytes(64),
    "dicom without preamble": b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
    "elf": b"\x7fELF\x02\x01\x01" + bytes(9),
    "script": b"#!/bin/sh\ntrue\n",
    "parquet": _parquet(),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(8),
    "numpy": b"\x93NUMPY\x01\x00",
    "sqlite": b"SQLite format 3\x00",
    "gif": b"GIF89a" + bytes(8),
    "tiff": b"II*\x00" + bytes(8),
    "utf-16 table": "site,n\na,20\n".encode("utf-16"),
}


@pytest.mark.parametrize("cls", ["table", "image", "metrics"])
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_type_is_refused_whatever_class_was_declared(data: bytes, cls: str) -> None:
    checked = check_set(
        [(Declared("x", cls, "x.csv", declaring.table(data).columns), data)], RULES, bytes(16), AMPLE
    )[0]
    assert checked.refused == "artefact-type-refused"
    assert "looks like" in checked.report["refusal"]["message"]


def test_right_type_under_the_wrong_class_is_mistyped() -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(16)
    for cls, data in (("table", png), ("metrics", png), ("image", b"site,n\na,20\n")):
        checked = check_set(
            [(Declared("x", cls, "x", declaring.table(data).columns), data)], RULES, bytes(16), AMPLE
        )[0]
        assert checked.refused == "artefact-mistyped"


@pytest.mark.parametrize("header", ["BMI_class", "MZ_group", "BZhome"])
def test_honest_header_that_begins_like_a_magic_is_a_table(header: str) -> None:
    data = f"{header},n\na,20\nb,30\n".encode()
    assert check_set([(declaring.table(data), data)], RULES, bytes(16), AMPLE)[0].refused is None


@pytest.mark.parametrize(
    ("digits", "valid"),
    [("9434765919", True), ("9434765870", True), ("4505577104", True), ("9434765918", False),
     ("0000000000", False), ("1234567890", False), ("943476591", False)],
)  # fmt: skip
def test_nhs_number_by_its_check_digit(digits: str, valid: bool) -> None:
    assert is_nhs_number(digits) is valid
