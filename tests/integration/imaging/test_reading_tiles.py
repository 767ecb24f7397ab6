"""The reader of many chunks at once gives what zarr gives, to the bit: codecs, edges, holes, axes, processes."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from archive import tissue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from staged_copies import served
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

from imaging import standalone
from imaging.reading import StagedCopy, open_staged
from imaging.reading.chunk_codecs import blosc_part, jpeg_head
from imaging.reading.patches import BatchedPatchReader
from imaging.reading.shards import ShardDamagedError, ShardIndices
from imaging.reading.staged_array import StagedArray
from imaging.reading.windows import PatchImage, Window
from imaging.staging.pathology.arrays import LevelArray


@dataclass
class InMemory:
    """A source with a zarr store and nothing more."""

    store: Store = field(default_factory=MemoryStore)
    name: str = "memory"

    def read(self, path: str) -> bytes | None:
        raise NotImplementedError

    def children(self, folder: str) -> list[str]:
        raise NotImplementedError


def volume(store: Store, path: str, values: np.ndarray[Any, Any], **how: Any) -> zarr.Array[Any]:
    array = zarr.create_array(store, name=path, shape=values.shape, dtype=values.dtype, **how)
    array[...] = values
    return array


def noise(shape: tuple[int, ...], dtype: str = "i2") -> np.ndarray[Any, Any]:
    drawn = np.random.default_rng(7).normal(size=shape).cumsum(axis=-1) * 50
    return drawn.astype(dtype)


def blosc(name: str, level: int, shuffle: str) -> BloscCodec:
    return BloscCodec(cname=name, clevel=level, shuffle=shuffle, typesize=2)  # type: ignore[arg-type]


COMPRESSORS = {
    "blosc-zstd": blosc("zstd", 1, "shuffle"),
    "blosc-lz4": blosc("lz4", 5, "bitshuffle"),
    "blosc-lz4-plain": blosc("lz4", 1, "noshuffle"),
    "zstd": ZstdCodec(level=1),
    "raw": None,
}


@pytest.mark.parametrize("name", COMPRESSORS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_box_of_any_array_is_what_zarr_reads(name: str, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.tuples(*[st.integers(1, 90)] * 3)))
    chunk = tuple(data.draw(st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40))))
    shard = tuple(one * data.draw(st.integers(1, 3)) for one in chunk)
    values = noise(shape)
    plain = volume(
        MemoryStore(), "a", values, chunks=chunk, shards=shard, compressors=COMPRESSORS[name], fill_value=9
    )
    array = StagedArray(plain.async_array, StagedCopy(InMemory(plain.store)).tiles(2))
    assert array.sharded is not None
    box: list[Any] = []
    for size in shape:
        start = data.draw(st.integers(0, size - 1))
        box.append(data.draw(st.sampled_from([start, slice(start, data.draw(st.integers(start, size + 5)))])))
    where: Any = tuple(box)
    read = array[where]
    assert np.array_equal(read, values[where])
    assert np.asarray(read).shape == np.asarray(plain[where]).shape
    assert np.asarray(read).dtype == plain.dtype


@pytest.mark.parametrize(
    "selection",
    [
        ..., 5, -1, np.int64(3), slice(None), slice(-7, -2), slice(6, 3), slice(None, None, 3),
        (slice(2, 4), ..., 5), (..., slice(1, 9)), (1, 2, 3), (np.array([1, 4]),),
        (slice(0, 3), [1, 5]), (slice(0, 0),), np.ones((12, 40, 50), bool),
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_selection_is_answered_as_zarr_does(selection: Any) -> None:
    plain = volume(MemoryStore(), "a", noise((12, 40, 50)), chunks=(4, 16, 16), shards=(8, 32, 64))
    read = StagedArray(plain.async_array, StagedCopy(InMemory(plain.store)).tiles())[selection]
    expected: Any = plain[selection]
    assert type(read) is type(expected)
    assert np.array_equal(read, expected)
    assert read.shape == expected.shape


@pytest.mark.parametrize("selection", [12, (0, 0, 0, 0), (..., ...), "a"])
def test_what_zarr_refuses_is_refused(selection: Any) -> None:
    plain = volume(MemoryStore(), "a", noise((12, 4, 5)), chunks=(4, 4, 4), shards=(8, 4, 8))
    with pytest.raises((IndexError, ValueError, TypeError)):
        StagedArray(plain.async_array, StagedCopy(InMemory(plain.store)).tiles())[selection]


@pytest.mark.parametrize(
    "how",
    [
        {"compressors": GzipCodec()},
        {"shards": None},
        {"dtype": ">i2", "compressors": None},
    ],
    ids=["another codec", "not sharded", "swapped bytes"],
)
def test_what_this_reader_does_not_know_zarr_reads(how: dict[str, Any]) -> None:
    dtype = how.pop("dtype", "i2")
    values = noise((12, 40, 50), dtype)
    plain = volume(MemoryStore(), "a", values, **{"chunks": (4, 16, 16), "shards": (8, 32, 64), **how})
    array = StagedArray(plain.async_array, StagedCopy(InMemory(plain.store)).tiles())
    assert np.array_equal(array[3:9, 5:40], values[3:9, 5:40])


@pytest.mark.parametrize("location", ["start", "end"])
def test_chunks_and_shards_that_are_missing_are_fill_value(location: str) -> None:
    store = MemoryStore()
    codec = ShardingCodec(chunk_shape=(8, 8), index_location=location)  # type: ignore[arg-type]
    plain = zarr.create(
        (64, 64), store=store, chunks=(32, 32), dtype="i4", codecs=[codec], fill_value=-5, zarr_format=3
    )
    plain[3:12, 40:50] = 7
    array = StagedArray(plain.async_array, StagedCopy(InMemory(store)).tiles())
    assert array.sharded is not None
    assert array.sharded.index_first == (location == "start")
    assert np.array_equal(array[:], plain[:])
    assert set(np.unique(array[:])) == {-5, 7}


# colour JPEG


def jpegs(store: MemoryStore, path: str, pixels: np.ndarray[Any, Any], subsampling: str) -> None:
    """A slide (y, x, 3) as staging lays it out; the tile in its corner is missing."""
    level = LevelArray(path, *pixels.shape[:2], (64, 64), (3, 3), "jpeg", 3, "uint8", (3,), 255, 85)
    level.create(store)
    padded = np.pad(pixels, ((0, 64), (0, 64), (0, 0)), mode="edge")
    for plane, rows, columns in level.shards():
        streams = [
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(padded[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]),
                level=85,
                subsampling=subsampling,
            )
            if row + column > 0
            else b""
            for row in rows
            for column in columns
        ]
        shard = level.shard([len(one) for one in streams], bytearray(b"".join(streams)), len(columns))
        key = level.shard_path(plane, rows[0], columns[0])
        store._store_dict[key] = cpu.Buffer.from_bytes(bytes(shard))


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
def test_a_jpeg_decoded_down_to_a_row_is_the_whole_one_so_far(subsampling: str) -> None:
    image = tissue(239, 250)
    stream = imagecodecs.jpeg8_encode(image, level=70, subsampling=subsampling)
    whole = imagecodecs.jpeg8_decode(stream)
    head = jpeg_head(stream)
    assert head.height == 239
    for rows in range(1, 239 - head.beyond):
        copy = bytearray(stream)
        stated = head.rows_for(rows)
        copy[head.height_at : head.height_at + 2] = stated.to_bytes(2)
        assert np.array_equal(imagecodecs.jpeg8_decode(copy)[:rows], whole[:rows]), rows


def test_rows_of_anything_but_a_baseline_jpeg_are_never_left_out() -> None:
    stream = imagecodecs.jpeg8_encode(tissue(64, 64), level=70)
    assert jpeg_head(stream).height == 64
    as_progressive = stream.replace(b"\xff\xc0", b"\xff\xc2", 1)
    assert jpeg_head(as_progressive).height == 0
    assert jpeg_head(stream[:30]).height == 0


@pytest.mark.parametrize("level", [1, 5])
@pytest.mark.parametrize("nbytes", [1 << 20, (1 << 20) + 70000, 300001])
def test_blocks_of_a_blosc_buffer_are_decoded_alone(level: int, nbytes: int) -> None:
    raw = noise((nbytes // 2 + 1,)).tobytes()[:nbytes]
    stream = imagecodecs.blosc_encode(raw, level=level, compressor="zstd", typesize=2, shuffle=1)
    cut = 0
    for first, stop in [(0, 10), (nbytes // 2, nbytes // 2 + 9), (nbytes - 3, nbytes), (1000, 70000)]:
        part = blosc_part(stream, first, stop, nbytes)
        if part is not None:
            cut += 1
            assert part.first <= first < stop <= part.stop
            assert bytes(imagecodecs.blosc_decode(part.stream)) == raw[part.first : part.stop]
    assert cut > 0 or level == 5
    assert blosc_part(stream, 0, 10, nbytes + 1) is None
    assert blosc_part(stream[:40], 0, 10, nbytes) is None


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    places=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 332)), min_size=1, max_size=12),
    subsampling=st.sampled_from(["444", "420"]),
    threads=st.integers(1, 3),
)
def test_windows_of_a_slide_are_its_pixels_and_fill_beyond(
    size: tuple[int, int], places: list[tuple[int, int]], subsampling: str, threads: int
) -> None:
    store, source = SLIDES[subsampling]
    plain = zarr.open_array(store, path="slides/s/0", mode="r")
    copy = StagedCopy(source)
    image = PatchImage("slides/s", "", 0, "cyx", plain.shape, plain.shards or (), (1, *size))
    windows = [Window(0, 0, 0, y, x) for y, x in places]
    patches = BatchedPatchReader(copy, [image], fill=3, threads=threads).read(windows)
    whole = np.full((3, 600, 600), 3, np.uint8)
    whole[:, :400, :333] = plain[:]
    for (y, x), patch in zip(places, patches, strict=True):
        assert patch.shape == (3, 1, *size)
        assert np.array_equal(patch[:, 0], whole[:, y : y + size[0], x : x + size[1]])


def _slide(subsampling: str) -> tuple[Store, InMemory]:
    store = MemoryStore()
    jpegs(store, "slides/s/0", tissue(400, 333), subsampling)
    return store, InMemory(store)


SLIDES = {each: _slide(each) for each in ("444", "420")}


def test_windows_of_several_shapes_and_images_come_in_the_order_asked_for() -> None:
    store, source = SLIDES["444"]
    values = noise((2, 9, 60, 70))
    volume(store, "series/v/0", values, chunks=(1, 4, 16, 16), shards=(1, 8, 32, 80), overwrite=True)
    slide = PatchImage("slides/s", "", 0, "cyx", (3, 400, 333), (3, 192, 192), (1, 50, 60))
    series = PatchImage("series/v", "", 0, "tzyx", values.shape, (1, 8, 32, 80), (4, 30, 20))
    reader = BatchedPatchReader(StagedCopy(source), [slide, series], fill=-1)
    windows = [Window(1, 1, 2, 10, 20), Window(0, 0, 0, 7, 9), Window(1, 0, 7, 50, 60), Window(0, 0, 0, 0, 0)]
    deep, coloured, edge, _ = reader.read(windows)
    assert np.array_equal(deep[0], values[1, 2:6, 10:40, 20:40])
    assert coloured.shape == (3, 1, 50, 60)
    assert np.array_equal(edge[0, :2, :10, :10], values[0, 7:, 50:, 60:])
    assert (edge[0, 2:] == -1).all()
    with pytest.raises(IndexError):
        reader.read([Window(1, 2, 0, 0, 0)])
    with pytest.raises(IndexError):
        reader.read([Window(0, 0, 0, -1, 0)])


# damage and processes


def test_a_damaged_index_and_a_damaged_chunk_give_no_pixels() -> None:
    for at, message in ((-10, "checksum"), (5, "decoded")):
        store = MemoryStore()
        plain = volume(
            store, "a", noise((16, 64, 64)), chunks=(4, 32, 32), shards=(16, 64, 64), compressors=ZstdCodec()
        )
        (key,) = [key for key in store._store_dict if "/c/" in key]
        raw = bytearray(store._store_dict[key].to_bytes())
        raw[at] ^= 0xFF
        store._store_dict[key] = type(store._store_dict[key]).from_bytes(bytes(raw))
        array = StagedArray(plain.async_array, StagedCopy(InMemory(store)).tiles(2))
        with pytest.raises(ShardDamagedError, match=message):
            array[:]


def test_indices_kept_are_bounded_and_read_again() -> None:
    plain = volume(MemoryStore(), "a", noise((8, 640, 64)), chunks=(4, 16, 16), shards=(8, 32, 32))
    copy = StagedCopy(InMemory(plain.store))
    array = StagedArray(plain.async_array, copy.tiles())
    assert array.sharded is not None
    kept = ShardIndices(limit_bytes=2000)
    source = copy.tiles()._source
    first = kept.of(array.sharded, list(range(40)), source)
    assert kept._bytes <= 2000
    again = kept.of(array.sharded, list(range(40)), source)
    for one, other in zip(first, again, strict=True):
        assert one is not None and other is not None and np.array_equal(one, other)


@pytest.fixture(scope="module")
def job(small_copy: tuple[Path, Path]) -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(prefix="hdrs-") as short,
        served({"ct": small_copy}, Path(short, "data.sock")),
    ):
        yield


@pytest.fixture(params=["in a job", "standalone"])
def copy(request: pytest.FixtureRequest, small_copy: tuple[Path, Path], job: None) -> StagedCopy:
    return open_staged("ct") if request.param == "in a job" else standalone.open_staged(*small_copy)


def test_staged_arrays_of_every_level_are_what_zarr_reads_of_the_store(copy: StagedCopy) -> None:
    for slide in copy.slides():
        for level in range(len(copy.multiscale(f"slides/{slide}").levels)):
            array = copy.slide(slide, level)
            assert array.sharded is not None
            plain = zarr.open_array(copy.store, path=array.path, mode="r")
            assert np.array_equal(array[:], plain[:])
    for series in copy.series():
        array = copy.volume(series)
        assert array.sharded is not None
        assert np.array_equal(array[:], zarr.open_array(copy.store, path=array.path, mode="r")[:])


def _sum(array: StagedArray) -> int:
    return int(np.asarray(array[:], np.int64).sum())


def test_arrays_that_were_read_go_to_other_processes(copy: StagedCopy) -> None:
    array = copy.slide(copy.slides()[0])
    expected = _sum(array)  # its threads and indices are here
    again = pickle.loads(pickle.dumps(array))
    assert isinstance(again, StagedArray)
    assert again.sharded is not None
    for start in ("fork", "spawn"):
        with multiprocessing.get_context(start).Pool(1) as pool:
            assert pool.apply(_sum, (array,)) == expected
