"""``open_staged``: one input of a running job, read from this node's agent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hdrs_hpc.protocol.datasocket import MAX_RANGES, MISSING, SLOT_BYTES, Range
from imaging.reading.client import NoSuchInputError, client_here
from imaging.reading.ranges import Views
from imaging.reading.staged import StagedCopy
from imaging.reading.store import StagedStore


@dataclass(frozen=True, slots=True)
class JobInput:
    """Input ``name`` of this job; the agent is looked up wherever it is used."""

    name: str

    @property
    def store(self) -> StagedStore:
        return StagedStore(self.name)

    def read(self, path: str) -> bytes | None:
        client = client_here()
        size = client.sizes(self.name, [path])[0]
        if size == MISSING:
            return None
        data = client.read(self.name, [Range(path, 0, size)])[0]
        assert data is not None  # a copy never changes
        return bytes(data)

    def sizes(self, paths: Sequence[str]) -> list[int]:
        return client_here().sizes(self.name, paths)

    @contextlib.contextmanager
    def lent(self, ranges: Sequence[Range]) -> Iterator[Views]:
        client = client_here()
        if sum(wanted.length for wanted in ranges) <= SLOT_BYTES and len(ranges) <= MAX_RANGES // 4:
            with client.lent(self.name, ranges) as views:
                yield views
        else:  # a single chunk may be larger than a slot
            yield [None if data is None else memoryview(data) for data in client.read(self.name, ranges)]

    def children(self, folder: str) -> list[str]:
        return client_here().children(self.name, folder)


def open_staged(name: str) -> StagedCopy:
    """Input ``name`` of the running job.  Raises NotInJobError, NoSuchInputError."""
    if name not in client_here().inputs():
        raise NoSuchInputError(where=name)
    return StagedCopy(JobInput(name))
