"""The search for leaks: a scanner that can't find a planted canary proves nothing, so each way is planted."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from numcodecs import Blosc

from hdrs_hpc.cli.demo.canaries import read_list, write_list
from hdrs_hpc.cli.demo.scanner import Scanner

NAME = "Thorngate^Wilhelmina"
ACCENTED = "Åkerström^Désirée"
MOMENT = "18840312091533.482913"
WINDOW = bytes(range(100, 164))


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list" / "canaries.json"
    write_list(path, {NAME: "name", ACCENTED: "name", MOMENT: "moment"}, {WINDOW.hex(): "pixels"})
    return path


def _tar(data: bytes, mode: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]  # the mode is a parameter
        info = tarfile.TarInfo("member")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def _zip(data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member.txt", data)
    return made.getvalue()


def _blosc(name: str, shuffle: int) -> Callable[[bytes], bytes]:
    return lambda data: bytes(Blosc(cname=name, clevel=5, shuffle=shuffle).encode(data))


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "clear": lambda data: data,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zlib-fast": lambda data: zlib.compress(data, 1),
    "zlib-best": lambda data: zlib.compress(data, 9),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": _zip,
    "tar": lambda data: _tar(data, "w"),
    "tar.gz": lambda data: _tar(data, "w:gz"),
    "zstd": lambda data: zstandard.ZstdCompressor(level=3).compress(data),
    "zstd-without-size": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    "blosc-zstd-shuffle": _blosc("zstd", Blosc.SHUFFLE),
    "blosc-lz4-bitshuffle": _blosc("lz4", Blosc.BITSHUFFLE),
    "blosc-blosclz": _blosc("blosclz", Blosc.NOSHUFFLE),
    "base64": base64.b64encode,
    "base64-url": base64.urlsafe_b64encode,
    "base64-wrapped": base64.encodebytes,
    "hex": lambda data: data.hex().encode(),
    "gzip in base64 in JSON": lambda data: json.dumps(
        {"payload": base64.b64encode(gzip.compress(data)).decode()}
    ).encode(),
    "zstd in zip": lambda data: _zip(zstandard.ZstdCompressor().compress(data)),
}
FORMS = {
    "utf-8": NAME.encode(),
    "utf-16-le": NAME.encode("utf-16-le"),
    "utf-16-be": NAME.encode("utf-16-be"),
    "latin-1": ACCENTED.encode("latin-1"),
    "json-escaped": json.dumps(ACCENTED).encode(),
    "moment": MOMENT.encode(),
    "window": WINDOW,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", FORMS)
def test_a_planted_canary_is_found(form: str, packing: str, listed: Path, tmp_path: Path) -> None:
    around = b"nothing to see, move along. " * 30
    packed = PACKINGS[packing](around + FORMS[form] + around)
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_bytes(os.urandom(1001) + packed + os.urandom(999))
    scanner = Scanner(read_list(listed))
    scanner.scan_tree(place)
    assert scanner.report().found == 1


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_same_packing_without_a_canary_is_clean(packing: str, listed: Path) -> None:
    scanner = Scanner(read_list(listed))
    scanner.scan_bytes(PACKINGS[packing](b"nothing to see, move along. " * 60), "memory")
    assert scanner.report().found == 0


@pytest.mark.parametrize("offset", [0, 1, 3, 32 * 2**20 - 30, 32 * 2**20 - 1])
def test_a_window_is_found_at_odd_offsets_and_on_the_edge_of_a_chunk(
    offset: int, listed: Path, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(offset) + WINDOW + bytes(100))
    scanner = Scanner(read_list(listed))
    scanner.scan_tree(path)
    assert scanner.report().found == 1


def test_a_window_less_one_byte_is_not_found(listed: Path) -> None:
    scanner = Scanner(read_list(listed))
    scanner.scan_bytes(WINDOW[:-1], "memory")
    assert scanner.report().found == 0


def test_half_of_a_broken_gzip_stream_is_searched(listed: Path) -> None:
    packed = gzip.compress(NAME.encode() + os.urandom(50_000))
    scanner = Scanner(read_list(listed))
    scanner.scan_bytes(packed[: len(packed) // 2], "memory")
    assert scanner.report().found == 1


def test_a_row_of_a_database_is_found(listed: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "some.db") as database:
        database.execute("create table t (x text)")
        database.executemany("insert into t values (?)", [("filler" * 20,)] * 500 + [(NAME,)])
    database.close()
    scanner = Scanner(read_list(listed))
    scanner.scan_tree(tmp_path / "some.db")
    assert scanner.report().found == 1


def test_the_name_of_a_folder_and_the_target_of_a_link_are_searched(listed: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / f"of {NAME}").mkdir(parents=True)
    (place / "link").symlink_to(f"/nowhere/{MOMENT}")
    scanner = Scanner(read_list(listed))
    scanner.scan_tree(place)
    assert scanner.report().found == 2


def test_links_are_not_followed_and_sockets_not_opened(listed: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text(NAME)
    place = tmp_path / "place"
    place.mkdir()
    (place / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(place / "s"))
        scanner = Scanner(read_list(listed))
        scanner.scan_tree(place)
    assert scanner.report().found == 0
    assert scanner.report().unread == ()


def test_environment_and_command_line_of_a_process_are_searched(listed: Path) -> None:
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, NAME],
        env={"SEEN": MOMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        scanner = Scanner(read_list(listed))
        scanner.scan_process(process.pid)
        process.communicate()
    assert scanner.report().found == 2


def test_a_report_never_repeats_a_canary(listed: Path) -> None:
    scanner = Scanner(read_list(listed))
    scanner.scan_bytes(NAME.encode(), "memory")
    report = scanner.report()
    assert NAME not in report.as_text() + json.dumps(report.as_dict())


def test_a_decompression_bomb_is_reported_as_unread(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdrs_hpc.cli.demo.unwrap.MAX_OUTPUT_BYTES", 1 << 20)
    scanner = Scanner(read_list(listed))
    scanner.scan_bytes(gzip.compress(bytes(2 << 20)), "memory")
    assert len(scanner.report().unread) == 1


def test_a_list_of_nothing_is_refused(tmp_path: Path) -> None:
    write_list(tmp_path / "empty.json", {}, {})
    with pytest.raises(ValueError, match="nothing"):
        read_list(tmp_path / "empty.json")


def test_the_command_tells_found_from_clean(listed: Path, tmp_path: Path) -> None:
    clean, leaking = tmp_path / "clean", tmp_path / "leaking"
    clean.write_text("all is well here, nothing of anybody")
    leaking.write_bytes(gzip.compress(NAME.encode() * 3))
    command = [sys.executable, "-m", "hdrs_hpc.cli.demo.canaries", str(listed)]
    assert subprocess.run([*command, str(clean)], check=False, capture_output=True).returncode == 0
    done = subprocess.run([*command, str(leaking), "--json"], check=False, capture_output=True)
    assert done.returncode == 1
    assert json.loads(done.stdout)["found"] == 1


def test_a_hundred_megabytes_of_ciphertext_take_seconds(tmp_path: Path) -> None:
    windows = {os.urandom(64).hex(): "pixels" for _ in range(2_000)}
    write_list(tmp_path / "list.json", {}, windows)
    scanner = Scanner(read_list(tmp_path / "list.json"))
    noise = os.urandom(100_000_000)
    start = time.monotonic()
    scanner.scan_bytes(noise, "memory")
    assert time.monotonic() - start < 20  # 0.7 s when measured; the bound is for slow and busy machines
    assert scanner.report().found == 0
