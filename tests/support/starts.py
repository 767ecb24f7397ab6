"""Start an agent's sandbox again and again while the machine is busy, and tell what was not as it should be.

``python -m tests.support.starts <runtime folder> <starts> <busy processes a core> <at once>`` prints a JSON object.
A start is what comes before an agent asks for keys (private memory, hardening, the probe), then a workload's start.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hdrs_hpc.node import hardening, private_memory
from hdrs_hpc.node.attempt import AttemptFolders
from hdrs_hpc.node.probe import probe
from hdrs_hpc.node.sandbox import Sandbox
from hdrs_hpc.protocol.handover import satisfies


def one(runtime: Path) -> tuple[str, float]:
    """``""`` or what was wrong, and the seconds it took.  Ends as another process than it began."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        text = _in_a_child(runtime, Path(folder))
    return text, time.monotonic() - begun


def _in_a_child(runtime: Path, folder: Path) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        text = "died"
        try:
            text = _start(runtime, folder)
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__} {error} at {Path(last.filename).name}:{last.lineno}"
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode()
    os.waitpid(child, 0)
    return text


def _start(runtime: Path, folder: Path) -> str:
    memory = private_memory.enter(folder, 64)
    not_dumpable = hardening.harden()
    hardening.adopt_orphans()
    places = replace(AttemptFolders.make(memory).places, runtime=runtime)
    sandbox = Sandbox("sandboxed")
    found = probe(
        "sandboxed",
        sandbox,
        places,
        (folder,),
        private_memory=memory.private,
        not_dumpable=not_dumpable,
        gpus=0,
        memory_wall="watched",
    )
    if not satisfies(found, "sandboxed"):
        return str(found)
    running = sandbox.start(("/usr/bin/true",), {}, places, gpus="")
    while (code := running.poll()) is None:
        time.sleep(0.01)
    sandbox.end(running)
    return "" if code == 0 else f"exit code {code}"


def _burn() -> None:
    while True:
        sum(range(1000))


def main(runtime: Path, starts: int, a_core: int, at_once: int) -> None:
    context = multiprocessing.get_context("fork")
    cores = len(os.sched_getaffinity(0))
    busy = [context.Process(target=_burn, daemon=True) for _ in range(a_core * cores)]
    for process in busy:
        process.start()
    with context.Pool(at_once) as pool:
        outcomes = pool.map(one, [runtime] * starts, chunksize=1)
    for process in busy:
        process.kill()
    seconds = sorted(took for _, took in outcomes)
    found = {
        "starts": starts,
        "busy": len(busy),
        "cores": cores,
        "failed": Counter(text for text, _ in outcomes if text),
        "median_s": round(seconds[starts // 2], 2),
        "slowest_s": round(seconds[-1], 2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
