"""A series item's zarr attributes: NGFF 0.5, and our namespace for what NGFF can't say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.deid.codes import is_public
from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import NAMESPACE, VOLUME_SCHEMA
from imaging.staging.ngff import RGB_CHANNELS, multiscales, plain, plain_list
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.volume import AxisT, Geometry, Slice, Volume

EXTRA_KEYWORDS = frozenset(
    {
        "SliceThickness",
        "SpacingBetweenSlices",
        "Units",
        "DoseUnits",
        "RescaleType",
        "PixelAspectRatio",
        "MaximumFractionalValue",
    }
)
"""What a volume's shape and unit need of a header, whatever the profile keeps; of texts only the words below."""
_DAY_S = 86_400.0
_UNITS: dict[str, str] = {
    "HU": "HU",
    "BQML": "Bq/mL",
    "CNTS": "counts",
    "GML": "g/mL",
    "CM2ML": "cm2/mL",
    "PROPCNTS": "proportional to counts",
    "NONE": "",
    "GY": "Gy",
    "RELATIVE": "relative",
    "OD": "optical density x 1000",
    "US": "unspecified",
}
"""Defined terms of Rescale Type, PET Units and Dose Units → the unit written."""


def axes_of(names: str, placed: bool, t: AxisT | None, in_mm: bool) -> list[dict[str, str]]:
    """NGFF axes, slowest first.  NGFF has no other place for b-values than a time axis: see ``axis_t``."""
    axes = []
    for name in names:
        if name == "t":
            axis = {"name": "t", "type": "time"}
            if t is not None and t.unit in ("millisecond", "second"):
                axis["unit"] = t.unit
        elif name == "c":
            axis = {"name": "c", "type": "channel"}
        else:
            axis = {"name": name, "type": "space"}
            if placed or in_mm:
                axis["unit"] = "millimeter"
        axes.append(axis)
    return axes


def pixel_size(volume: Volume) -> tuple[float, float] | None:
    """(y, x) millimetres, None where the images do not say."""
    if volume.geometry is not None:
        return volume.geometry.spacing_mm[1:]
    spacing = {one.header.spacing_mm for one in volume.all_slices()}
    (told,) = spacing if len(spacing) == 1 else (None,)
    return told if told is not None and all(0 < part < 1000 for part in told) else None


def ngff(
    names: str, geometry: Geometry | None, t: AxisT | None, size: tuple[float, float] | None
) -> dict[str, Any]:
    """The value of ``ome``.

    The translation is the first voxel's position read along z, y, x of the array: NGFF knows no rotation.
    """
    scale = dict.fromkeys(names, 1.0)
    shift = dict.fromkeys(names, 0.0)
    if geometry is not None:
        scale.update(zip("zyx", geometry.spacing_mm, strict=True))
        origin = np.asarray(geometry.origin_mm)
        directions = (geometry.normal, geometry.column_direction, geometry.row_direction)
        shift.update(zip("zyx", (float(origin @ np.asarray(one)) for one in directions), strict=True))
    elif size is not None:
        scale.update(zip("yx", size, strict=True))
    if t is not None and t.unit in ("millisecond", "second"):
        steps = np.diff(t.values)
        if steps.size and np.ptp(steps) <= 1e-3 * abs(float(steps.mean())) and steps.min() > 0:
            scale["t"], shift["t"] = float(steps.mean()), t.values[0]
    axes = axes_of(names, geometry is not None, t, size is not None)
    return multiscales(axes, [[scale[name] for name in names]], [[shift[name] for name in names]])


def placement(geometry: Geometry | None, size: tuple[float, float] | None) -> dict[str, Any]:
    """Where the voxels lie.

    ``affine_lps_mm`` maps (z, y, x, 1) voxel indices to LPS millimetres; where ``uniform_spacing`` is false it
    holds for the slice at z = 0 only, ``slice_positions_mm`` tells each slice's origin, and ``slice_gaps_mm`` how far
    slices lie apart.
    """
    if geometry is None:
        return {"affine_lps_mm": None, "pixel_size_mm": None if size is None else list(size)}
    return {
        **({} if geometry.uniform else {"slice_gaps_mm": _gaps(geometry)}),
        "direction": {"row": list(geometry.row_direction), "column": list(geometry.column_direction)},
        "affine_lps_mm": geometry.affine.tolist(),
        "slice_positions_mm": [list(position) for position in geometry.positions_mm],
        "uniform_spacing": geometry.uniform,
        "tilted": geometry.tilted,
        "pixel_size_mm": list(geometry.spacing_mm[1:]),
    }


def _gaps(geometry: Geometry) -> dict[str, float]:
    gaps = geometry.gaps_mm
    told = {"least": gaps.min(), "median": np.median(gaps), "most": gaps.max()}
    return {name: round(float(gap), 6) for name, gap in told.items()}


def axis_t(axis: AxisT) -> dict[str, Any]:
    """The value of ``axis_t``."""
    told: dict[str, Any] = {"meaning": axis.meaning, "unit": axis.unit, "values": list(axis.values)}
    if axis.per_slice:
        told["per_slice"] = True
    if axis.beside:
        told["beside"] = [axis_t(one) for one in axis.beside]
    return told


def source_of(header: InstanceHeader, slices: Sequence[Slice]) -> dict[str, Any]:
    """What the pixels were before: transfer syntaxes, whether something was lost, bits, photometric."""
    instances = {one.instance.number: one.instance.header for one in slices}.values()
    return {
        "sop_class": header.sop_class,
        "transfer_syntaxes": sorted({one.transfer_syntax for one in instances}),
        "lossy": any(one.lossy for one in instances),
        "bits_stored": max(one.bits_stored for one in instances),
        "photometric": _word(header.photometric),
    }


def acquired(volume: Volume) -> dict[str, Any]:
    """Phase encoding and slice timing of an MR volume, as far as told: the value of ``acquisition``.

    Times are seconds since the earliest slice of the same t: no time of day is in them.
    """
    if volume.header.modality != "MR":
        return {}
    told: dict[str, Any] = {}
    encodings = {one.header.phase_encoding for one in volume.all_slices()}
    (encoding,) = encodings if len(encodings) == 1 else ("",)
    if encoding:
        polarity = {"+": "positive", "-": "negative"}.get(encoding[-1])
        told["phase_encoding"] = {"axis": encoding.rstrip("+-"), "polarity": polarity}
    times = slice_times(volume)
    if times is not None:
        told["slice_times_s"] = [round(float(time), 6) for time in np.median(times, axis=0)]
        told["slice_times_vary_s"] = round(float(np.ptp(times, axis=0).max()), 6)
    return told


def slice_times(volume: Volume) -> NDArray[np.float64] | None:
    """(t, z) seconds since the earliest slice of each t; None where they are not told, or equal: one excitation."""
    if volume.geometry is None or len(volume.slices[0]) < 2:
        return None
    for name in ("slice-time-s", "acquisition-time-s"):
        found = [[one.header.coordinates.get(name) for one in time] for time in volume.slices]
        if any(one is None for time in found for one in time):
            continue
        table = np.asarray(found, dtype=np.float64)
        # From the first slice, over midnight if need be; then from the earliest.
        table = (table - table[:, :1] + _DAY_S / 2) % _DAY_S - _DAY_S / 2
        table -= table.min(axis=1, keepdims=True)
        if (table.max(axis=1) > 0).all():
            return np.asarray(table)
    return None


def units(header: InstanceHeader) -> str | None:
    """The unit of values after rescale, where it is told by a defined term or a UCUM code."""
    if header.units is not None and header.units.scheme == "UCUM" and is_public("UCUM", header.units.value):
        return header.units.value
    for keyword in ("RescaleType", "Units", "DoseUnits"):
        value = header.attributes.get(keyword)
        if isinstance(value, str) and value.strip().upper() in _UNITS:
            return _UNITS[value.strip().upper()]
    return "HU" if header.modality == "CT" and "LOCALIZER" not in header.image_type else None


def rescale(slices: Sequence[Slice]) -> dict[str, Any]:
    """Stored value × slope + intercept; lists (t-major, as the slices) where they differ by slice."""
    slopes = [one.header.slope for one in slices]
    intercepts = [one.header.intercept for one in slices]
    one_slope, one_intercept = len(set(slopes)) == 1, len(set(intercepts)) == 1
    return {
        "slope": slopes[0] if one_slope else slopes,
        "intercept": intercepts[0] if one_intercept else intercepts,
        "per_slice": not (one_slope and one_intercept),
    }


def padding(slices: Sequence[Slice]) -> dict[str, int] | None:
    """Stored values that stand for no image (first to last), the same for all slices; None where they differ."""
    found = {one.instance.header.padding for one in slices}
    (told,) = found if len(found) == 1 else (None,)
    return None if told is None else {"first": min(told), "last": max(told)}


def volume_attributes(
    volume: Volume,
    attributes: Mapping[str, Value],
    per_slice: Mapping[str, list[Value]],
    profile: Profile,
    links: Mapping[str, Any],
) -> dict[str, Any]:
    """Attributes of a series' group.  ``links``: what it is derived from and aligned to, by item."""
    header, slices, size = volume.header, volume.all_slices(), pixel_size(volume)
    ours: dict[str, Any] = {
        "schema": VOLUME_SCHEMA,
        **placement(volume.geometry, size),
        "rescale": rescale(slices),
        "units": units(header),
        "padding": padding(slices),
        "source": source_of(header, slices),
        **links,
        "dicom": plain(attributes),
        "dicom_per_slice": {keyword: plain_list(values) for keyword, values in sorted(per_slice.items())},
        "deidentification": profile.stamp(),
    }
    acquisition = acquired(volume)
    if acquisition:
        ours["acquisition"] = acquisition
    if volume.axis_t is not None:
        ours["axis_t"] = axis_t(volume.axis_t)
    if "c" in volume.axes:
        ours["channels"] = RGB_CHANNELS
    if header.modality_lut is not None:
        ours["modality_lut"] = {
            "first": header.modality_lut.first,
            "values": list(header.modality_lut.values),
        }
    aspect = header.attributes.get("PixelAspectRatio")
    if isinstance(aspect, tuple) and size is None:
        ours["pixel_aspect_ratio"] = [float(part) for part in aspect if isinstance(part, int | float)]
    if header.regions:
        ours["ultrasound_regions"] = [
            {
                "rows": [region.y0, region.y1],
                "columns": [region.x0, region.x1],
                "spacing_mm": None if region.spacing_mm is None else list(region.spacing_mm),
            }
            for region in header.regions
        ]
    return {"ome": ngff(volume.axes, volume.geometry, volume.axis_t, size), NAMESPACE: ours}


def _word(text: str) -> str | None:
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else None
