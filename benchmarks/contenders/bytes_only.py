"""The physical limit: ``OUT BYTES INPUT…`` reads the inputs and writes so many bytes to a new folder."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import files, read_through

_BLOCK = 4 << 20


def main(out: Path, written: int, inputs: list[Path]) -> None:
    for path in files(inputs):
        read_through(path)
    out.mkdir(parents=True)
    # Not zeros: a file system may store those without writing.
    block = bytes(range(256)) * (_BLOCK // 256)
    with (out / "bytes").open("wb", buffering=0) as file:
        for start in range(0, written, _BLOCK):
            file.write(block[: min(_BLOCK, written - start)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
