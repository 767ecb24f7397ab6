"""Finding the selected instances of a DICOM archive, whichever way it is asked (PS3.4 C.6.2, Study Root).

An archive may hold millions of studies: it is asked by the selection's criteria, study by study, never as a
whole unless that was said.  Archives may ignore keys they do not support, so every answer is held against the
criteria again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from connectors.sources import (
    SourceCredentialError,
    SourceItem,
    SourceItemMissingError,
    SourceListingShortError,
    SourceRefusedError,
    SourceTooLargeError,
    SourceUnreadableError,
)
from connectors.sources.credentials import list_lines
from connectors.sources.parallel import in_order
from hdrs_hpc.documents.models.source import StudySelection

Level = Literal["STUDY", "SERIES", "IMAGE"]
Row = dict[str, str]
"""Keyword → value, several values joined by a backslash; absent and empty are the same."""
Find = Callable[[Level, Row], Iterator[Row]]
"""Asks the archive: keys with a value must match, empty ones are to be returned."""

LISTING_THREADS = 4
MAX_STUDIES = 2_000_000
MAX_OF_STUDY = 200_000
"""Series, and instances, of one study: what is listed at once for each of the threads, twice."""
LISTINGS = 3
"""So often is the archive asked before a listing that lacks something is refused."""
MAX_VALUE_CHARS = 1024
"""The longest that is asked for, the modalities of a study, has some twenty words of 16."""
_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""Looser than PS3.5 9.1: archives hold UIDs of letters and with leading zeros.  Safe in an address and a path, and
no wildcard of a search."""
_PATH = re.compile(rf"studies/({_UID.pattern})/series/({_UID.pattern})/instances/({_UID.pattern})\.dcm")
_SERIES, _INSTANCES = "NumberOfStudyRelatedSeries", "NumberOfSeriesRelatedInstances"
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
_WILD = re.compile(r"[*?\\\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """An instance by its UIDs; its path is the one that WADO-RS uses (PS3.18 10.4), with a suffix."""

    study: str
    series: str
    instance: str

    @property
    def path(self) -> str:
        return f"studies/{self.study}/series/{self.series}/instances/{self.instance}.dcm"

    @classmethod
    def parse(cls, path: str) -> InstanceRef:
        """Raises :class:`SourceItemMissingError`."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise SourceItemMissingError("a path of another form than the source gives")
        return cls(*found.groups())


def selected_items(find: Find, select: StudySelection) -> Iterator[SourceItem]:
    """Every selected instance in the order of its path; raises what ``find`` raises, and SourceListingShortError."""
    series_of = _studies(find, select)
    studies = sorted(series_of, key=lambda uid: f"{uid}/")
    for paths in in_order(
        lambda study: _paths(find, select, study, series_of[study]), studies, LISTING_THREADS
    ):
        yield from (SourceItem(path, None) for path in paths)


def check_row(row: Row) -> Row:
    """The same.  Raises :class:`SourceRefusedError` for a value that is too long to be one that was asked for."""
    if any(len(value) > MAX_VALUE_CHARS for value in row.values()):
        raise SourceRefusedError("a search result with a value of excessive length")
    return row


def _paths(find: Find, select: StudySelection, study: str, series_told: int) -> list[str]:
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": "", "Modality": "", _INSTANCES: ""}
    paths: list[str] = []
    for uid, series in _all(find, "SERIES", keys, "SeriesInstanceUID", series_told).items():
        if select.modalities and series.get("Modality") not in select.modalities:
            continue
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": uid, "SOPInstanceUID": "", "SOPClassUID": ""}
        instances = _all(find, "IMAGE", keys, "SOPInstanceUID", _count(series, _INSTANCES))
        paths += (InstanceRef(study, uid, instance).path for instance in instances)
        if len(paths) > MAX_OF_STUDY:
            raise SourceTooLargeError(f"a study with more than {MAX_OF_STUDY} instances")
    return sorted(paths)


def _all(find: Find, level: Level, keys: Row, own: str, told: int) -> dict[str, Row]:
    """UID → row of every answer; asked again where they are fewer than ``told``, which is 0 where it is not told.

    What a listing lacks nobody would miss: it would be left out of the dataset without a word.
    """
    found: dict[str, Row] = {}
    for _ in range(LISTINGS):
        for row in find(level, keys):
            found[_uid(row, own)] = row
            if len(found) > MAX_OF_STUDY:
                raise SourceTooLargeError(f"a study with more than {MAX_OF_STUDY} series or instances")
        if len(found) >= told:
            return found
    raise SourceListingShortError(f"{len(found)} where it says that there are {told}")


def _count(row: Row, keyword: str) -> int:
    """0 where the archive does not tell: the keys are optional (PS3.4 C.6.2.1)."""
    told = row.get(keyword, "").strip()
    return int(told) if _COUNT.fullmatch(told) else 0


def _studies(find: Find, select: StudySelection) -> dict[str, int]:
    """UID → how many series the archive says that it has."""
    found: dict[str, int] = {}
    for keys in _questions(select):
        for row in find("STUDY", keys):
            if _agrees(row, keys, select):
                found[_uid(row, "StudyInstanceUID")] = _count(row, _SERIES)
            if len(found) > MAX_STUDIES:
                raise SourceTooLargeError(f"more than {MAX_STUDIES} studies are selected")
    return found


def _questions(select: StudySelection) -> Iterator[Row]:
    """The study-level queries whose answers together hold the selection."""
    keys = {
        "StudyInstanceUID": "",
        "StudyDate": _range(select),
        "PatientID": "",
        "ModalitiesInStudy": "",
        _SERIES: "",
    }
    # One modality a question: lists of values in a key are read differently by different archives.
    modalities = select.modalities or ("",)
    patients = _values(select.patients_file, "list of patients")
    studies = _values(select.studies_file, "list of studies")
    if any(not _UID.fullmatch(uid) for uid in studies if uid):
        raise SourceCredentialError("the list of studies has a line that is no UID")
    for study in studies:
        for patient in patients:
            # A study that is named is one question; its series are told apart by modality anyway.
            for modality in ("",) if study else modalities:
                yield keys | {
                    "StudyInstanceUID": study,
                    "PatientID": patient,
                    "ModalitiesInStudy": modality,
                }


def _values(file: str | None, what: str) -> list[str]:
    if file is None:
        return [""]
    lines = list_lines(file, what)
    if any(_WILD.search(line) or len(line) > 64 for line in lines):
        # "*" would match everybody.
        raise SourceCredentialError(f"the {what} has a line with a wildcard, a backslash, or over 64 signs")
    return lines


def _range(select: StudySelection) -> str:
    """Range matching, PS3.4 C.2.2.2.5."""
    first = (select.study_date_from or "").replace("-", "")
    last = (select.study_date_to or "").replace("-", "")
    return f"{first}-{last}" if first or last else ""


def _agrees(row: Row, keys: Row, select: StudySelection) -> bool:
    if keys["PatientID"] and row.get("PatientID", "").strip() != keys["PatientID"]:
        return False
    if keys["StudyInstanceUID"] and row.get("StudyInstanceUID") != keys["StudyInstanceUID"]:
        return False
    if select.study_date_from or select.study_date_to:
        date = row.get("StudyDate", "").strip().replace(".", "")
        first = (select.study_date_from or "").replace("-", "")
        last = (select.study_date_to or "99991231").replace("-", "")
        return len(date) == 8 and first <= date <= last
    return True


def _uid(row: Row, keyword: str) -> str:
    uid = row.get(keyword, "").strip("\0 ")
    if not _UID.fullmatch(uid):
        raise SourceUnreadableError(
            "the archive named a study, series or instance by something that is no UID",
            remedy="Have it mended in the archive, or select so that it stays out.",
        )
    return uid
