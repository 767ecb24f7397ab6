"""Bundles: the same folder is the same digest, and nothing but simple files gets in or out."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.protocol import bundle
from hdrs_hpc.protocol.bundle import (
    BundleDigestError,
    BundleMalformedError,
    BundleShadowsError,
    BundleTooLargeError,
)


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_times_order_caches_and_owners_do_not_change_the_digest(tmp_path: Path) -> None:
    files = {"cohort/main.py": "x = 1\n", "cohort/__init__.py": "", "a.txt": "y"}
    one = make(tmp_path / "one", files)
    two = make(tmp_path / "two", dict(reversed(files.items())))
    make(two, {"cohort/__pycache__/main.cpython-313.pyc": "z", ".git/config": "z", ".hidden": "z"})
    os.utime(two / "a.txt", (1, 1))
    (two / "a.txt").chmod(0o666)
    assert bundle.pack(one) == bundle.pack(two)
    read = bundle.read(bundle.pack(one), bundle.digest(bundle.pack(two)))
    assert read.files == {name: text.encode() for name, text in files.items()}
    bundle.write(read, tmp_path / "out")
    assert (tmp_path / "out/cohort/main.py").read_text() == "x = 1\n"


def test_another_digest_is_refused_before_anything_is_parsed(tmp_path: Path) -> None:
    with pytest.raises(BundleDigestError):
        bundle.read(b"not even a tar", "sha256:" + "0" * 64)


@pytest.mark.parametrize(
    "name", ["imaging.py", "hdrs_hpc/__init__.py", "connectors/x.py", "imaging/reading.py"]
)
def test_our_own_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleShadowsError):
        bundle.pack(make(tmp_path, {name: ""}))
    with pytest.raises(BundleShadowsError):
        bundle.read(tar_of(tarfile.TarInfo(name)))


def tar_of(*infos: tarfile.TarInfo, data: bytes = b"") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for info in infos:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return sink.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "raw",
    [
        tar_of(info("../up.py")),
        tar_of(info("/etc/passwd")),
        tar_of(info("a/./b.py")),
        tar_of(info("a//b.py")),
        tar_of(info("a b.py")),
        tar_of(info("ä.py")),
        tar_of(info("-x.py")),
        tar_of(info("x/" * 20 + "y.py")),
        tar_of(info("link.py", tarfile.SYMTYPE, "/etc/passwd")),
        tar_of(info("hard.py", tarfile.LNKTYPE, "a.py")),
        tar_of(info("fifo", tarfile.FIFOTYPE)),
        tar_of(info("device", tarfile.CHRTYPE)),
        tar_of(info("twice.py"), info("twice.py")),
        tar_of(info("a"), info("a/b.py")),
        tar_of(),
        b"",
        b"PK\x03\x04" + bytes(600),
    ],
)
def test_anything_but_simple_regular_files_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleMalformedError):
        bundle.read(raw)


def sparse_gnu(real_size: int) -> bytes:
    """A member of GNU's old sparse format: no data at all, and any size it likes."""
    made = info("hole.py", tarfile.GNUTYPE_SPARSE)
    head = bytearray(made.tobuf(tarfile.GNU_FORMAT))
    head[483:495] = b"%011o\0" % real_size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(1024)


def with_pax(**headers: str) -> bytes:
    made = info("hole.py")
    made.pax_headers = {name.replace("__", "."): value for name, value in headers.items()}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(made, io.BytesIO())
    return sink.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        sparse_gnu(1 << 32),
        sparse_gnu(100),
        with_pax(GNU__sparse__map="0,0", GNU__sparse__size=str(1 << 40)),
        with_pax(GNU__sparse__map="0,0", GNU__sparse__size="100"),
        with_pax(size=str(1 << 40)),
        with_pax(size="-1024"),
    ],
    ids=["gnu huge", "gnu", "pax huge", "pax", "claimed", "negative"],
)
def test_a_member_that_claims_a_size_it_does_not_have_is_refused_unread(raw: bytes) -> None:
    """Attack: a few bytes that are read as gibibytes of zeros."""
    tracemalloc.start()
    try:
        with pytest.raises((BundleMalformedError, BundleTooLargeError)):
            bundle.read(raw)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_limit_is_on_all_files_together(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"part{number}.bin").write_bytes(bytes(6 << 20))
    with pytest.raises(BundleTooLargeError):
        bundle.pack(tmp_path)
    raw = tar_of(*[info(f"part{number}.bin") for number in range(3)], data=bytes(6 << 20))
    with pytest.raises(BundleTooLargeError):
        bundle.read(raw)


def test_links_in_the_folder_are_refused_not_followed(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": ""})
    (tmp_path / "b.py").symlink_to("/etc/passwd")
    with pytest.raises(BundleMalformedError):
        bundle.pack(tmp_path)


def test_data_does_not_belong_in_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes((16 << 20) + 1))
    with pytest.raises(BundleTooLargeError):
        bundle.pack(tmp_path)


@given(st.binary(max_size=2000))
def test_random_bytes_never_crash_the_reader(raw: bytes) -> None:
    with pytest.raises(BadDocumentError):
        bundle.read(raw)


@given(st.integers(0, 10239), st.integers(0, 7))
def test_a_flipped_bit_is_another_digest(at: int, bit: int) -> None:
    raw = tar_of(info("a.py"), data=b"x = 1\n")
    flipped = bytearray(raw)
    flipped[at % len(raw)] ^= 1 << bit
    with pytest.raises(BundleDigestError):
        bundle.read(bytes(flipped), bundle.digest(raw))


def test_which_files_may_be_executed_is_part_of_the_digest_and_written_so(tmp_path: Path) -> None:
    folder, target = tmp_path / "code", tmp_path / "node"
    make(folder, {"bin/run": "#!/bin/sh\n", "data.txt": "x"})
    plain = bundle.pack(folder)
    (folder / "bin/run").chmod(0o700)
    packed = bundle.pack(folder)
    assert bundle.digest(packed) != bundle.digest(plain)
    read = bundle.read(packed)
    assert read.executable == {"bin/run"}
    target.mkdir()
    bundle.write(read, target)
    assert (target / "bin/run").stat().st_mode & 0o777 == 0o755
    assert not (target / "data.txt").stat().st_mode & 0o111
