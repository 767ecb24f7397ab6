"""A DICOM archive as a source over associations: C-FIND finds, C-GET brings (PS3.4 C.4.1 and C.4.3).

C-GET brings instances over the association that we opened: unlike C-MOVE nobody has to reach us, and the archive
needs no entry for a further receiver.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from connectors.sources import (
    SourceItem,
    SourceItemMissingError,
    SourceRefusedError,
    SourceTooLargeError,
    SourceUnreadableError,
)
from connectors.sources.dicom_archive import MAX_OF_STUDY, InstanceRef, Level, Row, check_row, selected_items
from connectors.sources.dimse_associations import (
    GROUPS_OF_CLASSES,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    Associations,
    Classes,
    Lent,
)
from connectors.sources.retrying import LineBrokenError, Retrying
from connectors.sources.spool import Partial
from hdrs_hpc.documents.models.source import DimseLocation

MAX_ROWS = 1_000_000
MAX_SERIES_REMEMBERED = 4096
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    EOFError,
)
"""What pydicom raises on values that are not what their type says."""
_PENDING = (0xFF00, 0xFF01)
_RETRIEVABLE_LATER = range(0xA700, 0xA800)
"""Out of resources, PS3.4 C.4.3.1.4."""


class DimseCarrier:
    """See :class:`connectors.sources.remote.Carrier`."""

    def __init__(
        self, place: DimseLocation, retrying: Retrying | None = None, *, read_timeout_s: float = 120.0
    ) -> None:
        self._place = place
        self._retrying = retrying or Retrying()
        self._associations = Associations(place, read_timeout_s)
        self._classes: OrderedDict[tuple[str, str], Row] = OrderedDict()
        self._likely: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def items(self) -> Iterator[SourceItem]:
        yield from selected_items(self._find, self._place.select)

    def fetch(self, path: str, partial: Partial) -> None:
        """From the start each time: C-GET knows no offsets."""
        ref = InstanceRef.parse(path)
        told = self._class_of(ref)
        with self._lock:
            # The others of a series are mostly of the same class.
            likely = self._likely.get(ref.series)
        untold = [(likely,), *GROUPS_OF_CLASSES] if likely else GROUPS_OF_CLASSES
        for classes in [(told,)] if told else untold:
            if self._get(ref, classes, partial, last=bool(told)):
                return
        raise SourceUnreadableError(
            "the archive tells no SOP class of an instance, and sends it as none that we know",
            remedy="Fetch it over DICOMweb, or leave it out by the selection.",
        )

    def _get(self, ref: InstanceRef, classes: Classes, partial: Partial, *, last: bool) -> bool:
        """Bring it if it is of one of these classes.  Unless ``last``, gives False where the archive did not."""
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.StudyInstanceUID = ref.study
        identifier.SeriesInstanceUID = ref.series
        identifier.SOPInstanceUID = ref.instance
        with self._associations.lend(classes) as lent:
            partial.restart()
            lent.wanted = (ref.instance, partial)
            answers = lent.association.send_c_get(identifier, STUDY_ROOT_GET)
            status = Dataset()
            for status, _ in answers:
                if status.get("Status") not in _PENDING:
                    break
            if (
                lent.arrived is None
                and lent.failure is None
                and status.get("Status") is not None
                and not last
            ):
                return False
            self._check(status, lent)
            with self._lock:
                self._likely[ref.series] = str(lent.arrived)
                while len(self._likely) > MAX_SERIES_REMEMBERED:
                    self._likely.popitem(last=False)
        return True

    def close(self) -> None:
        self._associations.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (DimseCarrier, (self._place, self._retrying))

    def _check(self, status: Dataset, lent: Lent) -> None:
        if lent.failure is not None:
            raise lent.failure
        code = status.get("Status")
        if code is None:
            raise lent.broken()
        if lent.arrived is not None and code == 0x0000:
            return
        if code in _RETRIEVABLE_LATER:
            # Archives say so too when it is the instance that they can't send.
            raise LineBrokenError(f"the archive had no resources (status {code:04X})", of_item=True)
        if code == 0x0000 and not status.get("NumberOfFailedSuboperations"):
            raise SourceItemMissingError("the archive no longer has an instance")
        if code in (0x0000, 0xB000):
            raise SourceUnreadableError(
                "the archive could not send an instance in any way that it and we know",
                remedy="Look for its class and transfer syntax in the archive's log; DICOMweb may give it.",
            )
        raise SourceRefusedError(f"the archive ended a retrieval with status {code:04X}")

    def _class_of(self, ref: InstanceRef) -> str:
        """The instance's SOP class, or nothing where the archive does not tell: an association can name 128
        contexts, and there are more classes times syntaxes, so it is made for one class."""
        key = (ref.study, ref.series)
        with self._lock:
            known = self._classes.get(key)
        if known is None:
            keys = {"StudyInstanceUID": ref.study, "SeriesInstanceUID": ref.series}
            for _ in self._find("IMAGE", keys | {"SOPInstanceUID": "", "SOPClassUID": ""}):
                pass
            with self._lock:
                known = self._classes.get(key, {})
        if ref.instance not in known:
            raise SourceItemMissingError("the archive no longer has an instance")
        return known[ref.instance]

    def _find(self, level: Level, keys: Row) -> Iterator[Row]:
        rows = self._retrying.run(lambda: self._rows(level, keys))
        if level == "IMAGE":
            classes = {row.get("SOPInstanceUID", ""): row.get("SOPClassUID", "") for row in rows}
            with self._lock:
                self._classes[(keys["StudyInstanceUID"], keys["SeriesInstanceUID"])] = classes
                while len(self._classes) > MAX_SERIES_REMEMBERED:
                    self._classes.popitem(last=False)
        yield from rows

    def _rows(self, level: Level, keys: Row) -> list[Row]:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        rows: list[Row] = []
        with self._associations.lend(()) as lent, contextlib.ExitStack() as stack:
            asked = lent.association.send_c_find(identifier, STUDY_ROOT_FIND)
            # Closed before the association may be aborted: an answer that could not be decoded is given while a lock
            # is held, which aborting wants.
            answers = stack.enter_context(contextlib.closing(cast(Generator[tuple[Dataset, Any]], asked)))
            for status, found in answers:
                code = status.get("Status")
                if code is None:
                    raise lent.broken()
                if code in _PENDING:
                    rows.append(_row(found, keys))
                elif code in _RETRIEVABLE_LATER:
                    raise LineBrokenError(f"the archive had no resources (status {code:04X})")
                elif code != 0x0000:
                    raise SourceRefusedError(f"the archive ended a search with status {code:04X}")
                most = MAX_ROWS if level == "STUDY" else MAX_OF_STUDY
                if len(rows) > most:
                    raise SourceTooLargeError(f"a search with more than {most} answers")
        return rows


def _row(found: Dataset | None, keys: Row) -> Row:
    """Only text, only what was asked for.  Raises :class:`SourceRefusedError` for an answer that can't be read: to
    pass over it would leave out what it tells of."""
    if found is None:
        raise SourceRefusedError("a search result that can't be read")
    try:
        return check_row({keyword: _text(found.get(keyword)) for keyword in keys if keyword in found})
    except _UNREADABLE:
        raise SourceRefusedError("a search result that can't be read") from None


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, MultiValue):
        return "\\".join(_text(one) for one in value)
    if not isinstance(value, str | int):
        raise TypeError("neither text nor a whole number")
    return str(int(value)) if isinstance(value, int) else str(value)
