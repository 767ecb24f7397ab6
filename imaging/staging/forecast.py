"""What a staging would do, from headers alone: what would go in, what would stay out and why, what it would take.

Nothing is decoded and nothing written.  Files of a folder are not even hashed, but for those that share an SOP
Instance UID; what comes over a network must be fetched to see its header.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from connectors.sources import OF_ONE_ITEM, Source
from imaging.staging import doubles, inventory
from imaging.staging.engine import Progress, Run, StagePlan
from imaging.staging.items import Expected, Task
from imaging.staging.patient_lists import OptOutMissingError
from imaging.staging.pool import ParserPool
from imaging.staging.report import refusal
from imaging.staging.scheduling import BenchSpec, open_scheduler
from imaging.staging.signatures import Signature, Signatures

SCHEMA = "hdrs-hpc/staging-plan/1"
_ROOT_OBJECTS, _ROOT_BYTES = 5, 8 << 10
"""Of a copy whatever it holds: metadata of its root, index, report, two manifests; each row of the index takes
some more."""
_ROW_BYTES = 300


@dataclass(slots=True)
class Planned:
    """What would become of one modality, as one kind of item.  Bytes: of the sources, decoded, and in the copy."""

    items: int = 0
    source_items: int = 0
    source_bytes: int = 0
    image_bytes: int = 0
    copy_bytes: int = 0
    at_most: int = 0
    objects: int = 0

    def add(self, task: Task, row: Mapping[str, Any], source_bytes: int, expected: Expected) -> None:
        self.items += 1
        self.source_items += len(task.numbers())
        self.source_bytes += source_bytes
        self.image_bytes += int(row.get("image_bytes") or 0)
        self.copy_bytes += expected.size
        self.at_most += expected.at_most
        self.objects += expected.objects


@dataclass(frozen=True, slots=True)
class Forecast:
    """``groups``: by (kind, modality).  ``basis``: how bytes were guessed, with the items it holds for.
    ``undecided``: what only pixels will tell, with the items concerned."""

    items_in: int
    bytes_in: int
    groups: Mapping[tuple[str, str], Planned]
    patients: int
    refused: Mapping[str, tuple[int, ...]]
    named: Mapping[str, Mapping[str, int]]
    failed: int
    basis: Mapping[str, int]
    undecided: Mapping[str, int]
    notes: Mapping[str, int]
    seconds: float

    def total(self) -> Planned:
        """The whole copy, its root included."""
        whole = Planned()
        for one in self.groups.values():
            for name in Planned.__dataclass_fields__:
                setattr(whole, name, getattr(whole, name) + getattr(one, name))
        beside = _ROOT_BYTES + _ROW_BYTES * whole.items
        folders = len({_FOLDERS.get(kind, "series") for kind, _ in self.groups} - {"tables"})
        whole.copy_bytes += beside
        whole.at_most += beside
        whole.objects += _ROOT_OBJECTS + folders
        return whole

    def as_dict(self) -> dict[str, Any]:
        """JSON form; it names no file and no patient."""
        whole = self.total()
        return {
            "schema": SCHEMA,
            "in": {"items": self.items_in, "bytes": self.bytes_in},
            "staged": {
                "items": whole.items,
                "source-items": whole.source_items,
                "source-bytes": whole.source_bytes,
                "patients": self.patients,
                "by-modality": [
                    {"kind": kind, "modality": modality, **_dashed(one)}
                    for (kind, modality), one in sorted(self.groups.items())
                ],
            },
            "copy": {
                "bytes": whole.copy_bytes,
                "bytes-at-most": whole.at_most,
                "objects": whole.objects,
                "basis": dict(self.basis),
            },
            "failed": self.failed,
            "refused": {
                code: refusal(code, numbers, self.named.get(code, {}))
                for code, numbers in sorted(self.refused.items())
            },
            "undecided": dict(self.undecided),
            "notes": dict(sorted(self.notes.items())),
            "seconds": round(self.seconds, 2),
        }


_FOLDERS = {"slide": "slides", "table": "tables"}


def foresee(
    source: Source,
    plan: StagePlan,
    progress: Callable[[Progress], None] | None = None,
    *,
    parsers: ParserPool | None = None,
    unreadable: Callable[[str], None] | None = None,
) -> Forecast:
    """Read headers and judge, as :func:`imaging.staging.engine.stage` would.

    Raises what that raises of plan, parsers and source; however many items are broken.
    """
    started = time.monotonic()
    if plan.opt_out is None:
        raise OptOutMissingError()
    table, seen = _listed(source, unreadable)
    run = Run(table, replace(plan, max_failed=2**63), plan.opt_out, progress)
    with open_scheduler(
        plan.where, BenchSpec(source, table, plan.item_timeout_s, seen), plan.workers, parsers
    ) as scheduler:
        headers = run.read_headers(scheduler)
    undecided: Counter[str] = Counter()
    undecided["files-with-one-uid"] = _settle(source, table, run, headers)
    judged = run.judge.judge(headers, run.paths)
    run.ledger.refuse_all(judged.refused)
    run.leave_out_lacking(judged, headers)
    groups: dict[tuple[str, str], Planned] = defaultdict(Planned)
    basis: Counter[str] = Counter()
    notes = Counter(judged.notes)
    patients = set()
    for task in judged.tasks:
        row = task.row(())
        source_bytes = sum(run.sizes[number - 1] for number in task.numbers())
        expected = task.expected(source_bytes)
        groups[(str(row["kind"]), str(row.get("modality") or ""))].add(task, row, source_bytes, expected)
        basis[expected.basis] += 1
        patients.add(row.get("patient"))
        undecided["text"] += plan.find_text and row["kind"] not in ("slide", "table")
        undecided["face"] += bool(getattr(task, "deface", False))
    refused = run.ledger.by_code()
    details = run.ledger.details()
    return Forecast(
        items_in=len(run.sizes),
        bytes_in=sum(run.sizes),
        groups=groups,
        patients=len(patients - {None}),
        refused=refused,
        named={
            code: Counter(one for n in found for one in details.get(n, ())) for code, found in refused.items()
        },
        failed=run.ledger.failed,
        basis=basis,
        undecided=+undecided,
        notes=notes,
        seconds=time.monotonic() - started,
    )


def _listed(source: Source, unreadable: Callable[[str], None] | None) -> tuple[pa.Table, Signatures]:
    """The source's files with their sizes; hashed only where they must be fetched anyway."""
    paths: list[str] = []
    sizes: list[int] = []
    for item in source.items():
        if source.local_path(item.path) is None:
            return inventory.look(source, None, unreadable)
        try:
            with source.open(item.path) as file:
                sizes.append(file.seek(0, 2))
                paths.append(item.path)
        except OF_ONE_ITEM as error:
            if unreadable is not None:
                unreadable(error.code)
    table = pa.table({"path": paths, "size": sizes, "sha256": [""] * len(paths)}, schema=inventory.SCHEMA)
    return table, _Trusting(len(paths))


class _Trusting(Signatures):
    """Takes every file for the one that was listed: what is only looked at need not be hashed."""

    def note(self, number: int, seen: Signature) -> None:
        pass

    def holds(self, number: int, now: Signature) -> bool:
        return True


def _settle(source: Source, table: pa.Table, run: Run, headers: dict[int, Any]) -> int:
    """Leave one of the items with one SOP Instance UID; gives how many of the others only pixels can judge."""
    groups = doubles.shared(headers, run.judge.identity)
    digests = {number: _digest(source, run.paths[number - 1]) for numbers in groups for number in numbers}
    asked: list[int] = []

    def shown(numbers: Sequence[int]) -> dict[int, doubles.Shown]:
        asked.extend(numbers)
        return {number: doubles.Shown("alike") for number in numbers}

    settled = doubles.settle(groups, digests.__getitem__, shown)
    for number in settled.refused:
        del headers[number]
    run.ledger.refuse_all(settled.refused)
    return len(asked)


def _digest(source: Source, path: str) -> str:
    with source.open(path) as file:
        running = hashlib.sha256()
        while block := file.read(1 << 20):
            running.update(block)
        return running.hexdigest()


def _dashed(one: Planned) -> dict[str, int]:
    return {name.replace("_", "-"): getattr(one, name) for name in Planned.__dataclass_fields__}
