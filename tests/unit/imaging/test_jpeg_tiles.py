from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from archive import tissue
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imaging.staging.parsing.slides.jpeg import TileCompleter
from imaging.staging.parsing.unreadable import Unreadable

PIXELS = tissue(64, 64)
TILE = imagecodecs.jpeg8_encode(PIXELS, level=90)
RGB_TILE = imagecodecs.jpeg8_encode(PIXELS, level=90, colorspace="RGB", outcolorspace="RGB")


def complete_tile(tile: bytes, tables: bytes, *, rgb: bool, width: int, height: int) -> bytes:
    return TileCompleter(tables, "rgb" if rgb else "ycbcr", width=width, height=height).complete(tile)


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def test_the_pixels_are_those_of_the_original_codestream() -> None:
    made = complete_tile(TILE, b"", rgb=False, width=64, height=64)
    assert np.array_equal(imagecodecs.jpeg8_decode(made), imagecodecs.jpeg8_decode(TILE))


def test_an_rgb_tile_is_said_to_be_rgb_so_that_every_decoder_agrees() -> None:
    bare = (
        RGB_TILE[:2] + RGB_TILE[2 + 2 + int.from_bytes(RGB_TILE[4:6], "big") :]
    )  # less its own marker segment
    made = complete_tile(bare, b"", rgb=True, width=64, height=64)
    assert np.abs(imagecodecs.jpeg8_decode(made).astype(int) - PIXELS).mean() < 3


def test_names_in_comments_application_segments_and_after_the_end_are_dropped() -> None:
    marks = b"".join(segment(marker, b"JANE-DOE-CANARY") for marker in (0xFE, 0xE0, 0xE1, 0xED, 0xEE))
    made = complete_tile(
        TILE[:2] + marks + TILE[2:] + b"JANE-DOE-CANARY", b"", rgb=False, width=64, height=64
    )
    assert b"JANE" not in made
    assert np.array_equal(imagecodecs.jpeg8_decode(made), imagecodecs.jpeg8_decode(TILE))


def test_shared_tables_are_put_in_front() -> None:
    tables, rest, at = b"\xff\xd8", b"\xff\xd8", 2
    while TILE[at + 1] != 0xDA:
        size = 2 + int.from_bytes(TILE[at + 2 : at + 4], "big")
        if TILE[at + 1] in (0xDB, 0xC4):
            tables += TILE[at : at + size]
        else:
            rest += TILE[at : at + size]
        at += size
    made = complete_tile(rest + TILE[at:], tables + b"\xff\xd9", rgb=False, width=64, height=64)
    assert np.array_equal(imagecodecs.jpeg8_decode(made), imagecodecs.jpeg8_decode(TILE))


@pytest.mark.parametrize("kept", [0, 1, 2, 20, 300, len(TILE) - 2])
def test_a_truncated_tile_is_refused(kept: int) -> None:
    with pytest.raises(Unreadable) as refused:
        complete_tile(TILE[:kept], b"", rgb=False, width=64, height=64)
    assert refused.value.code == "truncated-tile"


@pytest.mark.parametrize(("width", "height"), [(64, 32), (128, 64), (65535, 65535)])
def test_a_tile_of_another_size_than_declared_is_refused(width: int, height: int) -> None:
    with pytest.raises(Unreadable):
        complete_tile(TILE, b"", rgb=False, width=width, height=height)


def test_a_progressive_tile_is_refused() -> None:
    at = TILE.index(b"\xff\xc0")
    with pytest.raises(Unreadable):
        complete_tile(TILE[: at + 1] + b"\xc2" + TILE[at + 2 :], b"", rgb=False, width=64, height=64)


def test_restart_markers_and_intervals_are_kept() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", quality=90, restart_marker_blocks=2)
    made = complete_tile(buffer.getvalue(), b"", rgb=False, width=64, height=64)
    assert b"\xff\xd0" in made
    assert np.array_equal(imagecodecs.jpeg8_decode(made), imagecodecs.jpeg8_decode(buffer.getvalue()))


def test_a_grey_tile_stays_grey() -> None:
    stream = imagecodecs.jpeg8_encode(np.ascontiguousarray(PIXELS[..., 0]), level=90)
    made = TileCompleter(b"", "gray", width=64, height=64).complete(stream)
    assert np.array_equal(imagecodecs.jpeg8_decode(made), imagecodecs.jpeg8_decode(stream))
    with pytest.raises(Unreadable):
        TileCompleter(b"", "gray", width=64, height=64).complete(TILE)


def test_text_between_scans_is_refused() -> None:
    at = TILE.index(b"\xff\xda") + 200
    hidden = TILE[:at] + segment(0xFE, b"JANE-DOE-CANARY") + TILE[at:]
    with pytest.raises(Unreadable) as refused:
        complete_tile(hidden, b"", rgb=False, width=64, height=64)
    assert refused.value.code == "unsupported-slide"


def test_a_tile_whose_header_differs_from_the_last_ones_gets_its_own() -> None:
    completer = TileCompleter(b"", "ycbcr", width=64, height=64)
    other = imagecodecs.jpeg8_encode(PIXELS, level=40)
    for stream in (TILE, other, TILE):
        assert np.array_equal(
            imagecodecs.jpeg8_decode(completer.complete(stream)), imagecodecs.jpeg8_decode(stream)
        )


@settings(max_examples=300)
@given(st.integers(0, len(TILE) - 1), st.integers(0, 255), st.binary(max_size=40))
def test_a_mutated_tile_is_taken_or_refused_and_never_anything_else(
    at: int, byte: int, insert: bytes
) -> None:
    mutated = TILE[:at] + bytes([byte]) + insert + TILE[at + 1 :]
    try:
        made = complete_tile(mutated, mutated[:at], rgb=True, width=64, height=64)
    except Unreadable:
        return
    assert made.startswith(b"\xff\xd8\xff\xee")
    assert made.endswith(b"\xff\xd9")
