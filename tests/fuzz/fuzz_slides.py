"""Mutated slides through the parser's operations: every one must end in an answer or in a reason code.

``python -m tests.fuzz.fuzz_slides --count 10000 [--first N] [--workers 2]``

Mutation number N is always the same.  A worker process makes and parses the mutations; one that dies, hangs or
raises something unexpected is reported with its number, and the worker is started anew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "support"))

ITEM_TIMEOUT_S = 60.0
_MEMORY_BYTES = 4 << 30
_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        _work(options.worker)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder)
        write_seeds(seeds)
        share = -(-options.count // options.workers)
        spans = [
            range(options.first + number * share, options.first + min((number + 1) * share, options.count))
            for number in range(options.workers)
        ]
        with ThreadPoolExecutor(options.workers) as threads:
            totals: Counter[str] = sum(threads.map(lambda span: _drive(seeds, span), spans), Counter())
    for outcome, count in sorted(totals.items(), key=lambda one: -one[1]):
        print(f"{count:8d}  {outcome}")
    bad = sum(count for outcome, count in totals.items() if outcome.startswith("!"))
    print(f"{sum(totals.values())} mutations, {bad} bad")
    return 1 if bad else 0


def write_seeds(folder: Path) -> None:
    """Small slides of every format that is read, and the real ones if they are there."""
    import numpy as np
    import tifffile
    from archive import SHARED, slide
    from slides import he, ndpi, pyramid, wsm

    slide(folder / "a.svs", height=500, width=500)
    ndpi(folder / "b.ndpi", pyramid(he(300, 1536), 2))
    ndpi(folder / "c.ndpi", [he(200, 768)], heights_um=(0.0, 2.0), mcu_starts=False)
    tiles: dict[str, Any] = {"tile": (128, 128), "metadata": None}
    pixels = he(300, 400)
    tifffile.imwrite(folder / "d.tif", pixels, compression="zlib", predictor=True, **tiles)
    tifffile.imwrite(folder / "e.tif", pixels, compression="jpeg", bigtiff=True, **tiles)
    tifffile.imwrite(
        folder / "f.svs", pixels, compression="jpeg2000", description="Aperio|MPP = 0.5|", **tiles
    )
    tifffile.imwrite(folder / "g.tif", pixels, software="MedScan", compression="jpeg", **tiles)
    data = np.arange(2 * 2 * 300 * 300, dtype=np.uint16).reshape(2, 2, 300, 300)
    with tifffile.TiffWriter(folder / "h.ome.tif", ome=True) as tiff:
        axes = {"axes": "CZYX", "Channel": {"Name": ["DAPI", "CY5"]}}
        tiff.write(data, subifds=1, tile=(128, 128), metadata=axes, compression="lzw")
        tiff.write(
            np.ascontiguousarray(data[..., ::2, ::2]), subfiletype=1, tile=(128, 128), compression="lzw"
        )
    wsm(folder / "i.dcm", he(300, 300), tile=128)
    wsm(
        folder / "j.dcm",
        he(256, 256),
        tile=128,
        sparse=[(0, 0, 0, "1"), (0, 1, 0, "1"), (1, 0, 0, "1"), (1, 1, 0, "1")],
    )
    raw = [np.zeros((128, 128), np.uint16).tobytes()] * 4
    wsm(folder / "k.dcm", np.zeros((256, 256), np.uint16), tile=128, frames=raw, syntax="1.2.840.10008.1.2.1")
    real = SHARED / "pathology"
    for number, path in enumerate(
        [real / "CMU-1-Small-Region.svs", real / "dicom-wsm-cmu1" / "level-2-frames-0-4.dcm"]
    ):
        if path.is_file():
            (folder / f"real-{number}").write_bytes(path.read_bytes())


def mutated(seeds: list[bytes], number: int) -> bytes:
    """Mutation ``number``: mostly of what describes the pixels, at the beginning and end of the file."""
    chance = random.Random(number)
    data = bytearray(seeds[number % len(seeds)])
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        where = chance.random()
        if where < 0.45:
            at = chance.randrange(min(4096, len(data)))
        elif where < 0.8:
            at = max(0, len(data) - 1 - chance.randrange(min(8192, len(data))))
        else:
            at = chance.randrange(len(data))
        match chance.randrange(8):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.randrange(256)
            case 2:
                data[at : at + 4] = chance.choice(_EXTREMES).to_bytes(4, "little")
            case 3:
                data[at : at + 2] = (chance.choice(_EXTREMES) & 0xFFFF).to_bytes(
                    2, chance.choice(("little", "big"))
                )
            case 4:
                del data[at : at + chance.choice((1, 2, 12, 100))]
            case 5:
                data[at:at] = data[at : at + chance.choice((1, 2, 12, 100))]
            case 6:
                data[at : at + 8] = chance.randbytes(8)
            case 7 if chance.random() < 0.3:
                del data[at:]
        if not data:
            return b"\0"
    return bytes(data)


def outcome_of(data: bytes) -> str:
    """What becomes of a file: a reason code, or ``read``."""
    from imaging.staging.parsing import operations
    from imaging.staging.pool import as_descriptor

    with as_descriptor(data) as file:
        try:
            ((raw, _),) = operations.answer({"op": "header", "keywords": []}, file)
            header = json.loads(raw)
            levels = header.get("levels") or ([header["level"]] if "level" in header else [])
            for number, level in enumerate(levels):
                _ask_level(file, number, level)
        except operations.Unreadable as unreadable:
            return str(unreadable.code)
    return "read"


def _ask_level(file: Any, number: int, level: dict[str, Any]) -> None:
    from imaging.staging.parsing import operations

    high, wide = level["tile_height"], level["tile_width"]
    rows, columns = min(2, -(-level["height"] // high)), min(2, -(-level["width"] // wide))
    place = {"level": number, "plane": 0}
    if level["encoding"].startswith("jpeg"):
        for _ in operations.answer(
            {"op": "tiles", **place, "rows": [0, rows], "columns": [0, columns]}, file
        ):
            pass
    box = [0, 0, min(512, level["height"]), min(512, level["width"])]
    for _ in operations.answer({"op": "pixels", **place, "box": box, "halved": True}, file):
        pass


def _work(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seeds = [path.read_bytes() for path in sorted(folder.iterdir())]
    for line in sys.stdin:
        try:
            outcome = outcome_of(mutated(seeds, int(line)))
        except MemoryError:
            outcome = "too-large"
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            outcome = f"!{type(error).__name__} {Path(last.filename).name}:{last.lineno} {str(error)[:80]}"
        print(outcome.replace("\n", " "), flush=True)


def _drive(seeds: Path, span: range) -> Counter[str]:
    totals: Counter[str] = Counter()
    worker: subprocess.Popen[str] | None = None
    for number in span:
        if worker is None:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.fuzz_slides", "--worker", str(seeds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=HERE.parents[2],
            )
        outcome = next(_answers(worker, number))
        if outcome.startswith("!"):
            print(f"{number}: {outcome}", flush=True)
        totals[outcome] += 1
        if worker.poll() is not None or outcome == "!hangs":
            worker.kill()
            worker.wait()
            worker = None
    if worker is not None:
        worker.kill()
        worker.wait()
    return totals


def _answers(worker: subprocess.Popen[str], number: int) -> Iterator[str]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{number}\n")
    worker.stdin.flush()
    ready, _, _ = select.select([worker.stdout], [], [], ITEM_TIMEOUT_S)
    line = worker.stdout.readline() if ready else ""
    if line:
        yield line.strip()
    elif ready:
        yield f"!dies with {worker.wait()}"
    else:
        yield "!hangs"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    sys.exit(main())
