"""The physical limit: ``OUT LIKE INPUT…`` reads the inputs and writes as many bytes as LIKE has to a new folder."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import files, read_through

_BLOCK = 256 << 10


def main(out: Path, like: Path, inputs: list[Path]) -> None:
    if not like.exists():
        raise RuntimeError("there is no output to be as large as")
    written = sum(path.stat().st_size for path in files([like]))
    for path in files(inputs):
        read_through(path)
    out.mkdir(parents=True)
    # Not zeros: a file system may store those without writing.
    block = bytes(range(256)) * (_BLOCK // 256)
    with (out / "bytes").open("wb", buffering=0) as file:
        for start in range(0, written, _BLOCK):
            file.write(block[: min(_BLOCK, written - start)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
