"""Functional groups of enhanced multi-frame objects: a frame's own goes before the shared one (PS3.3
C.7.6.16)."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.values import first, items, value
from imaging.staging.parsing.unreadable import Unreadable


class FunctionalGroups:
    """The groups of ``count`` frames; raises :class:`Unreadable` where frames and groups don't match."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self.shared = first(dataset, "SharedFunctionalGroupsSequence") or Dataset()
        self.per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
        self.present = (
            "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
        )
        if len(self.per_frame) not in (0, count):
            raise Unreadable("malformed-dicom")
        self._shared: dict[str, Dataset | None] = {}

    def group(self, sequence: str, index: int) -> Dataset | None:
        """The item that holds for frame ``index``."""
        if self.per_frame:
            own = first(self.per_frame[index], sequence)
            if own is not None:
                return own
        if sequence not in self._shared:
            self._shared[sequence] = first(self.shared, sequence)
        return self._shared[sequence]

    def constant(self, keyword: str) -> Any:
        """An attribute of any group, if it is the same for all frames; else None."""
        found = _anywhere(self.shared, keyword)
        if found is not None or not self.per_frame:
            return found
        sequence = _sequence_of(self.per_frame[0], keyword)
        if sequence is None:
            return None
        values = [value(first(frame, sequence) or Dataset(), keyword) for frame in self.per_frame]
        return values[0] if all(one == values[0] for one in values) else None

    def constant_group(self, sequence: str) -> Dataset | None:
        """The shared item of a group, or that of the first frame."""
        return self.group(sequence, 0)


def _anywhere(groups: Dataset, keyword: str) -> Any:
    sequence = _sequence_of(groups, keyword)
    return None if sequence is None else value(first(groups, sequence) or Dataset(), keyword)


def _sequence_of(groups: Dataset, keyword: str) -> str | None:
    """The group that holds ``keyword``."""
    for element in groups:
        if element.VR == "SQ" and element.keyword and len(element.value) and keyword in element.value[0]:
            return str(element.keyword)
    return None
