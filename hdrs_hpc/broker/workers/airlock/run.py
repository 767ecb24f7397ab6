"""Start the checker process, in bubblewrap where the machine has it, and take its answer with care."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
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
from hdrs_hpc.core import die_with_parent, seccomp
from hdrs_hpc.core.errors import BadDocumentError

SANDBOX_NONE = "process-limits"
SANDBOX_BWRAP = "bubblewrap"
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
    sandbox = SANDBOX_BWRAP if bubblewrap() is not None else SANDBOX_NONE
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
        return _take(_converse(checker_command(), framed, most, timeout_s), request, sandbox)
    except _CheckerError as error:
        return [
            _crashed(declared, data, request, sandbox, str(error)) for declared, data in request.artefacts
        ]


def checker_command() -> list[str]:
    """The checker's argv, sandboxed where possible; :func:`seccomp.filtered` adds the filter at each start."""
    python = [sys.executable, "-s", "-P", "-B", "-m", _MODULE]
    bwrap = bubblewrap()
    if bwrap is None:
        return python
    return [bwrap, *_sandbox_arguments(), "--", *python]


@functools.cache
def bubblewrap() -> str | None:
    """The path of a bubblewrap that works here, tried once; some machines have no user namespaces.

    None also where there is no system call filter for the processor: that would be no sandbox.
    """
    found = shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if found is None or seccomp.program() is None:
        return None
    trial = [found, *_sandbox_arguments(), "--", sys.executable, "-I", "-c", "pass"]
    try:
        with seccomp.filtered(trial) as (command, given):
            done = subprocess.run(
                die_with_parent.guarded(command, namespace=True, clear=True),
                env={},
                capture_output=True,
                timeout=20,
                check=False,
                cwd="/",
                pass_fds=given,
            )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found if done.returncode == 0 else None


def _sandbox_arguments() -> list[str]:
    """No network, no home, no /run, own process ids; of the disk only the interpreter and our package."""
    arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    for name, value in _environment().items():
        arguments += ["--setenv", name, value]
    for name in ("/usr", "/lib", "/lib64", "/lib32"):
        path = Path(name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            arguments += ["--ro-bind", name, name]
    arguments += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--size", str(16 << 20), "--tmpfs", "/tmp"]  # noqa: S108
    package = Path(hdrs_hpc.__file__).resolve().parent
    bound: list[Path] = [Path("/usr")]
    for path in (Path(sys.base_prefix), Path(sys.prefix), package):
        for place in dict.fromkeys((path, path.resolve())):
            if not any(place.is_relative_to(other) for other in bound):
                arguments += ["--ro-bind", str(place), str(place)]
                bound.append(place)
    return [*arguments, "--remount-ro", "/", "--chdir", "/"]


def _environment() -> dict[str, str]:
    return {
        "PYTHONPATH": str(Path(hdrs_hpc.__file__).resolve().parent.parent),
        "LC_ALL": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
    }


class _CheckerError(Exception):
    """Why there is no answer; nothing of the checker's own words, which could quote an artefact."""


def _converse(command: Sequence[str], request: bytes, most: int, timeout_s: float) -> bytes:
    """Feed and read at once, at most ``most`` bytes; the process is gone when this returns."""
    with seccomp.filtered(command) as (started, given):
        process = subprocess.Popen(
            die_with_parent.guarded(started, namespace=True),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            cwd="/",
            pass_fds=given,
        )
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
        process.terminate()
        process.wait()
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
