"""A slide's zarr attributes: NGFF 0.5, and our namespace for what NGFF can't say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import NAMESPACE, SLIDE_SCHEMA
from imaging.staging.ngff import RGB_CHANNELS, multiscales, plain
from imaging.staging.pathology.arrays import LevelArray
from imaging.staging.pathology.headers import ChannelHeader
from imaging.staging.pathology.slide import Slide, downsamples


def slide_attributes(
    slide: Slide,
    attributes: Mapping[str, Value],
    levels: Sequence[LevelArray],
    origins: Sequence[str],
    profile: Profile,
    filled: Mapping[int, int],
) -> dict[str, Any]:
    """Attributes of a slide's group.

    ``origins`` says of each level where its pixels are from: ``original-jpeg`` and ``original-jpeg2000`` (the
    scanner's codestreams), ``re-encoded-jpeg``, ``lossless`` or ``derived``.  ``background`` is the value of
    pixels that the scanner did not store.  ``icc_profile`` is base64.  ``filled``: of each stored level how many tiles
    it lacked and have been averaged from a larger one.
    """
    unit = {} if slide.mpp is None else {"unit": "micrometer"}
    deep, step = len(slide.focal_um) > 1, slide.focal_step_um
    heights = {} if step is None else {"unit": "micrometer"}
    axes = [
        {"name": "c", "type": "channel"},
        *([{"name": "z", "type": "space", **heights}] if deep else []),
        {"name": "y", "type": "space", **unit},
        {"name": "x", "type": "space", **unit},
    ]
    size_y, size_x = slide.mpp or (1.0, 1.0)
    factors = downsamples(
        [(level.height, level.width) for level in levels], [origin == "derived" for origin in origins]
    )
    depth = [step or 1.0] if deep else []
    height = [0.0 if step is None else slide.focal_um[0]] if deep else []
    scales = [[1.0, *depth, size_y * fy, size_x * fx] for fy, fx in factors]
    # A coarser pixel's centre lies half its size further in than a finer one's.
    shifts = [[0.0, *height, size_y * (fy - 1) / 2, size_x * (fx - 1) / 2] for fy, fx in factors]
    ours: dict[str, Any] = {
        "schema": SLIDE_SCHEMA,
        "format": slide.format,
        "mpp": list(slide.mpp) if slide.mpp else None,
        "background": slide.fill,
        "levels": [
            {
                "path": str(level),
                "pixels": origin,
                "downsample": list(factor),
                **({"tiles_filled": filled[level]} if filled.get(level) else {}),
            }
            for level, (origin, factor) in enumerate(zip(origins, factors, strict=True))
        ],
        "channels": RGB_CHANNELS if slide.color else [_channel(one) for one in slide.channels],
        "dicom": plain(attributes),
        "deidentification": profile.stamp(),
    }
    if step is not None:
        ours["focal_planes_um"] = list(slide.focal_um)
    if slide.icc:
        ours["icc_profile"] = slide.icc
    return {"ome": multiscales(axes, scales, shifts), NAMESPACE: ours}


def _channel(channel: ChannelHeader) -> dict[str, Any]:
    return {name: value for name, value in channel.model_dump(mode="json").items() if value is not None}
