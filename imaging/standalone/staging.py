"""Staging into a folder of one's own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from connectors.sources import Source
from hdrs_hpc.sealing.cipher import SealBrokenError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging.staging import earlier as records
from imaging.staging import inventory
from imaging.staging.earlier import Earlier
from imaging.staging.engine import Progress, StagePlan, stage
from imaging.staging.items_map import ItemsMap
from imaging.staging.pool import ParserPool
from imaging.staging.report import StageReport
from imaging.standalone.folder import (
    HELD,
    PROJECT,
    begin,
    copy_key,
    held_key,
    open_copy,
    read_copy_file,
    read_record,
    write_copy_file,
    write_record,
)


def stage_folder(
    source: Source,
    dest: Path,
    secret: bytes,
    plan: StagePlan,
    *,
    scanned: Callable[[int, int], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    unreadable: Callable[[str], None] | None = None,
    parsers: ParserPool | None = None,
    origins: ItemsMap | None = None,
    earlier: Path | None = None,
) -> StageReport:
    """Scan ``source``, stage it into ``dest`` and seal.  Interrupted, the same call goes on.

    ``unreadable``: see :func:`imaging.staging.inventory.scan`.  ``parsers``, ``origins``: see
    :func:`imaging.staging.engine.stage`.
    ``earlier``: a sealed copy under the same secret; what is unchanged is taken over from it, and it stays as it is.

    Raises :class:`CopyExistsError`, :class:`StagingRecordError`, for ``earlier`` what :func:`open_copy` raises, and
    what :func:`imaging.staging.engine.stage` raises.
    """
    taken_from = None if earlier is None else open_earlier(earlier, secret, plan)
    copy = begin(dest)
    missed = None if origins is None else origins.note_missed
    table, seen = inventory.look(source, scanned, unreadable, missed)
    if origins is not None:
        origins.note_inventory(table)
    builder = CopyBuilder(
        DirectoryStore(dest / "objects"), copy_key(secret, copy), "copy", PROJECT, copy, dest / "journal"
    )
    with contextlib.ExitStack() as held:
        opened: list[CopyBuilder] = []

        def open_held() -> CopyBuilder:
            objects = DirectoryStore(dest / HELD / "objects")
            key, journal = held_key(secret, copy), dest / HELD / "journal"
            opened.append(CopyBuilder(objects, key, "copy", PROJECT, f"{copy}-held", journal))
            held.callback(opened[0].close)
            return opened[0]

        try:
            report = stage(
                source,
                table,
                builder,
                plan,
                progress,
                open_held,
                parsers=parsers,
                seen=seen,
                origins=origins,
                earlier=taken_from,
            )
            sealed = builder.seal()
            made = records.record(builder.finished(), plan.deid_key, sealed.manifest_digest)
        finally:
            builder.close()
        described = {"copy": copy, "manifest": sealed.manifest_name, "digest": sealed.manifest_digest}
        if opened:
            described["held"] = opened[0].seal().manifest_digest
    write_record(dest, secret, copy, made)
    write_copy_file(dest, described)
    shutil.rmtree(dest / "journal")
    return report


def open_earlier(dest: Path, secret: bytes, plan: StagePlan) -> Earlier:
    """The sealed copy in ``dest`` with the record of its items.

    Raises :class:`StagingRecordError` and what :func:`open_copy` raises.
    """
    sealed = open_copy(dest, secret)
    described = read_copy_file(dest) or {}
    try:
        made = read_record(dest, secret, str(described["copy"]))
    except SealBrokenError:
        raise records.StagingRecordError("it is damaged", where=str(dest)) from None
    if made is None:
        raise records.StagingRecordError("it was staged by a version that kept none", where=str(dest))
    return records.opened(sealed, made, plan.deid_key, str(described["digest"]))
