"""``open_staged``: one input of a job as index table, volumes and slides."""

from __future__ import annotations

import io
from typing import Any

import dask.array
import pyarrow
import pyarrow.parquet
import zarr

from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.protocol.datasocket import MISSING, Range
from imaging import layout
from imaging.reading.client import NoSuchInputError, client_here
from imaging.reading.store import StagedStore


class NoSuchItemError(NotFoundError):
    code = "no-such-item"
    meaning = "The staged copy has no series, slide or object of that name."
    remedy = "`index()` lists what it has."


class StagedCopy:
    """One staged input.  Pickles as a reference, holds no key, and may be used in any process of the job."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.store = StagedStore(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return (StagedCopy, (self.name,))

    def __repr__(self) -> str:
        return f"StagedCopy({self.name!r})"

    def index(self) -> pyarrow.Table:
        """One row a series or slide; the columns are those of ``imaging/staging/index.py``."""
        return pyarrow.parquet.read_table(io.BytesIO(self.read(layout.INDEX)))

    def series(self) -> list[str]:
        """Ids of all series, sorted."""
        return self._ids(layout.SERIES)

    def slides(self) -> list[str]:
        """Ids of all slides, sorted."""
        return self._ids(layout.SLIDES)

    def volume(self, item: str) -> zarr.Array[Any]:
        """A series as it was stored: (z, y, x) or (t, z, y, x), raw integers.  Raises NoSuchItemError.

        ``item`` is an id, or the ``item`` column of the index.
        """
        return self._array(layout.level_path(layout.series_path(_id_of(item))))

    def volume_lazy(self, item: str) -> dask.array.Array:
        """:meth:`volume` as a Dask array, one task a chunk (a shard where there are shards)."""
        return _lazy(self.volume(item))

    def slide(self, item: str, level: int = 0) -> zarr.Array[Any]:
        """One resolution of a slide: (c, y, x), uint8; level 0 is full size.  Raises NoSuchItemError."""
        return self._array(layout.level_path(layout.slide_path(_id_of(item)), level))

    def slide_lazy(self, item: str, level: int = 0) -> dask.array.Array:
        """:meth:`slide` as a Dask array, one task a shard."""
        return _lazy(self.slide(item, level))

    def attributes(self, group: str) -> dict[str, Any]:
        """What staging noted beside the pixels of ``series/<id>`` or ``slides/<id>``: spacing_mm, rescale, …"""
        try:
            found = zarr.open_group(self.store, path=group, mode="r").attrs.asdict()
        except FileNotFoundError:
            raise NoSuchItemError(where=group) from None
        noted = found.get(layout.NAMESPACE, {})
        return dict(noted) if isinstance(noted, dict) else {}

    def read(self, path: str) -> bytes:
        """A whole object, for example ``report.json``.  Raises NoSuchItemError."""
        client = client_here()
        size = client.sizes(self.name, [path])[0]
        if size == MISSING:
            raise NoSuchItemError(where=path)
        data = client.read(self.name, [Range(path, 0, size)])[0]
        assert data is not None  # a copy never changes
        return bytes(data)

    def _array(self, path: str) -> zarr.Array[Any]:
        try:
            return zarr.open_array(self.store, path=path, mode="r")
        except FileNotFoundError:
            raise NoSuchItemError(where=path) from None

    def _ids(self, folder: str) -> list[str]:
        paths = client_here().paths(self.name, f"{folder}/")
        return sorted({path.split("/")[1] for path in paths if path.count("/") >= 2})


def open_staged(name: str) -> StagedCopy:
    """Input ``name`` of the running job.  Raises NotInJobError, NoSuchInputError."""
    if name not in client_here().inputs():
        raise NoSuchInputError(where=name)
    return StagedCopy(name)


def _id_of(item: str) -> str:
    """Of ``series/<id>`` and ``slides/<id>``, as the index names them, the id."""
    return item.rpartition("/")[2]


def _lazy(array: zarr.Array[Any]) -> dask.array.Array:
    chunks = array.shards or array.chunks
    lazy: dask.array.Array = dask.array.from_zarr(array, chunks=chunks)  # type: ignore[no-untyped-call]
    return lazy
