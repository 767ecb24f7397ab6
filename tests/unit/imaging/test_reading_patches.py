"""Which items of a copy a data set of patches takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from imaging.layout import SERIES, SLIDES
from imaging.reading.patches import chosen
from imaging.reading.staged import StagedCopy

KINDS = {
    "series/v": "volume", "series/c": "cine", "series/i": "image", "series/d": "dose", "series/m": "map",
    "series/l": "label", "slides/s": "slide",
}  # fmt: skip


@dataclass
class Indexed:
    """A copy of which only the index is looked at."""

    rows: list[dict[str, Any]]

    def index(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows)


@pytest.fixture
def copy() -> StagedCopy:
    rows = [{"item": item, "kind": kind, "patient": f"of-{item[-1]}"} for item, kind in KINDS.items()]
    return cast(StagedCopy, Indexed(rows))


def test_volumes_alone_are_taken_of_a_whole_copy_and_of_its_rows(copy: StagedCopy) -> None:
    assert chosen(copy, None, SERIES, ("volume",)) == [("series/v", "of-v")]
    assert chosen(copy, copy.index(), SERIES, ("volume",)) == [("series/v", "of-v")]
    of_others = copy.index().filter(pc.field("kind") != "volume")
    assert chosen(copy, of_others, SERIES, ("volume",)) == []


def test_rows_need_not_have_kept_the_kind(copy: StagedCopy) -> None:
    cohort = copy.index().select(["item", "patient"])
    assert chosen(copy, cohort, SERIES, ("volume",)) == [("series/v", "of-v")]


def test_other_kinds_are_taken_where_asked_for(copy: StagedCopy) -> None:
    paths = [path for path, _ in chosen(copy, None, SERIES, ("volume", "cine", "label"))]
    assert paths == ["series/v", "series/c", "series/l"]
    assert chosen(copy, ["c"], SERIES, ("cine",)) == [("series/c", "of-c")]
    assert chosen(copy, None, SLIDES) == [("slides/s", "of-s")]


def test_an_id_of_another_kind_is_not_passed_over_in_silence(copy: StagedCopy) -> None:
    with pytest.raises(ValueError, match="items of kind cine, label, but kinds are volume"):
        chosen(copy, ["v", "c", "l"], SERIES, ("volume",))
