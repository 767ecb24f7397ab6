"""Large objects through a store: ``write sealed|plain CODEC DEST SHARDS BYTES SOURCE [SECRET]`` of an array whose
shards are so large, ``read sealed|plain SECONDS SOURCE [SECRET]`` of one that was written so.

The array is real CT, read from SOURCE (a ``.npy``) before the clock starts.  Writing ends when its files are on the
medium, for both alike.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from benchmarks.contenders import tell
from benchmarks.measure import sync_tree

ITEM = "series/ct"
ARRAY = f"{ITEM}/0"
HOLDER = "bench"


def write(
    kind: str, codec: str, dest: Path, shards: int, shard_bytes: int, source: Path, secret: Path | None
) -> None:
    slices = np.load(source)
    side = slices.shape[-1]
    depth = max(1, shard_bytes // (side * side * slices.itemsize))
    volume = np.resize(slices, (depth * shards, side, side))
    if kind == "plain":
        started = time.perf_counter()
        _create(LocalStore(dest), volume, depth, codec)
        sync_tree(dest)
        taken = time.perf_counter() - started
    else:
        taken = _write_sealed(dest, volume, depth, codec, secret)
    tell(mb_per_s=volume.nbytes / taken / 1e6, seconds=taken)


def _write_sealed(dest: Path, volume: Any, depth: int, codec: str, secret: Path | None) -> float:
    from hdrs_hpc.core import strict_json
    from hdrs_hpc.sealing.copy_builder import CopyBuilder
    from hdrs_hpc.sealing.objects.directory import DirectoryStore
    from imaging import standalone

    assert secret is not None
    (dest / "journal").mkdir(parents=True)
    key = standalone.copy_key(standalone.read_secret(secret), HOLDER)
    started = time.perf_counter()
    builder = CopyBuilder(
        DirectoryStore(dest / "objects"), key, "copy", standalone.PROJECT, HOLDER, dest / "journal"
    )
    _create(builder.store(), volume, depth, codec)
    builder.finish_item(ITEM, {})
    sealed = builder.seal()
    builder.close()
    sync_tree(dest)
    taken = time.perf_counter() - started
    described = {"schema": standalone.SCHEMA, "copy": HOLDER, "digest": sealed.manifest_digest}
    (dest / "copy.json").write_bytes(strict_json.dumps(described))
    return taken


def _create(store: Store, volume: Any, depth: int, codec: str) -> None:
    side = volume.shape[-1]
    within = 32 if depth % 32 == 0 else 1
    array = zarr.create_array(
        store,
        name=ARRAY,
        shape=volume.shape,
        dtype=volume.dtype,
        chunks=(within, min(128, side), min(128, side)),
        shards=(depth, side, side),
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=2)
        if codec == "blosc"
        else None,
        dimension_names=["z", "y", "x"],
        config={"write_empty_chunks": True},
    )
    array[...] = volume


def read(kind: str, seconds: float, source: Path, secret: Path | None) -> None:
    if kind == "plain":
        _read(LocalStore(source, read_only=True), seconds)
        return
    from benchmarks.contenders.job import job

    assert secret is not None
    with job({"ct": source}, secret):
        from imaging.reading.store import StagedStore

        _read(StagedStore("ct"), seconds)


def _read(store: Store, seconds: float) -> None:
    array: Any = zarr.open_array(store, path=ARRAY, mode="r")
    first = np.asarray(array[...])
    count, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < seconds or count < 2:
        np.asarray(array[...])
        count += 1
    tell(mb_per_s=count * first.nbytes / taken / 1e6, checksum=float(first[0].sum()))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        _kind, _codec, _dest, _shards, _bytes, _source, *_secret = sys.argv[2:]
        write(
            _kind,
            _codec,
            Path(_dest),
            int(_shards),
            int(_bytes),
            Path(_source),
            Path(_secret[0]) if _secret else None,
        )
    else:
        _kind, _seconds, _source, *_secret = sys.argv[2:]
        read(_kind, float(_seconds), Path(_source), Path(_secret[0]) if _secret else None)
