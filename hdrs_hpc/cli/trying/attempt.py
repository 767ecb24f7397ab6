"""One attempt on this machine: data, code and limits as a node would have them, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hdrs_hpc.catalogue.isolation import GivenIsolation
from hdrs_hpc.cli.trying.agent import NO_DIGEST, SCRATCH, Asked
from hdrs_hpc.cli.trying.copies import MadeUp
from hdrs_hpc.cli.trying.interpreter import Interpreter
from hdrs_hpc.client import specdraft
from hdrs_hpc.core import clock, die_with_parent, ids, strict_json, wire
from hdrs_hpc.documents.models.job_spec import written
from hdrs_hpc.protocol import bundle, layout, outputs, wheel_lock
from hdrs_hpc.protocol.handover import BundleOrder, FlavourOrder, LaunchOrder, OutputOrder, SealedInput
from hdrs_hpc.protocol.outputs import ClosingList
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy
from imaging import standalone

PROJECT = standalone.PROJECT
"""To which the made-up copies are bound: no project of anybody's has this name."""
_DATA = "data"
SPARE_MB = 1024
"""Of this machine's memory, left for everything else."""


@dataclass(frozen=True)
class Size:
    """What the attempt gets of this machine."""

    cpus: int
    mem_mb: int
    gpus: str
    """Value for CUDA_VISIBLE_DEVICES."""
    less: tuple[str, ...]
    """What the spec asks for and this machine does not give, a sentence each."""


def fitted(draft: specdraft.WrittenSpec) -> Size:
    """The spec's resources, as far as this machine has them."""
    asked = draft.draft.resources
    cpus, free_mb = len(os.sched_getaffinity(0)), _free_mb()
    given_cpus = min(asked.cpus_per_task, cpus)
    mem_mb = min(asked.mem, max(512, free_mb - SPARE_MB))
    gpus = _gpus(asked.gpus_per_node)
    told = [
        (asked.nodes > 1, f"1 node where the spec asks for {asked.nodes}"),
        (given_cpus < asked.cpus_per_task, f"{given_cpus} CPUs where it asks for {asked.cpus_per_task}"),
        (mem_mb < asked.mem, f"{mem_mb} MiB of memory where it asks for {asked.mem}"),
        (len(gpus) < asked.gpus_per_node, f"{len(gpus)} GPUs where it asks for {asked.gpus_per_node}"),
    ]
    return Size(given_cpus, mem_mb, ",".join(gpus), tuple(text for less, text in told if less))


def _free_mb() -> int:
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 4 << 10


def _gpus(asked: int) -> list[str]:
    there = sorted(Path("/dev").glob("nvidia[0-9]*"), key=lambda path: int(path.name.removeprefix("nvidia")))
    return [path.name.removeprefix("nvidia") for path in there][:asked]


@dataclass(frozen=True)
class Ended:
    """``reason``: the code that the job would end with, None where the code ended well."""

    reason: str | None
    closing: ClosingList | None
    """None where the outputs were not sealed."""
    sealed: SealedCopy | None
    """What came out, opened; good until the attempt's folder is gone."""


@contextmanager
def run(
    draft: specdraft.WrittenSpec,
    inputs: Mapping[str, MadeUp],
    interpreter_of: Interpreter,
    size: Size,
    isolation: GivenIsolation,
    *,
    output: int | None,
) -> Iterator[Ended]:
    """Run it; ``output``: a descriptor for all that the code prints, None: our own streams.

    Raises KeyboardInterrupt where the attempt was interrupted; nothing of it runs or lies anywhere afterwards.
    """
    folder = Path(tempfile.mkdtemp(prefix="hdrs-try-"))
    try:
        order = _order(draft, inputs, size, isolation, folder)
        beside = tuple(map(str, interpreter_of.beside))
        _start(folder, Asked(order, str(interpreter_of.folder), beside, size.gpus), output)
        yield _ended(folder, order)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _order(
    draft: specdraft.WrittenSpec,
    inputs: Mapping[str, MadeUp],
    size: Size,
    isolation: GivenIsolation,
    folder: Path,
) -> LaunchOrder:
    attempt = ids.new_secret_name("hdrs")
    scratch = folder / SCRATCH
    (scratch / _DATA).mkdir(parents=True)
    sealed = {}
    for name, made in inputs.items():
        (scratch / _DATA / name).symlink_to(made.folder / "objects")
        sealed[name] = SealedInput((_DATA, name), "copy", made.copy, made.manifest, made.digest, made.key)
    code = specdraft.pack(draft)
    return LaunchOrder(
        project=PROJECT,
        attempt=attempt,
        job=ids.new_id(),
        spec=strict_json.dumps({"workload": _as_signed(draft, code)}),
        inputs=sealed,
        files={},
        bundle=None if code is None else _seal_bundle(draft, code, scratch, folder, attempt),
        flavour=FlavourOrder("base", NO_DIGEST, 1),
        output_key=os.urandom(32),
        shared_secret=os.urandom(32),
        outputs=tuple(
            OutputOrder(name, output.class_, output.path, output.max_size)
            for name, output in written(draft.draft.outputs).items()
        ),
        isolation=isolation,
        not_after=clock.to_text(clock.now().replace(microsecond=0) + timedelta(days=40)),
        time_s=draft.draft.resources.time,
        mem_mb=size.mem_mb,
        cpus=size.cpus,
    )


def _as_signed(draft: specdraft.WrittenSpec, code: bytes | None) -> dict[str, Any]:
    workload = dict(draft.value["workload"])
    if code is not None:
        workload["bundle"] = {"digest": bundle.digest(code), "size": len(code)}
    return workload


def _seal_bundle(
    draft: specdraft.WrittenSpec, code: bytes, scratch: Path, folder: Path, attempt: str
) -> BundleOrder:
    parts, key = layout.bundle_parts(PROJECT, attempt), os.urandom(32)
    target = scratch.joinpath(*parts)
    target.mkdir(mode=0o700, parents=True)
    journal = folder / "journal"
    journal.mkdir()
    builder = CopyBuilder(DirectoryStore(target), key, "copy", PROJECT, f"{attempt}-bundle", journal)
    builder.put(layout.BUNDLE_PATH, code)
    for path, wheel in specdraft.wheels_of(draft, code):
        builder.put(layout.wheel_path(wheel.digest), path.read_bytes())
    lock = wheel_lock.found_in(bundle.read(code).files)
    sealed = builder.seal()
    builder.close()
    holder = f"{attempt}-bundle"
    return BundleOrder(
        SealedInput(parts, "copy", holder, sealed.manifest_name, sealed.manifest_digest, key),
        bundle.digest(code),
        len(code),
        lock.digest() if lock else None,
    )


def _start(folder: Path, asked: Asked, output: int | None) -> None:
    (folder / "node").mkdir(mode=0o700)
    process = subprocess.Popen(
        die_with_parent.guarded(
            [sys.executable, "-I", "-B", "-m", "hdrs_hpc.cli.trying.agent", str(folder)], forward=True
        ),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,  # a Ctrl-C reaches us alone, and we end it in order
    )
    assert process.stdin is not None
    with process.stdin as stream:
        stream.write(wire.to_bytes(asked))
    try:
        process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def _ended(folder: Path, order: LaunchOrder) -> Ended:
    scratch = folder / SCRATCH
    pointer_file = scratch.joinpath(*layout.closing_parts(PROJECT, order.attempt))
    if not pointer_file.is_file():
        stopped = folder / "stopped"
        return Ended(stopped.read_text("ascii") if stopped.is_file() else "agent-stopped-bug", None, None)
    pointer = outputs.parse_pointer(pointer_file.read_bytes())
    store = DirectoryStore(scratch.joinpath(*layout.outputs_parts(PROJECT, order.attempt)))
    sealed = SealedCopy.open(
        store, order.output_key, "output", PROJECT, order.attempt, pointer.manifest_digest
    )
    closing = outputs.parse_list(sealed.read(layout.CLOSING_LIST_PATH))
    ending = closing.workload
    well = ending.ending is outputs.Ending.EXITED and ending.exit_code == 0
    return Ended(None if well else outputs.reason_of(str(ending.ending)), closing, sealed)
