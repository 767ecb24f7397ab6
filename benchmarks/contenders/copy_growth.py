"""A copy that is built of N items of one small object each, put, finished and sealed: ``N DEST SECRET``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.contenders import tell
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging import standalone

HOLDER = "growth"


def main(count: int, dest: Path, secret_file: Path) -> None:
    (dest / "journal").mkdir(parents=True)
    key = standalone.copy_key(standalone.read_secret(secret_file), HOLDER)
    builder = CopyBuilder(
        DirectoryStore(dest / "objects"), key, "copy", standalone.PROJECT, HOLDER, dest / "journal"
    )
    data = bytes(1000)
    started = time.perf_counter()
    for number in range(count):
        item = f"series/i{number:07d}"
        builder.put(f"{item}/zarr.json", data)
        builder.finish_item(item, {"number": number})
    put = time.perf_counter()
    builder.seal()
    sealed = time.perf_counter()
    builder.close()
    tell(
        ms_per_item=1000 * (sealed - started) / count,
        put_ms_per_item=1000 * (put - started) / count,
        seal_s=sealed - put,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
