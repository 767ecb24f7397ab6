"""Fetching the audit log as an export folder, for custodians to keep and for anyone to verify offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.export import write_export
from hdrs_hpc.client import checkpoints
from hdrs_hpc.client.session import Session

PAGE = 2000


def fetch(session: Session, folder: Path) -> int:
    """Write the log, up to a checkpoint made now, to ``folder``; gives the number of entries.

    The checkpoint is held against the one kept before, so a log that was changed meanwhile raises an alarm.
    """
    raw = session.api.get_bytes("/v1/audit/checkpoint")
    size = checkpoints.keep(session, raw).size
    lines: list[bytes] = []
    while len(lines) < size:
        page = session.api.get_bytes(
            "/v1/audit/entries", since=len(lines), limit=min(PAGE, size - len(lines))
        )
        lines += page.splitlines()
    documents = [session.api.get_bytes(f"/v1/audit/documents/{digest}") for digest in _named(lines)]
    write_export(folder, lines, raw, documents)
    return size


def _named(lines: Sequence[bytes]) -> list[str]:
    """Digests of the documents that belong to these entries: decisions only once they were opened in them."""
    named: set[str] = set()
    for entry in map(Entry.from_bytes, lines):
        if "document" in entry.subject and entry.row.document_exported:
            named.add(entry.subject["document"])
        if entry.event == "decisions-opened":
            named |= set(entry.detail["documents"])
    return sorted(named)
