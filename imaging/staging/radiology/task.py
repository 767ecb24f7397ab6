"""A volume, image or cine to be written: its parts, its attributes, its row of the index."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from imaging.deid.pixels.boxes import Box
from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import NAMESPACE, level_path, series_path
from imaging.staging import index
from imaging.staging.items import Expected, Part, Told
from imaging.staging.radiology.burned_in import TextRules, found_text, text_parts
from imaging.staging.radiology.faces import face_fill, face_part, found_face
from imaging.staging.radiology.metadata import padding, pixel_size, units, volume_attributes
from imaging.staging.radiology.slabs import CLIPPED, Cut, slab_parts, volume_array
from imaging.staging.radiology.volume import Volume
from imaging.staging.selectable import RawValues, raw_values


@dataclass(frozen=True, slots=True)
class Links:
    """How an item relates to another: the item whose space it shares, whether it has the same voxels, and the items
    that it says it was made of.  An item named here may itself be missing, where its pixels proved broken."""

    aligned_to: str | None = None
    same_grid: bool = False
    made_of: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        if self.aligned_to is None and not self.made_of:
            return {}
        return {"aligned_to": self.aligned_to, "same_grid": self.same_grid, "made_of": list(self.made_of)}


@dataclass(frozen=True, slots=True)
class VolumeTask:
    """A volume with what may be said of it."""

    item: str
    volume: Volume
    kept: dict[str, Value]
    per_slice: dict[str, list[Value]]
    profile: Profile
    links: Links = field(default_factory=Links)
    noted: tuple[str, ...] = ()
    text: TextRules | None = None
    """None: nothing was asked."""
    deface: bool = False
    """Whether the grant wants faces removed and this may show one."""

    @property
    def path(self) -> str:
        return series_path(self.item)

    @property
    def kind(self) -> str:
        """For the index: ``dose``, ``map``, ``volume``, ``cine`` or ``image``."""
        nature = self.volume.nature
        if nature in ("dose", "map"):
            return nature
        if self.volume.geometry is not None:
            return "volume"
        return "image" if self.volume.axis_t is None else "cine"

    def numbers(self) -> list[int]:
        return sorted({one.instance.number for one in self.volume.all_slices()})

    def selectable(self) -> list[RawValues]:
        headers = {one.instance.number: one.instance.header for one in self.volume.all_slices()}
        return raw_values(header.attributes for header in headers.values())

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        volume = self.volume
        text = None if self.text is None else self.text.said(digest)
        # Item numbers are in none of it: those of another version of the dataset name other files.
        said = [self.profile.name, self.links, text, self.deface, self.kept, self.per_slice, self.noted]
        of_its_series = [volume.notes, volume.axis_t, volume.geometry]
        running = hashlib.sha256(f"{said}\n{of_its_series}\n".encode())
        for one in volume.all_slices():
            running.update(f"{digest(one.instance.number)}:{one.frame}\n".encode())
        return running.hexdigest()

    def expected(self, source_bytes: int) -> Expected:
        syntax = self.volume.header.transfer_syntax
        return volume_array(self.volume).expected(syntax, source_bytes, len(self.numbers()))

    def notes(self, told: Sequence[Told]) -> list[str]:
        header, slices = self.volume.header, self.volume.all_slices()
        found = [*self.volume.notes, *self.noted]
        if any(one.instance.header.lossy for one in slices):
            found.append("lossy-source")
        if _clipped(told):
            found.append("overshoot-clipped")
        if header.photometric == "MONOCHROME1":
            found.append("inverted-greyscale")
        if header.modality_lut is not None:
            found.append("modality-lut")
        if len({one.instance.header.padding for one in slices}) > 1:
            found.append("padding-varies")
        if self._blanks(told):
            found.append("blanked")
        face = found_face(told)
        if face is not None and face.in_view:
            found.append("defaced")
        return sorted(set(found))

    def steps(self, told: Sequence[Told]) -> Iterator[Sequence[Part]]:
        if self.text is not None and self.text.policy.find_text:
            yield list(text_parts(self.volume))
        if self.deface:
            yield [face_part(self.volume)]
        pads = padding(self.volume.all_slices())
        fill = None if pads is None or not self._holds(pads["first"]) else pads["first"]
        face = found_face(told)
        cut = None
        if face is not None and face.in_view:
            cut = Cut(face, face_fill(self.volume, np.dtype(volume_array(self.volume).dtype)))
        yield slab_parts(self.path, self.volume, self._blanks(told), fill, cut)

    def _blanks(self, told: Sequence[Told]) -> dict[int, tuple[Box, ...]]:
        """Raises :class:`ItemRefused` for an instance that is held or refused."""
        if self.text is None:
            return {}
        return self.text.boxes(found_text(told) if self.text.policy.find_text else None)

    def _holds(self, value: int) -> bool:
        dtype = np.dtype(volume_array(self.volume).dtype)
        return dtype.kind in "iu" and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max

    def begin(self, store: Store, told: Sequence[Told]) -> None:
        attributes = volume_attributes(
            self.volume, self.kept, self.per_slice, self.profile, self.links.as_dict()
        )
        if _clipped(told):
            attributes[NAMESPACE]["source"]["clipped_values"] = _clipped(told)
        blanked = sorted({box for boxes in self._blanks(told).values() for box in boxes})
        if blanked:
            attributes[NAMESPACE]["blanked"] = [
                {"rows": [box.y0, box.y1 - 1], "columns": [box.x0, box.x1 - 1]} for box in blanked
            ]
        face = found_face(told)
        if face is not None:
            attributes[NAMESPACE]["defaced"] = face.in_view
        # Shards lie there already: nothing may be overwritten, which would remove them.
        zarr.create_group(store, path=self.path, attributes=attributes)
        volume_array(self.volume).create(store, level_path(self.path))

    def row(self, told: Sequence[Told]) -> Mapping[str, Any]:
        volume = self.volume
        array = volume_array(volume)
        slices = volume.all_slices()
        size = pixel_size(volume)
        spacing = size if volume.geometry is None else volume.geometry.one_spacing_mm
        axis = volume.axis_t
        b_values = [one for one in (axis, *axis.beside) if one.meaning == "b-value"] if axis else []
        return {
            **index.described(self.kept),
            "item": self.path,
            "kind": self.kind,
            "aligned_to": self.links.aligned_to,
            "same_grid": self.links.same_grid if self.links.aligned_to else None,
            "axes": array.axes,
            "shape": list(array.shape),
            "spacing_mm": list(spacing or ()),
            "uniform_spacing": volume.geometry is None or volume.geometry.uniform,
            "n_slices": len(slices),
            "n_times": len(volume.slices),
            "axis_t": None if axis is None else axis.meaning,
            "n_b_values": len(set(b_values[0].values)) if b_values else None,
            "n_channels": volume.header.samples,
            "n_levels": 1,
            "dtype": array.dtype_name,
            "units": units(volume.header),
            "lossy": any(one.instance.header.lossy for one in slices),
            "image_bytes": math.prod(array.shape) * array.itemsize,
            "source_items": len({one.instance.number for one in slices}),
        }


def _clipped(told: Sequence[Told]) -> int:
    return sum(int(one.get(CLIPPED, 0)) for one in told)
