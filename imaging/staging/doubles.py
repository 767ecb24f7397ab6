"""Several items with one SOP Instance UID: which of them is the instance.

A UID names one instance.  An archive may hold it twice nevertheless: sent again, cut short by a broken transfer, or two
images by a fault of whoever gave the UIDs.  Items of equal bytes are one.  Of others every pixel is decoded, since a
cut file can have a sound header; a whole one wins over a broken one, whole ones that show the same count once, and
of those that differ nobody can say which is meant: all are refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeIs

from imaging.staging.headers import Header
from imaging.staging.items import Bench
from imaging.staging.pathology.headers import WsmHeader
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.refusals import Refused

DIFFER = "duplicates-differ"
BROKEN = "duplicate-broken"
_PIXELS_BROKEN = frozenset(
    {
        "truncated-pixel-data",
        "pixel-data-missing",
        "decode-failed",
        "truncated-tile",
        "malformed-dicom",
        "malformed-slide",
    }
)
"""What is wrong with a copy that was cut short or damaged."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What decoding an item came to: the digest of what it shows, or the code by which it can't be.

    ``complete``: whether its codestreams have their ends.
    """

    digest: str = ""
    code: str = ""
    complete: bool = True


@dataclass
class Settled:
    """``refused``: item number → reason code.  ``notes``: what deserves a look, counted."""

    refused: dict[int, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


def shared[Identity: Hashable](
    headers: Mapping[int, Header], identity: Callable[[int, Header], Identity | None]
) -> list[list[int]]:
    """Numbers (ascending) of items of one identity, where there are several.

    ``identity`` is asked only about items whose UID another has too; None stands for an item that a rule keeps out.
    """
    uids = Counter(header.sop_instance for header in headers.values() if _has_uid(header))
    found: dict[Identity, list[int]] = defaultdict(list)
    for number, header in sorted(headers.items()):
        if _has_uid(header) and uids[header.sop_instance] > 1:
            whose = identity(number, header)
            if whose is not None:
                found[whose].append(number)
    return [numbers for numbers in found.values() if len(numbers) > 1]


def _has_uid(header: Header) -> TypeIs[InstanceHeader | WsmHeader]:
    return isinstance(header, InstanceHeader | WsmHeader)


def show(bench: Bench, number: int, header: Header) -> Shown:
    """The work of a worker: decode the whole item."""
    if not _has_uid(header):
        raise TypeError("not an instance")
    try:
        if isinstance(header, InstanceHeader):
            from imaging.staging.radiology import content as radiology

            digest, complete = radiology.content(bench, number, header)
            return Shown(digest, complete=complete)
        from imaging.staging.pathology import content as pathology

        return Shown(pathology.content(bench, number, header))
    except Refused as refused:
        return Shown(code=refused.code)


def settle(
    groups: Iterable[Sequence[int]],
    bytes_of: Callable[[int], str],
    shown: Callable[[Sequence[int]], Mapping[int, Shown]],
) -> Settled:
    """Which of each group's items stay out, and why; at most one of a group is left.

    ``bytes_of``: the registered digest of an item's bytes.  ``shown`` is asked about one item of each sort of bytes.
    """
    settled = Settled()
    sorts: list[dict[int, list[int]]] = []
    for numbers in groups:
        alike: dict[str, list[int]] = defaultdict(list)
        for number in numbers:
            alike[bytes_of(number)].append(number)
        sorts.append({equal[0]: equal for equal in alike.values()})
    asked = [number for sort in sorts if len(sort) > 1 for number in sort]
    answers = shown(asked) if asked else {}
    for sort in sorts:
        _settle(sort, answers, settled)
    return settled


def _settle(sort: Mapping[int, Sequence[int]], answers: Mapping[int, Shown], settled: Settled) -> None:
    """``sort``: the first item of each sort of bytes → all items with these bytes."""
    if len(sort) == 1:
        ((first, *again),) = sort.values()
        settled.refused.update(dict.fromkeys(again, "duplicate-instance"))
        return
    answers = {first: _judged(answers[first], answers, sort) for first in sort}
    whole = {first: answers[first].digest for first in sort if not answers[first].code}
    differ = len(set(whole.values())) > 1
    kept = min(whole) if whole and not differ else None
    for first, equal in sort.items():
        code = answers[first].code
        if not code:
            code = DIFFER if differ else "duplicate-instance"
        elif kept is not None and code in _PIXELS_BROKEN:
            code = BROKEN
        settled.refused.update(dict.fromkeys((number for number in equal if number != kept), code))
    if differ:
        settled.notes["differing-duplicates"] += 1


def _judged(one: Shown, answers: Mapping[int, Shown], sort: Iterable[int]) -> Shown:
    """What decodes without its end is a cut copy if a complete one shows something else: decoders fill up with grey."""
    complete = {
        answers[first].digest for first in sort if answers[first].complete and not answers[first].code
    }
    cut = not one.code and not one.complete and complete and one.digest not in complete
    return Shown(code="truncated-pixel-data") if cut else one
