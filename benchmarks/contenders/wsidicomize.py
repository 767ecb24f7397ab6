"""wsidicomizer: ``SRC DEST transcode|keep WORKERS``.

``keep`` copies the codestreams of the levels that there are.  ``transcode`` decodes and encodes, and makes the
levels that are missing: what it does where it can't keep tiles.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from wsidicomizer import WsiDicomizer
from wsidicomizer.wsidicomizer import SourceIdentifier

from benchmarks.contenders import tell


def main(source: Path, dest: Path, mode: str, workers: int) -> None:
    dest.mkdir(parents=True)
    WsiDicomizer.convert(
        source,
        dest,
        tile_size=240,
        include_label=False,
        include_overview=False,
        include_thumbnail=False,
        workers=workers,
        # Only opentile keeps tiles; it needs libturbojpeg.
        preferred_source=SourceIdentifier.OPENTILE if mode == "keep" else None,
        add_missing_levels=mode == "transcode",
        force_transcoding=mode == "transcode",
    )


if __name__ == "__main__":
    _started = time.perf_counter()
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    tell(work_s=time.perf_counter() - _started)
