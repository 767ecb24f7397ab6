"""Chunks, shards and slabs of any array: every voxel in exactly one, none larger than memory allows."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from imaging.staging import index
from imaging.staging.radiology.arrays import SHARD_BYTES, ArrayPlan

REPO = Path(__file__).resolve().parents[3]
AXES = ["yx", "cyx", "zyx", "tyx", "tcyx", "tzyx", "czyx", "tczyx"]


@given(
    st.sampled_from(AXES),
    st.integers(1, 3000),
    st.integers(1, 400),
    st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
    st.sampled_from(["|u1", "<i2", "<f4", "<f8"]),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_slabs_cover_an_array_exactly_and_fit_in_memory(
    axes: str, times: int, slices: int, plane: tuple[int, int], dtype: str, label: bool
) -> None:
    sizes = {"t": times, "c": 3, "z": slices, "y": plane[0], "x": plane[1]}
    plan = ArrayPlan(axes, tuple(sizes[name] for name in axes), dtype, is_label=label)
    for chunk, shard in zip(plan.chunks, plan.shards, strict=True):
        assert shard % chunk == 0
    one_plane = math.prod(plan.shards[-2:]) * plan.itemsize * (3 if "c" in axes and not label else 1)
    assert math.prod(plan.shards) * plan.itemsize <= max(SHARD_BYTES, one_plane)
    assert math.prod(plan.chunks) * plan.itemsize <= SHARD_BYTES
    slabs = list(plan.slabs())
    assert sum(math.prod(slab.shape) for slab in slabs) == math.prod(plan.shape)
    assert len({slab.place for slab in slabs}) == len(slabs)
    for slab in slabs:
        for size, shard, at, whole in zip(slab.shape, plan.shards, slab.place, plan.shape, strict=True):
            assert size == min(shard, whole - at * shard)


@pytest.mark.parametrize(
    ("axes", "shape", "label"),
    [
        ("zyx", (70, 150, 130), False),
        ("tzyx", (5, 9, 40, 33), False),
        ("tcyx", (7, 3, 60, 50), False),
        ("tczyx", (2, 3, 5, 20, 30), False),
        ("czyx", (4, 6, 50, 40), True),
        ("yx", (700, 600), False),
    ],
)
def test_shards_made_one_by_one_are_the_array(
    axes: str, shape: tuple[int, ...], label: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging.staging.radiology.arrays.SHARD_BYTES", 1 << 20)
    plan = ArrayPlan(axes, shape, "<i2", is_label=label)
    values = np.random.default_rng(1).integers(-900, 900, shape).astype(np.int16)
    store: Any = MemoryStore()
    for slab in plan.slabs():
        part = {"t": slab.times, "c": slab.channels, "z": slab.slices}
        where = tuple(
            slice(part[name].start, part[name].stop) if name in part else slice(None) for name in axes
        )
        shard = plan.encoded(np.ascontiguousarray(values[where]))
        store._store_dict[slab.path("a")] = zarr.core.buffer.cpu.Buffer.from_bytes(shard)
    before = set(store._store_dict)
    array = plan.create(store, "a")  # metadata come last, and leave what lies there
    assert before < set(store._store_dict)
    assert np.array_equal(np.asarray(array[:]), values)


def test_the_page_on_the_copy_names_every_column_of_the_index() -> None:
    page = (REPO / "docs" / "formats" / "imaging-copy.md").read_text("utf-8")
    table = page.split("## `index.parquet`")[1]
    named = [
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    ]
    assert named == index.SCHEMA.names
