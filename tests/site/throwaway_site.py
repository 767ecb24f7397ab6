"""Where the throw-away cluster of deploy/slurm keeps its state."""

from __future__ import annotations

import os
from pathlib import Path

STATE = Path(os.environ.get("HDRS_SLURM_DIR", "/var/lib/hdrs-hpc-slurm"))
