"""Figures: attacks that ride on images, and what is left after rebuilding."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "image": {}})


def table(name: str, data: bytes) -> tuple[Declared, bytes]:
    return declaring.table(data, name=name), data


BIG_TABLE = table("data", b"bin,n\na,20\nb,30\n")


def check(
    data: bytes, *, table: tuple[Declared, bytes] | None = BIG_TABLE, draws: str | None = "data"
) -> Checked:
    figure = (Declared("fig", "image", "f.png", (), draws, 30 << 20), data)
    return check_set([figure, *([table] if table else [])], RULES, bytes(16), AMPLE)[0]


def picture(size: tuple[int, int] = (64, 48)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    image.paste((200, 30, 40), (5, 5, 30, 40))
    return image


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, pixels: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def test_png_with_text_profile_and_exif_comes_back_without() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "CANARY-in-text")
    info.add_itxt("Author", "CANARY-in-itxt")
    info.add_text("Zipped", "CANARY-in-ztxt" * 50, zip=True)
    data = encoded(picture(), pnginfo=info, icc_profile=b"CANARY-profile" * 20, exif=b"Exif\0\0CANARY-exif")
    checked = check(data)
    assert checked.rebuilt is not None
    assert b"CANARY" in data and b"CANARY" not in checked.rebuilt
    rebuilt = Image.open(io.BytesIO(checked.rebuilt))
    rebuilt.load()
    assert rebuilt.info == {} and rebuilt.mode == "RGB" and rebuilt.size == (64, 48)
    kinds = [checked.rebuilt[at + 4 : at + 8] for at in chunk_starts(checked.rebuilt)]
    assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
    assert {"tEXt", "iTXt", "zTXt", "iCCP", "eXIf"} <= set(checked.report["repaired"]["metadata-removed"])


def chunk_starts(data: bytes) -> list[int]:
    starts, position = [], 8
    while position < len(data):
        starts.append(position)
        position += 12 + struct.unpack(">I", data[position : position + 4])[0]
    return starts


def test_jpeg_with_exif_and_comment_comes_back_as_bare_png() -> None:
    data = encoded(picture(), "JPEG", exif=b"Exif\0\0CANARY-exif", comment=b"CANARY-comment")
    checked = check(data)
    assert checked.media_type == "image/png" and checked.rebuilt is not None
    assert checked.rebuilt.startswith(b"\x89PNG") and b"CANARY" not in checked.rebuilt
    assert checked.report["repaired"]["metadata-removed"] == ["APP0", "APP1", "COM"]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_image_that_is_a_zip_as_well_is_refused(form: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("records.csv", "n\n1\n")
    data = encoded(picture(), form) + archive.getvalue()
    assert zipfile.is_zipfile(io.BytesIO(data))
    assert check(data).refused == "image-trailing-data"


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_one_byte_behind_the_end_is_refused(form: str) -> None:
    assert check(encoded(picture(), form) + b"\0").refused == "image-trailing-data"


def test_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    assert check(png(60_000, 60_000, zlib.compress(bytes(1000)))).refused == "image-too-large"
    assert check(png(4096, 4096, zlib.compress(bytes(1000)))).refused == "image-too-large"


def test_bomb_in_a_text_chunk_is_never_inflated() -> None:
    bomb = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(50_000_000), 9))
    row = b"\0" + b"\xff" * 24
    checked = check(png(8, 8, zlib.compress(row * 8), bomb))
    assert checked.refused is None
    assert checked.report["repaired"]["metadata-removed"] == ["zTXt"]


def test_pixels_that_inflate_far_beyond_the_image_are_cut_or_refused() -> None:
    row = b"\0" + b"\xff" * 24
    checked = check(png(8, 8, zlib.compress(row * 8 + bytes(20_000_000), 9)))
    assert checked.refused in (None, "malformed-image")
    if checked.rebuilt is not None:
        assert len(checked.rebuilt) < 1000


def test_animation_is_refused() -> None:
    frames = [picture(), Image.new("RGB", (64, 48), "black")]
    assert check(encoded(frames[0], save_all=True, append_images=frames[1:])).refused == "image-animated"


def test_second_header_and_unknown_critical_chunk_are_refused() -> None:
    row = zlib.compress((b"\0" + b"\xff" * 24) * 8)
    other = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    assert check(png(8, 8, row, other)).refused == "malformed-image"
    assert check(png(8, 8, row, chunk(b"EVIL", b"x"))).refused == "malformed-image"


def test_wrong_check_sum_is_refused() -> None:
    data = bytearray(encoded(picture()))
    data[40] ^= 1
    assert check(bytes(data)).refused == "malformed-image"


def test_bits_hidden_in_the_low_bits_of_pixels_are_gone() -> None:
    """The upper five bits stay; a message in the lower three does not."""
    secret = np.random.default_rng(3).integers(0, 8, (48, 64, 3), dtype=np.uint8)
    plain = np.asarray(picture()) & 0xF8
    one, two = (encoded(Image.fromarray(plain | low)) for low in (secret, np.zeros_like(secret)))
    assert one != two
    assert check(one).rebuilt == check(two).rebuilt


def test_colours_stay_close_and_white_stays_white() -> None:
    rebuilt = check(encoded(picture())).rebuilt
    assert rebuilt is not None
    pixels = np.asarray(Image.open(io.BytesIO(rebuilt)).convert("RGB")).astype(int)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.abs(pixels - np.asarray(picture()).astype(int)).max() <= 7


def test_what_transparency_hid_is_not_uncovered_nor_kept() -> None:
    clear = np.zeros((8, 8, 4), dtype=np.uint8)
    clear[..., :3] = 77
    rebuilt = check(encoded(Image.fromarray(clear))).rebuilt
    assert rebuilt is not None
    assert np.asarray(Image.open(io.BytesIO(rebuilt))).min() == 255


def test_capacity_is_told_and_true() -> None:
    checked = check(encoded(picture()))
    assert checked.rebuilt is not None
    assert checked.report["repaired"]["capacity-bits"] == 8 * len(checked.rebuilt)


def test_scan_like_texture_is_pointed_out_and_a_plot_is_not() -> None:
    y, x = np.mgrid[0:256, 0:256]
    noise = np.random.default_rng(1).normal(0, 6, (256, 256))
    scan = np.clip(120 + 60 * np.sin(x / 30) * np.cos(y / 40) + noise, 0, 255).astype(np.uint8)
    codes = [finding["code"] for finding in check(encoded(Image.fromarray(scan))).report["findings"]]
    assert codes == ["image-looks-like-a-scan"]
    page = picture((640, 480))
    page.paste(Image.fromarray(scan), (300, 100))
    assert check(encoded(page)).report["findings"]
    assert not check(plot()).report["findings"]


def plot() -> bytes:
    from matplotlib.figure import Figure

    made = Figure(figsize=(6, 4), dpi=100)
    axes = made.add_subplot()
    axes.bar(range(12), [30, 45, 60, 90, 120, 110, 95, 70, 50, 40, 35, 30])
    axes.plot(range(12), np.sqrt(np.arange(12)) * 20, "k-o")
    axes.set_title("Spacing between slices")
    out = io.BytesIO()
    made.savefig(out, format="png")
    return out.getvalue()


def test_figure_needs_its_table() -> None:
    assert check(encoded(picture()), draws=None).refused == "image-data-missing"
    assert check(encoded(picture()), draws="other").refused == "image-data-missing"
    assert check(encoded(picture()), table=None).refused == "image-data-missing"
    assert check(encoded(picture()), draws="fig").refused == "image-data-missing"


def test_figure_of_a_refused_table_is_refused() -> None:
    broken = (BIG_TABLE[0], b"bin,n\na,=1\n")
    assert check(encoded(picture()), table=broken).refused == "image-data-missing"


def test_figure_of_a_table_with_suppressed_counts_is_refused() -> None:
    small = table("data", b"bin,n\na,4\nb,30\nc,40\n")
    assert check(encoded(picture()), table=small).refused == "image-shows-suppressed"


def test_figure_is_refused_when_another_table_has_its_counts_suppressed() -> None:
    """The drawn table has no small count itself, but shows what guards the small count of another."""
    figure = (Declared("fig", "image", "f.png", (), "data", 1 << 20), encoded(picture()))
    drawn = table("data", b"site,n\nb,40\nc,50\n")
    whole = table("whole", b"site,n\na,4\nb,40\nc,50\nTotal,94\n")
    checked = check_set([figure, drawn, whole], RULES, bytes(16), AMPLE)
    assert checked[1].rebuilt == b"site,n\nc,50\n"
    assert checked[0].refused == "image-shows-suppressed"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG"]), st.data())
def test_damaged_images_end_in_a_code_and_never_in_a_crash(form: str, data: st.DataObject) -> None:
    raw = bytearray(encoded(picture(), form))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(1, len(raw)))]
    checked = check(bytes(raw))
    assert (checked.refused is None) == (checked.rebuilt is not None)


@given(st.binary(max_size=200))
def test_random_bytes_behind_a_magic_end_in_a_code(data: bytes) -> None:
    for magic in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        assert check(magic + data).refused is not None
