"""Sealed copies to read from in tests: staged ones, and one made by hand whose arrays have every kind of axis."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from archive import series, slide

from connectors.sources.folder import FolderSource
from hdrs_hpc.core import strict_json
from hdrs_hpc.node.dataserver import DataServer
from hdrs_hpc.node.meter import Meter
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging import standalone
from imaging.staging import index
from imaging.staging.engine import StagePlan
from imaging.standalone.staging import stage_folder
from tests.support.opt_outs import stated


def stage_archive(archive: Path, dest: Path, secret_file: Path) -> None:
    """Stage a folder of DICOM and slides into a standalone copy; a secret that is not there is made."""
    if not secret_file.exists():
        standalone.new_secret(secret_file)
    secret = standalone.read_secret(secret_file)
    plan = StagePlan("any", "", standalone.deid_key(secret), opt_out=stated(), max_failed=0, workers=2)
    stage_folder(FolderSource(archive), dest, secret, plan)


def small_archive(folder: Path) -> Path:
    """Three CT series of two patients, one MR series, two slides."""
    series(folder / "ct", name="a", patient="P-1", slices=5)
    series(folder / "ct", name="b", patient="P-1", slices=3, spacing=1.25)
    series(folder / "ct", name="c", patient="P-2", slices=4, RescaleSlope=2, RescaleIntercept=-100)
    series(folder / "mr", name="m", patient="P-3", slices=3, template="MR_small.dcm")
    slide(folder / "he" / "one.svs", height=1501, width=2103)
    slide(folder / "he" / "two.svs", height=700, width=1000)
    return folder


def seal_by_hand(
    dest: Path,
    secret_file: Path,
    images: dict[str, tuple[dict[str, Any], np.ndarray[Any, Any], str]],
    others: dict[str, bytes] | None = None,
) -> None:
    """A standalone copy of ``{"series/<id>": (our namespace, array, axes)}``, an index that lists them, and other
    objects by their paths."""
    standalone.new_secret(secret_file)
    secret, copy = standalone.read_secret(secret_file), "handmade"
    builder = CopyBuilder(
        DirectoryStore(dest / "objects"),
        standalone.copy_key(secret, copy),
        "copy",
        standalone.PROJECT,
        copy,
        dest / "journal",
    )
    (dest / "journal").mkdir(parents=True)
    rows = []
    for path, (ours, array, axes) in images.items():
        scale = [2.5 if axis == "z" else 0.5 if axis in "yx" else 1.0 for axis in axes]
        kinds = {"t": "time", "c": "channel"}
        ome = {
            "version": "0.5",
            "multiscales": [
                {
                    "axes": [
                        {"name": axis, "type": kinds.get(axis, "space")}
                        | ({"unit": "millimeter"} if axis in "zyx" else {})
                        for axis in axes
                    ],
                    "datasets": [
                        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
                    ],
                }
            ],
        }
        store = builder.store()
        zarr.create_group(store, path=path, attributes={"ome": ome, "hdrs-hpc": ours})
        chunks = tuple(
            min(256, size) if axis in "zyx" else 1 for axis, size in zip(axes, array.shape, strict=True)
        )
        zarr.create_array(
            store,
            name=f"{path}/0",
            data=array,
            chunks=chunks,
            dimension_names=list(axes),
            config={"write_empty_chunks": True},
        )
        builder.finish_item(path, {})
        rows.append({"item": path, "kind": "volume", "patient": f"of-{path[-1]}", "axes": axes})
    blank: dict[str, Any] = dict.fromkeys(index.SCHEMA.names)
    table = pa.Table.from_pylist([blank | row for row in rows], schema=index.SCHEMA)
    builder.put("index.parquet", index.to_bytes(table))
    for path, data in (others or {}).items():
        builder.put(path, data)
        if path.count("/") > 1:
            builder.finish_item(path.rpartition("/")[0], {})
    sealed = builder.seal()
    builder.close()
    described = {"schema": standalone.SCHEMA, "copy": copy, "digest": sealed.manifest_digest}
    (dest / "copy.json").write_bytes(strict_json.dumps(described))


@contextlib.contextmanager
def served(copies: dict[str, tuple[Path, Path]], socket: Path) -> Iterator[None]:
    """Be in a job whose inputs are these standalone copies (folder, secret file)."""
    opened = {
        name: standalone.open_copy(dest, standalone.read_secret(secret))
        for name, (dest, secret) in copies.items()
    }
    server = DataServer(socket, opened, Meter())
    before = os.environ.get("HDRS_DATA_SOCKET")
    os.environ["HDRS_DATA_SOCKET"] = str(socket)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HDRS_DATA_SOCKET"]
        else:
            os.environ["HDRS_DATA_SOCKET"] = before
        server.close()


def plain_copy(dest: Path, secret_file: Path, folder: Path) -> Path:
    """The unsealed objects as files, as a reader that knows nothing of sealing sees a zarr hierarchy."""
    copy = standalone.open_copy(dest, standalone.read_secret(secret_file))
    for path in copy.paths():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(copy.read(path))
    return folder
