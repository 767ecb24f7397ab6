"""Staged images as xarray: dimensions by name, coordinates in millimetres, lazily on Dask.

Coordinates of a series run along the *volume's own* axes: where these are the patient's (an unrotated scan) they are
LPS, and where they are not, ``geometry(item)`` has the affine; the same numbers as NGFF's scale and translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from imaging.layout import SERIES, SLIDES
from imaging.reading.geometry import geometry_of
from imaging.reading.multiscale import Multiscale

if TYPE_CHECKING:
    from imaging.reading.staged import StagedCopy, Values

_RGB = ("red", "green", "blue")


def data_array(copy: StagedCopy, item: str, level: int = 0, values: Values = "physical") -> xarray.DataArray:
    """One level of ``series/<id>`` or ``slides/<id>`` (of a bare id, the series if there is one).

    A series is float32 in the unit it measures, or with ``values="stored"`` raw integers; a slide always as stored.
    Coordinates: ``z y x`` in the unit of their ``units`` attribute (of slices that are not evenly spaced, where they
    lie), ``t`` with its ``meaning`` (``time-s``, ``b-value``, …), ``c`` by channel name.
    """
    path = _path(copy, item)
    image = copy.multiscale(path)
    if path.startswith(f"{SLIDES}/"):
        array = copy.slide_lazy(path, level)
    elif values == "physical":
        array = copy.physical_lazy(path)
    else:
        array = copy.volume_lazy(path)
    coordinates = {
        axis: xarray.Variable((axis,), *_coordinate(image, axis, size, level))
        for axis, size in zip(image.axes, array.shape, strict=True)
    }
    attributes: dict[str, Any] = {"item": path}
    if geometry_of(image.ours) is not None:
        attributes["affine_lps_mm"] = image.ours["affine_lps_mm"]
    return xarray.DataArray(array, coords=coordinates, dims=image.axes, name="image", attrs=attributes)


def data_tree(copy: StagedCopy, item: str) -> xarray.DataTree:
    """``/0``, ``/1``, …: one dataset a level, as stored, with the variable ``image``; our attributes at the root."""
    path = _path(copy, item)
    image = copy.multiscale(path)
    levels: dict[str, xarray.Dataset | xarray.DataTree | None] = {"/": xarray.Dataset(attrs=image.ours)}
    for number, level in enumerate(image.levels):
        levels[f"/{level.path}"] = data_array(copy, path, number, "stored").to_dataset()
    return xarray.DataTree.from_dict(levels)


def _path(copy: StagedCopy, item: str) -> str:
    if "/" in item:
        return item
    return f"{SERIES}/{item}" if item in copy.series() else f"{SLIDES}/{item}"


def _coordinate(image: Multiscale, axis: str, size: int, level: int) -> tuple[Any, dict[str, Any]]:
    """Values and attributes of one coordinate."""
    if axis == "t":
        stated: Mapping[str, Any] = image.ours.get("axis_t") or {"meaning": "index", "values": range(size)}
        return np.asarray(list(stated["values"]), dtype=np.float64), {"meaning": stated["meaning"]}
    if axis == "c":
        return np.asarray(_channel_names(image.ours, size)), {}
    place = image.axes.index(axis)
    scale, shift = image.levels[level].scale[place], image.levels[level].translation[place]
    attributes = {"units": image.units[place]} if image.units[place] else {}
    geometry = geometry_of(image.ours)
    if axis == "z" and geometry is not None and not geometry.uniform and len(geometry.positions) == size:
        normal = np.cross(geometry.affine_zyx[:3, 2], geometry.affine_zyx[:3, 1])
        return geometry.positions @ (normal / np.linalg.norm(normal)), attributes
    return shift + scale * np.arange(size), attributes


def _channel_names(ours: Mapping[str, Any], size: int) -> list[str]:
    channels = ours.get("channels") or []
    if not isinstance(channels, str) and len(channels) == size:  # a colour slide says "RGB"
        return [str(one.get("name") or one.get("label") or number) for number, one in enumerate(channels)]
    return list(_RGB) if size == len(_RGB) else [str(number) for number in range(size)]
