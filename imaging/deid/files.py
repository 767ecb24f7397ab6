"""Files in, files out: the engine for a folder of DICOM files, without the broker or a sealed copy.

Parses in this process: for files that are not trusted use the staging engine, whose parsers are sandboxed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from hdrs_hpc.core.errors import BadDocumentError
from imaging.deid.engine import PixelCleaner, UndeidentifiableError, deidentify
from imaging.deid.keyed import DeidKey
from imaging.deid.object_profiles import ObjectProfile
from imaging.deid.reading_elements import BROKEN


class NotDicomError(BadDocumentError):
    code = "deidentify-not-dicom"
    meaning = "The file is not one that can be read as DICOM."
    remedy = "Leave it out."


@dataclass(frozen=True, slots=True)
class Deidentified:
    """How many files of a folder were written, and how many were left out, by reason code."""

    written: int
    refused: dict[str, int]


def deidentify_file(
    source: Path,
    dest: Path,
    profile: ObjectProfile,
    key: DeidKey,
    issuer: str = "",
    *,
    pixels: PixelCleaner | None = None,
) -> None:
    """Write a de-identified copy of one file, in the same transfer syntax.

    Raises :class:`NotDicomError` and :class:`UndeidentifiableError`; nothing is written then.
    """
    try:
        dataset = pydicom.dcmread(source, force=True)
    except (InvalidDicomError, *BROKEN):
        raise NotDicomError() from None
    if "SOPClassUID" not in dataset or "SOPInstanceUID" not in dataset:
        raise NotDicomError()
    result = deidentify(dataset, profile, key, issuer, pixels=pixels)
    temporary = dest.with_name(dest.name + ".part")
    try:
        result.save_as(temporary, enforce_file_format=True)
    except BROKEN:
        temporary.unlink(missing_ok=True)
        raise NotDicomError("the file's elements can't be written again") from None
    temporary.replace(dest)


def deidentify_folder(
    source: Path,
    dest: Path,
    profile: ObjectProfile,
    key: DeidKey,
    issuer: str = "",
    *,
    pixels: PixelCleaner | None = None,
) -> Deidentified:
    """All files below ``source`` into ``dest/<study>/<series>/<instance>.dcm``; file names are never carried over."""
    written, refused = 0, dict[str, int]()
    part = dest / "incoming.dcm"
    dest.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink()):
        try:
            deidentify_file(path, part, profile, key, issuer, pixels=pixels)
        except (NotDicomError, UndeidentifiableError) as error:
            refused[error.code] = refused.get(error.code, 0) + 1
            continue
        header = pydicom.dcmread(part, stop_before_pixels=True)
        folder = (
            dest / str(header.get("StudyInstanceUID", "none")) / str(header.get("SeriesInstanceUID", "none"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        part.replace(folder / f"{header.SOPInstanceUID}.dcm")
        written += 1
    return Deidentified(written, refused)
