"""The process that opens what a workload wrote: no keys, no network, no files, hard limits.

``python -m hdrs_hpc.broker.workers.airlock.checker``: a framed request on stdin, a framed answer on stdout (see
:mod:`framing`).  Sandbox and limits are put around it by :mod:`run`, but for the one that would stop the sandbox's own
start: before it reads, it gives up the right to start processes and threads.
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


def start_nothing() -> None:
    """No process or thread can be started after this."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


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
    start_nothing()
    sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
