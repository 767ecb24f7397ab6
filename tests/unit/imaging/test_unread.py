"""Which volumes and slides may lack an item on which parsers failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from imaging.staging.headers import Header
from imaging.staging.items import Task
from imaging.staging.pathology.headers import SlideHeader, WsmHeader
from imaging.staging.radiology.headers import FrameHeader, InstanceHeader
from imaging.staging.unread import Lacking, Unread, lacking

CT, DOSE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.481.2"
PLACED = (FrameHeader(position_mm=(0.0, 0.0, 0.0)),)


@dataclass
class Item:
    path: str
    of: list[int]

    def numbers(self) -> list[int]:
        return self.of


def instance(series: str, sop_class: str = CT, frames: Any = PLACED) -> Header:
    return InstanceHeader.model_construct(series=series, sop_class=sop_class, frames=frames)


HEADERS: dict[int, Header] = {
    1: instance("1.1"),
    2: instance("1.1"),
    3: instance("1.2"),
    4: instance("1.3", DOSE),
    5: instance("1.4", frames=(FrameHeader(),)),
    6: WsmHeader.model_construct(series="2.1"),
    7: SlideHeader.model_construct(),
}
PATHS = ["a/b/1", "a/b/2", "a/3", "a/4", "a/5", "s/6", "s/7", "a/b/c/d/8", "elsewhere/9"]
TASKS = [
    Item("volume", [1, 2]), Item("other", [3]), Item("dose", [4]), Item("projection", [5]),
    Item("wsm", [6]), Item("slide", [7]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("unread", "found"),
    [
        ({}, {}),
        ({8: ""}, {}),
        ({8: "9.9"}, {}),
        ({8: "1.1"}, {"volume": (8,)}),
        ({8: "1.1", 9: "1.1"}, {"volume": (8, 9)}),
        ({8: "2.1"}, {"wsm": (8,)}),
        ({8: "1.3"}, {}),  # each dose is an object of its own
        ({8: "1.4"}, {}),  # as is an image without a place
        ({8: None}, {"volume": (8,)}),  # the nearest folder around it that holds a part of anything
        ({9: None}, {"volume": (9,), "other": (9,), "wsm": (9,)}),  # which here is the source itself
        ({8: None, 9: "1.2"}, {"volume": (8,), "other": (9,)}),
    ],
)
def test_what_may_lack_an_unread_item(
    unread: dict[int, str | None], found: dict[str, tuple[int, ...]]
) -> None:
    told = {number: Unread("parser-timeout", series) for number, series in unread.items()}
    numbers = {task.path: tuple(task.of) for task in TASKS}
    expected = {path: Lacking(numbers[path], lacks) for path, lacks in found.items()}
    assert lacking(cast(list[Task], TASKS), HEADERS, told, PATHS) == expected
