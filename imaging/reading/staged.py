"""``StagedCopy``: index table, volumes and slides of one staged copy, wherever its bytes come from."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pyarrow
import pyarrow.parquet
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from hdrs_hpc.core.errors import NotFoundError
from imaging import layout
from imaging.reading.geometry import Geometry, geometry_of
from imaging.reading.multiscale import Multiscale
from imaging.reading.ranges import LendsRanges, StoreRanges
from imaging.reading.staged_array import StagedArray
from imaging.reading.tiles import TileReader
from imaging.reading.values import Modality, modality_of

if TYPE_CHECKING:
    import dask.array
    from xarray import DataArray, DataTree

type Values = Literal["stored", "physical"]
"""Raw integers, or what they measure as float32 (:mod:`imaging.reading.values`)."""


class NoSuchItemError(NotFoundError):
    code = "no-such-item"
    meaning = "The staged copy has no series, slide or object of that name."
    remedy = "`index()` lists what it has."


class CopySource(Protocol):
    """Where a copy's bytes come from.  Pickles as a reference: no key, no data.

    One that is :class:`imaging.reading.ranges.LendsRanges` too is read faster.
    """

    @property
    def name(self) -> str: ...

    @property
    def store(self) -> Store:
        """Read-only; usable in any thread, and after a fork."""
        ...

    def read(self, path: str) -> bytes | None:
        """A whole object; None if there is none of that path."""
        ...

    def children(self, folder: str) -> list[str]:
        """Names directly below a folder, sorted."""
        ...


class StagedCopy:
    """One staged copy.  Pickles as a reference and may be used in any process that can reach its source.

    ``item`` is an id (of ``series()`` or ``slides()``), or the ``item`` column of the index.  What takes an item
    raises NoSuchItemError.  Axes of arrays are always those of their ``dimension_names``: some of ``t c z y x``, in
    this order, the last two always there.
    """

    def __init__(self, source: CopySource) -> None:
        self._source = source
        self._tiles = self.tiles()

    def __reduce__(self) -> tuple[Any, ...]:
        return (StagedCopy, (self._source,))

    def __repr__(self) -> str:
        return f"StagedCopy({self.name!r})"

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def store(self) -> Store:
        """The zarr store, for whatever reads zarr v3."""
        return self._source.store

    def tiles(self, threads: int | None = None) -> TileReader:
        """What reads many boxes of this copy's arrays at once; ``threads`` as there."""
        source = self._source
        return TileReader(source if isinstance(source, LendsRanges) else StoreRanges(source.store), threads)

    def index(self) -> pyarrow.Table:
        """One row a series, slide or table; the columns are those of ``imaging/staging/index.py``."""
        return self._parquet(layout.INDEX)

    def table(self, item: str | None = None) -> pyarrow.Table:
        """The rows of a linked table, or of all tables of the copy one after another (a column that one lacks is
        null there).  ``patient`` joins on the index's.  Raises NoSuchItemError.

        :meth:`columns` tells how each column was made.
        """
        items = self.tables() if item is None else [id_of(item)]
        objects = [path for one in items for path in self._rows_of(one)]
        if not objects:
            raise NoSuchItemError(where=item or layout.TABLES)
        return pyarrow.concat_tables([self._parquet(path) for path in objects], promote_options="default")

    def columns(self, item: str) -> list[dict[str, Any]]:
        """``name``, ``rule`` and ``type`` of each column of a linked table.  Raises NoSuchItemError."""
        described = json.loads(self.read(f"{layout.table_path(id_of(item))}/table.json"))
        return list(described["columns"])

    def tables(self) -> list[str]:
        """Ids of all linked tables, sorted."""
        return self._ids(layout.TABLES)

    def _rows_of(self, item: str) -> list[str]:
        folder = layout.table_path(item)
        numbers = [name.removesuffix(".parquet") for name in self._source.children(folder)]
        return [
            f"{folder}/{number}.parquet" for number in sorted(int(one) for one in numbers if one.isdecimal())
        ]

    def _parquet(self, path: str) -> pyarrow.Table:
        # Without threads of Arrow's: one that still starts when the process ends aborts it.
        return pyarrow.parquet.ParquetFile(io.BytesIO(self.read(path))).read(use_threads=False)

    def series(self) -> list[str]:
        """Ids of all series, sorted."""
        return self._ids(layout.SERIES)

    def slides(self) -> list[str]:
        """Ids of all slides, sorted."""
        return self._ids(layout.SLIDES)

    def volume(self, item: str) -> StagedArray:
        """A series as it was stored, raw integers: (z, y, x), or with t or c before."""
        return self._array(layout.level_path(layout.series_path(id_of(item))))

    def volume_lazy(self, item: str) -> dask.array.Array:
        """:meth:`volume` as a Dask array, one task a shard."""
        return _lazy(self.volume(item))

    def slide(self, item: str, level: int = 0) -> StagedArray:
        """One resolution of a slide: (c, y, x), uint8 RGB or channels; level 0 is full size."""
        return self._array(layout.level_path(layout.slide_path(id_of(item)), level))

    def slide_lazy(self, item: str, level: int = 0) -> dask.array.Array:
        """:meth:`slide` as a Dask array, one task a shard."""
        return _lazy(self.slide(item, level))

    def physical(self, item: str) -> NDArray[np.float32]:
        """A whole series in the unit it measures (Hounsfield units of CT, …): stored values after rescale.

        Float32 in the shape of :meth:`volume`; read a shard's depth at a time.
        """
        array = self.volume(item)
        modality = self.modality(item)
        made = np.empty(array.shape, dtype=np.float32)
        rest = [slice(0, size) for size in array.shape[1:]]
        for start in range(0, array.shape[0], step := (array.shards or array.chunks)[0]):
            part = slice(start, min(start + step, array.shape[0]))
            made[part] = modality.apply(np.asarray(array[part]), [part, *rest])
        return made

    def physical_lazy(self, item: str) -> dask.array.Array:
        """:meth:`physical` as a Dask array, one task a shard."""
        return self.modality(item).lazily(self.volume_lazy(item))

    def modality(self, item: str) -> Modality:
        """How the stored values of a series become what they measure."""
        array = self.volume(item)
        image = self.multiscale(layout.series_path(id_of(item)))
        return modality_of(image.ours, image.axes, array.shape)

    def geometry(self, item: str) -> Geometry | None:
        """Where a series lies in the patient; None where its images state no place (a photograph, a screen)."""
        return geometry_of(self.attributes(layout.series_path(id_of(item))))

    def multiscale(self, item: str) -> Multiscale:
        """Axes, units and levels of ``series/<id>`` or ``slides/<id>``."""
        try:
            return Multiscale.of(self._group_attributes(item))
        except KeyError:
            raise NoSuchItemError(where=item) from None

    def xarray(self, item: str, level: int = 0, values: Values = "physical") -> DataArray:
        """A series or one level of a slide, lazily on Dask, with coordinates (:mod:`imaging.reading.labelled`)."""
        from imaging.reading import labelled

        return labelled.data_array(self, item, level, values)

    def datatree(self, item: str) -> DataTree:
        """All levels of a series or slide, each a dataset ``/<level>`` with the variable ``image``."""
        from imaging.reading import labelled

        return labelled.data_tree(self, item)

    def attributes(self, group: str) -> dict[str, Any]:
        """What staging noted beside the pixels of ``series/<id>`` or ``slides/<id>``: rescale, geometry, …"""
        noted = self._group_attributes(group).get(layout.NAMESPACE, {})
        return dict(noted) if isinstance(noted, dict) else {}

    def read(self, path: str) -> bytes:
        """A whole object, for example ``report.json``.  Raises NoSuchItemError."""
        data = self._source.read(path)
        if data is None:
            raise NoSuchItemError(where=path)
        return data

    def _group_attributes(self, path: str) -> dict[str, Any]:
        try:
            return zarr.open_group(self.store, path=path, mode="r").attrs.asdict()
        except FileNotFoundError:
            raise NoSuchItemError(where=path) from None

    def _array(self, path: str) -> StagedArray:
        try:
            array = zarr.open_array(self.store, path=path, mode="r")
        except FileNotFoundError:
            raise NoSuchItemError(where=path) from None
        return StagedArray(array.async_array, self._tiles)

    def _ids(self, folder: str) -> list[str]:
        return [name for name in self._source.children(folder) if name != "zarr.json"]


def id_of(item: str) -> str:
    """Of ``series/<id>`` and ``slides/<id>``, as the index names them, the id."""
    return item.rpartition("/")[2]


def _lazy(array: zarr.Array[Any]) -> dask.array.Array:
    import dask.array  # brings pandas and more: only for whom it is

    chunks = array.shards or array.chunks
    lazy: dask.array.Array = dask.array.from_zarr(array, chunks=chunks)  # type: ignore[no-untyped-call]  # Dask annotates little
    return lazy
