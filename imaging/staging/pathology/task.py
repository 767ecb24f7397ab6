"""A slide to be written: its levels shard by shard, its attributes, its row of the index."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import level_path, slide_path
from imaging.staging.items import OBJECTS_BESIDE, Expected, Part, Told
from imaging.staging.pathology.arrays import LevelArray, is_kept, level_arrays, together
from imaging.staging.pathology.metadata import slide_attributes
from imaging.staging.pathology.parts import HalvedShard, KeptShard, MadeShards
from imaging.staging.pathology.slide import Slide
from imaging.staging.pathology.source import Stored
from imaging.staging.selectable import RawValues

SMALLEST_LEVEL = 512
"""Levels are derived until the longer side is below this many pixels; at least one always is, so that a
thumbnail never needs one of the file's own codestreams decoded."""
_ENCODED = {"jpeg": 8, "jpeg2000": 2, "zstd": 2}
"""Decoded ÷ stored of levels that are encoded anew, as a forecast takes it."""
_METADATA_BYTES = 16 << 10
_WRITING = 5
"""Version of what is made of a slide: part of the fingerprint."""


@dataclass(frozen=True, slots=True)
class SlideTask:
    """A slide with what may be said of it.  ``index``: columns of its row that identify the patient's data;
    ``raw``: what jobs may select it by, as its source says it."""

    item: str
    slide: Slide
    kept: dict[str, Value]
    profile: Profile
    dropped_levels: int = 0
    index: Mapping[str, Any] = field(default_factory=dict)
    raw: tuple[RawValues, ...] = ()

    @property
    def path(self) -> str:
        return slide_path(self.item)

    def numbers(self) -> list[int]:
        return self.slide.numbers()

    def selectable(self) -> list[RawValues]:
        return list(self.raw)

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        # Item numbers are in none of it: those of another version of the dataset name other files.
        ranks = {number: rank for rank, number in enumerate(self.numbers())}
        levels = [
            [
                asdict(replace(level, planes=())),
                [[(ranks[g.number], g.level, g.plane) for g in p] for p in level.planes],
            ]
            for level in self.slide.levels
        ]
        slide = asdict(replace(self.slide, levels=()))
        said = [_WRITING, self.profile.name, self.kept, dict(self.index), slide, levels, self.dropped_levels]
        running = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
        for number in self.numbers():
            running.update(f"{digest(number)}\n".encode())
        return running.hexdigest()

    def expected(self, source_bytes: int) -> Expected:
        arrays, stored = self.arrays(), len(self.slide.levels)
        whole = [math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in arrays]
        # Codestreams that are kept are the file's own; each derived level is a quarter of the one above.
        a_byte = source_bytes / sum(whole[:stored])
        kept = [is_kept(self.slide, number) for number in range(stored)]
        sizes = [
            size * (a_byte if keep else 1 / _ENCODED[array.codec])
            for size, keep, array in zip(whole, kept, arrays, strict=False)
        ]
        sizes += [sizes[-1] * size / whole[stored - 1] for size in whole[stored:]]
        basis = "source + derived levels" if all(kept) else "decoded ÷ what its codec saves"
        objects = sum(len(list(one.shards())) + 1 for one in arrays) + OBJECTS_BESIDE - 1
        return Expected(round(sum(sizes)) + _METADATA_BYTES, sum(whole) + _METADATA_BYTES, objects, basis)

    def notes(self, told: Sequence[Told]) -> list[str]:
        found = []
        if self.slide.mpp is None:
            found.append("no-physical-size")
        if self.slide.largest_missing:
            found.append("largest-level-missing")
        if len(self.slide.focal_um) > 1 and self.slide.focal_step_um is None:
            found.append("no-focal-distance")
        if any(level.encoding == "lossy" for level in self.slide.levels):
            found.append("slide-encoded-anew")
        if any(one.get("absent") for one in told):
            found.append("slide-without-some-tiles")
        if any(one.get("filled") for one in told):
            found.append("slide-tiles-filled")
        if self.dropped_levels:
            found.append("slide-level-dropped")
        return found

    def arrays(self) -> list[LevelArray]:
        """Of all levels: stored ones, then derived ones."""
        sizes = [(level.height, level.width) for level in self.slide.levels]
        while len(sizes) == len(self.slide.levels) or max(sizes[-1]) >= SMALLEST_LEVEL:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        return level_arrays(
            self.slide, sizes, [level_path(self.path, number) for number in range(len(sizes))]
        )

    def steps(self, told: Sequence[Told]) -> Iterator[Sequence[Part]]:
        arrays = self.arrays()
        last = together(self.slide, len(arrays))
        # Stored levels, and the first derived ones, need the source alone.
        groups = [arrays[number : number + 1] for number in range(last.start)]
        if last:
            groups.append(arrays[last.start : last.stop])
        weight = sum(_pixels(group[0]) for group in groups)
        first: list[Part] = []
        for number, group in enumerate(groups):
            share = _pixels(group[0]) / weight / len(list(group[0].shards()))
            first += self._from_source(number, tuple(group), share)
        yield first
        for above, array in zip(arrays[last.stop - 1 :], arrays[last.stop :], strict=False):
            yield [
                HalvedShard(array, above, plane, (rows.start, rows.stop), (columns.start, columns.stop))
                for plane, rows, columns in array.shards()
            ]

    def begin(self, store: Store, told: Sequence[Told]) -> None:
        arrays = self.arrays()
        filled: Counter[int] = Counter()
        for one in told:
            filled[one.get("level", 0)] += one.get("filled", 0)
        attributes = slide_attributes(
            self.slide, self.kept, arrays, self._origins(arrays), self.profile, filled
        )
        zarr.create_group(store, path=self.path, attributes=attributes)
        for array in arrays:
            array.create(store)

    def row(self, told: Sequence[Told]) -> Mapping[str, Any]:
        slide = self.slide
        step = slide.focal_step_um
        depth = [None if step is None else step / 1000] if len(slide.focal_um) > 1 else []
        arrays = self.arrays()
        return {
            "item": self.path,
            "kind": "slide",
            "modality": self.kept.get("Modality"),
            "manufacturer": self.kept.get("Manufacturer"),
            "axes": slide.axes,
            "shape": list(arrays[0].shape),
            "spacing_mm": [] if slide.mpp is None else [*depth, *(size / 1000 for size in slide.mpp)],
            "uniform_spacing": True,
            "n_channels": arrays[0].shape[0],  # axes begin with c
            "n_slices": len(slide.focal_um),
            "n_levels": len(arrays),
            "dtype": slide.dtype,
            "image_bytes": sum(one.get("bytes", 0) for one in told),
            "source_items": len(self.numbers()),
            **self.index,
        }

    def _from_source(self, number: int, arrays: tuple[LevelArray, ...], share: float) -> Iterator[Part]:
        """Parts of level ``number``, and of the levels made together with it."""
        derived = number == len(self.slide.levels)
        for plane, rows, columns in arrays[0].shards():
            place = ((rows.start, rows.stop), (columns.start, columns.stop))
            stack = self._stack(min(number, len(self.slide.levels) - 1), plane)
            if is_kept(self.slide, number):
                yield KeptShard(arrays[0], stack, plane, *place, share, number)
            else:
                yield MadeShards(arrays, stack, plane, *place, derived, share, number)

    def _stack(self, number: int, plane: int) -> tuple[Stored, ...]:
        """A plane of stored level ``number``, and of the larger ones up to level 0."""
        return tuple(
            Stored((level.height, level.width), (level.tile_height, level.tile_width), level.planes[plane])
            for level in self.slide.levels[number::-1]
        )

    def _origins(self, arrays: Sequence[LevelArray]) -> list[str]:
        found = []
        for number, array in enumerate(arrays):
            if number >= len(self.slide.levels):
                found.append("derived")
            elif is_kept(self.slide, number):
                found.append(f"original-{self.slide.levels[number].encoding}")
            else:
                found.append("re-encoded-jpeg" if array.codec == "jpeg" else "lossless")
        return found


def _pixels(array: LevelArray) -> int:
    return array.height * array.width
