"""The files that a job takes in: opened by the agent, and weights built anew by a process that holds no key.

They lie in the attempt's private memory beside all that the workload writes, so they count as its own files do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from hdrs_hpc.node.sandbox import Places, Sandbox
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol.handover import FileOrder, SealedInput
from hdrs_hpc.protocol.progress import Stop
from hdrs_hpc.sealing.reader import SealedCopy

PIECE_BYTES = 4 << 20


def take_in(
    files: dict[str, FileOrder],
    opened: Callable[[SealedInput], SealedCopy],
    sandbox: Sandbox,
    places: Places,
    reason: Callable[[], Stop | None],
) -> None:
    """Write each to ``places.inputs``, where nobody changes it.  Raises StoppedEarly, and what opening raises."""
    sealed = places.inputs.with_name("opened")
    sealed.mkdir(mode=0o700)
    for name, file in files.items():
        path = (sealed if file.safetensors else places.inputs) / name
        copy = opened(file.sealed)
        try:
            with path.open("xb") as target:
                for start in range(0, copy.size(file.path), PIECE_BYTES):
                    target.write(copy.read(file.path, start, PIECE_BYTES))
        except OSError:
            raise StoppedEarly(Stop.INPUT_REFUSED) from None
        finally:
            copy.close()
        if file.safetensors:
            _rebuild(sealed, sandbox, places, reason)
            path.unlink()
        (places.inputs / name).chmod(0o400)


def _rebuild(given: Path, sandbox: Sandbox, places: Places, reason: Callable[[], Stop | None]) -> None:
    """In the workload's own kind of sandbox, which shows it the one folder to read and the other to write."""
    shown = dataclasses.replace(places, inputs=given, out=places.inputs)
    inside = sandbox.inside(shown)
    python = str(inside.runtime / "bin/python3")
    argv = (python, "-I", "-B", "-m", "hdrs_hpc.node.rebuild", str(inside.inputs), str(inside.out))
    env = {"LD_LIBRARY_PATH": str(inside.runtime / "lib")}
    if sandbox.run(argv, env, shown, lambda: reason() is not None) != 0:
        raise StoppedEarly(reason() or Stop.INPUT_REFUSED)
