"""Scores a de-identified set of phantoms on the ten action types, by what each insertion expects."""

from __future__ import annotations

import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
from phantom_phi import TYPES, Check, Phantom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_GROUP_WIDE = ("uid_consistent", "patid_consistent", "date_shifted")


@dataclass
class Score:
    """Per type (passed, all); what failed, and how many canaries were found in how many instances."""

    counts: dict[str, list[int]] = field(default_factory=lambda: {kind: [0, 0] for kind in TYPES})
    failures: list[tuple[str, str, Check, str]] = field(default_factory=list)
    instances: int = 0
    sop_classes: set[str] = field(default_factory=set)
    leaks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def passed(self) -> int:
        return sum(good for good, _ in self.counts.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self.counts.values())

    def percent(self, kind: str | None = None) -> float:
        good, total = (self.passed, self.total) if kind is None else self.counts[kind]
        return 100.0 * good / total if total else 100.0


def score(pairs: Iterable[tuple[Phantom, Dataset | None]]) -> Score:
    """``None`` stands for an instance that could not be de-identified: all its expectations fail."""
    result = Score()
    uids: dict[str, set[str]] = defaultdict(set)
    patients: dict[Any, set[str]] = defaultdict(set)
    shifts: dict[Any, set[timedelta | None]] = defaultdict(set)
    later: list[tuple[Phantom, Check, Any]] = []
    for phantom, output in pairs:
        result.instances += 1
        result.sop_classes.add(str(phantom.dataset.SOPClassUID))
        if output is not None:
            _search_bytes(result, phantom, output)
        person = (phantom.person.issuer, "".join(phantom.person.number.split()))
        for check in phantom.checks:
            found = None if output is None else find(output, check.path)
            if check.kind in _GROUP_WIDE:
                later.append((phantom, check, found))
                if check.kind == "uid_consistent":
                    uids[check.value].add(str(found))
                elif check.kind == "patid_consistent":
                    patients[person].add(str(found))
                else:
                    shifts[person].add(_distance(check.value, found))
            else:
                _note(
                    result,
                    phantom,
                    check,
                    output is not None and _holds(check, found, output, phantom),
                    found,
                )
    owners: dict[str, set[Any]] = defaultdict(set)
    for person, names in patients.items():
        for name in names:
            owners[name].add(person)
    for phantom, check, found in later:
        person = (phantom.person.issuer, "".join(phantom.person.number.split()))
        if check.kind == "uid_consistent":
            good = found is not None and len(uids[check.value]) == 1
        elif check.kind == "patid_consistent":
            good = bool(found) and len(patients[person]) == 1 and len(owners[str(found)]) == 1
        else:
            moved = _distance(check.value, found)
            good = (
                moved is not None
                and moved != timedelta(0)
                and len(shifts[person]) == 1
                and _time_kept(check, found)
            )
        _note(result, phantom, check, good, found)
    return result


def find(dataset: Dataset, path: tuple[str | int, ...]) -> Any:
    """The value at a path; None if it is not there.  ``("private", group, place)`` looks for a private element."""
    if path and path[0] == "private":
        group, place = int(path[1]), int(path[2])
        return next(
            (
                e.value
                for e in dataset
                if e.tag.group == group and e.tag.element > 0xFF and e.tag.element & 0xFF == place
            ),
            None,
        )
    value: Any = dataset
    for step in path:
        if isinstance(step, int):
            if len(value) <= step:
                return None
            value = value[step]
        elif step not in value:
            return None
        else:
            value = value[step].value
    return value


def _holds(check: Check, found: Any, output: Dataset, phantom: Phantom) -> bool:
    match check.kind:
        case "tag_retained":
            return found is not None
        case "text_notnull":
            return found not in (None, "", b"")
        case "text_retained":
            text = _text(found)
            return all(str(word) in text for word in check.value)
        case "text_removed":
            return not _is_said(str(check.value), _text(found if check.path else output))
        case "uid_changed":
            return bool(found) and str(found) != check.value
        case "pixels_retained":
            return _same_pixels(check.value, output)
        case "pixels_hidden":
            return _hidden(check.value, output, phantom)
    raise AssertionError(check.kind)


def _is_said(value: str, text: str) -> bool:
    """Short values count only as words of their own."""
    wanted, said = _plain(value), _plain(text)
    return (
        wanted in said
        if len(wanted) > 4
        else re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", said) is not None
    )


def _same_pixels(before: tuple[Dataset, bytes], output: Dataset) -> bool:
    """The same bytes; of a compressed image the same decoded pixels."""
    source, raw = before
    if bytes(output.get("PixelData", b"")).startswith(raw):
        return True  # what lies behind the samples is the search of bytes' business
    if not source.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    return bool(np.array_equal(source.pixel_array, output.pixel_array))


def _hidden(rows: tuple[int, int], output: Dataset, phantom: Phantom) -> bool:
    shape = (int(output.Rows), int(output.Columns))
    after = np.frombuffer(output.PixelData, "<u2").reshape(shape)
    before = np.frombuffer(phantom.dataset.PixelData, "<u2").reshape(shape)
    inside = np.s_[rows[0] : rows[1]]
    return bool(np.ptp(after[inside]) == 0 and (after[rows[1] :] == before[rows[1] :]).all())


def _search_bytes(result: Score, phantom: Phantom, output: Dataset) -> None:
    file = io.BytesIO()
    output.save_as(file, enforce_file_format=True)
    haystack = file.getvalue().lower()
    for canary in phantom.canaries:
        if any(
            canary.lower().encode(encoding, "replace") in haystack
            for encoding in ("utf-8", "latin-1", "utf-16-le")
        ):
            result.leaks.append((phantom.carrier, canary))


def _note(result: Score, phantom: Phantom, check: Check, good: bool, found: Any) -> None:
    result.counts[check.kind][0] += good
    result.counts[check.kind][1] += 1
    if not good:
        result.failures.append((phantom.carrier, phantom.person.family, check, repr(found)[:120]))


def _distance(before: str, after: Any) -> timedelta | None:
    try:
        return _day(str(after)) - _day(before)
    except ValueError:
        return None


def _day(value: str) -> date:
    return date(int(value[:4]), int(value[4:6]), int(value[6:8]))


def _time_kept(check: Check, found: Any) -> bool:
    return str(found)[8:] == check.value[8:]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, MultiValue | list):
        return "\\".join(_text(one) for one in value)
    return str(value)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
