"""YCbCr → RGB (ITU-T T.871 7): full range, 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging.parsing.unreadable import Unreadable


def ycbcr_to_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(y, x, 3) of uint8 with the chroma at full size; raises :class:`Unreadable` for anything else."""
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
        raise Unreadable("unsupported-slide")
    luma = pixels[..., 0].astype(np.float32)
    blue = pixels[..., 1].astype(np.float32) - 128
    red = pixels[..., 2].astype(np.float32) - 128
    out = np.stack(
        [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1
    )
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)
