"""Which of several items with one SOP Instance UID is the instance; the order of paths has no part in it."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import pytest

from imaging.staging.doubles import Settled, Shown, settle

WHOLE, OTHER, CUT, BAD = (
    Shown("one"),
    Shown("two"),
    Shown(code="truncated-pixel-data"),
    Shown(code="decode-failed"),
)


def settled(*items: tuple[str, Shown]) -> tuple[Settled, list[int]]:
    """Items 1, 2 … of one UID, each with the digest of its bytes and what decoding comes to; and who was decoded."""
    asked: list[int] = []

    def shown(numbers: Sequence[int]) -> Mapping[int, Shown]:
        asked.extend(numbers)
        return {number: items[number - 1][1] for number in numbers}

    made = settle([range(1, len(items) + 1)], lambda number: items[number - 1][0], shown)
    return made, asked


@pytest.mark.parametrize("order", [*permutations([("a", CUT), ("b", WHOLE), ("c", BAD)])])
def test_a_whole_item_goes_before_broken_ones(order: Sequence[tuple[str, Shown]]) -> None:
    made, _ = settled(*order)
    left = {1, 2, 3} - set(made.refused)
    assert [order[number - 1][1] for number in left] == [WHOLE]
    assert set(made.refused.values()) == {"duplicate-broken"}
    assert not made.notes


def test_whole_items_that_show_the_same_count_once() -> None:
    made, _ = settled(("a", WHOLE), ("b", WHOLE), ("c", CUT), ("b", WHOLE))
    assert made.refused == {2: "duplicate-instance", 3: "duplicate-broken", 4: "duplicate-instance"}


def test_whole_items_that_differ_are_all_refused_and_noted() -> None:
    made, _ = settled(("a", WHOLE), ("b", OTHER), ("c", CUT), ("a", WHOLE))
    assert made.refused == {
        1: "duplicates-differ", 2: "duplicates-differ", 3: "truncated-pixel-data", 4: "duplicates-differ"
    }  # fmt: skip
    assert made.notes == {"differing-duplicates": 1}


def test_where_none_is_whole_each_says_what_is_wrong_with_it() -> None:
    made, _ = settled(("a", CUT), ("b", BAD), ("a", CUT))
    assert made.refused == {1: "truncated-pixel-data", 2: "decode-failed", 3: "truncated-pixel-data"}


def test_what_is_not_broken_pixels_keeps_its_own_code() -> None:
    made, _ = settled(("a", Shown(code="changed-since-inventory")), ("b", WHOLE))
    assert made.refused == {1: "changed-since-inventory"}


def test_what_decodes_without_its_end_is_cut_where_a_complete_item_shows_something_else() -> None:
    endless, same = Shown("half", complete=False), Shown("one", complete=False)
    assert settled(("a", endless), ("b", WHOLE))[0].refused == {1: "duplicate-broken"}
    assert settled(("a", WHOLE), ("b", same))[0].refused == {2: "duplicate-instance"}
    assert settled(("a", endless), ("b", same))[0].refused == {1: "duplicates-differ", 2: "duplicates-differ"}
    assert settled(("a", same), ("b", same))[0].refused == {2: "duplicate-instance"}


def test_items_of_equal_bytes_are_one_and_nobody_decodes_them() -> None:
    made, asked = settled(("a", CUT), ("a", CUT), ("a", CUT))
    assert (made.refused, asked) == ({2: "duplicate-instance", 3: "duplicate-instance"}, [])
