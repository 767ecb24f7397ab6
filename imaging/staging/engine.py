"""The staging engine: source + inventory + plan → items of a copy, de-identified, minimised, sealed.

Two passes over the archive.  The first reads headers, judges each item and groups instances into volumes; the
second decodes pixels and writes.  Parsing happens in :mod:`imaging.staging.pool`; this process never parses.
Running it again over the same journals goes on where it stopped and gives the same readable copy.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from dask.base import compute
from dask.delayed import delayed

from connectors.sources import Source
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import ConflictError, NotAllowedError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from imaging.deid import profiles
from imaging.deid.keyed import DeidKey
from imaging.layout import INDEX, REPORT
from imaging.staging import index, inventory, sandbox
from imaging.staging.items import SlideTask, VolumeTask, Writer
from imaging.staging.judging import Judge, Judged
from imaging.staging.pool import ITEM_TIMEOUT_S, ParserPool
from imaging.staging.reading import ItemReader
from imaging.staging.refusals import REASONS, Refused
from imaging.staging.report import StageReport
from imaging.staging.selection import Selection

_BATCH = 64
"""Items a Dask task: small enough for smooth progress, large enough that Dask's cost does not show."""


class TooManyFailedError(NotAllowedError):
    code = "too-many-failed"
    meaning = "More items of the dataset could not be read than the grant lets fail."
    remedy = "Read the staging report; mend the archive, or ask the custodian for a higher max-failed."


class StagingChangedError(ConflictError):
    code = "staging-changed"
    meaning = "The unfinished copy holds items that the plan of today would not stage, or not so."
    remedy = "Destroy the unfinished copy and its journals and stage anew."


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What to stage, and how.

    ``kind``: ``radiology`` or ``pathology`` (or ``any``, for use without a broker).  ``select``: see
    :class:`Selection`.  ``opt_out``: :meth:`DeidKey.opt_out_hash` of each patient to leave out.
    ``max_failed``: broken items tolerated.  ``workers``: parser processes and writing threads.
    ``issuer``: stands in for an absent Issuer of Patient ID, so that two archives' equal ids are two people.
    """

    kind: str
    profile: str
    deid_key: bytes = field(repr=False)
    select: dict[str, Any] = field(default_factory=dict)
    opt_out: frozenset[str] = frozenset()
    max_failed: int = 0
    workers: int = 2
    issuer: str = ""
    item_timeout_s: float = ITEM_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Progress:
    """``phase`` is ``reading`` (items of the inventory) or ``writing`` (volumes and slides)."""

    phase: str
    items_done: int
    items_total: int
    bytes_done: int
    bytes_total: int


def stage(
    source: Source,
    inventory_table: pa.Table | Path,
    builder: CopyBuilder,
    plan: StagePlan,
    progress: Callable[[Progress], None] | None = None,
) -> StageReport:
    """Stage a dataset version into ``builder``; the caller seals.

    Writes items, then ``index.parquet`` and ``report.json``.  Raises :class:`TooManyFailedError` (nothing may
    be sealed then), :class:`BadInventoryError`, :class:`SelectionError`, :class:`UnknownProfileError`,
    :class:`ParserStartError`, and what source and builder raise.
    """
    started = time.monotonic()
    table = inventory.read(inventory_table) if isinstance(inventory_table, Path) else inventory_table
    version = inventory.digest(table)
    run = _Run(table, plan, progress)
    with (
        ParserPool(plan.workers, timeout_s=plan.item_timeout_s) as pool,
        # Slices of one volume are decoded side by side too: one large volume should use all parsers.
        ThreadPoolExecutor(plan.workers, "decode") as threads,
    ):
        reader = ItemReader(source, table, pool)
        headers = run.read_headers(reader)
        judged = run.judge.judge(headers, table.column("path").to_pylist())
        run.refuse_all(judged.refused)
        _check_finished(builder, judged, reader)
        run.write_items(judged, Writer(reader, builder, threads))
    rows = [meta["row"] for item, meta in sorted(builder.finished().items()) if item in run.written]
    report = run.report(version, rows, time.monotonic() - started)
    builder.put(INDEX, index.to_bytes(index.to_table(rows)))
    builder.put(REPORT, strict_json.dumps(report.as_dict()))
    return report


def _check_finished(builder: CopyBuilder, judged: Judged, reader: ItemReader) -> None:
    """An interrupted staging goes on only under the same plan: what it finished can't be taken back, and a
    patient who opted out meanwhile would stay in."""
    planned = {task.path: task.fingerprint(reader.digest) for task in judged.tasks}
    for item, meta in builder.finished().items():
        if planned.get(item) != meta.get("source"):
            raise StagingChangedError()


class _Run:
    """One staging's running totals, shared by its threads."""

    def __init__(self, table: pa.Table, plan: StagePlan, progress: Callable[[Progress], None] | None) -> None:
        self.plan = plan
        self.table = table
        self.key = DeidKey(plan.deid_key)
        names = (
            [plan.profile] if plan.kind != "any" else [profiles.default_for(kind) for kind in profiles.KINDS]
        )
        self.judge = Judge(
            self.key,
            {profile.kind: profile for profile in map(profiles.load, names)},
            Selection.parse(plan.select),
            plan.opt_out,
            plan.issuer,
        )
        self.written: set[str] = set()
        self.refused: dict[int, str] = {}
        self.notes: Counter[str] = Counter()
        self.failed = 0
        self._progress = progress
        self._lock = threading.Lock()
        self._done = [0, 0]

    def read_headers(self, reader: ItemReader) -> dict[int, Any]:
        """Item number → checked header; items that have none are refused."""
        sizes = self.table.column("size").to_pylist()
        total = (len(sizes), sum(sizes))
        headers: dict[int, Any] = {}

        def read(numbers: range) -> None:
            for number in numbers:
                try:
                    header = reader.header(number, self.judge.keywords)
                except Refused as refused:
                    self.refuse(number, refused.code)
                else:
                    with self._lock:
                        headers[number] = header
                self._advance("reading", 1, sizes[number - 1], total)

        self._done = [0, 0]
        self._in_threads(
            read, [range(at, min(at + _BATCH, len(sizes) + 1)) for at in range(1, len(sizes) + 1, _BATCH)]
        )
        return headers

    def write_items(self, judged: Judged, writer: Writer) -> None:
        """Write what is not finished yet; a volume that breaks on the way is dropped whole."""
        total = (len(judged.tasks), sum(task.source_bytes(self.table) for task in judged.tasks))

        def write(task: VolumeTask | SlideTask) -> None:
            refused = writer.write(task)
            if refused:
                self.refuse_all(refused)
            else:
                with self._lock:
                    self.written.add(task.path)
                    self.notes.update(task.notes())
            self._advance("writing", 1, task.source_bytes(self.table), total)

        self._done = [0, 0]
        self._in_threads(write, judged.tasks)
        with self._lock:
            self.notes.update(judged.notes)

    def refuse_all(self, refused: dict[int, str]) -> None:
        for number, code in refused.items():
            self.refuse(number, code)

    def refuse(self, number: int, code: str) -> None:
        """Note an item as refused; raises :class:`TooManyFailedError` at the one too many."""
        with self._lock:
            # The first cause stands: a sound slice of two broken volumes is one item.
            earlier = self.refused.get(number)
            counts = REASONS[code].failed
            if earlier is None or (counts and not REASONS[earlier].failed):
                self.refused[number] = code
                self.failed += counts
            failed = self.failed
        if counts and failed > self.plan.max_failed:
            raise TooManyFailedError(
                f"{failed} items failed so far where {self.plan.max_failed} may; the last code is {code}",
                where=f"item {number}",
            )

    def report(self, version: str, rows: list[dict[str, Any]], seconds: float) -> StageReport:
        by_code: dict[str, list[int]] = defaultdict(list)
        for number, code in self.refused.items():
            by_code[code].append(number)
        kinds = Counter(row["kind"] for row in rows)
        return StageReport(
            inventory=version,
            profile=self.plan.profile
            if self.plan.kind != "any"
            else ", ".join(map(profiles.default_for, profiles.KINDS)),
            items_in=self.table.num_rows,
            bytes_in=sum(self.table.column("size").to_pylist()),
            staged={"volumes": kinds["volume"], "slides": kinds["slide"]},
            staged_items=self.table.num_rows - len(self.refused),
            patients=len({row["patient"] for row in rows if row.get("patient")}),
            image_bytes=sum(row["image_bytes"] for row in rows),
            failed=self.failed,
            refused={code: tuple(sorted(numbers)) for code, numbers in by_code.items()},
            notes=dict(self.notes),
            isolation=sandbox.isolation(),
            seconds=seconds,
        )

    def _in_threads(self, work: Callable[[Any], None], inputs: list[Any]) -> None:
        """Dask's threaded scheduler: stops at the first error and raises it here."""
        tasks = [delayed(work, pure=False)(one) for one in inputs]
        compute(  # type: ignore[no-untyped-call]  # dask leaves it unannotated
            *tasks, scheduler="threads", num_workers=self.plan.workers, optimize_graph=False
        )

    def _advance(self, phase: str, items: int, size: int, total: tuple[int, int]) -> None:
        with self._lock:
            self._done[0] += items
            self._done[1] += size
            if self._progress is not None:
                self._progress(Progress(phase, self._done[0], total[0], self._done[1], total[1]))
