"""Trying out on the node itself what a sandbox keeps from a process, before any key is asked for.

A probe starts the very sandbox that the workload would get, with a program that tries to reach what it must not.
Site settings promise an isolation; this is the evidence.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from hdrs_hpc.catalogue.isolation import WEAKEST, GivenIsolation, is_contained
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.node.sandbox import Places, Sandbox
from hdrs_hpc.protocol.handover import Probe
from hdrs_hpc.protocol.outputs import MemoryWall

FOUND_NAME = "found.json"
MAX_FOUND_BYTES = 4096
CODE = re.compile(r"[a-z][a-z0-9-]{0,59}", re.ASCII)
TIMEOUT_S = 120.0
"""Of one try.  On two cores with eight busy processes a try took up to 7 s, and nodes can be busier."""
TRIES = 3
"""A sandbox that did not come up, or was killed for the node's want of memory, says nothing yet; one that came up
and let something through is never asked twice."""


def probe(
    level: GivenIsolation,
    sandbox: Sandbox,
    places: Places,
    secret_paths: tuple[Path, ...],
    *,
    private_memory: bool,
    not_dumpable: bool,
    gpus: int,
    memory_wall: MemoryWall,
    gpu_models: tuple[str, ...] = (),
) -> Probe:
    """``secret_paths``: folders of this node that a sandboxed process must not see."""
    reached: tuple[str, ...] = ()
    if is_contained(level):
        found, why = None, ""
        for _ in range(TRIES):
            found, why = _reached_in(sandbox, places, secret_paths)
            if found is not None:
                break
        level, reached = (level, found) if found is not None else (WEAKEST, (why,))
    return Probe(level, reached, private_memory, not_dumpable, gpus, memory_wall, gpu_models)


def _reached_in(
    sandbox: Sandbox, places: Places, secret_paths: tuple[Path, ...]
) -> tuple[tuple[str, ...] | None, str]:
    """Codes of what was reached, or None and a code that says why where the sandbox gave no answer."""
    inside = sandbox.inside(places)
    outside = {
        name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("pid", "net", "mnt", "ipc", "user")
    }
    question = {"paths": [str(path) for path in secret_paths], "namespaces": outside}
    (places.plan / "question.json").write_text(json.dumps(question), "utf-8")
    stdlib = inside.runtime / "lib" / Path(os.__file__).parent.name
    script = str(stdlib / "site-packages/hdrs_hpc/node/probe_inside.py")
    argv = ("-S", script, str(inside.plan / "question.json"), str(inside.report / FOUND_NAME))
    try:
        deadline = time.monotonic() + TIMEOUT_S
        code = sandbox.run(argv, places, lambda: time.monotonic() >= deadline)
        raw = (places.report / FOUND_NAME).read_bytes()[:MAX_FOUND_BYTES] if code == 0 else b"null"
    except SandboxFailedError as failed:
        return None, failed.message if CODE.fullmatch(failed.message) else "sandbox-failed"
    except FileNotFoundError:
        return None, "sandbox-failed"
    finally:
        (places.plan / "question.json").unlink()
        (places.report / FOUND_NAME).unlink(missing_ok=True)
    found = json.loads(raw)
    if not isinstance(found, list):
        return None, "sandbox-too-slow" if code is None else "sandbox-failed"
    return tuple(sorted(code for code in found if CODE.fullmatch(code))), ""
