"""How large the data of each case are: ``small`` tries everything out, ``full`` is what figures are quoted of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """``seconds``: how long a rate is measured.  Pixels are those of one side."""

    name: str
    ct_slices: int
    ct_pixels: int
    mr_times: int
    mr_slices: int
    mr_pixels: int
    slide_tiles: int
    """Of one side."""
    crop_tiles: int
    """Of the slide that slow peers get instead."""
    zstd_pixels: int
    object_bytes: int
    objects: int
    memory_steps: tuple[int, ...]
    """Input of each step, bytes."""
    memory_budget: str
    series: tuple[int, ...]
    items: tuple[int, ...]
    opened: tuple[tuple[int, int], ...]
    """Copies that are opened: (items, objects an item)."""
    seconds: float


_MIB = 1 << 20
_GIB = 1 << 30
_FULL = Size(
    name="full",
    ct_slices=1000,
    ct_pixels=512,
    mr_times=100,
    mr_slices=50,
    mr_pixels=128,
    slide_tiles=172,
    crop_tiles=34,
    zstd_pixels=12_288,
    object_bytes=64 * _MIB,
    objects=8,
    memory_steps=(_GIB, 2 * _GIB, 4 * _GIB),
    memory_budget="512MiB",
    series=(100, 1000, 5000),
    items=(100, 1000, 10_000),
    opened=((10_000, 100), (100_000, 10)),
    seconds=2.0,
)
SIZES: dict[str, Size] = {
    "small": Size(
        name="small",
        ct_slices=64,
        ct_pixels=128,
        mr_times=4,
        mr_slices=8,
        mr_pixels=64,
        slide_tiles=18,
        crop_tiles=8,
        zstd_pixels=2048,
        object_bytes=_MIB,
        objects=8,
        memory_steps=(8 * _MIB, 16 * _MIB),
        memory_budget="64MiB",
        series=(10, 20),
        items=(50, 200),
        opened=((200, 10),),
        seconds=0.3,
    ),
    "full": _FULL,
    "huge": Size(
        **{
            **{name: getattr(_FULL, name) for name in Size.__slots__},
            "name": "huge",
            "memory_steps": (_GIB, 2 * _GIB, 4 * _GIB, 10 * _GIB),
            "series": (100, 1000, 10_000, 100_000),
            "items": (100, 1000, 10_000, 100_000),
        }
    ),
}
"""``huge`` adds what takes long: 10 GB of input, 10⁵ series."""
