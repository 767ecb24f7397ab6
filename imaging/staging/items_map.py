"""Which file became which item: one row a file of the source, for the data zone only, since paths and ids name people.

========== ============== =============================================================================================
column     type           what
========== ============== =============================================================================================
item       int64, null    item number, as reports give it; null for what the source lists and can't give
path       string         inside the source
outcome    string         ``staged``, or the reason code
rule       string         which rule, where a code stands for several: of ``deid/pixels/rules.toml``, the kind of a file
attributes list<string>   keywords that the refusal rests on
items      list<string>   items of the copy that hold something of it; several where a file holds several volumes
bytes      int64, null    size
sha256     string         64 hex
issuer     string         Issuer of Patient ID; this and what follows only of images that are read, and not of patients
                          who opted out
patient_id string         Patient ID
study      string         Study Instance UID
series     string         Series Instance UID
instance   string         SOP Instance UID
========== ============== =============================================================================================

Lists are words with a blank between them in CSV.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from hdrs_hpc.core.errors import BadDocumentError
from imaging.staging.pathology.headers import WsmHeader
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.refusals import UNLISTED, because

SCHEMA = pa.schema(
    [
        ("item", pa.int64()),
        ("path", pa.string()),
        ("outcome", pa.string()),
        ("rule", pa.string()),
        ("attributes", pa.list_(pa.string())),
        ("items", pa.list_(pa.string())),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("issuer", pa.string()),
        ("patient_id", pa.string()),
        ("study", pa.string()),
        ("series", pa.string()),
        ("instance", pa.string()),
    ],
    metadata={"schema": "hdrs-hpc/items-map/1"},
)
STAGED = "staged"
_NUMBERS = ("item", "bytes")
_LISTS = ("attributes", "items")
_BATCH = 65536


class ItemsMapError(BadDocumentError):
    code = "items-map-malformed"
    meaning = "The file is not a map from files to items as staging writes it."
    remedy = "Give the file that `hdrs-hpc imaging stage --items` wrote: .csv, .jsonl or .parquet."


class Identity(NamedTuple):
    """Who and what an image is, as its header says."""

    issuer: str = ""
    patient_id: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""


class ItemsMap:
    """Filled by a staging, then written."""

    def __init__(self) -> None:
        self._table: pa.Table | None = None
        self._identities: dict[int, Identity] = {}
        self._items: dict[int, list[str]] = {}
        self._causes: Mapping[int, tuple[str, tuple[str, ...]]] = {}
        self._missed: list[tuple[str, str]] = []

    def note_inventory(self, table: pa.Table) -> None:
        """The inventory whose rows are the item numbers."""
        self._table = table

    def note_missed(self, path: str, code: str) -> None:
        """A file that the source lists and can't give."""
        self._missed.append((path, code))

    def note_headers(self, headers: Mapping[int, Any]) -> None:
        """Checked headers by item number; only those of DICOM name anybody."""
        for number, header in headers.items():
            if isinstance(header, InstanceHeader | WsmHeader):
                self._identities[number] = Identity(
                    header.issuer, header.patient_id, header.study, header.series, header.sop_instance
                )

    def note_items(self, items: Iterable[tuple[str, Sequence[int]]]) -> None:
        """Items of the copy with the item numbers of their sources."""
        for path, numbers in items:
            for number in numbers:
                self._items.setdefault(number, []).append(path)

    def note_refused(self, causes: Mapping[int, tuple[str, tuple[str, ...]]]) -> None:
        """Item number → code and details."""
        self._causes = causes

    def rows(self) -> Iterator[dict[str, Any]]:
        """In the order of item numbers, then what the source could not give."""
        if self._table is not None:
            columns = (self._table.column(name).to_pylist() for name in ("path", "size", "sha256"))
            for number, (path, size, sha256) in enumerate(zip(*columns, strict=True), start=1):
                code, details = self._causes.get(number, (STAGED, ()))
                rule, attributes = because(code, details)
                # Of who opted out nothing is written that the list of files does not say.
                identity = Identity() if code in UNLISTED else self._identities.get(number, Identity())
                known = number in self._identities
                yield {
                    "item": number,
                    "path": path,
                    "outcome": code,
                    "rule": rule,
                    "attributes": list(attributes) if known or details else [],
                    "items": self._items.get(number, []),
                    "bytes": size,
                    "sha256": sha256,
                    **identity._asdict(),
                }
        for path, code in self._missed:
            blank: dict[str, Any] = {"rule": "", "attributes": [], "items": [], "bytes": None, "sha256": ""}
            yield {"item": None, "path": path, "outcome": code, **blank, **Identity()._asdict()}

    def write(self, path: Path) -> None:
        """As Parquet, JSON lines or CSV, by the ending; readable by its owner only, whole or not at all."""
        temporary = path.with_name(path.name + ".new")
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if path.suffix == ".parquet":
                with os.fdopen(handle, "wb") as binary, pq.ParquetWriter(binary, SCHEMA) as writer:
                    for some in batched(self.rows(), _BATCH):
                        writer.write_table(pa.Table.from_pylist(list(some), SCHEMA))
            else:
                with os.fdopen(handle, "w", encoding="utf-8", newline="") as text:
                    if path.suffix == ".jsonl":
                        text.writelines(json.dumps(row) + "\n" for row in self.rows())
                    else:
                        rows = csv.DictWriter(text, SCHEMA.names)
                        rows.writeheader()
                        rows.writerows(
                            row | {name: " ".join(row[name]) for name in _LISTS} for row in self.rows()
                        )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of what :meth:`ItemsMap.write` wrote, one by one.  Raises :class:`ItemsMapError`."""
    try:
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            _check(file.schema_arrow.names, path)
            for batch in file.iter_batches(use_threads=False):
                yield from batch.to_pylist()
        elif path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    _check(list(row), path)
                    yield row
        else:
            with path.open(encoding="utf-8", newline="") as text:
                rows = csv.DictReader(text)
                _check(rows.fieldnames or (), path)
                for row in rows:
                    numbers = {name: int(row[name]) if row[name] else None for name in _NUMBERS}
                    yield row | numbers | {name: row[name].split() for name in _LISTS}
    except (OSError, pa.ArrowException, ValueError, AttributeError, TypeError):
        raise ItemsMapError("it can't be read as that", where=path.name) from None


def _check(names: Sequence[str], path: Path) -> None:
    if list(names) != SCHEMA.names:
        raise ItemsMapError("other columns", where=path.name)
