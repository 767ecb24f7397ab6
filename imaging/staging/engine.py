"""The staging engine: source + inventory + plan → items of a copy, de-identified, minimised, sealed.

Two passes over the archive.  The first reads headers, judges each item and groups instances into volumes; the
second decodes pixels and writes.  Files are parsed in :mod:`imaging.staging.pool`, parts made by the workers of
:mod:`imaging.staging.scheduling`; this process judges and seals, and alone holds the keys.
Running it again over the same journals goes on where it stopped and gives the same readable copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import Any

import pyarrow as pa

from connectors.sources import Source
from hdrs_hpc.catalogue import data_kinds
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from imaging.deid import profiles
from imaging.deid.keyed import DeidKey
from imaging.deid.pixels.suspicion import rules_version
from imaging.layout import INDEX, REPORT
from imaging.staging import contact_sheet, doubles, index, inventory, not_imaging, release_list
from imaging.staging import selectable as selectable_table
from imaging.staging.admission import BurnedIn, Judge, Judged, Kind, PixelPolicy, Rules
from imaging.staging.earlier import Earlier
from imaging.staging.items import Bench, Task
from imaging.staging.items_map import ItemsMap
from imaging.staging.ledger import Ledger, TooManyFailedError
from imaging.staging.pathology.headers import WsmHeader
from imaging.staging.pathology.slide_admission import Pathology
from imaging.staging.patient_lists import OptOut, OptOutMissingError
from imaging.staging.pool import ITEM_TIMEOUT_S, ParserPool
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.series_admission import Radiology
from imaging.staging.reading import AnyHeader
from imaging.staging.refusals import PARSER_FAILURES, ItemRefused, Refused, split
from imaging.staging.release_list import ReleaseForOtherDataError
from imaging.staging.report import StageReport
from imaging.staging.scheduling import BenchSpec, Scheduler, Where, open_scheduler
from imaging.staging.selectable import Selectable
from imaging.staging.selection import Selection
from imaging.staging.signatures import Signatures
from imaging.staging.tables.headers import TableHeader
from imaging.staging.tables.table_admission import Tables
from imaging.staging.unread import PART_UNREAD, Lacking, Unread, lacking, unread
from imaging.staging.writing import Dropped, Writer, Written

__all__ = ["Progress", "StagePlan", "StagingChangedError", "TooManyFailedError", "stage"]

_BATCH = 64
"""Headers a piece of work: small enough for smooth progress, large enough that handing out does not show."""


class StagingChangedError(ConflictError):
    code = "staging-changed"
    meaning = "The unfinished copy holds items that the plan of today would not stage, or not so."
    remedy = "Destroy the unfinished copy and its journals and stage anew."


def _default_memory_bytes() -> int:
    """Half of this machine's memory, 4 GiB at most."""
    return min(4 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What to stage, and how.

    ``kind``: ``radiology``, ``pathology`` or ``table`` (or ``any``, for use without a broker).  ``select``: see
    :class:`Selection`.  ``opt_out``: who opted out; a plan that does not say is refused.  ``cohort``: hashes of the
    only patients to take (:mod:`imaging.staging.patient_lists`).
    ``max_failed``: broken items tolerated.  ``workers``: parser processes, each with a thread or process.
    ``memory_bytes``: bound on what is decoded and not yet sealed.  ``where``: see :class:`Where`.
    ``burned_in``, ``find_text``, ``deface``, ``released``: see :class:`PixelPolicy`; ``released_of`` is the
    inventory whose rows the released numbers are.  ``contact_sheet``: draw thumbnails into the copy.
    ``columns``: of tables, see :mod:`imaging.staging.tables.columns`; without them no table is staged.
    ``made_for``: what the report says at its head, such as the project and the date; nothing else depends on it.
    ``issuer``: stands in for an absent Issuer of Patient ID, so that two archives' equal ids are two people.
    """

    kind: str
    profile: str
    deid_key: bytes = field(repr=False)
    select: dict[str, Any] = field(default_factory=dict)
    opt_out: OptOut | None = None
    cohort: frozenset[str] | None = None
    max_failed: int = 0
    workers: int = 2
    issuer: str = ""
    made_for: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    burned_in: BurnedIn = "refuse"
    find_text: bool = False
    deface: bool = False
    released: frozenset[int] = frozenset()
    released_of: str = ""
    contact_sheet: bool = False
    where: Where = field(default_factory=Where)
    memory_bytes: int = field(default_factory=_default_memory_bytes)
    item_timeout_s: float = ITEM_TIMEOUT_S

    def pixels(self) -> PixelPolicy:
        """What is done about identity in pixels."""
        return PixelPolicy(self.burned_in, self.find_text, self.deface, self.released)

    def policy(self) -> bytes:
        """What of the plan decides an item's bytes, beside its profile, the key and the source."""
        said: dict[str, Any] = {
            "burned-in": self.burned_in,
            "find-text": self.find_text,
            "deface": self.deface,
            "text-rules": rules_version(),
        }
        return strict_json.dumps(said)


KINDS: dict[str, Callable[[Rules, StagePlan], Kind]] = {
    data_kinds.RADIOLOGY.name: lambda rules, _: Radiology(rules),
    data_kinds.PATHOLOGY.name: lambda rules, _: Pathology(rules),
    data_kinds.TABLE.name: lambda rules, plan: Tables(rules, plan.columns),
}
"""A kind of data → how its items are staged; the rows are those of ``hdrs_hpc/catalogue/data_kinds.py``."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``phase`` is ``reading`` (items of the inventory) or ``writing`` (items of the copy)."""

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
    held: Callable[[], CopyBuilder] | None = None,
    *,
    parsers: ParserPool | None = None,
    seen: Signatures | None = None,
    origins: ItemsMap | None = None,
    earlier: Earlier | None = None,
    selectable: Callable[[bytes], None] | None = None,
) -> StageReport:
    """Stage a dataset version into ``builder``; the caller seals.

    ``parsers``: started before, as many as ``plan.workers``; they are ended here.  ``seen``: files as they were when
    this process made the inventory of them (see :class:`ItemReader`).  ``origins`` is told what became of each item:
    it names patients, and stays in the data zone.
    ``earlier``: a copy whose unchanged items are sealed again instead of decoded; the outcome is the same.

    ``selectable`` gets the table of what jobs may select items by (:mod:`imaging.staging.selectable`), before
    the index is written: raw values, which are to stay in the data zone.

    Writes items, then ``index.parquet`` and ``report.json``.  Pictures of images held for a person go into the
    builder that ``held`` opens, if any were held; without it they are only counted.  A builder that is sealed
    already (its caller died before noting so) is left as it is: the report comes out the same.

    Raises :class:`OptOutMissingError` before anything is read, :class:`TooManyFailedError` (nothing may be sealed
    then), :class:`StagingChangedError`,
    :class:`ReleaseForOtherDataError`, :class:`BadInventoryError`, :class:`SelectionError`,
    :class:`UnknownProfileError`, :class:`ParserStartError`, :class:`SchedulerUnknownError`,
    :class:`WorkersLostError`, and what source and builder raise.
    """
    started = time.monotonic()
    if plan.opt_out is None:
        raise OptOutMissingError()
    if builder.sealed and strict_json.loads(builder.read(REPORT)).get("opt-out") != plan.opt_out.as_dict():
        raise StagingChangedError("the copy was sealed under another opt-out list")
    table = inventory.read(inventory_table) if isinstance(inventory_table, Path) else inventory_table
    version = inventory.digest(table)
    if plan.released and plan.released_of != version:
        raise ReleaseForOtherDataError()
    run = Run(table, plan, plan.opt_out, progress)
    run.keep_selectable = selectable is not None
    spec = BenchSpec(source, table, plan.item_timeout_s, seen)
    with open_scheduler(plan.where, spec, plan.workers, parsers) as scheduler:
        isolation = scheduler.isolation()
        headers = run.read_headers(scheduler)
        read_s = time.monotonic() - started
        if origins is not None:
            origins.note_headers(headers)
        run.settle_doubles(headers, scheduler)
        judged = run.judge.judge(headers, run.paths)
        run.ledger.refuse_all(judged.refused)
        run.leave_out_lacking(judged, headers)
        headers.clear()
        rows = run.write_items(judged, builder, scheduler, earlier)
        if plan.contact_sheet and not builder.sealed:
            items = [row["item"] for row in rows]
            for path, page in contact_sheet.staged_pages(builder.store(), items, plan.workers):
                builder.put(path, page)
        waiting = run.ledger.by_code().get("held-for-person", ())
        if waiting and held is not None:
            _show_held(version, waiting, run.ledger.details(), held(), scheduler)
    if origins is not None:
        made = {row["item"] for row in rows}
        origins.note_items((task.path, task.numbers()) for task in judged.tasks if task.path in made)
        origins.note_refused(run.ledger.causes())
    if selectable is not None and not builder.sealed:
        selectable(selectable_table.to_bytes(run.selectable(builder)))
    report = run.report(version, rows, isolation, time.monotonic() - started, read_s)
    if not builder.sealed:
        builder.put(INDEX, index.to_bytes(index.to_table(rows)))
        builder.put(REPORT, strict_json.dumps(report.as_dict()))
    return report


def read_headers(
    bench: Bench, numbers: Sequence[int], keywords: frozenset[str]
) -> list[tuple[int, AnyHeader | Unread | str]]:
    """The work of a worker: checked headers of some items, or why (code and details) one has none."""
    return [
        (number, _why_none(bench, number, header) if isinstance(header, Refused) else header)
        for number, header in zip(numbers, bench.reader.headers(numbers, keywords), strict=True)
    ]


def _why_none(bench: Bench, number: int, refused: Refused) -> Unread | str:
    return unread(bench, number, refused.code) if refused.code in PARSER_FAILURES else str(refused)


def _show_held(
    inventory_digest: str,
    numbers: Sequence[int],
    details: Mapping[int, Sequence[str]],
    into: CopyBuilder,
    scheduler: Scheduler,
) -> None:
    """Pictures and the list of what waits for a person, sealed apart."""
    if into.sealed:
        return
    futures = (scheduler.submit(contact_sheet.held_frames, number) for number in numbers)
    # Not further ahead: a cine is some 40 MB of pictures.
    pictures = zip(numbers, _in_order(futures, ahead=scheduler.slots), strict=True)
    why = {number: " ".join(details.get(number, ())) for number in numbers}
    for path, page in contact_sheet.held_pages(pictures, why):
        into.put(path, page)
    into.put(contact_sheet.HELD_LIST, release_list.to_bytes(inventory_digest, [], list(numbers), why))


class Run:
    """One staging's rules and running totals."""

    def __init__(
        self,
        table: pa.Table,
        plan: StagePlan,
        opt_out: OptOut,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.plan = plan
        self.opt_out = opt_out
        self.table = table
        self.paths: list[str] = table.column("path").to_pylist()
        self.sizes: list[int] = table.column("size").to_pylist()
        self.digests: list[str] = table.column("sha256").to_pylist()
        names = (
            [plan.profile]
            if plan.kind != "any"
            else [kind.profile for kind in data_kinds.DATA_KINDS.values()]
        )
        key = DeidKey(plan.deid_key)
        selection = Selection.parse(plan.select)
        self.judge = Judge(
            [
                KINDS[profile.kind](
                    Rules(key, profile, selection, opt_out.hashes, plan.issuer, plan.pixels(), plan.cohort),
                    plan,
                )
                for profile in map(profiles.load, names)
                if profile.kind in KINDS
                and (plan.columns or not data_kinds.DATA_KINDS[profile.kind].by_columns)
            ]
        )
        self.ledger = Ledger(plan.max_failed)
        self.notes: Counter[str] = Counter()
        self.taken_over = 0
        self.unread: dict[int, Unread] = {}
        self.lacking: list[Lacking] = []
        self._progress = progress
        self.keep_selectable = False

    def read_headers(self, scheduler: Scheduler) -> dict[int, AnyHeader]:
        """Item number → checked header; items that have none are refused."""
        count, keywords = len(self.sizes), self.judge.keywords
        meter = _Meter("reading", count, sum(self.sizes), self._progress)
        headers: dict[int, AnyHeader] = {}
        batches = (range(at, min(at + _BATCH, count + 1)) for at in range(1, count + 1, _BATCH))
        futures = (scheduler.submit(read_headers, batch, keywords) for batch in batches)
        for batch in _in_order(futures, ahead=3 * scheduler.slots):
            for number, header in batch:
                if isinstance(header, str):
                    self.ledger.refuse((number,), self._unless_not_imaging(number, header))
                elif isinstance(header, Unread):
                    self.unread[number] = header
                    self.ledger.refuse((number,), header.code)
                elif isinstance(header, TableHeader) and (
                    kind := not_imaging.table_is_none(self.paths[number - 1], header.rows)
                ):
                    self.ledger.refuse((number,), f"not-imaging:{kind}")
                else:
                    headers[number] = header
            meter.advance(len(batch), sum(self.sizes[number - 1] for number, _ in batch))
        return headers

    def settle_doubles(self, headers: dict[int, AnyHeader], scheduler: Scheduler) -> None:
        """Of items with one SOP Instance UID leave one in ``headers``, or none."""

        def shown(numbers: Sequence[int]) -> dict[int, doubles.Shown]:
            futures = (scheduler.submit(doubles.show, number, headers[number]) for number in numbers)
            return dict(zip(numbers, _in_order(futures, ahead=3 * scheduler.slots), strict=True))

        groups = doubles.shared(headers, self.judge.identity)
        settled = doubles.settle(groups, lambda number: self.digests[number - 1], shown)
        for number, code in settled.refused.items():
            header = headers.pop(number)
            # Nobody knows whether it shows the same as its double: its series may lack it.
            if code in PARSER_FAILURES and isinstance(header, InstanceHeader | WsmHeader):
                self.unread[number] = Unread(code, header.series)
        self.ledger.refuse_all(settled.refused)
        self.notes.update(settled.notes)

    def leave_out_lacking(self, judged: Judged, headers: Mapping[int, AnyHeader]) -> None:
        """Drop the tasks that may lack an item on which parsers failed."""
        found = lacking(judged.tasks, headers, self.unread, self.paths)
        self.lacking += found.values()
        for one in found.values():
            self.ledger.refuse(one.items, PART_UNREAD)
        judged.tasks[:] = [task for task in judged.tasks if task.path not in found]

    def _unless_not_imaging(self, number: int, told: str) -> str:
        """``told``, a code with details, or ``not-imaging`` with the file's kind if it is no broken image or table."""
        code, details = split(told)
        kind = not_imaging.kind_of(self.paths[number - 1], code, details[0] if details else "")
        if kind is not None:
            return f"not-imaging:{kind}"
        # Of tables of which none is to be staged nobody asks whether they can be read; a sound one is told so too.
        no_tables = self.plan.kind != data_kinds.TABLE.name and not self.plan.columns
        is_text = code in ("not-dicom", "malformed-table") and details[:1] in (("text",), ("table",))
        if no_tables and is_text and not_imaging.says_table(self.paths[number - 1]):
            return "wrong-kind"
        return told if code in ("required-attribute-missing", "not-imaging") else code

    def write_items(
        self, judged: Judged, builder: CopyBuilder, scheduler: Scheduler, earlier: Earlier | None
    ) -> list[dict[str, Any]]:
        """Write what is not finished yet; gives the rows of all items.  What breaks is dropped whole.

        An interrupted staging goes on only under the same plan: what it finished can't be taken back, and a
        patient who opted out meanwhile would stay in; so :class:`StagingChangedError`.
        """
        order = {task.path: place for place, task in enumerate(judged.tasks, start=1)}
        weights = {task.path: sum(self.sizes[n - 1] for n in task.numbers()) for task in judged.tasks}
        meter = _Meter("writing", len(order), sum(weights.values()), self._progress)
        finished = builder.finished()
        planned = {task.path: self._fingerprint(task) for task in judged.tasks if task.path in finished}
        if any(planned.get(item) != meta.get("source") for item, meta in finished.items()):
            raise StagingChangedError()
        for path in finished:
            meter.advance(1, weights[path])
        if earlier is not None and not builder.sealed:
            for path, meta in self._take_over(judged.tasks, finished, builder, earlier):
                finished[path] = meta
                self.taken_over += 1
                meter.advance(1, weights[path])
        shown = dict.fromkeys(order, 0)

        def advance(task: Task, share: float) -> None:
            size = min(round(weights[task.path] * share), weights[task.path] - shown[task.path])
            shown[task.path] += size
            meter.advance(0, size)

        writer = Writer(
            builder,
            scheduler,
            self.plan.memory_bytes,
            self._fingerprint,
            advance,
            keep_selectable=self.keep_selectable,
        )
        with contextlib.closing(
            writer.write(task for task in judged.tasks if task.path not in finished)
        ) as outcomes:
            for outcome in outcomes:
                path = outcome.task.path
                meter.advance(1, weights[path] - shown.pop(path))
                if isinstance(outcome, Written):
                    finished[path] = outcome.meta
                else:
                    self._dropped(outcome, order[path])
        for meta in finished.values():
            self.notes.update(meta["notes"])
        self.notes.update(judged.notes)
        return [dict(meta["row"]) for _, meta in sorted(finished.items())]

    def _take_over(
        self, tasks: Sequence[Task], finished: Mapping[str, Any], builder: CopyBuilder, earlier: Earlier
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Path and notes of each item that came over whole; those that the earlier copy lost are left to be made."""
        same = [
            task
            for task in tasks
            if task.path not in finished
            and task.path in earlier.items
            and earlier.has(task.path, self._fingerprint(task))
        ]
        if same:
            earlier.take_over_groups([task.path for task in same], builder)

        def take_over(task: Task) -> dict[str, Any] | None:
            more = {"selectable": task.selectable()} if self.keep_selectable else {}
            return earlier.take_over(task.path, builder, more)

        with ThreadPoolExecutor(max(2, self.plan.workers), "take-over") as threads:
            try:
                for some in batched(same, _BATCH):
                    for task, meta in zip(some, threads.map(take_over, some), strict=True):
                        if meta is not None:
                            yield task.path, meta
            finally:
                threads.shutdown(cancel_futures=True)

    def selectable(self, builder: CopyBuilder) -> Iterator[Selectable]:
        """What each finished item may be selected by; StagingChangedError where an older version finished some."""
        for item, meta in sorted(builder.finished().items()):
            if "selectable" not in meta:
                raise StagingChangedError("items were finished by a version that noted less of them")
            row = meta["row"]
            yield Selectable(item, row["kind"], row.get("patient"), row["source_items"], meta["selectable"])

    def report(
        self, version: str, rows: list[dict[str, Any]], isolation: str, seconds: float, read_s: float
    ) -> StageReport:
        return StageReport.of(
            rows,
            inventory=version,
            made_for=self.plan.made_for,
            profile=self.plan.profile
            if self.plan.kind != "any"
            else ", ".join(kind.profile for kind in data_kinds.DATA_KINDS.values()),
            policy=strict_json.loads(self.plan.policy()),
            opt_out=self.opt_out.as_dict(),
            items_in=len(self.sizes),
            bytes_in=sum(self.sizes),
            failed=self.ledger.failed,
            refused=self.ledger.by_code(),
            lacking=tuple(sorted(self.lacking, key=lambda one: one.items)),
            details=self.ledger.details(),
            notes=dict(self.notes),
            isolation=isolation,
            seconds=seconds,
            reading_s=read_s,
            taken_over=self.taken_over,
            workers=f"{self.plan.workers} {self.plan.where.scheduler}",
        )

    def _dropped(self, dropped: Dropped, order: int) -> None:
        refused, numbers = dropped.refused, dropped.task.numbers()
        if isinstance(refused, ItemRefused):
            self.ledger.refuse((refused.number,), str(refused), order)
            others = tuple(number for number in numbers if number != refused.number)
            failure = refused.code in PARSER_FAILURES
            self.ledger.refuse(others, PART_UNREAD if failure else "volume-incomplete", order)
            if failure and others:
                self.lacking.append(Lacking(others, (refused.number,)))
        else:
            self.ledger.refuse(numbers, str(refused), order)

    def _fingerprint(self, task: Task) -> str:
        own = task.fingerprint(lambda number: self.digests[number - 1])
        return hashlib.sha256(self.plan.policy() + own.encode()).hexdigest()


def _in_order[T](submitted: Iterator[Future[T]], ahead: int) -> Iterator[T]:
    """Results in the order of submission; ``ahead`` are handed out before one is waited for."""
    under_way: deque[Future[T]] = deque()
    for future in submitted:
        under_way.append(future)
        if len(under_way) > ahead:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


class _Meter:
    """Adds up one phase."""

    def __init__(
        self, phase: str, items: int, size: int, progress: Callable[[Progress], None] | None
    ) -> None:
        self._phase, self._items, self._size = phase, items, size
        self._progress = progress
        self._done = [0, 0]

    def advance(self, items: int, size: int) -> None:
        self._done[0] += items
        self._done[1] += size
        if self._progress is not None:
            done = self._done
            self._progress(Progress(self._phase, done[0], self._items, done[1], self._size))
