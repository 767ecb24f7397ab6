"""The process that opens what a workload wrote: no keys, no network, no files, hard limits.

``python -m hdrs_hpc.broker.workers.airlock.checker``: a framed request on stdin, a framed answer on stdout (see
:mod:`framing`).  Sandbox and limits are put around it by :mod:`run`, but for the one that would stop the sandbox's own
start: before it reads, it gives up the right to start processes and threads.
"""

from __future__ import annotations

import resource
import sys
from typing import Any, BinaryIO, cast

from hdrs_hpc.broker.workers.airlock import framing
from hdrs_hpc.broker.workers.airlock.artefact_streams import Given
from hdrs_hpc.broker.workers.airlock.check import Checked, check_streams
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts


def start_nothing() -> None:
    """No process or thread can be started after this."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def answer(request: BinaryIO, out: BinaryIO) -> None:
    """Read a framed request and write the framed answer, in memory that the largest artefact does not fill."""
    header, blobs = framing.read_request(request, "artefacts")
    declared = [Declared.from_dict(value) for value in header["artefacts"]]
    given = (
        (one, Given(cast(BinaryIO, blob), size)) for one, (size, blob) in zip(declared, blobs, strict=True)
    )
    checked = check_streams(
        given,
        lambda which: cast(BinaryIO, framing.PieceWriter(out, which)),
        OutputRules.from_dict(header["rules"]),
        bytes.fromhex(header["salt"]),
        InputFacts.from_dict(header["inputs"]),
    )
    framing.end_answer(out, {"results": [_result(one, header["sandbox"]) for one in checked]})


def _result(checked: Checked, sandbox: str) -> dict[str, Any]:
    return {
        "name": checked.name,
        "refused": checked.refused,
        "media-type": checked.media_type,
        "report": {**checked.report, "checker": {"sandbox": sandbox}},
    }


def main() -> None:
    start_nothing()
    answer(cast(BinaryIO, sys.stdin.buffer), cast(BinaryIO, sys.stdout.buffer))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
