"""Removing the face from head scans where a grant requires it: found once at low resolution, cut slab by slab."""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.deid.body_parts import BODY_PARTS
from imaging.deid.pixels.deface import Defaced, DefaceRefused, deface
from imaging.staging.items import Bench, Made, Told
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.slabs import checked
from imaging.staging.radiology.volume import Slice, Volume
from imaging.staging.refusals import ItemRefused, Refused

KEYWORDS = frozenset({"BodyPartExamined"})
UNCERTAIN = "deface-uncertain"
WITH_A_FACE = frozenset(
    {
        "BRAIN", "CAROTID", "CEREBELLUM", "CHEEK", "CIRCLEOFWILLIS", "CORNEA", "CSPINE", "EAR", "EYE", "EYELID",
        "FACE", "HEAD", "HEADNECK", "IAC", "JAW", "JAWREGION", "LARYNX", "MANDIBLE", "MAXILLA", "MOUTH", "NECK",
        "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "NOSE", "ORBIT", "PAROTID", "PHARYNX", "SCALP", "SCLERA",
        "SINUS", "SKULL", "TMJ", "TONGUE", "WHOLEBODY", "ZYGOMA",
    }
)  # fmt: skip
"""Body parts whose scans may show a face."""
_AIR_HU = -1000


def may_show_a_face(volume: Volume) -> bool:
    """Tomographic volumes, unless they say that they show a part of the body without a face."""
    if volume.geometry is None or volume.nature != "tomographic":
        return False
    told = {_body_part(one.instance.header) for one in volume.all_slices()}
    return any(part in WITH_A_FACE or part not in BODY_PARTS for part in told)


def _body_part(header: InstanceHeader) -> str:
    value = header.attributes.get("BodyPartExamined")
    return value.strip().upper() if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class FacePart:
    """Tells which voxels are the face, on a 2 mm grid; nothing else of the image is in what it tells."""

    slices: tuple[Slice, ...]
    """Of the first time: the head is where it is."""
    affine: tuple[tuple[float, ...], ...]
    modality: str
    share: float = 0.0
    path: str = ""
    inputs: tuple[str, ...] = ()

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        try:
            found = deface(_Lazily(self.slices, bench), np.asarray(self.affine), self.modality)
        except DefaceRefused:
            raise Refused(UNCERTAIN) from None
        return Made(b"", {"face": FaceMask.of(found).as_dict()})


def face_part(volume: Volume) -> FacePart:
    """Raises :class:`Refused` where the geometry allows no certain answer."""
    geometry = volume.geometry
    if geometry is None or not geometry.uniform or volume.header.samples != 1:
        raise Refused(UNCERTAIN)
    affine = tuple(tuple(float(part) for part in row) for row in geometry.affine)
    return FacePart(volume.slices[0], affine, volume.header.modality)


class _Lazily:
    """A volume that decodes one slice when asked, in physical values."""

    def __init__(self, slices: Sequence[Slice], bench: Bench) -> None:
        first = slices[0].instance.header
        self.shape = (len(slices), first.rows, first.columns)
        self._slices, self._bench = slices, bench

    def __getitem__(self, z: int) -> NDArray[np.float32]:
        one = self._slices[z]
        number = one.instance.number
        try:
            ((header, blob),) = self._bench.reader.ask(number, "frames", frames=[one.frame])
            pixels = checked(header, blob, self.shape[1:], np.dtype(np.float64))
        except (Refused, ValueError) as fault:
            code = fault.code if isinstance(fault, Refused) else "truncated-pixel-data"
            raise ItemRefused(number, code) from None
        return np.asarray(pixels * one.header.slope + one.header.intercept, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class FaceMask:
    """A :class:`Defaced` that travels: its low-resolution mask packed."""

    in_view: bool
    removed: float
    packed: str
    grid: tuple[int, ...]
    to_index: tuple[tuple[float, ...], ...]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, found: Defaced) -> FaceMask:
        packed = base64.b64encode(zlib.compress(np.packbits(found._removed).tobytes(), 9)).decode()
        rows = tuple(tuple(float(part) for part in row) for row in found._to_index)
        return cls(
            found.face_in_view, found.surface_removed, packed, tuple(found._removed.shape), rows, found._shape
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "in_view": self.in_view,
            "removed": self.removed,
            "packed": self.packed,
            "grid": list(self.grid),
            "to_index": [list(row) for row in self.to_index],
            "shape": list(self.shape),
        }

    def slices(self, start: int, stop: int) -> NDArray[np.bool_]:
        """True where a voxel goes: (z, y, x), full resolution."""
        return _unpacked(self).mask_for(start, stop)


@functools.lru_cache(maxsize=8)
def _unpacked(mask: FaceMask) -> Defaced:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(mask.packed)), dtype=np.uint8)
    removed = np.unpackbits(bits, count=int(np.prod(mask.grid))).astype(bool).reshape(mask.grid)
    return Defaced(mask.in_view, mask.removed, removed, np.asarray(mask.to_index), mask.shape)


def found_face(told: Sequence[Told]) -> FaceMask | None:
    """What a :class:`FacePart` told."""
    for one in told:
        if "face" in one:
            said = one["face"]
            z, y, x = said["shape"]
            rows = tuple(tuple(row) for row in said["to_index"])
            return FaceMask(
                said["in_view"], said["removed"], said["packed"], tuple(said["grid"]), rows, (z, y, x)
            )
    return None


def face_fill(volume: Volume, dtype: np.dtype[Any]) -> float:
    """The stored value of what is cut away: air in CT, nothing in MR."""
    first = volume.slices[0][0].header
    value = 0.0
    if volume.header.modality == "CT" and first.slope:
        value = (_AIR_HU - first.intercept) / first.slope
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return int(min(max(round(value), limits.min), limits.max))
    return value
