"""Items of the inventory, handed to parsers as descriptors, their answers checked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, BinaryIO

import pyarrow as pa
from pydantic import Field, TypeAdapter, ValidationError

from connectors.sources import Source, SourceItemMissingError
from imaging.staging.headers import SeriesIdentity
from imaging.staging.pathology.headers import SlideHeader, WsmHeader
from imaging.staging.pool import AHEAD, Answer, ParserPool
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.refusals import Refused
from imaging.staging.signatures import Signature, Signatures, signature
from imaging.staging.tables.headers import TableHeader

AnyHeader = InstanceHeader | SlideHeader | WsmHeader | TableHeader
_HEADER: TypeAdapter[AnyHeader] = TypeAdapter(Annotated[AnyHeader, Field(discriminator="kind")])
_BLOCK = 1 << 20


class ItemReader:
    """Reads items by number (row of the inventory, from 1).  Thread-safe.

    An item's bytes are hashed before they are used, so that they are those that were registered and approved.  Once
    hashed, the same file (see :data:`Signature`) is not hashed again; ``seen`` are the files of ``source`` as this very
    run hashed them for the inventory.
    """

    def __init__(
        self, source: Source, table: pa.Table, pool: ParserPool, seen: Signatures | None = None
    ) -> None:
        self._source = source
        self._paths: list[str] = table.column("path").to_pylist()
        self._sizes: list[int] = table.column("size").to_pylist()
        self._digests: list[str] = table.column("sha256").to_pylist()
        self._pool = pool
        self._seen = Signatures(len(self._paths)) if seen is None else seen

    def headers(self, numbers: Sequence[int], keywords: frozenset[str]) -> list[AnyHeader | Refused]:
        """What parsers say of these items, in their order; a refusal stands where an item has none."""
        found: list[AnyHeader | Refused] = []
        for at in range(0, len(numbers), AHEAD):
            found += self._headers(numbers[at : at + AHEAD], sorted(keywords))
        return found

    def _headers(self, numbers: Sequence[int], keywords: list[str]) -> list[AnyHeader | Refused]:
        opened: list[tuple[int, BinaryIO, Signature]] = []
        found: list[AnyHeader | Refused] = [Refused("parser-crashed")] * len(numbers)
        with contextlib.ExitStack() as stack:
            for place, number in enumerate(numbers):
                try:
                    file = stack.enter_context(self._open(number))
                    opened.append((place, file, self._verify(number, file)))
                except Refused as refused:
                    found[place] = refused
            outcomes = self._pool.ask_each([file for _, file, _ in opened], "header", keywords=keywords)
            for (place, file, verified), outcome in zip(opened, outcomes, strict=True):
                found[place] = outcome if isinstance(outcome, Refused) else _header(outcome)
                try:
                    _check_unchanged(file, verified)
                except Refused as refused:
                    found[place] = refused
        return found

    def series(self, number: int) -> str | None:
        """The Series Instance UID of an item of which a parser could not tell more; "" if it belongs to no series, None
        where that can't be told."""
        try:
            with self._open(number) as file:
                verified = self._verify(number, file)
                outcome = self._pool.ask_alone(file, "series")
                _check_unchanged(file, verified)
            if isinstance(outcome, Refused):
                return "" if outcome.code in ("not-dicom", "required-attribute-missing") else None
            ((raw, _),) = outcome
            return SeriesIdentity.model_validate_json(raw).series
        except (Refused, ValueError):
            return None

    def ask(self, number: int, operation: str, **arguments: Any) -> Iterator[tuple[bytes, bytearray]]:
        """A parser's answers about the item's pixels, from the registered bytes; raises :class:`Refused`."""
        with self._open(number) as file:
            verified = self._verify(number, file)
            yield from self._pool.ask(file, operation, **arguments)
            _check_unchanged(file, verified)

    def read_into(self, number: int, wanted: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer with the item's registered bytes from its offset on; raises :class:`Refused`."""
        with self._open(number) as file:
            verified = self._verify(number, file)
            handle = file.fileno()
            for offset, buffer in wanted:
                _fill(handle, offset, buffer)
            _check_unchanged(file, verified)

    @contextlib.contextmanager
    def _open(self, number: int) -> Iterator[BinaryIO]:
        try:
            opened = self._source.open(self._paths[number - 1])
        except SourceItemMissingError:
            raise Refused("source-item-missing") from None
        with opened, _with_descriptor(opened) as file:
            if os.fstat(file.fileno()).st_size != self._sizes[number - 1]:
                raise Refused("changed-since-inventory")
            yield file

    def _verify(self, number: int, file: BinaryIO) -> Signature:
        """Hash the item once: what is decoded must be what was registered and approved."""
        now = signature(file.fileno())
        if self._seen.holds(number, now):
            return now
        file.seek(0)
        running = hashlib.sha256()
        while block := file.read(_BLOCK):
            running.update(block)
        if running.hexdigest() != self._digests[number - 1]:
            raise Refused("changed-since-inventory")
        self._seen.note(number, now)
        return now


def _check_unchanged(file: BinaryIO, verified: Signature) -> None:
    if signature(file.fileno()) != verified:
        raise Refused("changed-since-inventory")


def _header(answers: list[Answer]) -> AnyHeader | Refused:
    try:
        ((raw, _),) = answers
        return _HEADER.validate_json(raw)
    except (ValueError, ValidationError):
        return Refused("parser-crashed")


def _fill(handle: int, offset: int, buffer: memoryview) -> None:
    while buffer:
        count = os.preadv(handle, [buffer], offset)
        if count == 0:
            raise Refused("truncated-pixel-data")
        offset, buffer = offset + count, buffer[count:]


@contextlib.contextmanager
def _with_descriptor(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file itself if the kernel knows it, else its bytes in an unlinked spool (patient data: on tmpfs or
    a disk of the data zone, by TMPDIR)."""
    try:
        file.fileno()
    except OSError:
        with tempfile.TemporaryFile("w+b") as spool:
            while block := file.read(_BLOCK):
                spool.write(block)
            spool.flush()
            spool.seek(0)
            yield spool
    else:
        yield file
