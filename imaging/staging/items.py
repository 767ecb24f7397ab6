"""What is to be written, and its writing: one task an item of the copy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hdrs_hpc.sealing.copy_builder import CopyBuilder
from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import series_path, slide_path
from imaging.staging import index
from imaging.staging.headers import SlideHeader
from imaging.staging.metadata import slide_attributes, volume_attributes
from imaging.staging.parsing.dicom.transfer_syntaxes import LOSSY
from imaging.staging.pathology.slide_writer import derived_sizes, write_slide
from imaging.staging.radiology.assembly import Volume
from imaging.staging.radiology.volume_writer import SliceRefused, write_volume
from imaging.staging.reading import ItemReader
from imaging.staging.refusals import Refused


@dataclass(frozen=True, slots=True)
class VolumeTask:
    """A volume with what may be said of it."""

    item: str
    volume: Volume
    kept: dict[str, Value]
    per_slice: dict[str, list[Value]]
    profile: Profile

    @property
    def path(self) -> str:
        return series_path(self.item)

    def numbers(self) -> list[int]:
        """Its source items, ascending."""
        return sorted({one.instance.number for one in self.volume.all_slices()})

    def source_bytes(self, table: pa.Table) -> int:
        sizes = table.column("size")
        return sum(sizes[number - 1].as_py() for number in self.numbers())

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        """Over the registered bytes and order of its slices."""
        running = hashlib.sha256(self.profile.name.encode())
        for one in self.volume.all_slices():
            running.update(f"{digest(one.instance.number)}:{one.frame}\n".encode())
        return running.hexdigest()

    def notes(self) -> list[str]:
        """What a person should know, by the report's keys."""
        found = []
        if not self.volume.uniform:
            found.append("uneven-spacing")
        if self.volume.tilted and self.volume.uniform:
            found.append("tilted")
        if len(self.volume.slices) > 1:
            found.append("time-axis")
        if any(one.instance.header.transfer_syntax in LOSSY for one in self.volume.all_slices()):
            found.append("lossy-source")
        return found


@dataclass(frozen=True, slots=True)
class SlideTask:
    """A slide with what may be said of it."""

    item: str
    number: int
    header: SlideHeader
    kept: dict[str, Value]
    profile: Profile

    @property
    def path(self) -> str:
        return slide_path(self.item)

    def numbers(self) -> list[int]:
        return [self.number]

    def source_bytes(self, table: pa.Table) -> int:
        size: int = table.column("size")[self.number - 1].as_py()
        return size

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        return hashlib.sha256(f"{self.profile.name}{digest(self.number)}".encode()).hexdigest()

    def notes(self) -> list[str]:
        return ["slide-without-size"] if self.header.mpp is None else []


class Writer:
    """Writes tasks into a builder.  Thread-safe: a task is one item, written by one thread."""

    def __init__(self, reader: ItemReader, builder: CopyBuilder, threads: Executor) -> None:
        self._threads = threads
        self._reader = reader
        self._builder = builder
        self._finished = frozenset(builder.finished())

    def write(self, task: VolumeTask | SlideTask) -> dict[int, str]:
        """Write and finish a task unless an earlier run did; gives item number → code of what was refused.

        A volume is whole or not at all: with one slice refused, the others are ``volume-incomplete``.
        """
        if task.path in self._finished:
            return {}
        try:
            row = self._write_volume(task) if isinstance(task, VolumeTask) else self._write_slide(task)
        except SliceRefused as refused:
            self._builder.drop_item(task.path)
            others = dict.fromkeys(task.numbers(), "volume-incomplete")
            return {**others, refused.number: refused.code}
        except Refused as refused:
            self._builder.drop_item(task.path)
            return dict.fromkeys(task.numbers(), refused.code)
        self._builder.finish_item(task.path, {"row": row, "source": task.fingerprint(self._reader.digest)})
        return {}

    def _write_volume(self, task: VolumeTask) -> dict[str, Any]:
        def decode(number: int, frames: list[int]) -> Iterator[tuple[bytes, bytearray]]:
            return self._reader.ask(number, "frames", frames=frames)

        attributes = volume_attributes(task.volume, task.kept, task.per_slice, task.profile)
        size, dtype = write_volume(
            self._builder.store(), task.path, task.volume, attributes, decode, self._threads
        )
        return index.volume_row(task.item, task.volume, task.kept, size, dtype)

    def _write_slide(self, task: SlideTask) -> dict[str, Any]:
        def ask(operation: str, **arguments: Any) -> Iterator[tuple[bytes, bytearray]]:
            return self._reader.ask(task.number, operation, **arguments)

        header = task.header
        stored = [(level.height, level.width) for level in header.levels]
        derived = derived_sizes(header)
        attributes = slide_attributes(
            header, task.kept, stored + derived, [False] * len(stored) + [True] * len(derived), task.profile
        )
        size = write_slide(self._builder, task.path, header, attributes, ask)
        return index.slide_row(task.item, header, task.kept, size, len(stored) + len(derived))
