"""Which GPUs this node has, as its driver names them: a line each.  Untried on a machine that has some.

A process without keys, since what it reads comes from a driver.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

INFORMATION = Path("/proc/driver/nvidia/gpus")
MAX_MODELS = 8
_MODEL = re.compile(r"^Model:\s*(\S.*?)\s*$", re.MULTILINE)


def models(folder: Path = INFORMATION) -> tuple[str, ...]:
    """Model names of the node's NVIDIA GPUs, each once, sorted; empty where there is no such driver."""
    found = set()
    for path in folder.glob("*/information"):
        with contextlib.suppress(OSError):
            found.update(_MODEL.findall(path.read_text("ascii", "replace")))
    plain = {re.sub(r"[^A-Za-z0-9 ._-]", "", name)[:60].strip() for name in found}
    return tuple(sorted(plain - {""})[:MAX_MODELS])


if __name__ == "__main__":
    sys.stdout.write("\n".join(models()))
