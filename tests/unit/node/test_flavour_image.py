"""A flavour's file is read once into sealed memory: what was hashed is what is shown, whoever writes on scratch."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from hdrs_hpc.node import flavour_image
from hdrs_hpc.node.flavour_image import TooLargeError


def content(image: int) -> bytes:
    return os.pread(image, 1 << 30, 0)


def test_what_was_read_is_in_memory_under_its_digest(tmp_path: Path) -> None:
    raw = os.urandom(flavour_image.PIECE_BYTES + 5)
    (tmp_path / "file").write_bytes(raw)
    image, digest = flavour_image.read(tmp_path / "file", len(raw))
    assert content(image) == raw
    assert digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    os.close(image)


def test_nobody_changes_it_any_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"as it was")
    image, _ = flavour_image.read(tmp_path / "file", 100)
    again = os.open(f"/proc/self/fd/{image}", os.O_RDWR)
    for change in (
        lambda: os.pwrite(again, b"x", 0),
        lambda: os.ftruncate(again, 1),
        lambda: os.ftruncate(again, 1000),
    ):
        with pytest.raises(PermissionError):
            change()
    assert content(image) == b"as it was"
    for fd in (again, image):
        os.close(fd)


def test_a_file_that_changes_while_it_is_read_has_the_digest_of_what_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flavour_image, "PIECE_BYTES", 4096)
    path, over = tmp_path / "file", threading.Event()
    path.write_bytes(bytes(4 << 20))

    def change() -> None:
        with path.open("r+b", buffering=0) as file:
            while not over.is_set():
                file.seek(int.from_bytes(os.urandom(3)) % (4 << 20))
                file.write(os.urandom(64))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(5):
            image, digest = flavour_image.read(path, 8 << 20)
            assert digest == f"sha256:{hashlib.sha256(content(image)).hexdigest()}"
            os.close(image)
    finally:
        over.set()
        changing.join()


def test_no_more_is_taken_than_the_memory_allows(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1001))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(TooLargeError):
        flavour_image.read(tmp_path / "file", 1000)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
