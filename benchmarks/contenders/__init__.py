"""Programs that are timed, ours and others', each run by ``python -m benchmarks.contenders.<name>``.

What one has to tell goes to standard output as the last line: ``{"figures": {name: number}}``.
"""

from __future__ import annotations

import json
import sys


def tell(**figures: float) -> None:
    """Report figures; ``patches_per_s`` becomes ``patches-per-s``."""
    said = {name.replace("_", "-"): value for name, value in figures.items()}
    sys.stdout.write(json.dumps({"figures": said}) + "\n")
    sys.stdout.flush()
