"""Tink's AES256-GCM-HKDF streaming format with 64 KiB segments: sealing, opening, opening a range.

Layout (https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming)::

    header   1 byte 0x28 ‖ 32 bytes salt ‖ 7 bytes nonce prefix
    segment  ciphertext ‖ 16 bytes tag              the first one is 40 bytes shorter: the header's room

The segment key is HKDF-SHA256(key, salt, info=context), 32 bytes; the nonce of segment *i* is prefix ‖ u32
*i* ‖ u8 1 for the last segment, else 0; there is no associated data beside the nonce.  So a segment opens
only as itself, at its index, in its object, at its place, and only the true last one opens as the last.

Nothing here hands out bytes that were not authenticated: OpenSSL writes plaintext before it has checked the
tag, therefore a failing read wipes the whole target before it raises.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import mmap
import os
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hdrs_hpc.core.errors import BadDocumentError, InternalError, NotAllowedError

KEY_BYTES = 32
HEADER_BYTES = 40
TAG_BYTES = 16
SEGMENT_BYTES = 64 * 1024
SEGMENT_PLAINTEXT_BYTES = SEGMENT_BYTES - TAG_BYTES
FIRST_PLAINTEXT_BYTES = SEGMENT_PLAINTEXT_BYTES - HEADER_BYTES
WINDOW_SEGMENTS = 16
"""Segments sealed or fetched in one go: 1 MiB stays in the processor's cache and is re-used, where fresh
memory would cost more in page faults than AES does.
"""

MAX_PLAINTEXT_BYTES = FIRST_PLAINTEXT_BYTES + ((1 << 32) - 1) * SEGMENT_PLAINTEXT_BYTES
"""The segment number is a u32, as Tink has it."""

_HEADER_SALT = b"hdrs-hpc/reproducible-header/1"

_LARGE_BYTES = 4 << 20
"""From here on huge pages, and a thread that works ahead, are worth their cost."""

type Bytes = bytes | bytearray | memoryview
type Fetch = Callable[[int, int], Bytes]
"""``fetch(start, length)`` gives that range of the sealed object, shorter only where the object ends; until the
thread's next call.
"""


class SealBrokenError(BadDocumentError):
    code = "seal-broken"
    meaning = "A sealed object is not what was sealed at that place: damaged, replaced, moved or cut."
    remedy = "Stop using the copy and tell the site and the custodian; stage the copy anew."


class KeyStaysHereError(NotAllowedError):
    code = "key-stays-here"
    meaning = "An object that holds a key can't be pickled, copied or sent to another process."
    remedy = "Send the path and open it there; inside a job use open_staged(), which never holds a key."


def never_pickled(holder: object) -> NoReturn:
    """What ``__reduce_ex__`` of every class that holds a key does."""
    raise KeyStaysHereError(f"{type(holder).__name__} holds a key and does not leave this process")


def sealed_size(plaintext_bytes: int) -> int:
    """Bytes of the sealed form of so many bytes of plaintext, header and tags included."""
    return HEADER_BYTES + plaintext_bytes + TAG_BYTES * segment_count(plaintext_bytes)


def segment_count(plaintext_bytes: int) -> int:
    """Segments of the sealed form; the empty plaintext has one."""
    if not 0 <= plaintext_bytes <= MAX_PLAINTEXT_BYTES:
        raise InternalError(f"{plaintext_bytes} bytes can't be one sealed object")
    rest = plaintext_bytes - FIRST_PLAINTEXT_BYTES
    return 1 if rest <= 0 else 1 - (-rest // SEGMENT_PLAINTEXT_BYTES)


def seal(key: bytes, context: bytes, plaintext: Bytes) -> bytes:
    """The whole sealed object: header and segments."""
    sealer = Sealer(key, context)
    sealed = bytearray()
    for window in sealer.stream([plaintext]):
        sealed += window
    return bytes(sealed)


def seal_stream(key: bytes, context: bytes, chunks: Iterable[Bytes]) -> Iterator[memoryview]:
    """Seal plaintext of any length in bounded memory; see :meth:`Sealer.stream`."""
    return Sealer(key, context).stream(chunks)


def open_all(key: bytes, context: bytes, blob: Bytes) -> bytes:
    """The plaintext of a whole sealed object.  Raises SealBrokenError, and then gives nothing."""
    view = memoryview(blob).cast("B")
    if len(view) < HEADER_BYTES + TAG_BYTES:
        raise SealBrokenError("shorter than the shortest sealed object")
    size = _plaintext_size(len(view))
    opener = Opener(key, context, bytes(view[:HEADER_BYTES]), size)
    return bytes(opener.read(lambda start, length: view[start : start + length], 0, size))


def opens_first_segment(key: bytes, context: bytes, head: Bytes, sealed_bytes: int) -> bool:
    """Whether the first segment, ``head``, of an object of so many sealed bytes opens under this key and context.

    What is no first segment of such an object raises SealBrokenError: it would open under no key whatever.
    """
    view = memoryview(head).cast("B")
    size = _plaintext_size(sealed_bytes)
    if len(view) != min(sealed_bytes, SEGMENT_BYTES):
        raise SealBrokenError("not the first segment of an object of this size")
    opener = Opener(key, context, bytes(view[:HEADER_BYTES]), size)
    try:
        opener.read(lambda start, length: view[start : start + length], 0, min(size, FIRST_PLAINTEXT_BYTES))
    except SealBrokenError:
        return False
    return True


def reproducible_header(key: bytes, context: bytes, plaintext: Bytes) -> bytes:
    """A header that depends on (key, context, plaintext) alone, so that sealing again gives the same bytes.

    For manifests: a crash between writing one and noting its digest then changes nothing.  It is a
    pseudo-random function of all that is sealed, so two different plaintexts never share a segment key and
    nonce; all an onlooker learns is that two equal manifests are equal.
    """
    _check_key(key)
    info = struct.pack(">I", len(context)) + context + hashlib.sha256(plaintext).digest()
    made = HKDF(hashes.SHA256(), HEADER_BYTES - 1, _HEADER_SALT, info).derive(key)
    return bytes([HEADER_BYTES]) + made


class Sealer:
    """Seals one object.  ``header`` (40 bytes) is chosen at once, so that it can be noted with the object's
    name.
    """

    __slots__ = ("_aead", "_used", "header")

    def __init__(self, key: bytes, context: bytes, header: bytes | None = None) -> None:
        self.header = bytes([HEADER_BYTES]) + os.urandom(HEADER_BYTES - 1) if header is None else header
        self._aead = _segment_cipher(key, context, self.header)
        self._used = False

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        never_pickled(self)

    def stream(self, chunks: Iterable[Bytes]) -> Iterator[memoryview]:
        """Yield the sealed object in pieces of up to 1 MiB.

        A piece is valid until the next one is asked for: the buffer is used again.
        """
        return self._windows(chunks, 1)

    def stream_ahead(self, plaintext: Bytes) -> Generator[memoryview]:
        """Like :meth:`stream`; a further thread seals the next piece while this one is written.  To be closed."""
        if memoryview(plaintext).nbytes < _LARGE_BYTES:
            return self._windows([plaintext], 1)
        return _ahead(self._windows([plaintext], 2))

    def _windows(self, chunks: Iterable[Bytes], rooms: int) -> Generator[memoryview]:
        """The sealed pieces, in so many windows used in turn."""
        if self._used:
            raise InternalError("a second plaintext under the same segment key and nonces")
        self._used = True
        return self._seal(
            chunks, [memoryview(bytearray(WINDOW_SEGMENTS * SEGMENT_BYTES)) for _ in range(rooms)]
        )

    def _seal(self, chunks: Iterable[Bytes], rooms: list[memoryview]) -> Generator[memoryview]:
        turns = itertools.cycle(rooms)
        target = next(turns)
        target[:HEADER_BYTES] = self.header
        filled = HEADER_BYTES
        for index, (segment, last) in enumerate(_segments(chunks)):
            sealed = len(segment) + TAG_BYTES
            if filled + sealed > len(target):
                yield target[:filled]
                target, filled = next(turns), 0
            nonce = _nonce(self.header, index, last)
            self._aead.encrypt_into(nonce, segment, None, target[filled : filled + sealed])
            filled += sealed
        yield target[:filled]


class Opener:
    """Opens ranges of one sealed object whose header and plaintext size are known from a trusted place.

    Because the header is pinned, an older version of the object (other salt) fails on any range.  Safe to
    share between threads.
    """

    __slots__ = ("_aead", "_header", "_segments", "sealed_bytes", "size")

    def __init__(self, key: bytes, context: bytes, header: bytes, size: int) -> None:
        if len(header) != HEADER_BYTES or header[0] != HEADER_BYTES:
            raise SealBrokenError("the header is not one of this format")
        self._aead = _segment_cipher(key, context, header)
        self._header = header
        self._segments = segment_count(size)
        self.size = size
        self.sealed_bytes = sealed_size(size)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        never_pickled(self)

    def check_header(self, header: Bytes) -> None:
        """Raise SealBrokenError unless these are the pinned 40 bytes."""
        if bytes(header) != self._header:
            raise SealBrokenError("another header than the one that was sealed")

    def read(self, fetch: Fetch, start: int, length: int, into: memoryview | None = None) -> memoryview:
        """Plaintext ``[start, start + length)``, clipped to the object; only the segments needed are fetched.

        Gives a view of ``into`` (writable, at least as long as the clipped range) or of new memory.  Raises
        SealBrokenError; ``into`` then holds zeros where plaintext might have been.
        """
        if start < 0 or length < 0:
            raise ValueError("a range starts and ends inside the object")
        end = min(start + length, self.size)
        start = min(start, end)
        target = _fresh(end - start) if into is None else into.cast("B")[: end - start]
        if len(target) != end - start:
            raise ValueError("the target is shorter than the range")
        if start == end and self.size:
            return target
        # The empty object has one segment, whose tag still says whether it is ours.
        first, last = _segment_of(start), _segment_of(max(start, end - 1))
        opened = False
        try:
            for window in range(first, last + 1, WINDOW_SEGMENTS):
                stop = min(window + WINDOW_SEGMENTS, last + 1)
                self._open_window(fetch, window, stop, start, end, target)
            opened = True
        finally:
            if not opened:
                target[:] = bytes(len(target))
        return target

    def _open_window(
        self, fetch: Fetch, first: int, stop: int, start: int, end: int, target: memoryview
    ) -> None:
        """Fetch segments ``[first, stop)`` and open what of ``[start, end)`` lies in them into ``target``."""
        begin = first * SEGMENT_BYTES
        length = min(stop * SEGMENT_BYTES, self.sealed_bytes) - begin
        sealed = memoryview(fetch(begin, length)).cast("B")
        if len(sealed) != length:
            raise SealBrokenError("cut short")
        if first == 0:
            self.check_header(sealed[:HEADER_BYTES])
        for index in range(first, stop):
            offset = index * SEGMENT_BYTES - begin
            data = sealed[offset if index else HEADER_BYTES : offset + SEGMENT_BYTES]
            low = _plaintext_start(index)
            high = low + len(data) - TAG_BYTES
            whole = start <= low and high <= end
            room = target[low - start : high - start] if whole else _edge()[: high - low]
            try:
                nonce = _nonce(self._header, index, index == self._segments - 1)
                self._aead.decrypt_into(nonce, data, None, room)
            except InvalidTag:
                room[:] = bytes(len(room))
                raise SealBrokenError(f"segment {index} does not open") from None
            if not whole:
                kept = slice(max(start, low), min(end, high))
                target[kept.start - start : kept.stop - start] = room[kept.start - low : kept.stop - low]


def _ahead(windows: Iterator[memoryview]) -> Generator[memoryview]:
    with ThreadPoolExecutor(1, "sealing") as thread:
        coming = thread.submit(next, windows, None)
        while (window := coming.result()) is not None:
            coming = thread.submit(next, windows, None)
            yield window


def _segments(chunks: Iterable[Bytes]) -> Iterator[tuple[memoryview, bool]]:
    """Cut plaintext into segments and say which is the last; views of the input wherever one holds a
    segment.
    """
    pending: memoryview | None = None  # full, but perhaps the last one
    gathered = bytearray()
    room = FIRST_PLAINTEXT_BYTES
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        at = 0
        while at < len(view):
            if pending is not None:
                yield pending, False
                pending = None
            if not gathered and len(view) - at >= room:
                pending = view[at : at + room]
                at += room
            else:
                taken = min(room - len(gathered), len(view) - at)
                gathered += view[at : at + taken]
                at += taken
                if len(gathered) == room:
                    pending, gathered = memoryview(gathered), bytearray()
            if pending is not None:
                room = SEGMENT_PLAINTEXT_BYTES
        if pending is not None and at:
            pending = memoryview(bytes(pending))  # the caller may use its chunk's memory again
    yield memoryview(gathered) if pending is None else pending, True


def _segment_of(position: int) -> int:
    """Which segment holds this byte of plaintext."""
    return (position + HEADER_BYTES) // SEGMENT_PLAINTEXT_BYTES


def _plaintext_start(index: int) -> int:
    return max(0, index * SEGMENT_PLAINTEXT_BYTES - HEADER_BYTES)


def _plaintext_size(sealed_bytes: int) -> int:
    segments = -(-sealed_bytes // SEGMENT_BYTES)
    size = sealed_bytes - HEADER_BYTES - TAG_BYTES * segments
    if size < 0 or sealed_size(size) != sealed_bytes:  # a last segment shorter than its tag
        raise SealBrokenError("cut within a tag")
    return size


def _nonce(header: bytes, index: int, last: bool) -> bytes:
    return header[-7:] + struct.pack(">IB", index, last)


def _segment_cipher(key: bytes, context: bytes, header: bytes) -> AESGCM:
    _check_key(key)
    return AESGCM(HKDF(hashes.SHA256(), KEY_BYTES, header[1:33], context).derive(key))


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise InternalError(f"a key has {KEY_BYTES} bytes")


def _fresh(size: int) -> memoryview:
    """New memory.  In small pages the kernel would need longer to hand it out than AES to fill it."""
    if size < _LARGE_BYTES:
        return memoryview(bytearray(size))
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


class _Edges(threading.local):
    """One buffer a thread, for segments of which only a part was asked for."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(SEGMENT_PLAINTEXT_BYTES))


_edges = _Edges()


def _edge() -> memoryview:
    return _edges.buffer
