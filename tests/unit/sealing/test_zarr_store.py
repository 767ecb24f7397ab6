"""Sealed copies as zarr stores: zarr's own suites, the canary scan of raw bytes, arrays, Dask and xarray-like use."""

from __future__ import annotations

import inspect
import io
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import zarr
import zarr.abc.store
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from zarr.abc.store import RangeByteRequest
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.core.buffer import Buffer, cpu, default_buffer_prototype
from zarr.core.sync import sync
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine
from zarr.testing.store import StoreTests

from hdrs_hpc.sealing.cipher import KeyStaysHereError, SealBrokenError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.manifest import SealedObjectMissingError
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.zarr_store import BuildingStore, SealedStore

PIPELINES = [
    "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarr.core.codec_pipeline.FusedCodecPipeline",
]
PROTOTYPE = default_buffer_prototype()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.usefixtures("anyio_backend")
class TestBuildingStore(StoreTests[BuildingStore, cpu.Buffer]):
    """zarr's own suite in the building phase."""

    store_cls = BuildingStore
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store_kwargs(self, bench: Any) -> dict[str, Any]:
        return {"builder": bench.builder()}

    async def set(self, store: BuildingStore, key: str, value: Buffer) -> None:
        store._builder.put(key, value.to_bytes())

    async def get(self, store: BuildingStore, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(store._builder.read(key))

    def test_store_repr(self, store: BuildingStore) -> None:
        assert repr(store) == "BuildingStore()"

    def test_store_supports_writes(self, store: BuildingStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: BuildingStore) -> None:
        assert store.supports_listing

    async def test_serializable_store(self, store: BuildingStore) -> None:
        """Where zarr wants pickling, the key must stay."""
        for dumps in (pickle.dumps, cloudpickle.dumps):
            with pytest.raises(KeyStaysHereError):
                dumps(store)


@pytest.mark.parametrize("machine", [ZarrStoreStateMachine, ZarrHierarchyStateMachine])
def test_zarrs_state_machines_find_no_difference(machine: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        copies = iter(range(10**6))

        def start() -> Any:
            folder = Path(place) / str(next(copies))
            store = _UnsyncedStore(folder / "objects")
            return machine(CopyBuilder(store, bytes(32), "copy", "p", "c", folder / "journals").store())

        run_state_machine_as_test(
            start, settings=settings(max_examples=15, stateful_step_count=20, deadline=None)
        )


class _UnsyncedStore(DirectoryStore):
    """A thousand small objects need not each reach the medium."""

    def put(self, name: str, data: Any) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        with (self._path / name).open("xb") as file:
            for piece in [data] if isinstance(data, bytes) else data:
                file.write(piece)


def test_every_method_of_zarrs_store_is_ours_or_known_to_go_through_ours() -> None:
    """A method that a later zarr adds must be looked at before it is used."""
    goes_through_ours = {
        "open", "close", "is_empty", "_check_writable", "_ensure_open", "_open", "_get_many", "_set_many",
        "get_ranges", "get_ranges_sync", "getsize_prefix", "supports_consolidated_metadata",
        "supports_partial_writes",
    }  # fmt: skip
    theirs = {
        name
        for name, member in vars(zarr.abc.store.Store).items()
        if (callable(member) or isinstance(member, property | classmethod)) and not name.startswith("__")
    }
    for ours in (SealedStore, BuildingStore):
        missing = {
            name
            for name in theirs - goes_through_ours
            if inspect.getattr_static(ours, name) is inspect.getattr_static(zarr.abc.store.Store, name)
        }
        assert missing - ({"read_only"} if ours is SealedStore else set()) == set()
        assert ours.__mro__[2] is zarr.abc.store.Store  # and no WrapperStore


class TestSealedStore:
    @pytest.fixture
    def store(self, bench: Any) -> SealedStore:
        builder = bench.builder()
        group = zarr.group(builder.store(), path="series")
        array = group.create_array("A", shape=(64, 64), chunks=(8, 8), shards=(32, 32), dtype="u2")
        array[:] = np.arange(64 * 64, dtype="u2").reshape(64, 64)
        builder.finish_item("series/A", {})
        return SealedStore(bench.open(builder.seal()))

    def test_arrays_and_groups_are_read(self, store: SealedStore) -> None:
        group = zarr.open_group(store, path="series", mode="r")
        assert [name for name, _ in group.members()] == ["A"]
        assert np.array_equal(group["A"][:], np.arange(4096, dtype="u2").reshape(64, 64))
        assert group["A"][33, 5] == 33 * 64 + 5

    def test_nothing_can_be_written(self, store: SealedStore) -> None:
        value = cpu.Buffer.from_bytes(b"x")
        assert store.read_only and not store.supports_writes and not store.supports_deletes
        for call in (
            lambda: sync(store.set("a", value)),
            lambda: sync(store.set_if_not_exists("a", value)),
            lambda: sync(store._set_many([("a", value)])),
            lambda: sync(store.delete("series/A/zarr.json")),
            lambda: sync(store.delete_dir("series")),
            lambda: sync(store.clear()),
            lambda: store.set_sync("a", value),
            lambda: store.delete_sync("series/A/zarr.json"),
            lambda: store.with_read_only(False),
            lambda: SealedStore(store._copy, read_only=False),
        ):
            with pytest.raises(ValueError, match="read-only"):
                call()
        with pytest.raises(ValueError, match="read-only"):
            zarr.open_array(store, path="series/A", mode="r+")[0, 0] = 1

    def test_true_absence_is_none(self, store: SealedStore) -> None:
        assert store.get_sync("series/A/c/9/9") is None
        assert store.get_sync("") is None
        assert sync(store.get("nothing", PROTOTYPE, RangeByteRequest(0, 1))) is None
        assert not sync(store.exists("nothing"))
        with pytest.raises(FileNotFoundError):
            sync(store.getsize("nothing"))

    @pytest.mark.parametrize("pipeline", PIPELINES)
    @pytest.mark.parametrize("whole", [True, False], ids=["whole array", "one pixel"])
    @pytest.mark.parametrize("attack", ["delete", "flip", "swap"])
    def test_a_damaged_chunk_is_an_error_and_not_fill_value(
        self, bench: Any, store: SealedStore, pipeline: str, whole: bool, attack: str
    ) -> None:
        one, other = (
            bench.folder / "objects" / store._copy.find(f"series/A/c/{chunk}").name
            for chunk in ("0/0", "1/1")
        )
        if attack == "delete":
            one.unlink()
        elif attack == "swap":
            data = other.read_bytes()
            other.write_bytes(one.read_bytes())
            one.write_bytes(data)
        else:
            damaged = bytearray(one.read_bytes())
            damaged[60] ^= 1
            one.write_bytes(damaged)
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            array = zarr.open_array(store, path="series/A", mode="r")
            with pytest.raises((SealBrokenError, BaseExceptionGroup)) as raised:
                array[:] if whole else array[5, 5]
        expected = SealedObjectMissingError if attack == "delete" else SealBrokenError
        assert _contains(raised.value, expected)

    def test_it_is_not_pickled_by_anyone(self, bench: Any, store: SealedStore) -> None:
        array = zarr.open_array(store, path="series/A", mode="r")
        for thing in (store, store._copy, array, da.from_zarr(array)):
            for dumps in (pickle.dumps, cloudpickle.dumps):
                with pytest.raises(KeyStaysHereError):
                    dumps(thing)

    def test_the_key_shows_in_no_text(self, bench: Any, store: SealedStore) -> None:
        shown = f"{store!r} {store} {store._copy!r} {zarr.open_array(store, path='series/A', mode='r')!r}"
        assert bench.key.hex() not in shown and repr(bench.key) not in shown


def _contains(error: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_contains(inner, kind) for inner in error.exceptions)
    return isinstance(error, kind)


def test_the_building_store_is_read_only_once_sealed(bench: Any) -> None:
    builder = bench.builder()
    store = builder.store()
    store.set_sync("a", cpu.Buffer.from_bytes(b"x"))
    assert not store.read_only
    builder.seal()
    assert store.read_only
    for call in (
        lambda: store.set_sync("b", cpu.Buffer.from_bytes(b"x")),
        lambda: sync(store.set("b", cpu.Buffer.from_bytes(b"x"))),
        lambda: sync(store.delete("a")),
        lambda: sync(store.clear()),
    ):
        with pytest.raises(ValueError, match="read-only"):
            call()
    assert store.get_sync("a").to_bytes() == b"x"


CANARY = b"CANARY-1883-04-05-NELSON"


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("shards", [None, (64, 64)], ids=["chunks", "shards"])
def test_no_plaintext_in_any_byte_on_disk(bench: Any, pipeline: str, shards: Any) -> None:
    """Uncompressed arrays, so that a leak would be seen; written whole, in part, rewritten, deleted, renamed."""
    pixels = np.frombuffer((CANARY * 1000)[: 128 * 128], dtype="u1").reshape(128, 128)

    def scan() -> None:
        for name, data in bench.raw().items():
            for needle in (b"CANARY", b"NELSON", CANARY[:8], b"zarr_format", b"dimension_names", b"SERIES77"):
                assert needle not in data, name
                assert needle not in name.encode()
                assert needle.decode().encode("utf-16-le") not in data

    with zarr.config.set({"codec_pipeline.path": pipeline}):
        builder = bench.builder()
        store = builder.store()
        array = zarr.create_array(
            store,
            name="series/SERIES77",
            shape=(128, 128),
            chunks=(16, 16),
            shards=shards,
            dtype="u1",
            compressors=None,
            dimension_names=("y", "x"),
            attributes={"name": CANARY.decode()},
        )
        array[:] = pixels
        scan()
        array[3:70, 5:9] = pixels[3:70, 5:9]  # partial: read, modify, write
        array[0, 0] = 67
        scan()
        assert np.array_equal(array[:], pixels)
        assert np.array_equal(array[17:40, 100], pixels[17:40, 100])
        scan()
        array.attrs["more"] = CANARY.decode()
        # "rename": every object read from one path and written to another, the first removed
        for key in builder.paths("series/SERIES77/"):
            value = store.get_sync(key)
            store.set_sync(key.replace("SERIES77", "SERIES77b"), value)
            store.delete_sync(key)
        scan()
        zarr.create_array(store, name="series/SERIES77", shape=(4,), dtype="u1", overwrite=True)[:] = 65
        sync(store.delete_dir("series/SERIES77"))
        builder.finish_item("series/SERIES77b", {"name": CANARY.decode()})
        builder.put("index.parquet", CANARY * 10)
        scan()
        ref = builder.seal()
        scan()
        sealed = zarr.open_array(SealedStore(bench.open(ref)), path="series/SERIES77b", mode="r")
        assert np.array_equal(sealed[:], pixels)
        assert sealed.attrs["name"] == CANARY.decode()
        scan()


def test_the_canary_scan_can_fail(bench: Any) -> None:
    """The same array in a plain store does show: the positive control of the scan above."""
    pixels = np.frombuffer((CANARY * 1000)[: 128 * 128], dtype="u1").reshape(128, 128)
    array = zarr.create_array(
        str(bench.folder / "plain"), shape=(128, 128), chunks=(16, 16), dtype="u1", compressors=None
    )
    array[:] = pixels
    assert any(b"CANARY" in data for data in bench.raw().values())


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(
    "compressor", [ZstdCodec(level=1), BloscCodec(cname="zstd", shuffle="shuffle", typesize=2)]
)
def test_dask_writes_and_reads_sharded_arrays(bench: Any, pipeline: str, compressor: Any) -> None:
    volume = np.random.default_rng(1).integers(0, 4096, (40, 256, 256), dtype="u2")
    volume[:, :100] = 0  # whole chunks of fill value
    with (
        zarr.config.set({"codec_pipeline.path": pipeline}),
        dask.config.set(scheduler="threads", num_workers=4),
    ):
        builder = bench.builder()
        array = zarr.create_array(
            builder.store(),
            name="series/A/0",
            shape=volume.shape,
            chunks=(8, 64, 64),
            shards=(16, 128, 128),
            dtype="u2",
            compressors=compressor,
            config={"write_empty_chunks": True},
            dimension_names=("z", "y", "x"),
        )
        da.from_array(volume, chunks=(16, 128, 128)).store(array, lock=False)
        assert np.array_equal(array[:], volume)
        builder.finish_item("series/A", {})
        ref = builder.seal()
        # Every shard is there, those of nothing but fill value too: which exist must not draw the patient's outline.
        assert len(list(bench.open(ref).paths("series/A/0/c/"))) == 3 * 2 * 2
        lazy = da.from_zarr(zarr.open_array(SealedStore(bench.open(ref)), path="series/A/0", mode="r"))
        assert np.array_equal(lazy.compute(), volume)
        assert lazy[3:20, 60:200, 17].mean().compute() == pytest.approx(volume[3:20, 60:200, 17].mean())


def test_partial_reads_of_large_shards_open_only_what_they_need(bench: Any) -> None:
    """One inner chunk of a shard of 4 MiB costs a few segments, not the shard."""
    builder = bench.builder()
    data = np.random.default_rng(2).integers(0, 65535, (1024, 2048), dtype="u2")
    zarr.create_array(
        builder.store(), name="slides/S/0", shape=data.shape, chunks=(64, 64), shards=data.shape, dtype="u2",
        compressors=None,
    )[:] = data  # fmt: skip
    builder.finish_item("slides/S", {})
    copy = bench.open(builder.seal())
    fetched: list[int] = []

    class Counting(DirectoryStore):
        def get_into(self, name: str, start: int, view: memoryview) -> int:
            fetched.append(super().get_into(name, start, view))
            return fetched[-1]

    copy._objects = Counting(bench.folder / "objects")
    array = zarr.open_array(SealedStore(copy), path="slides/S/0", mode="r")
    fetched.clear()
    assert np.array_equal(array[64:128, 128:192], data[64:128, 128:192])
    assert 0 < sum(fetched) < 5 * 65_536


def test_reading_a_copy_needs_neither_zarr_nor_anything_heavy() -> None:
    """The node agent imports it before the sandbox."""
    program = (
        "import sys, hdrs_hpc.sealing.reader, hdrs_hpc.sealing.copy_builder, "
        "hdrs_hpc.sealing.objects.directory\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(tops - set(sys.stdlib_module_names) - {'__main__', '__mp_main__'}))"
    )
    out = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60)
    assert out.returncode == 0, out.stderr
    allowed = {"hdrs_hpc", "cryptography", "cffi", "_cffi_backend"}
    tops = set(eval(out.stdout))
    assert not {name for name in tops - allowed if not name.startswith(("_", "sitecustomize"))}


def test_reads_cross_the_object_store_as_ranges(bench: Any) -> None:
    data = os.urandom(500_000)
    builder = bench.builder()
    builder.put("index.parquet", data)
    copy = bench.open(builder.seal())
    store = SealedStore(copy)
    parts = sync(
        store.get_partial_values(
            PROTOTYPE, [("index.parquet", RangeByteRequest(5, 70_000)), ("index.parquet", None)]
        )
    )
    assert [part.to_bytes() for part in parts if part] == [data[5:70_000], data]
    assert io.BytesIO(copy.read("index.parquet")).read() == data


@pytest.fixture(autouse=True)
def _no_change_of_zarrs_settings() -> Iterator[None]:
    before = zarr.config.get("codec_pipeline.path")
    yield
    assert zarr.config.get("codec_pipeline.path") == before
