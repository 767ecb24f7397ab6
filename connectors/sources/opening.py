"""From where a source lies to the source: one explicit table, nothing is searched for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.sources import Source
from connectors.sources.folder import FolderSource
from connectors.sources.remote import Limits, RemoteSource
from hdrs_hpc.core import strict_yaml
from hdrs_hpc.documents.models import source as places
from hdrs_hpc.documents.models.source import (
    SourceLocation,
    SourceTextError,
    location_from_text,
    location_from_value,
)

MAX_DESCRIPTION_BYTES = 64 << 10


def open_source(where: str | SourceLocation, limits: Limits | None = None) -> Source:
    """The source at a place of a registration, or at what a person typed (see :func:`read_location`).

    A remote source is not asked for anything yet.  Raises :class:`SourceTextError`, and
    :class:`SourceItemMissingError` for a folder or file that is not there.
    """
    place = read_location(where) if isinstance(where, str) else where
    return _OPEN[type(place)](place, limits or Limits())


def read_location(text: str) -> SourceLocation:
    """A path or address as :func:`location_from_text` reads it, or a file ``….yaml`` that describes the source with
    the fields of a registration's ``source``.  Raises :class:`SourceTextError`."""
    if "://" in text or not text.endswith((".yaml", ".yml")) or not Path(text).is_file():
        return location_from_text(text)
    with Path(text).open("rb") as file:
        raw = file.read(MAX_DESCRIPTION_BYTES + 1)
    if len(raw) > MAX_DESCRIPTION_BYTES:
        raise SourceTextError("a description of a source of excessive size")
    value, _ = strict_yaml.load(raw)
    if not isinstance(value, dict):
        raise SourceTextError("a description of a source is a mapping of fields")
    return location_from_value(value)


def absolute(place: SourceLocation) -> SourceLocation:
    """The same place with its paths from the root, as a registration should say it."""
    if isinstance(place, places.FolderLocation | places.ZipLocation | places.DicomdirLocation):
        return place.model_copy(update={"path": str(Path(place.path).resolve())})
    return place


def _folder(place: places.FolderLocation, limits: Limits) -> Source:
    return FolderSource(Path(place.path), max_items=limits.max_items)


def _zip(place: places.ZipLocation, limits: Limits) -> Source:
    from connectors.sources.zipped import ZipCarrier

    return RemoteSource(ZipCarrier(place), limits)


def _dicomdir(place: places.DicomdirLocation, _: Limits) -> Source:
    from connectors.sources.dicomdir import DicomdirSource
    from imaging.staging.media import referenced_files

    return DicomdirSource(Path(place.path), referenced_files)


def _dicomweb(place: places.DicomwebLocation, limits: Limits) -> Source:
    from connectors.sources.dicomweb import DicomwebCarrier

    return RemoteSource(DicomwebCarrier(place, limits.retrying), limits)


def _dimse(place: places.DimseLocation, limits: Limits) -> Source:
    from connectors.sources.dimse import DimseCarrier

    return RemoteSource(DimseCarrier(place, limits.retrying), limits)


def _s3(place: places.S3Location, limits: Limits) -> Source:
    from connectors.sources.s3 import S3Carrier

    return RemoteSource(S3Carrier(place, limits.retrying), limits)


def _sftp(place: places.SftpLocation, limits: Limits) -> Source:
    from connectors.sources.sftp import SftpCarrier

    return RemoteSource(SftpCarrier(place, limits.retrying), limits)


_OPEN: dict[type, Callable[[Any, Limits], Source]] = {
    places.FolderLocation: _folder,
    places.ZipLocation: _zip,
    places.DicomdirLocation: _dicomdir,
    places.DicomwebLocation: _dicomweb,
    places.DimseLocation: _dimse,
    places.S3Location: _s3,
    places.SftpLocation: _sftp,
}
