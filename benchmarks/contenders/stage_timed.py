"""Staging in a folder of one's own, timed from scan to seal: ``SRC DEST SECRET``.

The interpreter's start and imports are left out, which would hide growth in the smaller runs.  Parsers' start is in.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.contenders import tell
from connectors.sources.opening import open_source
from imaging import standalone
from imaging.deid.keyed import DeidKey
from imaging.staging.engine import StagePlan
from imaging.staging.patient_lists import OptOut
from imaging.standalone.staging import stage_folder


def main(source: str, dest: Path, secret_file: Path) -> None:
    secret = standalone.read_secret(secret_file)
    key = standalone.deid_key(secret)
    plan = StagePlan(
        "any",
        "",
        key,
        opt_out=OptOut.nobody(DeidKey(key), "data made for the benchmark"),
        max_failed=0,
        workers=len(os.sched_getaffinity(0)),
    )
    started = time.perf_counter()
    report = stage_folder(open_source(source), dest, secret, plan)
    taken = time.perf_counter() - started
    items = len(standalone.open_staged(dest, secret).index())
    if items == 0:
        raise RuntimeError("nothing was staged")
    tell(seconds=taken, items=items, ms_per_item=1000 * taken / items, headers_s=report.reading_s)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
