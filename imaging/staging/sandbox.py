"""What a process that parses untrusted files may have: no network, no file system, no keys, bounded.

The parser gets each file as an open descriptor, so it needs to see nothing but the interpreter and our code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import imaging
from hdrs_hpc.confined import interpreter, table
from hdrs_hpc.confined.port import Confined, Limits

COMMAND = (sys.executable, "-B", "-m", "imaging.staging.parser")
LIMITS = Limits(
    # A decompression bomb ends there.
    address_space_bytes=4 << 30,
    cpu_s=3600,
    file_bytes=0,
    open_files=64,
)
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    # One thread per parser: parallelism comes from the pool, and thread pools eat address space.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def isolation() -> str:
    """``bubblewrap`` or ``process-limits``: what the staging report says about how files were parsed."""
    return table.strongest("parsers").name


def parser(command: tuple[str, ...] = COMMAND) -> Confined:
    """One parser process; its standard input is to be one end of a socket pair.

    Nothing of the stager's own environment, which may be sensitive.
    """
    package = Path(imaging.__file__).resolve().parent
    compiled = {"PYTHONPYCACHEPREFIX": sys.pycache_prefix} if sys.pycache_prefix else {}
    return Confined(
        command=command,
        environment={**_ENVIRONMENT, **compiled, "PYTHONPATH": str(package.parent)},
        folder=Path("/"),
        shown=interpreter.shown(package),
        tmp_bytes=1 << 20,
        limits=LIMITS,
    )
