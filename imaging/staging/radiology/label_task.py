"""A segmentation to be written: one label map, or a channel a segment where segments overlap or are fractional."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import LABEL_SCHEMA, NAMESPACE, level_path, series_path
from imaging.staging import index
from imaging.staging.items import Bench, Expected, Made, Part, Told
from imaging.staging.ngff import plain
from imaging.staging.radiology.arrays import ArrayPlan, Slab, stored_dtype
from imaging.staging.radiology.metadata import axis_t, ngff, placement, source_of
from imaging.staging.radiology.segmentation import Segmentation, described
from imaging.staging.radiology.slabs import Plane, SlabPart, checked
from imaging.staging.radiology.task import Links
from imaging.staging.radiology.volume import AxisT, Slice
from imaging.staging.refusals import ItemRefused, Refused
from imaging.staging.selectable import RawValues, raw_values


@dataclass(frozen=True, slots=True)
class OverlapPart:
    """Tells whether any two segments share a voxel, in slices where more than one segment has a frame."""

    number: int
    frames: tuple[tuple[int, ...], ...]
    """Frames of each such slice."""
    shape: tuple[int, int]
    share: float = 0.0
    path: str = ""
    inputs: tuple[str, ...] = ()

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        wanted = [frame for slice_ in self.frames for frame in slice_]
        starts = set(np.cumsum([0, *map(len, self.frames)]).tolist())
        overlap = False
        seen = np.zeros(self.shape, dtype=bool)
        try:
            for at, (header, blob) in enumerate(bench.reader.ask(self.number, "frames", frames=wanted)):
                if at in starts:
                    seen[:] = False
                set_ = checked(header, blob, self.shape, np.dtype(np.uint8)) != 0
                overlap = overlap or bool((seen & set_).any())
                seen |= set_
        except Refused as refused:
            raise ItemRefused(self.number, refused.code) from None
        return Made(b"", {"overlap": overlap})


@dataclass(frozen=True, slots=True)
class LabelTask:
    """A segmentation with what may be said of it."""

    item: str
    segmentation: Segmentation
    kept: dict[str, Value]
    profile: Profile
    links: Links
    noted: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return series_path(self.item)

    def numbers(self) -> list[int]:
        return [self.segmentation.instance.number]

    def selectable(self) -> list[RawValues]:
        return raw_values([self.segmentation.header.attributes])

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        made_of = self.segmentation
        said = [self.profile.name, self.links, self.kept, self.noted]
        said += [made_of.depth, made_of.numbers, made_of.geometry, made_of.on_source]
        running = hashlib.sha256(f"{said}\n".encode())
        running.update(digest(made_of.instance.number).encode())
        for (segment, place), frame in sorted(made_of.cells.items()):
            running.update(f"{segment}:{place}:{frame}\n".encode())
        return running.hexdigest()

    def expected(self, source_bytes: int) -> Expected:
        # Whether segments overlap, and so take a channel each, is known only when they are decoded.
        return self._array(()).expected(self.segmentation.header.transfer_syntax, source_bytes, 1)

    def notes(self, told: Sequence[Told]) -> list[str]:
        found = [*self.noted]
        if _overlap(told):
            found.append("label-overlap")
        if self.segmentation.geometry is None:
            found.append("geometry-missing")
        elif not self.segmentation.on_source:
            found.append("label-own-grid")
        return sorted(set(found))

    def steps(self, told: Sequence[Told]) -> Iterator[Sequence[Part]]:
        shared = self._shared_slices()
        if shared:
            size = (self.segmentation.header.rows, self.segmentation.header.columns)
            yield [OverlapPart(self.segmentation.instance.number, shared, size)]
        array = self._array(told)
        slabs = list(array.slabs())
        yield [
            SlabPart(
                slab.path(level_path(self.path)), array, self._planes(array, slab), slab.shape, 1 / len(slabs)
            )
            for slab in slabs
        ]

    def begin(self, store: Store, told: Sequence[Told]) -> None:
        made_of, array = self.segmentation, self._array(told)
        header, geometry, t = made_of.header, made_of.geometry, self._axis_t()
        slices = [Slice(made_of.instance, 0)]
        ours: dict[str, Any] = {
            "schema": LABEL_SCHEMA,
            **placement(geometry, None),
            "encoding": "channels" if "c" in array.axes else "label-map",
            "segments": described(made_of),
            "rescale": {"slope": 1.0, "intercept": 0.0, "per_slice": False},
            "source": source_of(header, slices),
            **self.links.as_dict(),
            "dicom": plain(self.kept),
            "dicom_per_slice": {},
            "deidentification": self.profile.stamp(),
        }
        if "c" in array.axes:
            ours["channels"] = [{"name": f"segment-{number}"} for number in made_of.numbers]
        if made_of.is_fractional:
            most = header.attributes.get("MaximumFractionalValue")
            ours["fraction_of"] = int(most) if isinstance(most, int) and 1 <= most <= 255 else 255
        if t is not None:
            ours["axis_t"] = axis_t(t)
        ome = ngff(array.axes, geometry, t, None)
        if "c" not in array.axes:
            source = self.links.aligned_to
            ome["image-label"] = {} if source is None else {"source": {"image": f"../{source.split('/')[1]}"}}
        zarr.create_group(store, path=self.path, attributes={"ome": ome, NAMESPACE: ours})
        array.create(store, level_path(self.path))

    def row(self, told: Sequence[Told]) -> Mapping[str, Any]:
        made_of, array, t = self.segmentation, self._array(told), self._axis_t()
        return {
            **index.described(self.kept),
            "item": self.path,
            "kind": "label",
            "aligned_to": self.links.aligned_to,
            "same_grid": self.links.same_grid if self.links.aligned_to else None,
            "axes": array.axes,
            "shape": list(array.shape),
            "spacing_mm": [] if made_of.geometry is None else list(made_of.geometry.one_spacing_mm),
            "uniform_spacing": made_of.geometry is None or made_of.geometry.uniform,
            "n_slices": made_of.depth,
            "n_times": 1 if t is None else made_of.depth,
            "axis_t": None if t is None else t.meaning,
            "n_channels": len(made_of.numbers) if "c" in array.axes else 1,
            "n_segments": len(described(made_of)),
            "n_levels": 1,
            "dtype": array.dtype_name,
            "lossy": made_of.header.lossy,
            "image_bytes": math.prod(array.shape) * array.itemsize,
            "source_items": 1,
        }

    def _axis_t(self) -> AxisT | None:
        if self.segmentation.geometry is not None or self.segmentation.depth == 1:
            return None
        return AxisT("index", "", tuple(float(number) for number in range(self.segmentation.depth)))

    def _shared_slices(self) -> tuple[tuple[int, ...], ...]:
        """Frames of the slices in which several segments have one."""
        made_of = self.segmentation
        if made_of.is_map or made_of.is_fractional:
            return ()
        by_slice: dict[int, list[int]] = {}
        for (_, place), frame in sorted(made_of.cells.items()):
            by_slice.setdefault(place, []).append(frame)
        return tuple(tuple(frames) for _, frames in sorted(by_slice.items()) if len(frames) > 1)

    def _array(self, told: Sequence[Told]) -> ArrayPlan:
        made_of = self.segmentation
        header = made_of.header
        sizes = {"y": header.rows, "x": header.columns, "c": len(made_of.numbers)}
        names = "yx"
        if made_of.geometry is not None:
            names, sizes["z"] = "zyx", made_of.depth
        if not made_of.is_map and (made_of.is_fractional or _overlap(told)):
            names = "c" + names
        if made_of.geometry is None and made_of.depth > 1:
            names, sizes["t"] = "t" + names, made_of.depth
        if made_of.is_map:
            dtype = stored_dtype(header)
        else:
            dtype = "|u1" if "c" in names or max(made_of.numbers) < 256 else "<u2"
        return ArrayPlan(names, tuple(sizes[name] for name in names), dtype, is_label=True)

    def _planes(self, array: ArrayPlan, slab: Slab) -> tuple[Plane, ...]:
        made_of = self.segmentation
        along = slab.slices if made_of.geometry is not None else slab.times
        channels = slab.channels if "c" in array.axes else range(max(1, len(made_of.numbers)))
        binary = not made_of.is_map and "c" not in array.axes
        planes = [
            Plane(
                place - along.start, made_of.instance.number, frame, made_of.numbers[segment] if binary else 0
            )
            for (segment, place), frame in made_of.cells.items()
            if segment in channels and place in along
        ]
        return tuple(sorted(planes, key=lambda plane: plane.frame))


def _overlap(told: Sequence[Told]) -> bool:
    return any(one.get("overlap", False) for one in told)
