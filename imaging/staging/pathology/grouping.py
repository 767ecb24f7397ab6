"""DICOM instances → slides: which instances are levels, planes or parts of one slide.  Pure; no key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from imaging.staging.pathology.headers import ChannelHeader, Encoding, WsmHeader
from imaging.staging.pathology.slide import Grid, Level, Slide

SAME_UM = 1e-3
"""Focal planes nearer than this are one."""
SMALLEST_KEPT = 64
"""Stored levels below this size say nothing that a derived one does not."""
_ASPECT_TOLERANCE_PX = 2


@dataclass
class Grouped:
    """``first``: for each slide, the header that its attributes are taken from (its level 0), with its number."""

    slides: list[tuple[int, WsmHeader, Slide]] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    """Levels left out, for each slide."""
    refused: dict[int, str] = field(default_factory=dict)


Instances = dict[int, WsmHeader]
Size = tuple[int, int, int, int]
"""(width, height, tile width, tile height)."""


def group(headers: Mapping[int, WsmHeader]) -> Grouped:
    """Slides of one patient's instances, each with all its levels; every instance is in a slide or refused.

    Instances of a series with one container, pyramid and pixel format are one slide.  The frame of reference
    does not count, unless the largest level is there several times: writers give each level its own.
    """
    grouped = Grouped()
    alike: dict[tuple[str, ...], Instances] = defaultdict(dict)
    for number, header in sorted(_without_resent(headers, grouped).items()):
        pixels = (str(header.samples), header.dtype)
        alike[(header.study, header.series, header.container, header.pyramid, *pixels)][number] = header
    for instances in alike.values():
        for part in _by_frame_of_reference(instances):
            _slide(part, grouped)
    return grouped


def _without_resent(headers: Mapping[int, WsmHeader], grouped: Grouped) -> Instances:
    taken: dict[str, int] = {}
    kept: Instances = {}
    for number, header in sorted(headers.items()):
        if header.sop_instance in taken:
            grouped.refused[number] = "duplicate-instance"
        else:
            taken[header.sop_instance] = number
            kept[number] = header
    return kept


def _by_frame_of_reference(instances: Instances) -> list[Instances]:
    largest = max(_size(header)[:2] for header in instances.values())
    frames = [header.frame_of_reference for header in instances.values() if _size(header)[:2] == largest]
    planes = [
        (path.identifier, height, header.concatenation)
        for header in instances.values()
        if _size(header)[:2] == largest
        for path in header.paths
        for height in header.focal_um
    ]
    if len(set(frames)) == 1 or len(set(planes)) == len(planes):
        return [instances]
    parts: dict[str, Instances] = defaultdict(dict)
    for number, header in instances.items():
        parts[header.frame_of_reference][number] = header
    return [parts[frame] for frame in sorted(parts)]


def _slide(instances: Instances, grouped: Grouped) -> None:
    sizes: dict[Size, Instances] = defaultdict(dict)
    for number, header in instances.items():
        sizes[_size(header)][number] = header
    ordered = sorted(sizes, key=lambda size: (-size[0], -size[1], -len(sizes[size])))
    paths, heights = _planes(sizes[ordered[0]])
    levels: list[Level] = []
    dropped = 0
    for size in ordered:
        if levels and size[:2] == (levels[-1].width, levels[-1].height):
            # The same level in another tiling.
            grouped.refused.update(dict.fromkeys(sizes[size], "duplicate-instance"))
            continue
        grids, double = _grids(sizes[size], paths, heights)
        grouped.refused.update(dict.fromkeys(double, "duplicate-instance"))
        complete = all(grids)
        if not levels and not complete:
            grouped.refused.update(dict.fromkeys(instances, "slide-incomplete"))
            return
        if not levels or (complete and _is_level(levels, size)):
            quality = next(iter(sizes[size].values())).level.quality
            planes = tuple(tuple(plane) for plane in grids)
            levels.append(Level(*size, _encoding(sizes[size]), planes, quality))
            continue
        if complete and max(size[:2]) >= SMALLEST_KEPT:
            dropped += 1
        # Its pixels are not in the copy, but a derived level stands for them.
        grouped.refused.update(dict.fromkeys(sizes[size], "slide-level-derived"))
    number, header = next(iter(sizes[ordered[0]].items()))
    channels: list[ChannelHeader] = list(paths.values())
    slide = Slide(
        "dicom-wsm",
        tuple(levels),
        header.samples,
        header.dtype,
        (ChannelHeader(),) if header.samples == 3 and len(channels) == 1 else tuple(channels),
        tuple(heights),
        header.mpp,
        header.background,
        header.icc,
        all(one.focal_known for one in sizes[ordered[0]].values()),
        # PS3.3 C.8.12.4.1.1, value 4: made from a level of higher resolution, which is not here.
        any(one.image_type[3:4] == ("RESAMPLED",) for one in sizes[ordered[0]].values()),
    )
    grouped.slides.append((number, header, slide))
    grouped.dropped.append(dropped)


def _planes(instances: Instances) -> tuple[dict[str, ChannelHeader], list[float]]:
    """Optical paths by identifier, sorted, and heights of focal planes, ascending, over all instances."""
    paths = {path.identifier: path.channel for header in instances.values() for path in header.paths}
    heights: list[float] = []
    for height in sorted({height for header in instances.values() for height in header.focal_um}):
        if not heights or height - heights[-1] > SAME_UM:
            heights.append(height)
    return dict(sorted(paths.items())), heights


def _grids(
    instances: Instances, paths: Mapping[str, ChannelHeader], heights: list[float]
) -> tuple[list[list[Grid]], list[int]]:
    """For each plane the instances that hold it or part of it, and those that add nothing."""
    planes: list[list[Grid]] = [[] for _ in range(len(paths) * len(heights))]
    holders: list[str | None] = [None] * len(planes)
    places = {identifier: place for place, identifier in enumerate(paths)}
    double = []
    for number, header in instances.items():
        added = False
        for path_place, path in enumerate(header.paths):
            for height_place, height in enumerate(header.focal_um):
                near = [place for place, one in enumerate(heights) if abs(one - height) <= SAME_UM]
                if path.identifier not in places or not near:
                    continue
                plane = places[path.identifier] * len(heights) + near[0]
                # A plane is one instance's, or one concatenation's.
                holder = header.concatenation or header.sop_instance
                if holders[plane] in (None, holder):
                    holders[plane] = holder
                    own = path_place * len(header.focal_um) + height_place
                    planes[plane].append(Grid(number, 0, own))
                    added = True
        if not added:
            double.append(number)
    return planes, double


def _is_level(levels: list[Level], size: Size) -> bool:
    """Smaller than the last, of the first one's shape, and worth keeping."""
    first = levels[0]
    width, height = size[:2]
    if max(width, height) < SMALLEST_KEPT:
        return False
    factor = first.width / width
    off = abs(first.height / factor - height)
    return width < levels[-1].width and height < levels[-1].height and off <= _ASPECT_TOLERANCE_PX


def _encoding(instances: Instances) -> Encoding:
    """Of a level: kept undecoded only if all its instances can be."""
    found = {header.level.encoding for header in instances.values()}
    if len(found) == 1:
        return found.pop()
    return "lossless" if found == {"lossless"} else "lossy"


def _size(header: WsmHeader) -> Size:
    level = header.level
    return level.width, level.height, level.tile_width, level.tile_height
