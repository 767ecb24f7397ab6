"""The Tink streaming format: interoperability, ranges, damage."""

from __future__ import annotations

import io
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import tink
from hypothesis import given, settings
from hypothesis import strategies as st
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.sealing import cipher
from hdrs_hpc.sealing.cipher import KeyStaysHereError, Opener, SealBrokenError, Sealer

KEY = bytes(range(32))
CONTEXT = b"somewhere"
FIRST, NEXT = 65_480, 65_520  # plaintext bytes of the first segment and of the following ones
BORDERS = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + NEXT - 1, FIRST + NEXT, FIRST + NEXT + 1]
WINDOW = FIRST + 15 * NEXT  # what 1 MiB of sealed bytes holds

sizes_near_borders = st.one_of(
    st.sampled_from(BORDERS),
    st.builds(lambda n, d: max(0, FIRST + n * NEXT + d), st.integers(0, 18), st.integers(-2, 2)),
    st.integers(0, 300_000),
)


@pytest.fixture(scope="module")
def theirs() -> streaming_aead.StreamingAead:
    """Google's implementation over the same key, in the same parameters."""
    streaming_aead.register()
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=KEY)
    key.params.ciphertext_segment_size = 65_536
    key.params.derived_key_size = 32
    key.params.hkdf_hash_type = common_pb2.SHA256
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_data=tink_pb2.KeyData(
            type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
            value=key.SerializeToString(),
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
        status=tink_pb2.ENABLED,
        key_id=1,
        output_prefix_type=tink_pb2.RAW,
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class _Kept(io.BytesIO):
    """Its content outlives ``close``."""

    content = b""

    def close(self) -> None:
        if not self.closed:
            self.content = self.getvalue()
        super().close()


@pytest.mark.parametrize("size", [*BORDERS, WINDOW, WINDOW + 1, 3_000_000])
def test_tink_opens_what_we_seal(theirs: streaming_aead.StreamingAead, size: int) -> None:
    plaintext = os.urandom(size)
    sealed = cipher.seal(KEY, CONTEXT, plaintext)
    with theirs.new_decrypting_stream(io.BytesIO(sealed), CONTEXT) as stream:
        assert stream.read() == plaintext


@pytest.mark.parametrize("size", [*BORDERS, WINDOW, WINDOW + 1, 3_000_000])
def test_we_open_what_tink_seals(theirs: streaming_aead.StreamingAead, size: int) -> None:
    plaintext = os.urandom(size)
    target = _Kept()
    with theirs.new_encrypting_stream(target, CONTEXT) as stream:
        stream.write(plaintext)
    assert cipher.open_all(KEY, CONTEXT, target.content) == plaintext
    assert len(target.content) == cipher.sealed_size(size)


@given(size=sizes_near_borders, cuts=st.lists(st.integers(0, 200_000), max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_stream_in_any_pieces_opens_to_the_same_bytes(size: int, cuts: list[int]) -> None:
    plaintext = _pattern(size)

    def pieces() -> Iterator[memoryview]:
        borders = sorted(min(cut, size) for cut in cuts)
        memory = bytearray(size)  # used again for each piece, as a reader of files would
        for low, high in zip([0, *borders], [*borders, size], strict=True):
            part = plaintext[low:high]
            memory[: len(part)] = part
            yield memoryview(memory)[: len(part)]
            memory[: len(part)] = b"\xee" * len(part)

    sealed = b"".join(map(bytes, cipher.seal_stream(KEY, CONTEXT, pieces())))
    assert len(sealed) == cipher.sealed_size(size)
    assert cipher.open_all(KEY, CONTEXT, sealed) == plaintext


def test_a_stream_of_any_length_needs_a_megabyte() -> None:
    longest = max(map(len, cipher.seal_stream(KEY, CONTEXT, (bytes(100_000) for _ in range(100)))))
    assert longest == 1 << 20


@given(size=sizes_near_borders, data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_range_equals_the_slice(size: int, data: st.DataObject) -> None:
    plaintext = _pattern(size)
    sealed = cipher.seal(KEY, CONTEXT, plaintext)
    near = st.one_of(
        st.sampled_from([at for at in BORDERS if at <= size] + [size]),
        st.integers(0, size),
    )
    start = data.draw(near)
    length = data.draw(st.one_of(st.integers(0, 200_000), near))
    opener = Opener(KEY, CONTEXT, sealed[:40], size)
    fetched: list[tuple[int, int]] = []

    def fetch(at: int, count: int) -> bytes:
        fetched.append((at, count))
        return sealed[at : at + count]

    assert opener.read(fetch, start, length) == plaintext[start : start + length]
    # No more than the segments that the range touches.
    assert sum(count for _, count in fetched) <= (length // NEXT + 2) * 65_536
    target = bytearray(b"\xaa" * (length + 3))
    view = opener.read(fetch, start, length, memoryview(target))
    assert bytes(view) == plaintext[start : start + length]
    assert target[len(view) :] == b"\xaa" * (length + 3 - len(view))


def test_threads_share_an_opener() -> None:
    plaintext = os.urandom(1_000_000)
    sealed = cipher.seal(KEY, CONTEXT, plaintext)
    opener = Opener(KEY, CONTEXT, sealed[:40], len(plaintext))
    together = threading.Barrier(8, timeout=60)

    def read(number: int) -> bool:
        together.wait()
        starts = range(number * 1000, 900_000, 7919)
        return all(
            opener.read(lambda at, count: sealed[at : at + count], start, 70_000)
            == plaintext[start : start + 70_000]
            for start in starts
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


SIZE = FIRST + NEXT + 1000  # three segments
REGIONS = {
    "header length": 0,
    "salt": 1,
    "nonce prefix": 39,
    "first segment": 40,
    "first tag": 65_535,
    "middle segment": 65_536 + 100,
    "middle tag": 2 * 65_536 - 16,
    "last segment": 2 * 65_536 + 5,
    "last tag": -1,
}


@pytest.mark.parametrize("region", REGIONS)
def test_one_flipped_bit_anywhere_is_refused(region: str) -> None:
    sealed = bytearray(cipher.seal(KEY, CONTEXT, _pattern(SIZE)))
    sealed[REGIONS[region]] ^= 0x01
    with pytest.raises(SealBrokenError):
        cipher.open_all(KEY, CONTEXT, sealed)


@pytest.mark.parametrize("length", [0, 39, 40, 55, 56, 65_535, 65_536, 65_537, 131_071, 131_072, 131_080, -1])
def test_a_cut_anywhere_is_refused(length: int) -> None:
    sealed = cipher.seal(KEY, CONTEXT, _pattern(SIZE))
    with pytest.raises(SealBrokenError):
        cipher.open_all(KEY, CONTEXT, sealed[:length])


@pytest.mark.parametrize("more", [b"\0", bytes(16), bytes(65_536)])
def test_an_extension_is_refused(more: bytes) -> None:
    sealed = cipher.seal(KEY, CONTEXT, _pattern(SIZE))
    with pytest.raises(SealBrokenError):
        cipher.open_all(KEY, CONTEXT, sealed + more)


def test_segments_in_another_order_are_refused() -> None:
    sealed = cipher.seal(KEY, CONTEXT, _pattern(4 * NEXT))
    first, second, third, rest = (
        sealed[:65_536],
        sealed[65_536 : 2 * 65_536],
        sealed[2 * 65_536 : 3 * 65_536],
        sealed[3 * 65_536 :],
    )
    assert first + second + third + rest == sealed
    with pytest.raises(SealBrokenError):
        cipher.open_all(KEY, CONTEXT, first + third + second + rest)


def test_another_place_or_key_is_refused() -> None:
    sealed = cipher.seal(KEY, CONTEXT, b"x")
    with pytest.raises(SealBrokenError):
        cipher.open_all(KEY, CONTEXT + b"!", sealed)
    with pytest.raises(SealBrokenError):
        cipher.open_all(KEY[::-1], CONTEXT, sealed)


@pytest.mark.parametrize("damaged", [0, 65_536 + 70, 2 * 65_536 + 9], ids=["first", "middle", "last"])
def test_a_failed_read_leaves_no_plaintext_in_the_target(damaged: int) -> None:
    plaintext = b"\x77" * SIZE
    sealed = bytearray(cipher.seal(KEY, CONTEXT, plaintext))
    header = bytes(sealed[:40])
    sealed[damaged + 41] ^= 0x80
    opener = Opener(KEY, CONTEXT, header, SIZE)
    for start, end in ((0, SIZE), (7, SIZE - 7)):
        target = bytearray(SIZE)
        with pytest.raises(SealBrokenError):
            opener.read(lambda at, count: sealed[at : at + count], start, end - start, memoryview(target))
        assert target == bytes(SIZE)


def test_a_store_that_answers_with_fewer_bytes_is_refused() -> None:
    sealed = cipher.seal(KEY, CONTEXT, _pattern(SIZE))
    opener = Opener(KEY, CONTEXT, sealed[:40], SIZE)
    with pytest.raises(SealBrokenError):
        opener.read(lambda at, count: sealed[at : at + count - 1], 100, 100)


def test_a_sealer_seals_once() -> None:
    sealer = Sealer(KEY, CONTEXT)
    list(sealer.stream([b"one"]))
    with pytest.raises(InternalError):
        list(sealer.stream([b"two"]))


def test_each_sealing_has_its_own_salt() -> None:
    assert cipher.seal(KEY, CONTEXT, b"same") != cipher.seal(KEY, CONTEXT, b"same")


def test_a_reproducible_header_depends_on_everything_that_is_sealed() -> None:
    headers = {
        cipher.reproducible_header(key, context, plaintext)
        for key in (KEY, KEY[::-1])
        for context in (b"a", b"b")
        for plaintext in (b"", b"x")
    }
    assert len(headers) == 8
    assert cipher.reproducible_header(KEY, b"a", b"x") in headers


@pytest.mark.parametrize("key", [b"", KEY[:16], KEY + b"!"])
def test_a_key_of_another_length_is_our_bug(key: bytes) -> None:
    with pytest.raises(InternalError):
        cipher.seal(key, CONTEXT, b"x")


def test_what_holds_a_key_is_not_pickled() -> None:
    sealer = Sealer(KEY, CONTEXT)
    for holder in (sealer, Opener(KEY, CONTEXT, sealer.header, 0)):
        with pytest.raises(KeyStaysHereError):
            pickle.dumps(holder)


_PATTERN = os.urandom(1_400_000)


def _pattern(size: int) -> bytes:
    return _PATTERN[:size]
