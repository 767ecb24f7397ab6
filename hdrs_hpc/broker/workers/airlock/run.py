"""Start the checker process, in the strongest sandbox that works here, and take its answer with care."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import hdrs_hpc
from hdrs_hpc.broker.workers.airlock import framing
from hdrs_hpc.broker.workers.airlock.check import SCHEMA, Checked, commitment, digest
from hdrs_hpc.broker.workers.airlock.report import describe
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared, InputFacts
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError
from hdrs_hpc.confined import interpreter, starting, table
from hdrs_hpc.confined.port import Confined, Limits, Provider
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core.errors import BadDocumentError

LIMITS = Limits(address_space_bytes=3 << 30, cpu_s=300, file_bytes=0, open_files=64)
_ANSWER_OVERHEAD_BYTES = 16 << 20
_MODULE = "hdrs_hpc.broker.workers.airlock.checker"


class CheckerCrashedError(ArtefactRefusedError):
    code = "checker-crashed"
    meaning = "The checker process crashed, ran out of time or memory, or answered nonsense on this set."
    remedy = "Something in the set is hard to read: make the artefacts smaller and simpler, and run again."


@dataclass(frozen=True)
class CheckRequest:
    """All artefacts of one job, the grant's rules, the broker's secret for the commitments, facts of the inputs."""

    artefacts: tuple[tuple[Declared, bytes], ...]
    rules: OutputRules
    salt: bytes
    inputs: InputFacts


def run_checker(request: CheckRequest, timeout_s: float) -> list[Checked]:
    """Check the set in a process of its own; whatever goes wrong there refuses the whole set.

    Idempotent: the same request gives the same bytes again.  Raises nothing for bad artefacts.
    """
    if not request.artefacts:
        return []
    provider = table.strongest("checker")
    sandbox = provider.name
    framed = framing.pack(
        {
            "artefacts": [declared.as_dict() for declared, _ in request.artefacts],
            "rules": request.rules.as_dict(),
            "salt": request.salt.hex(),
            "sandbox": sandbox,
            "inputs": request.inputs.as_dict(),
        },
        [data for _, data in request.artefacts],
    )
    most = 4 * sum(len(data) for _, data in request.artefacts) + _ANSWER_OVERHEAD_BYTES * len(
        request.artefacts
    )
    try:
        return _take(_converse(provider, checker(), framed, most, timeout_s), request, sandbox)
    except _CheckerError as error:
        return [
            _crashed(declared, data, request, sandbox, str(error)) for declared, data in request.artefacts
        ]


def checker() -> Confined:
    """The checker's process: of the disk only the interpreter and our package, no descriptors but its two pipes."""
    package = Path(hdrs_hpc.__file__).resolve().parent
    return Confined(
        command=(sys.executable, "-s", "-P", "-B", "-m", _MODULE),
        environment={
            "PYTHONPATH": str(package.parent),
            "LC_ALL": "C.UTF-8",
            "OPENBLAS_NUM_THREADS": "1",
        },
        folder=Path("/"),
        shown=interpreter.shown(package),
        tmp_bytes=16 << 20,
        limits=LIMITS,
    )


class _CheckerError(Exception):
    """Why there is no answer; nothing of the checker's own words, which could quote an artefact."""


def _converse(provider: Provider, confined: Confined, request: bytes, most: int, timeout_s: float) -> bytes:
    """Feed and read at once, at most ``most`` bytes; the process is gone when this returns."""
    try:
        started = starting.start(provider, confined, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except SandboxFailedError:
        raise _CheckerError("the checker did not start") from None
    process = started.process
    assert process.stdin is not None and process.stdout is not None
    feeder = threading.Thread(target=_feed, args=(process.stdin, request), daemon=True)
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.terminate()

    watchdog = threading.Timer(timeout_s, stop)
    try:
        feeder.start()
        watchdog.start()
        answer = process.stdout.read(most + 1)
        if len(answer) > most:
            raise _CheckerError("the checker's answer was too long")
        code = process.wait()
    finally:
        watchdog.cancel()
        started.kill()
        feeder.join(timeout=5)
        process.stdout.close()
    if late.is_set():
        raise _CheckerError(f"the checker had not finished after {timeout_s:g} seconds")
    if code != 0:
        raise _CheckerError(f"the checker ended with status {code}")
    return answer


def _feed(stream: IO[bytes], request: bytes) -> None:
    try:
        with stream:
            stream.write(request)
    except (BrokenPipeError, OSError):
        return  # the checker died; its exit status tells


def _take(answer: bytes, request: CheckRequest, sandbox: str) -> list[Checked]:
    """Believe of the answer only what can be recomputed or is bounded: the checker has read hostile bytes."""
    try:
        header, blobs = framing.read(io.BytesIO(answer), "results")
    except (framing.FramingError, BadDocumentError):
        raise _CheckerError("the checker's answer could not be read") from None
    results = header["results"]
    if len(results) != len(request.artefacts):
        raise _CheckerError("the checker answered for another set")
    return [
        _believe(result, blob, declared, commitment(request.salt, data), sandbox)
        for result, blob, (declared, data) in zip(results, blobs, request.artefacts, strict=True)
    ]


def _believe(result: Any, blob: bytes, declared: Declared, committed: str, sandbox: str) -> Checked:
    try:
        report, refused = result["report"], result["refused"]
        rebuilt = None if refused is not None else blob
        consistent = (
            result["name"] == report["artefact"] == declared.name
            and report["schema"] == SCHEMA
            and report["class"] == declared.cls
            and report["original"]["commitment"] == committed
            and report["checker"] == {"sandbox": sandbox}
            and report["verdict"] == ("passed" if refused is None else "refused")
            and (refused is None or (isinstance(refused, str) and report["refusal"]["code"] == refused))
            and (rebuilt is None or (bool(rebuilt) and report["rebuilt"]["digest"] == digest(rebuilt)))
        )
    except (KeyError, TypeError):
        consistent = False
    if not consistent:
        raise _CheckerError("the checker's answer contradicts itself")
    return Checked(declared.name, rebuilt, result["media-type"], refused, report)


def _crashed(declared: Declared, data: bytes, request: CheckRequest, sandbox: str, why: str) -> Checked:
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "artefact": declared.name,
        "class": declared.cls,
        "rules": request.rules.as_dict().get(declared.cls),
        "original": {"size-bytes": len(data), "commitment": commitment(request.salt, data)},
        "rebuilt": None,
        "verdict": "refused",
        "refusal": CheckerCrashedError(why).as_dict(),
        "findings": [],
        "repaired": {},
        "checker": {"sandbox": sandbox},
    }
    report["sentences"] = describe(report)
    return Checked(declared.name, None, None, CheckerCrashedError.code, report)
