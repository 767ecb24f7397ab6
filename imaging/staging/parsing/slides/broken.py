"""What slides that are broken raise, and how that ends."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tifffile
from pydantic import ValidationError

from imaging.staging.parsing.dicom.values import MALFORMED
from imaging.staging.parsing.unreadable import Unreadable

BROKEN = (*MALFORMED, tifffile.TiffFileError, struct.error, ValidationError, np.exceptions.AxisError)
"""What libraries raise on broken slides; anything else ends this process, which costs this file only."""


@contextmanager
def broken_is_unreadable() -> Iterator[None]:
    """What is raised inside on a broken slide becomes :class:`Unreadable`."""
    # Broken files make their readers warn and log with their contents.
    warnings.simplefilter("ignore")
    logging.getLogger("tifffile").disabled = True
    try:
        yield
    except BROKEN:
        raise Unreadable("malformed-slide") from None
