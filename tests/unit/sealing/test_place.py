"""The bytes that bind an object to its place, and which item a path belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.sealing.place import context, is_path, item_of

fields = st.text(st.characters(blacklist_categories=["Cs"]), max_size=6)


def test_the_context_is_written_as_the_format_says() -> None:
    assert context("copy", "lungs", "7K3QW2", "a/ü") == (
        b"\0\0\0\x11hdrs-hpc/sealed/1"
        b"\0\0\0\x04copy"
        b"\0\0\0\x06object"
        b"\0\0\0\x05lungs"
        b"\0\0\0\x067K3QW2"
        b"\0\0\0\x04a/\xc3\xbc"
    )


@given(st.tuples(fields, fields, fields), st.tuples(fields, fields, fields))
def test_two_places_never_share_a_context(one: tuple[str, str, str], two: tuple[str, str, str]) -> None:
    assert (context("copy", *one) == context("copy", *two)) == (one == two)


def test_no_field_can_reach_into_the_next() -> None:
    assert context("copy", "ab", "c", "d") != context("copy", "a", "bc", "d")
    assert context("copy", "a", "bc", "d") != context("copy", "a", "b", "cd")


def test_manifests_and_journals_have_places_of_their_own() -> None:
    places = {context("copy", "p", "c", "", part=part) for part in ("object", "item", "root", "journal")}
    assert len(places | {context("output", "p", "c", "")}) == 5


@pytest.mark.parametrize(
    ("path", "item"),
    [
        ("series/ABC/c/0/0", "series/ABC"),
        ("series/ABC/zarr.json", "series/ABC"),
        ("slides/S/0/c/1", "slides/S"),
        ("series/zarr.json", ""),
        ("index.parquet", ""),
        ("", ""),
    ],
)
def test_the_item_is_the_first_two_components(path: str, item: str) -> None:
    assert item_of(path) == item


@given(st.text())
def test_any_text_is_a_path_or_not(path: str) -> None:
    if is_path(path):
        assert path == "/".join(path.split("/"))
        assert not {"", ".", ".."} & set(path.split("/"))
