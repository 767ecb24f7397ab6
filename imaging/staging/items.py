"""An item of the copy in the making: what every kind (radiology, pathology, tables) hands to the engine.

A *task* is one item (a series volume, a slide, a table).  It is made of *parts*: objects of the copy, each computed
from items of the source **without any key**, so that a part can be made in any process of the data zone, and sealed
by the one process that holds the key.  Tasks and parts know nothing of the builder; the engine puts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from zarr.abc.store import Store

from imaging.staging.reading import ItemReader
from imaging.staging.selectable import RawValues

type Told = dict[str, Any]
"""What making a part found out (JSON values): counts, ranges, boxes; never pixels or raw attributes."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a part is made with: source items through parsers, and threads for decoding side by side."""

    reader: ItemReader
    threads: Executor


@dataclass(frozen=True, slots=True)
class Made:
    """The plaintext of the part's object (empty for a part that only tells)."""

    data: bytes | bytearray | memoryview
    told: Told = field(default_factory=dict)
    more: Mapping[str, bytes | bytearray] = field(default_factory=dict)
    """Objects that were made in one go with it, by path."""


OBJECTS_BESIDE = 3
"""Of an item with one array, beside its shards: metadata of group and array, and the item's manifest."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an item will take in the copy, guessed before a pixel is decoded.

    ``at_most``: bytes that it can't exceed but for metadata; ``basis``: how ``size`` was guessed.
    """

    size: int
    at_most: int
    objects: int
    basis: str


class Part(Protocol):
    """One object of the copy.  Picklable; equal parts over equal items make equal bytes."""

    @property
    def path(self) -> str:
        """The object's path inside the copy; "" for a part that only tells."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Objects of this item, made by earlier steps, whose plaintext is wanted."""
        ...

    @property
    def share(self) -> float:
        """Its part of the item's source bytes, 0 to 1, for progress."""
        ...

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        """Compute it, in memory that does not grow with the item.  Raises :class:`Refused` (whole item) or
        :class:`ItemRefused` (naming the source item at fault)."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A part that knows what it needs; one that does not is taken to need the most that a part may."""

    @property
    def memory_bytes(self) -> int:
        """Memory while it is made and until it is sealed: decoded and encoded bytes together."""
        ...


class Task(Protocol):
    """One item of the copy with all that may be said of it: de-identified already."""

    @property
    def path(self) -> str:
        """``series/<id>``, ``slides/<id>`` or ``tables/<id>``."""
        ...

    def numbers(self) -> list[int]:
        """Its source items (rows of the inventory, from 1), ascending."""
        ...

    def selectable(self) -> list[RawValues]:
        """What jobs may select it by, as its source items say it; stays in the data zone."""
        ...

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        """Over everything that decides the item's bytes: registered source bytes, order, profile, policy."""
        ...

    def expected(self, source_bytes: int) -> Expected:
        """What it will take, by its headers and the bytes of its sources."""
        ...

    def notes(self, told: Sequence[Told]) -> list[str]:
        """What a person should know, by the report's keys."""
        ...

    def begin(self, store: Store, told: Sequence[Told]) -> None:
        """Write the groups' and arrays' metadata (called last, when all parts have told)."""
        ...

    def steps(self, told: Sequence[Told]) -> Iterator[Sequence[Part]]:
        """Parts in steps: those of one step are independent; the next is asked for when all of one are made.
        ``told`` grows by each part's answer, in the order of the parts."""
        ...

    def row(self, told: Sequence[Told]) -> Mapping[str, Any]:
        """Its row of ``index.parquet``, as JSON values."""
        ...
