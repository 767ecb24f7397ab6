"""To which series an instance belongs, read as little as can be: for a file of which a parser could not tell more."""

from __future__ import annotations

from typing import BinaryIO

from pydicom.filereader import read_partial
from pydicom.tag import BaseTag

from imaging.staging.headers import SeriesIdentity
from imaging.staging.parsing.dicom.values import MALFORMED, text
from imaging.staging.parsing.unreadable import Unreadable

_SERIES_INSTANCE_UID = 0x0020000E


def read_series(file: BinaryIO) -> SeriesIdentity:
    """Study and series; nothing behind them is read.  Raises :class:`Unreadable`."""

    def behind(tag: BaseTag, vr: str | None, length: int) -> bool:
        return int(tag) > _SERIES_INSTANCE_UID

    try:
        dataset = read_partial(file, stop_when=behind, force=True)
        identity = SeriesIdentity(
            study=text(dataset, "StudyInstanceUID"), series=text(dataset, "SeriesInstanceUID")
        )
    except MALFORMED:
        raise Unreadable("malformed-dicom") from None
    if not identity.series:
        raise Unreadable("required-attribute-missing")
    return identity
