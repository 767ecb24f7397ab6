"""Items on which parsers failed, and the volumes and slides that may lack them: those are never staged as if whole.

An item that a rule refuses is known for what it is, and its volume is judged without it.  One on which a parser
failed, twice, may be sound: what it belongs to is left out, under a code of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from imaging.staging.headers import Header
from imaging.staging.items import Bench, Task
from imaging.staging.pathology.headers import WsmHeader
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.sop_classes import EACH_BY_ITSELF, NATURES

PART_UNREAD = "part-unread"


@dataclass(frozen=True, slots=True)
class Unread:
    """``series``: the item's Series Instance UID, "" if it belongs to none, None where that can't be told either."""

    code: str
    series: str | None


@dataclass(frozen=True, slots=True)
class Lacking:
    """Sound items of a volume or slide that was left out, and the items for want of which it was."""

    items: tuple[int, ...]
    lacks: tuple[int, ...]


def unread(bench: Bench, number: int, code: str) -> Unread:
    """The item's series, from a parser that reads nothing else of it."""
    return Unread(code, bench.reader.series(number))


def lacking(
    tasks: Iterable[Task], headers: Mapping[int, Header], unread: Mapping[int, Unread], paths: Sequence[str]
) -> dict[str, Lacking]:
    """Path of a task → what it may lack, for those that may lack something.

    By series; of an item without a known one, all in the nearest folder around it that holds any instance of a volume
    or slide.  ``paths`` are those of the inventory, where item 1 is the first.
    """
    if all(one.series == "" for one in unread.values()):
        return {}
    parts = [(task, [n for n in task.numbers() if _is_part(headers.get(n))]) for task in tasks]
    occupied = {folder for _, part in parts for n in part for folder in _folders(paths[n - 1])}
    by_series: dict[str, list[int]] = defaultdict(list)
    by_folder: dict[str, list[int]] = defaultdict(list)
    for number, one in unread.items():
        if one.series:
            by_series[one.series].append(number)
        elif one.series is None:
            nearest = next((folder for folder in _folders(paths[number - 1]) if folder in occupied), None)
            if nearest is not None:
                by_folder[nearest].append(number)
    found = {}
    for task, part in parts:
        lost: set[int] = set()
        for number in part:
            header = headers[number]
            assert isinstance(header, InstanceHeader | WsmHeader)
            lost.update(by_series.get(header.series, ()))
            for folder in _folders(paths[number - 1]) if by_folder else ():
                lost.update(by_folder.get(folder, ()))
        if lost:
            found[task.path] = Lacking(tuple(task.numbers()), tuple(sorted(lost)))
    return found


def _is_part(header: Header | None) -> bool:
    """Whether other instances may belong to the same volume or slide."""
    if isinstance(header, WsmHeader):
        return True
    if not isinstance(header, InstanceHeader) or NATURES.get(header.sop_class) in EACH_BY_ITSELF:
        return False
    return any(frame.position_mm is not None for frame in header.frames)


def _folders(path: str) -> Iterator[str]:
    """Folders around an item, the innermost first; the last is the source itself."""
    while path:
        path = path.rpartition("/")[0]
        yield path
