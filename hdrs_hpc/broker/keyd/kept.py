"""Keys of outputs that stay in their project: which output of which attempt each is for, and what became of it.

keyd finds them by itself from what was said when they were made: nobody who asks for a hand-over names one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hdrs_hpc.broker.keyd.keystore import FileKeystore, KeyRecord
from hdrs_hpc.broker.keyd.messages import KeptFor
from hdrs_hpc.core import wire
from hdrs_hpc.policy.kept import BETTER, KeptState

ROLE = "kept"


def about(kept: KeptFor) -> dict[str, Any]:
    """What is noted beside the key."""
    return {"job": kept.job, "attempt": kept.attempt, "output": kept.output, "class": kept.output_class}


def remember(keys: FileKeystore, project: str, holder: str, kept: KeptFor) -> None:
    """What a key was for is known after its end too: a spec that names it is refused as it was destroyed."""
    keys.remember(_fact(project, holder), wire.to_bytes(kept).decode())


def states(keys: FileKeystore, project: str) -> dict[tuple[str, str], KeptState]:
    """(job, output) → what became of it; of several attempts the best."""
    found: dict[tuple[str, str], KeptState] = {}

    def note(job: str, output: str, state: KeptState) -> None:
        before = found.get((job, output), "destroyed")
        found[(job, output)] = max(before, state, key=BETTER.index)

    for gone in keys.destroyed(project):
        told = keys.fact(_fact(project, gone.holder)) if gone.role == ROLE else None
        if told is not None:
            kept = wire.from_bytes(KeptFor, told.encode())
            note(kept.job, kept.output, "destroyed")
    for record in _live(keys, project):
        note(record.about["job"], record.about["output"], "kept" if is_sealed(record) else "unfinished")
    return found


def to_read(keys: FileKeystore, project: str, job: str, output: str) -> KeyRecord | None:
    """The one whose workload ended well."""
    for record in _live(keys, project):
        if is_sealed(record) and (record.about["job"], record.about["output"]) == (job, output):
            return record
    return None


def to_make(keys: FileKeystore, project: str, kept: KeptFor) -> KeyRecord | None:
    """The one that an attempt is to seal an output under; None once it is sealed."""
    for record in _live(keys, project):
        if record.about == about(kept):
            return record
    return None


def is_sealed(record: KeyRecord) -> bool:
    return "manifest_digest" in record.about


def _live(keys: FileKeystore, project: str) -> Iterator[KeyRecord]:
    return (record for record in keys.live(project) if record.role == ROLE)


def _fact(project: str, holder: str) -> str:
    return f"kept/{project}/{holder}"
