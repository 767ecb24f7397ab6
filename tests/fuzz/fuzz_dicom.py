"""Mutated real DICOM files through the parser's operations: each must end as a header or a reason code.

    python -m tests.fuzz.fuzz_dicom --count 100000 [--seed 1] [--only NAME]

Every mutation is made of (seed, number) alone, so a finding is run again with ``--seed S --first N --count 1``.
Parsing happens in child processes with limits of memory and time, started anew when one dies: a native crash
is a finding, not the end.  Exits 1 if anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import multiprocessing as mp
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS_EACH = 10
MEMORY_BYTES = 4 << 30
_LARGEST = 300_000
_BLOCK = 500
_TAGS = (
    (0x0008, 0x0016), (0x0028, 0x0002), (0x0028, 0x0004), (0x0028, 0x0006), (0x0028, 0x0008), (0x0028, 0x0010),
    (0x0028, 0x0011), (0x0028, 0x0100), (0x0028, 0x0101), (0x0028, 0x0102), (0x0028, 0x0103), (0x0028, 0x1101),
    (0x0028, 0x1201), (0x7FE0, 0x0010), (0x0002, 0x0010), (0x0029, 0x1010), (0x3004, 0x000C), (0x5200, 0x9230),
)  # fmt: skip
"""Elements that decide how pixels are read: hit more often than chance would."""
_NUMBERS = (0, 1, 2, 3, 7, 8, 9, 12, 15, 16, 31, 32, 33, 63, 64, 65, 255, 256, 32767, 32768, 65535)


def corpus(only: str) -> list[Path]:
    """Real files to start from: pydicom's, nibabel's, and ../shared/data where there is one."""
    import nibabel
    import pydicom.data

    folders = [
        Path(pydicom.data.__file__).parent / "test_files",
        Path(nibabel.__file__).parent / "nicom/tests/data",
    ]
    shared = Path(__file__).resolve().parents[3] / "shared/data/radiology"
    folders += [shared / "pydicom-data", shared / "deident-reference"]
    found = [
        path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*")) if path.is_file()
    ]
    kept = [path for path in found if path.stat().st_size <= _LARGEST and only in path.name]
    # Fifty equal files without pixels would take the chances of the others.
    return [path for path in kept if path.suffix in (".dcm", "", ".gz") and "TINY_ALPHA" not in path.parts]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """``data`` with one to six faults."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if len(changed) < 16:
            break
        chance.choice(_FAULTS)(changed, chance)
    return bytes(changed)


def _place(data: bytearray, chance: random.Random) -> int:
    """Anywhere, but more often in the header than in the pixels."""
    reach = len(data) if chance.random() < 0.3 else min(len(data), 4000)
    return chance.randrange(reach)


def _flip(data: bytearray, chance: random.Random) -> None:
    data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _byte(data: bytearray, chance: random.Random) -> None:
    data[_place(data, chance)] = chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _remove(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    del data[start : start + chance.choice((1, 2, 4, 8, 100))]


def _repeat(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    part = data[start : start + chance.choice((1, 2, 8, 64, 1000))]
    data[start:start] = part * chance.choice((1, 1, 2, 20))


def _move(data: bytearray, chance: random.Random) -> None:
    start, end = _place(data, chance), _place(data, chance)
    part = data[start : start + 40]
    data[end : end + 40] = part


def _length(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    value = chance.choice((0xFFFFFFFF, 0x7FFFFFFF, 0, 1, 0xFFFF, len(data), len(data) * 2))
    data[start : start + 4] = struct.pack("<L", value & 0xFFFFFFFF)


def _element(data: bytearray, chance: random.Random) -> None:
    """Another value, length or VR for an element that matters."""
    group, element = chance.choice(_TAGS)
    at = data.find(struct.pack("<HH", group, element))
    if at < 0:
        return
    kind = chance.randrange(4)
    if kind == 0:
        data[at + 8 : at + 10] = struct.pack("<H", chance.choice(_NUMBERS))
    elif kind == 1:
        data[at + 4 : at + 6] = chance.choice(
            (b"US", b"UN", b"OB", b"OW", b"SQ", b"DS", b"IS", b"??", b"\0\0")
        )
    elif kind == 2:
        data[at + 6 : at + 8] = struct.pack("<H", chance.choice(_NUMBERS))
    else:
        data[at + 8 : at + 12] = chance.choice((b"9999", b"-1\\0", b"1e9 ", b"\xff\xff\xff\xff", b"\0\0\0\0"))


def _nest(data: bytearray, chance: random.Random) -> None:
    """Sequences in sequences in sequences."""
    depth = chance.choice((3, 50, 2000))
    data[_place(data, chance) : 0] = (
        struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    ) * depth


def _syntax(data: bytearray, chance: random.Random) -> None:
    """Another transfer syntax than the pixels have."""
    at = data.find(b"\x02\x00\x10\x00UI")
    if at < 0 or at + 8 > len(data):
        return
    (length,) = struct.unpack_from("<H", data, at + 6)
    other = chance.choice(
        ("", ".1", ".2", ".5", ".4.50", ".4.57", ".4.70", ".4.80", ".4.90", ".4.110", ".4.201")
    )
    data[at + 8 : at + 8 + length] = f"1.2.840.10008.1.2{other}".encode().ljust(length, b"\0")[:length]


_FAULTS = (
    _flip, _flip, _byte, _byte, _cut, _remove, _repeat, _move, _length, _element, _element, _element, _nest, _syntax,
)  # fmt: skip


def judge(data: bytes) -> str:
    """ "ok", a reason code, or (anything else) a finding."""
    from imaging.staging.parsing.operations import Unreadable, answer
    from imaging.staging.refusals import REASONS

    file = io.BytesIO(data)
    try:
        ((raw, _),) = answer(
            {"op": "header", "keywords": ["StudyDate", "EchoTime", "BodyPartExamined"]}, file
        )
        header = json.loads(raw)
        count = len(header["frames"])
        wanted = sorted({0, count // 2, count - 1})
        shape = [header["rows"], header["columns"], *([3] if header["samples"] == 3 else [])]
        for said, blob in answer({"op": "frames", "frames": wanted}, file):
            frame = json.loads(said)
            if frame["shape"] != shape:
                return f"FOUND frame {frame['shape']} where the header says {shape}"
            bits = header["bits_allocated"]
            width = {"bit": 1, "float32": 4, "float64": 8}.get(header["value_type"], bits // 8)
            if len(blob) != _product(shape) * int(frame["dtype"][2:]) or int(frame["dtype"][2:]) != width:
                return f"FOUND {frame['dtype']} where the header says {bits} bits"
    except Unreadable as unreadable:
        return unreadable.code if unreadable.code in REASONS else f"FOUND reason {unreadable.code}"
    except MemoryError:
        return "too-large"
    return "ok"


def _product(shape: list[int]) -> int:
    whole = 1
    for part in shape:
        whole *= part
    return whole


class TooSlowError(Exception):
    """A file took longer than a file may."""


def _child(pipe: Connection, seed: int, paths: list[Path]) -> None:
    """Judge the numbered mutations that come down the pipe; answers (number, verdict)."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def late(*_: Any) -> None:
        raise TooSlowError

    signal.signal(signal.SIGALRM, late)
    while True:
        number = pipe.recv()
        if number is None:
            return
        signal.alarm(SECONDS_EACH)
        try:
            verdict = judge(mutation(seed, number, paths)[1])
        except TooSlowError:
            verdict = "FOUND slow"
        except Exception:
            verdict = "FOUND " + " | ".join(traceback.format_exc().splitlines()[-3:])
        signal.alarm(0)
        pipe.send((number, verdict))


def mutation(seed: int, number: int, paths: list[Path]) -> tuple[Path, bytes]:
    """The numbered mutation: the file it was made of and its bytes."""
    chance = random.Random(f"{seed}:{number}")
    path = chance.choice(paths)
    data = path.read_bytes()
    return path, mutated(gzip.decompress(data) if path.name.endswith(".dcm.gz") else data, chance)


class _Worker:
    """A child process that is replaced when it dies."""

    def __init__(self, seed: int, paths: list[Path]) -> None:
        self._arguments = (seed, paths)
        self._start()

    def _start(self) -> None:
        self.pipe, theirs = mp.Pipe()
        self._process = mp.get_context("fork").Process(
            target=_child, args=(theirs, *self._arguments), daemon=True
        )
        self._process.start()
        theirs.close()

    def judge(self, number: int) -> str:
        try:
            self.pipe.send(number)
            if not self.pipe.poll(2 * SECONDS_EACH):
                self._process.kill()
                self._process.join()
                self._start()
                return "FOUND hang"
            answered: tuple[int, str] = self.pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self._start()
            return f"FOUND crash {code}"
        return answered[1]

    def close(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.pipe.send(None)
        self._process.join(SECONDS_EACH)


def run(seed: int, numbers: range, paths: list[Path]) -> Iterator[tuple[int, str]]:
    """(number, verdict) of each mutation."""
    worker = _Worker(seed, paths)
    try:
        for number in numbers:
            yield number, worker.judge(number)
    finally:
        worker.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="files whose name holds this")
    options = parser.parse_args()
    paths = corpus(options.only)
    counts: Counter[str] = Counter()
    findings = 0
    started = time.monotonic()
    for number, verdict in run(options.seed, range(options.first, options.first + options.count), paths):
        counts[verdict if not verdict.startswith("FOUND") else "FOUND"] += 1
        if verdict.startswith("FOUND"):
            findings += 1
            print(f"{number} {mutation(options.seed, number, paths)[0].name}: {verdict}", flush=True)
        if number % (_BLOCK * 10) == 0:
            print(
                f"{number} of {options.first + options.count}, {time.monotonic() - started:.0f} s",
                file=sys.stderr,
            )
    for verdict, count in counts.most_common():
        print(f"{count:8d} {verdict}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
