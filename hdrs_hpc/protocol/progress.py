"""What flows out of a job while it runs: a few numbers that the agent itself measured, and nothing else.

A text or a number that the workload chose could carry patient data, so there is no field for one.  But a
workload also chooses how much it reads and how much memory it takes, and could write with that.  So what
depends on it is told in coarse steps (:func:`quantised`) and at most four times a minute (``node/meter.py``),
and a report in finer steps is none: the file lies where others of the account could write too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Literal

from hdrs_hpc.core import wire
from hdrs_hpc.core.wire import Between, Count, MessageError

MAX_BYTES = 4096
STEPS = 20
"""Steps in which ``items_read`` goes from none to all: 5 % each."""


class Phase(StrEnum):
    """Where an attempt's first node is."""

    WAITING = "waiting"
    """For its keys."""
    OPENING = "opening"
    """Manifests and bundle."""
    RUNNING = "running"
    COLLECTING = "collecting"
    DONE = "done"
    """The outputs are sealed and ``closing.json`` is there."""
    STOPPED = "stopped"
    """Ended without sealed outputs; ``stop`` says why."""


class Stop(StrEnum):
    """Why an agent ended without sealed outputs."""

    NONE = "none"
    SIGNAL = "signal"
    NOT_AFTER = "not-after"
    NO_KEYS = "no-keys"
    KEYS_REFUSED = "keys-refused"
    INPUT_UNREADABLE = "input-unreadable"
    INPUT_REFUSED = "input-refused"
    BUNDLE_MISMATCH = "bundle-mismatch"
    WHEELS_REFUSED = "wheels-refused"
    ISOLATION = "isolation"
    FLAVOUR_MISMATCH = "flavour-mismatch"
    """Its file on scratch is not there, or not the one that the order names."""
    FLAVOUR_TOO_LARGE = "flavour-too-large"
    FLAVOUR_UNUSABLE = "flavour-unusable"
    """It could neither be mounted nor unpacked."""
    UNWATCHED = "unwatched"
    """The process that watches the attempt's memory died."""
    SCRATCH = "scratch"
    BUG = "bug"


STOPPED: dict[Stop, tuple[str, str]] = {
    Stop.SIGNAL: (
        "The cluster ended the job from outside: preempted, cancelled there, or the node went down.",
        "Submit again; ask the site if it stays so.",
    ),
    Stop.NOT_AFTER: (
        "The project's time, or the job's, was over before the outputs were sealed.",
        "Ask for more `resources.time`; a project near its `run-until` needs a new grant version.",
    ),
    Stop.NO_KEYS: (
        "The node's agent was given no keys in time.",
        "Submit again; the operator sees with `broker status` and `cluster doctor` what kept them.",
    ),
    Stop.KEYS_REFUSED: (
        "The node's agent was given keys for another job or node, and refused them.",
        "Submit again; tell the operator if it stays so: this should not happen.",
    ),
    Stop.INPUT_UNREADABLE: (
        "A sealed copy on scratch could not be opened: it was damaged, altered or removed.",
        "Tell the operator: the copy must be staged anew before you submit again.",
    ),
    Stop.INPUT_REFUSED: (
        "A file under `inputs` that should hold weights is no plain safetensors file, or does not fit into memory.",
        "Write it with a safetensors library in the job that keeps it; ask for more `resources.mem` if it is large.",
    ),
    Stop.BUNDLE_MISMATCH: (
        "The code that reached the node is not the one that was signed.",
        "Submit again; tell the operator if it stays so: this should not happen.",
    ),
    Stop.WHEELS_REFUSED: (
        "The wheels that reached the node are not those that were signed, are for another processor, or do not fit "
        "into the job's memory.",
        "Ask for more `resources.mem`, and lock for the platform of the nodes; tell the operator if it stays so.",
    ),
    Stop.ISOLATION: (
        "The node could not give the isolation that the job needs.",
        "Tell the site: `hdrs-hpc cluster doctor` names what is missing. Submit again afterwards.",
    ),
    Stop.FLAVOUR_MISMATCH: (
        "The packages that the job runs on are not on the cluster's scratch, or are not those that were registered.",
        "Tell the operator: `hdrs-hpc cluster install` puts them there anew. Submit again afterwards.",
    ),
    Stop.FLAVOUR_TOO_LARGE: (
        "The job's memory is too small for the packages that it runs on, which lie in it too.",
        "Ask for more `resources.mem`: `hdrs-hpc runtime list` tells how large each flavour is.",
    ),
    Stop.FLAVOUR_UNUSABLE: (
        "The node could neither mount the packages that the job runs on, nor unpack them.",
        "Tell the site: `hdrs-hpc cluster doctor` names what is missing. Submit again afterwards.",
    ),
    Stop.UNWATCHED: (
        "The process that watches the job's memory on the node died or fell silent, so the job was ended.",
        "Submit again; tell the operator if it stays so: this should not happen.",
    ),
    Stop.SCRATCH: (
        "The outputs could not be written to the cluster's scratch: full, over quota or away.",
        "Ask the site for room on the project's scratch, then submit again.",
    ),
    Stop.BUG: (
        "The node's agent met a mistake of its own.",
        "Not your code's fault: tell the operator, with the job's id.",
    ),
}
"""What whoever asked for the job is told: what it means, and what to do."""


def reason_of(stop: str) -> str:
    """The reason code of a job that ended so."""
    return f"agent-stopped-{stop}"


@dataclass(frozen=True)
class Progress:
    phase: Phase
    stop: Stop
    elapsed_s: Count
    """Since the agent started."""
    running_s: Count
    """Since the workload started; 0 before."""
    items_total: Count
    """Series and slides in the inputs."""
    items_read: Count
    """How many of them the workload has read from: the last full twentieth of ``items_total``; never falls."""
    bytes_read: Count
    """Plaintext bytes served to the workload: the next power of two."""
    processes_alive: Count
    """Processes of the workload on this node, launcher included; never more than were planned."""
    memory_bytes: Count
    """Resident memory of those processes: the next power of two."""
    alarms: Annotated[int, Between(0, 1)]
    """1 where there was a refused answer, or a request to the data server that was no request."""
    schema: Literal["hdrs-hpc/progress/2"] = "hdrs-hpc/progress/2"


def quantised(progress: Progress) -> Progress:
    """The same in coarse steps; what is in them already stays as it is."""
    return replace(
        progress,
        items_read=full_steps(progress.items_read, progress.items_total),
        bytes_read=power_of_two(progress.bytes_read),
        memory_bytes=power_of_two(progress.memory_bytes),
        alarms=min(1, progress.alarms),
    )


def full_steps(items: int, total: int) -> int:
    """The fewest items of ``total`` that are as many full twentieths as ``items``: all are all, few are exact."""
    if total <= 0:
        return 0
    steps = min(items, total) * STEPS // total
    return -(-steps * total // STEPS)


def power_of_two(number: int) -> int:
    """The next one, or ``number`` itself where it is one or 0."""
    return 1 << (number - 1).bit_length() if number > 0 else 0


def to_bytes(progress: Progress) -> bytes:
    return wire.to_bytes(progress)


def from_bytes(raw: bytes) -> Progress:
    """Raises BadDocumentError for anything that is not exactly a progress report in coarse steps."""
    found = wire.from_bytes(Progress, raw, MAX_BYTES)
    if quantised(found) != found:
        raise MessageError("numbers finer than progress is told in", where="Progress")
    return found
