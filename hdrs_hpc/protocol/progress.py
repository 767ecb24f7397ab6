"""What flows out of a job while it runs: a few numbers that the agent itself measured, and nothing else.

A text or a number that the workload chose could carry patient data, so there is no field for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from hdrs_hpc.protocol import PROTOCOL, wire
from hdrs_hpc.protocol.wire import Count

MAX_BYTES = 4096


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
    BUNDLE_MISMATCH = "bundle-mismatch"
    ISOLATION = "isolation"
    SCRATCH = "scratch"
    BUG = "bug"


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
    """How many of them the workload has read from."""
    bytes_read: Count
    """Plaintext bytes served to the workload."""
    requests: Count
    ranks_alive: Count
    """Processes of the workload on this node, launcher included."""
    memory_bytes: Count
    """Resident memory of those processes."""
    alarms: Count
    """Refused answers, requests to the data server that were no requests."""
    schema: Literal["hdrs-hpc/protocol/1"] = PROTOCOL


def to_bytes(progress: Progress) -> bytes:
    return wire.to_bytes(progress)


def from_bytes(raw: bytes) -> Progress:
    """Raises BadDocumentError for anything that is not exactly a progress report."""
    return wire.from_bytes(Progress, raw, MAX_BYTES)
