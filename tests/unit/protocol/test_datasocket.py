"""Frames of the data socket: what is written is read back, and everything else is a frame error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.protocol import datasocket
from hdrs_hpc.protocol.datasocket import FrameError, Listing, Range

paths = st.text(min_size=1, max_size=60).filter(lambda text: text.isprintable())
ranges = st.lists(st.builds(Range, paths, st.integers(0, 1 << 60), st.integers(0, 1000)), max_size=50)


@given(paths, ranges)
def test_reads_survive(name: str, wanted: list[Range]) -> None:
    assert datasocket.parse_read(datasocket.read_body(name, wanted)) == (name, wanted)


@given(paths, st.lists(st.tuples(paths, st.integers(0, 1 << 60)), max_size=30), st.booleans())
def test_names_sizes_and_listings_survive(name: str, entries: list[tuple[str, int]], more: bool) -> None:
    listed = [path for path, _ in entries]
    assert datasocket.parse_sizes(datasocket.sizes_body(name, listed)) == (name, listed)
    assert datasocket.parse_list(datasocket.list_body(name, "a", "b")) == (name, "a", "b")
    listing = Listing(tuple(entries), more)
    assert datasocket.parse_listing(datasocket.listing_body(listing)) == listing


PARSERS = [
    datasocket.parse_open,
    datasocket.parse_list,
    datasocket.parse_sizes,
    datasocket.parse_read,
    datasocket.parse_opened,
    datasocket.parse_names,
    datasocket.parse_listing,
]


@pytest.mark.parametrize("parse", PARSERS)
@given(raw=st.binary(max_size=200))
def test_hostile_frames_raise_only_frame_errors(parse: Any, raw: bytes) -> None:
    try:
        parse(raw)
    except FrameError:
        return


@given(paths, ranges, st.integers(1, 40))
def test_a_cut_or_lengthened_read_is_refused(name: str, wanted: list[Range], by: int) -> None:
    body = datasocket.read_body(name, wanted)
    for raw in (body[:-by], body + bytes(by)):
        with pytest.raises(FrameError):
            datasocket.parse_read(raw)


def test_more_than_a_slot_or_too_many_ranges_are_refused() -> None:
    with pytest.raises(FrameError):
        datasocket.parse_read(datasocket.read_body("ct", [Range("a", 0, (8 << 20) + 1)]))
    with pytest.raises(FrameError):
        datasocket.parse_read(datasocket.read_body("ct", [Range("a", 0, 1)] * 4097))
    with pytest.raises(FrameError):
        datasocket.parse_head(b"\xff\xff\xff\xff\x01")
