"""Start the checker process, in the strongest sandbox that works here, and take its answer with care."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import hdrs_hpc
from hdrs_hpc.broker.workers.airlock import framing
from hdrs_hpc.broker.workers.airlock.artefact_streams import Counted
from hdrs_hpc.broker.workers.airlock.check import SCHEMA, Checked, commitment
from hdrs_hpc.broker.workers.airlock.report import describe
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError
from hdrs_hpc.confined import interpreter, starting, table
from hdrs_hpc.confined.port import Confined, Limits, Provider
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core.errors import BadDocumentError, InternalError

LIMITS = Limits(address_space_bytes=3 << 30, cpu_s=300, file_bytes=0, open_files=64)
_ANSWER_OVERHEAD_BYTES = 16 << 20
_MODULE = "hdrs_hpc.broker.workers.airlock.checker"


class CheckerCrashedError(ArtefactRefusedError):
    code = "checker-crashed"
    meaning = "The checker process crashed, ran out of time or memory, or answered nonsense on this set."
    remedy = "Something in the set is hard to read: make the artefacts smaller and simpler, and run again."


@dataclass(frozen=True)
class Sent:
    """An artefact of ``size`` bytes that is read piece by piece when its turn has come."""

    size: int
    pieces: Callable[[], Iterable[bytes]]

    @classmethod
    def whole(cls, data: bytes) -> Sent:
        return cls(len(data), lambda: [data])


@dataclass(frozen=True)
class CheckRequest:
    """All artefacts of one job, the grant's rules, the broker's secret for the commitments, facts of the inputs."""

    artefacts: tuple[tuple[Declared, Sent], ...]
    rules: OutputRules
    salt: bytes
    inputs: InputFacts


def run_checker(request: CheckRequest, keep: Callable[[int], BinaryIO], timeout_s: float) -> list[Checked]:
    """Check the set in a process of its own; whatever goes wrong there refuses the whole set.

    What is rebuilt of artefact n is written to ``keep(n)`` as it comes; it counts only when the answer for n is no
    refusal.  Idempotent: the same request gives the same bytes again.  Raises what reading the artefacts raises, and
    nothing for bad ones.
    """
    if not request.artefacts:
        return []
    provider = table.strongest("checker")
    sandbox = provider.name
    header = {
        "artefacts": [declared.as_dict() for declared, _ in request.artefacts],
        "rules": request.rules.as_dict(),
        "salt": request.salt.hex(),
        "sandbox": sandbox,
        "inputs": request.inputs.as_dict(),
    }
    sending = _Sending(header, request)
    made = [Counted(keep(which)) for which in range(len(request.artefacts))]
    try:
        answer = _converse(
            provider, checker(), sending, lambda which, data: made[which].pass_on(data), timeout_s
        )
        return _take(answer, request, sending.commitments, made, sandbox)
    except _CheckerError as error:
        return [
            _crashed(declared, sent, committed, request, sandbox, str(error))
            for (declared, sent), committed in zip(request.artefacts, sending.commitments, strict=True)
        ]


class _Sending:
    """Writes the request to the checker's stdin, in a thread, and hashes each original as it passes."""

    def __init__(self, header: dict[str, Any], request: CheckRequest) -> None:
        self.failure: BaseException | None = None
        """What reading an artefact raised: our own trouble, not the checker's."""
        self._header = header
        self._request = request
        self._hashes = [hashlib.sha256() for _ in request.artefacts]
        self._passed = [0] * len(self._hashes)

    @property
    def most(self) -> list[int]:
        """How many bytes each may have once it was rebuilt."""
        return [4 * sent.size + _ANSWER_OVERHEAD_BYTES for _, sent in self._request.artefacts]

    @property
    def commitments(self) -> list[str]:
        """To each original; of those that the checker did not live to hear, what is read now."""
        for which, (_, sent) in enumerate(self._request.artefacts):
            if self._passed[which] < sent.size:
                self._hashes[which], self._passed[which] = hashlib.sha256(), 0
                for _ in self._pieces(which, sent):
                    pass
        return [commitment(self._request.salt, done.digest()) for done in self._hashes]

    def write(self, stream: IO[bytes]) -> None:
        blobs = (
            (sent.size, self._pieces(which, sent)) for which, (_, sent) in enumerate(self._request.artefacts)
        )
        try:
            with stream:
                framing.send_request(cast(BinaryIO, stream), self._header, blobs)
        except (BrokenPipeError, OSError):
            return  # the checker died; its exit status tells
        except BaseException as failure:
            self.failure = failure

    def _pieces(self, which: int, sent: Sent) -> Iterator[bytes]:
        for piece in sent.pieces():
            self._hashes[which].update(piece)
            self._passed[which] += len(piece)
            yield piece
        if self._passed[which] != sent.size:
            raise InternalError("an artefact of another size than was said")


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


def _converse(
    provider: Provider,
    confined: Confined,
    sending: _Sending,
    take: Callable[[int, bytes], None],
    timeout_s: float,
) -> dict[str, Any]:
    """Feed and read at once, pieces to ``take``; the answer's header.  The process is gone when this returns."""
    try:
        started = starting.start(provider, confined, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except SandboxFailedError:
        raise _CheckerError("the checker did not start") from None
    process = started.process
    assert process.stdin is not None and process.stdout is not None
    feeder = threading.Thread(target=sending.write, args=(process.stdin,), daemon=True)
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.terminate()

    watchdog = threading.Timer(timeout_s, stop)
    answer: dict[str, Any] | None = None
    ended: int | None = None
    try:
        feeder.start()
        watchdog.start()
        with contextlib.suppress(framing.FramingError, BadDocumentError):
            answer = framing.read_answer(cast(BinaryIO, process.stdout), sending.most, take, "results")
            process.wait()
    finally:
        watchdog.cancel()
        if answer is None:  # it may be ending by itself: then its status says why
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
        ended = process.poll()
        started.kill()
        code = process.wait()
        feeder.join(timeout=5)
        process.stdout.close()
    if sending.failure is not None:
        raise sending.failure
    if late.is_set():
        raise _CheckerError(f"the checker had not finished after {timeout_s:g} seconds")
    if ended or (answer is not None and code != 0):
        raise _CheckerError(f"the checker ended with status {code}")
    if answer is None:
        raise _CheckerError("the checker's answer could not be read")
    return answer


def _take(
    header: dict[str, Any],
    request: CheckRequest,
    committed: Sequence[str],
    made: Sequence[Counted],
    sandbox: str,
) -> list[Checked]:
    """Believe of the answer only what can be recomputed or is bounded: the checker has read hostile bytes."""
    results = header["results"]
    if len(results) != len(request.artefacts):
        raise _CheckerError("the checker answered for another set")
    return [
        _believe(result, rebuilt, declared, commitment_, sandbox)
        for result, rebuilt, (declared, _), commitment_ in zip(
            results, made, request.artefacts, committed, strict=True
        )
    ]


def _believe(result: Any, made: Counted, declared: Declared, committed: str, sandbox: str) -> Checked:
    try:
        report, refused = result["report"], result["refused"]
        consistent = (
            result["name"] == report["artefact"] == declared.name
            and report["schema"] == SCHEMA
            and report["class"] == declared.cls
            and report["original"]["commitment"] == committed
            and report["checker"] == {"sandbox": sandbox}
            and report["verdict"] == ("passed" if refused is None else "refused")
            and (refused is None or (isinstance(refused, str) and report["refusal"]["code"] == refused))
            and (report["rebuilt"] is None) == (refused is not None)
            and (
                refused is not None
                or (
                    made.size > 0
                    and report["rebuilt"]["digest"] == made.digest
                    and report["rebuilt"]["size-bytes"] == made.size
                )
            )
        )
    except (KeyError, TypeError):
        consistent = False
    if not consistent:
        raise _CheckerError("the checker's answer contradicts itself")
    return Checked(declared.name, None, result["media-type"], refused, report)


def _crashed(
    declared: Declared, sent: Sent, committed: str, request: CheckRequest, sandbox: str, why: str
) -> Checked:
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "artefact": declared.name,
        "class": declared.cls,
        "rules": request.rules.as_dict().get(declared.cls),
        "original": {"size-bytes": sent.size, "commitment": committed},
        "rebuilt": None,
        "verdict": "refused",
        "refusal": CheckerCrashedError(why).as_dict(),
        "findings": [],
        "repaired": {},
        "checker": {"sandbox": sandbox},
    }
    report["sentences"] = describe(report)
    return Checked(declared.name, None, None, CheckerCrashedError.code, report)
