"""A volume to be written: its parts, its attributes, its row of the index."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zarr.abc.store import Store

from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import series_path
from imaging.staging.items import Part, Told
from imaging.staging.radiology.assembly import Volume
from imaging.staging.radiology.metadata import volume_attributes
from imaging.staging.radiology.volume_writer import create_volume, slab_parts, volume_dtype


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
        return sorted({one.instance.number for one in self.volume.all_slices()})

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        running = hashlib.sha256(self.profile.name.encode())
        for one in self.volume.all_slices():
            running.update(f"{digest(one.instance.number)}:{one.frame}\n".encode())
        return running.hexdigest()

    def notes(self, told: Sequence[Told]) -> list[str]:
        found = []
        if not self.volume.uniform:
            found.append("uneven-spacing")
        if self.volume.tilted and self.volume.uniform:
            found.append("tilted")
        if len(self.volume.slices) > 1:
            found.append("time-axis")
        if any(one.instance.header.lossy for one in self.volume.all_slices()):
            found.append("lossy-source")
        return found

    def steps(self, told: Sequence[Told]) -> Iterator[Sequence[Part]]:
        yield slab_parts(self.path, self.volume)

    def begin(self, store: Store, told: Sequence[Told]) -> None:
        attributes = volume_attributes(self.volume, self.kept, self.per_slice, self.profile)
        create_volume(store, self.path, self.volume, attributes)

    def row(self, told: Sequence[Told]) -> Mapping[str, Any]:
        volume, kept = self.volume, self.kept
        dtype = volume_dtype(volume)
        slices = volume.all_slices()
        return {
            "item": self.path,
            "kind": "volume",
            "patient": kept.get("PatientID"),
            "study": kept.get("StudyInstanceUID"),
            "series": kept.get("SeriesInstanceUID"),
            "frame_of_reference": kept.get("FrameOfReferenceUID"),
            "modality": kept.get("Modality"),
            "body_part": kept.get("BodyPartExamined"),
            "study_date": kept.get("StudyDate"),
            "age_years": _years(kept.get("PatientAge")),
            "sex": kept.get("PatientSex"),
            "manufacturer": kept.get("Manufacturer"),
            "axes": "zyx" if len(volume.slices) == 1 else "tzyx",
            "shape": list(volume.shape),
            "spacing_mm": list(volume.spacing_mm),
            "uniform_spacing": volume.uniform,
            "n_slices": len(slices),
            "n_levels": 1,
            "dtype": dtype.name,
            "image_bytes": math.prod(volume.shape) * dtype.itemsize,
            "source_items": len({one.instance.number for one in slices}),
        }


def _years(age: Value | None) -> int | None:
    """Whole years of a de-identified Age String."""
    if not isinstance(age, str):
        return None
    number = int(age[:3])
    return {"Y": number, "M": number // 12, "W": number // 52, "D": number // 365}[age[3]]
