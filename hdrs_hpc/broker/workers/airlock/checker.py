"""The process that opens what a workload wrote: no keys, no network, no files, hard limits.

``python -m hdrs_hpc.broker.workers.airlock.checker``: a framed request on stdin, a framed answer on stdout (see
:mod:`framing`).  It puts the limits on itself before it reads; the sandbox around it is :mod:`run`'s.
"""

from __future__ import annotations

import io
import resource
import sys
from typing import Any

from hdrs_hpc.broker.workers.airlock import framing
from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared, InputFacts
from hdrs_hpc.core import seccomp

MEMORY_BYTES = 3 << 30
CPU_SECONDS = 300
OPEN_FILES = 64


def limit_process() -> None:
    """Hard limits: memory, processor time, no file written, no process or thread started, no core dump."""
    for what, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, seccomp.CORE_LIMIT),  # not 0: piped dumps ignore that
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(what)
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (limit, limit))


def answer(request: bytes) -> bytes:
    """The framed answer to a framed request; pure."""
    header, blobs = framing.read(io.BytesIO(request), "artefacts")
    declared = [Declared.from_dict(value) for value in header["artefacts"]]
    checked = check_set(
        list(zip(declared, blobs, strict=True)),
        OutputRules.from_dict(header["rules"]),
        bytes.fromhex(header["salt"]),
        InputFacts.from_dict(header["inputs"]),
    )
    results = [_result(one, header["sandbox"]) for one in checked]
    return framing.pack({"results": results}, [one.rebuilt or b"" for one in checked])


def _result(checked: Checked, sandbox: str) -> dict[str, Any]:
    return {
        "name": checked.name,
        "refused": checked.refused,
        "media-type": checked.media_type,
        "report": {**checked.report, "checker": {"sandbox": sandbox}},
    }


def main() -> None:
    limit_process()
    sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
