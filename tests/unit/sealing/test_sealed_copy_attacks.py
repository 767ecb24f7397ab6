"""What the storage could do to a sealed copy, each by name, on whole and on partial reads."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.sealing import reader as reader_module
from hdrs_hpc.sealing.cipher import KeyStaysHereError, SealBrokenError, Sealer
from hdrs_hpc.sealing.manifest import (
    Entry,
    ManifestMalformedError,
    PathNotInCopyError,
    SealedObjectMissingError,
    SealedPlace,
    parse_item,
    seal_item,
    seal_root,
)
from hdrs_hpc.sealing.place import context
from hdrs_hpc.sealing.reader import SealedCopy

SEGMENT = 65_536
SIZE = 3 * 65_520  # four segments, the last one 40 bytes of plaintext
VICTIM = "series/A/c/0"

WHOLE = (0, SIZE)
FIRST_BYTES = (0, 10)
IN_FIRST = (50_000, 100)
IN_MIDDLE = (70_000, 100)
IN_LAST = (SIZE - 20, 10)


class Target:
    """A sealed copy and what its attacker knows: which file is the victim's."""

    def __init__(self, bench: Any, *, content: bytes | None = None) -> None:
        self.bench = bench
        self.content = os.urandom(SIZE) if content is None else content
        builder = bench.builder()
        builder.put(VICTIM, self.content)
        builder.put("series/A/c/1", os.urandom(SIZE))
        builder.put("series/B/c/0", os.urandom(SIZE))
        builder.put("index.parquet", b"rows")
        self.names = {path: builder.find(path).name for path in builder.paths()}
        builder.finish_item("series/A", {})
        builder.finish_item("series/B", {})
        self.ref = builder.seal()

    def file(self, path: str = VICTIM) -> Path:
        return Path(self.bench.folder / "objects" / self.names[path])

    def manifests(self) -> list[Path]:
        return sorted((self.bench.folder / "objects").glob("m-*"))

    def open(self) -> SealedCopy:
        copy: SealedCopy = self.bench.open(self.ref)
        return copy

    def is_refused(self, part: tuple[int, int], error: type[SealBrokenError] = SealBrokenError) -> None:
        """Both ways of reading refuse, give nothing, and say nothing about where in the archive."""
        for read in ("read", "read_into"):
            target = bytearray(b"\0" * part[1])
            copy = self.open()
            with pytest.raises(error) as raised:
                if read == "read":
                    copy.read(VICTIM, *part)
                else:
                    copy.read_into(VICTIM, part[0], memoryview(target))
            assert target == bytes(part[1])
            assert VICTIM not in str(raised.value) and "series" not in str(raised.value)

    def is_whole(self, part: tuple[int, int]) -> None:
        assert self.open().read(VICTIM, *part) == self.content[part[0] : part[0] + part[1]]


@pytest.fixture
def target(bench: Any) -> Target:
    return Target(bench)


@pytest.mark.parametrize("part", [WHOLE, FIRST_BYTES, IN_FIRST, IN_MIDDLE, IN_LAST])
def test_an_untouched_copy_opens(target: Target, part: tuple[int, int]) -> None:
    target.is_whole(part)


@pytest.mark.parametrize(
    ("at", "part"),
    [
        *[(at, part) for at in (0, 1, 20, 33, 39) for part in (WHOLE, FIRST_BYTES, IN_FIRST, IN_MIDDLE, IN_LAST)],
        *[(at, part) for at in (40, 50_000, SEGMENT - 16, SEGMENT - 1) for part in (WHOLE, FIRST_BYTES, IN_FIRST)],
        *[(at, part) for at in (SEGMENT, SEGMENT + 9, 2 * SEGMENT - 1) for part in (WHOLE, IN_MIDDLE)],
        *[(at, part) for at in (3 * SEGMENT, 3 * SEGMENT + 35, -16, -1) for part in (WHOLE, IN_LAST)],
    ],
)  # fmt: skip
def test_flip_a_bit(target: Target, at: int, part: tuple[int, int]) -> None:
    data = bytearray(target.file().read_bytes())
    data[at] ^= 0x10
    target.file().write_bytes(data)
    target.is_refused(part)


@pytest.mark.parametrize("part", [WHOLE, FIRST_BYTES, IN_FIRST, IN_MIDDLE, IN_LAST])
@pytest.mark.parametrize(
    "length", [0, 20, 40, 56, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT, -16, -1]
)
def test_truncate(target: Target, length: int, part: tuple[int, int]) -> None:
    target.file().write_bytes(target.file().read_bytes()[:length])
    target.is_refused(part)


@pytest.mark.parametrize("part", [WHOLE, FIRST_BYTES, IN_FIRST, IN_MIDDLE, IN_LAST])
@pytest.mark.parametrize("more", [1, 16, SEGMENT])
def test_extend(target: Target, more: int, part: tuple[int, int]) -> None:
    with target.file().open("ab") as file:
        file.write(bytes(more))
    target.is_refused(part)


@pytest.mark.parametrize("part", [WHOLE, FIRST_BYTES, IN_MIDDLE, IN_LAST])
@pytest.mark.parametrize("other", ["series/A/c/1", "series/B/c/0"], ids=["same item", "other item"])
def test_swap_two_objects(target: Target, other: str, part: tuple[int, int]) -> None:
    mine, theirs = target.file().read_bytes(), target.file(other).read_bytes()
    target.file().write_bytes(theirs)
    target.file(other).write_bytes(mine)
    target.is_refused(part)


@pytest.mark.parametrize("part", [WHOLE, FIRST_BYTES, IN_MIDDLE, IN_LAST])
@pytest.mark.parametrize(
    "place",
    [
        ("copy", "lungs", "7K3QW2", "series/A/c/1"),
        ("copy", "lungs", "7K3QW2", "series/A/c/00"),
        ("copy", "lungs", "7K3QW3", VICTIM),
        ("copy", "lung", "s7K3QW2", VICTIM),
        ("output", "lungs", "7K3QW2", VICTIM),
    ],
    ids=["path", "similar path", "copy", "project", "role"],
)
def test_move_from_another_place_under_the_same_key(
    target: Target, place: tuple[Any, str, str, str], part: tuple[int, int]
) -> None:
    """Even with the very salt that the manifest pins: what was sealed at another place does not open at this."""
    entry = target.open().find(VICTIM)
    assert entry is not None
    moved = Sealer(target.bench.key, context(*place), entry.header).stream([target.content])
    target.file().write_bytes(b"".join(map(bytes, moved)))
    target.is_refused(part)


def test_the_move_above_is_refused_for_its_place_alone(target: Target) -> None:
    """The positive control: the same salt at the right place opens."""
    entry = target.open().find(VICTIM)
    assert entry is not None
    place = context("copy", "lungs", "7K3QW2", VICTIM)
    target.file().write_bytes(
        b"".join(map(bytes, Sealer(target.bench.key, place, entry.header).stream([target.content])))
    )
    target.is_whole(WHOLE)


def test_open_the_copy_as_another_one(target: Target) -> None:
    for role, project, holder in (
        ("copy", "lungs", "7K3QW3"),
        ("copy", "breast", "7K3QW2"),
        ("output", "lungs", "7K3QW2"),
    ):
        with pytest.raises(SealBrokenError):
            SealedCopy.open(
                target.bench.objects,
                target.bench.key,
                role,  # type: ignore[arg-type]
                project,
                holder,
                target.ref.manifest_digest,
            )


def test_open_the_copy_under_another_key(target: Target) -> None:
    target.bench.key = bytes(32)
    with pytest.raises(SealBrokenError):
        target.open()


@pytest.mark.parametrize("part", [WHOLE, FIRST_BYTES, IN_MIDDLE, IN_LAST])
def test_delete(target: Target, part: tuple[int, int]) -> None:
    target.file().unlink()
    target.is_refused(part, SealedObjectMissingError)


def test_delete_while_the_copy_is_open(target: Target) -> None:
    copy = target.open()
    assert copy.read(VICTIM, *IN_FIRST)
    target.file().unlink()
    with pytest.raises(SealedObjectMissingError):
        copy.read(VICTIM, *IN_FIRST)


@pytest.mark.parametrize("part", [WHOLE, FIRST_BYTES, IN_FIRST, IN_MIDDLE, IN_LAST])
def test_roll_an_object_back_to_an_older_version_at_the_same_place(
    bench: Any, part: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, bytes] = {}
    store = type(bench.objects)
    real_delete = store.delete

    def keep_and_delete(self: Any, name: str) -> None:
        kept[name] = self.get(name)
        real_delete(self, name)

    builder = bench.builder()
    builder.put(VICTIM, os.urandom(SIZE))
    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", keep_and_delete)
        builder.put(VICTIM, os.urandom(SIZE))
    (older,) = kept.values()
    builder.finish_item("series/A", {})
    name = builder.find(VICTIM).name
    ref = builder.seal()
    (bench.folder / "objects" / name).write_bytes(older)
    with pytest.raises(SealBrokenError):
        bench.open(ref).read(VICTIM, *part)


class TestManifest:
    @pytest.mark.parametrize("at", [0, 20, 39, 40, 60, -17, -1])
    def test_flip_a_bit(self, target: Target, at: int) -> None:
        for file in target.manifests():
            whole = file.read_bytes()
            data = bytearray(whole)
            data[at] ^= 1
            file.write_bytes(data)
            with pytest.raises(SealBrokenError):
                list(target.open().paths())
            file.write_bytes(whole)
        assert len(list(target.open().paths())) == 4

    @pytest.mark.parametrize("how", ["cut", "extend", "delete", "empty"])
    def test_cut_extend_delete(self, target: Target, how: str) -> None:
        for file in target.manifests():
            whole = file.read_bytes()
            if how == "delete":
                file.unlink()
            else:
                file.write_bytes({"cut": whole[:-1], "extend": whole + b"\0", "empty": b""}[how])
            with pytest.raises(SealBrokenError):
                list(target.open().paths())
            file.write_bytes(whole)

    def test_swap_two_items(self, target: Target) -> None:
        manifests = [file for file in target.manifests() if file.name != target.ref.manifest_name]
        contents = [file.read_bytes() for file in manifests]
        for file, content in zip(manifests, contents[1:] + contents[:1], strict=True):
            file.write_bytes(content)
        copy = target.open()
        for path in (VICTIM, "series/B/c/0", "index.parquet"):
            with pytest.raises(SealBrokenError):
                copy.read(path)

    def test_roll_the_root_back_to_an_older_state_of_the_copy(self, target: Target) -> None:
        """An older root, authentic and of this very copy, in place of the one that was logged."""
        place = SealedPlace("copy", "lungs", "7K3QW2")
        older = seal_root(target.bench.key, place, [])
        target.bench.objects.put(older.entry.name, older.sealed)
        # It is authentic: whoever asks for it by its digest gets it.
        assert (
            list(SealedCopy.open(target.bench.objects, target.bench.key, *place, older.digest).paths()) == []
        )
        (target.bench.folder / "objects" / target.ref.manifest_name).write_bytes(older.sealed)
        with pytest.raises(SealBrokenError):
            target.open()

    def test_roll_an_item_back_to_an_older_state(self, target: Target) -> None:
        """An older manifest of the item, which leaves one object out, in place of the present one."""
        copy = target.open()
        fewer = [copy.find(VICTIM)]
        older = seal_item(target.bench.key, SealedPlace("copy", "lungs", "7K3QW2"), "series/A", fewer)  # type: ignore[arg-type]
        present = copy._items["series/A"].name
        (target.bench.folder / "objects" / present).write_bytes(older.sealed)
        with pytest.raises(SealBrokenError):
            target.open().find(VICTIM)

    def test_the_manifest_of_another_copy(self, target: Target, other_bench: Any) -> None:
        other_bench.holder = "OTHER0"
        other_bench.key = target.bench.key  # the worst case: one key for both
        other = Target(other_bench)
        (target.bench.folder / "objects" / target.ref.manifest_name).write_bytes(
            (other_bench.folder / "objects" / other.ref.manifest_name).read_bytes()
        )
        with pytest.raises(SealBrokenError):
            target.open()
        # Nor does it open here under its own digest.
        target.bench.objects.put(other.ref.manifest_name, (other_bench.objects.get(other.ref.manifest_name)))
        target.ref = other.ref
        with pytest.raises(SealBrokenError):
            target.open()

    @pytest.mark.parametrize(
        "digest", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "md5:" + "0" * 64, "../x"]
    )
    def test_a_digest_that_is_none(self, target: Target, digest: str) -> None:
        with pytest.raises(SealBrokenError):
            SealedCopy.open(target.bench.objects, target.bench.key, "copy", "lungs", "7K3QW2", digest)

    def test_a_manifest_of_unbounded_size_is_not_read_whole(
        self, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int | None] = []
        store = type(target.bench.objects)
        real_get: Callable[..., bytes] = store.get

        def get(self: Any, name: str, start: int = 0, length: int | None = None) -> bytes:
            asked.append(length)
            return real_get(self, name, start, length)

        monkeypatch.setattr(store, "get", get)
        target.open()
        assert all(length is not None and length < 65 << 20 for length in asked)

    def test_a_manifest_is_the_same_for_the_same_state_in_any_order(self) -> None:
        place = SealedPlace("copy", "p", "c")
        entries = [Entry(f"s/a/{n}", f"o-{n}", n, b"\x28" + bytes(39)) for n in range(5)]
        one = seal_item(bytes(32), place, "s/a", entries)
        two = seal_item(bytes(32), place, "s/a", entries[::-1])
        assert one == two
        assert seal_item(bytes(32), place, "s/a", entries[:4]).digest != one.digest

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"[]",
            b"{",
            b"[" * 100_000,
            b'{"item":"s/a","objects":[],"schema":"hdrs-hpc/sealed-item/2"}',
            b'{"item":"s/b","objects":[],"schema":"hdrs-hpc/sealed-item/1"}',
            b'{"item":"s/a","objects":[],"objects":[],"schema":"hdrs-hpc/sealed-item/1"}',
            b'{"item":"s/a","more":1,"objects":[],"schema":"hdrs-hpc/sealed-item/1"}',
            b'{"item":"s/a", "objects":[],"schema":"hdrs-hpc/sealed-item/1"}',
            b'{"item":"s/a","objects":{},"schema":"hdrs-hpc/sealed-item/1"}',
            *(
                b'{"item":"s/a","objects":[%s],"schema":"hdrs-hpc/sealed-item/1"}' % row
                for header in [b'"KA' + b"A" * 52 + b'=="']
                for row in (
                    b'["s/a/0","o-1",1]',
                    b'["s/b/0","o-1",1,%s]' % header,
                    b'["s/a/../b","o-1",1,%s]' % header,
                    b'["s/a/0","../o",1,%s]' % header,
                    b'["s/a/0","o-1",-1,%s]' % header,
                    b'["s/a/0","o-1",true,%s]' % header,
                    b'["s/a/0","o-1",1.0,%s]' % header,
                    b'["s/a/0","o-1",1,"AAAA"]',
                    b'["s/a/0","o-1",1,null]',
                    b'["s/a/0","o-1",1,%s],["s/a/0","o-2",1,%s]' % (header, header),
                    b'["s/a/1","o-1",1,%s],["s/a/0","o-2",1,%s]' % (header, header),
                )
            ),
        ],
    )
    def test_an_authentic_manifest_of_another_shape_is_refused(self, text: bytes) -> None:
        with pytest.raises(ManifestMalformedError):
            parse_item(text, "s/a")

    def test_the_shape_that_is_allowed(self) -> None:
        header = b'"KA' + b"A" * 52 + b'=="'
        text = b'{"item":"s/a","objects":[["s/a/0","o-1",1,%s]],"schema":"hdrs-hpc/sealed-item/1"}' % header
        assert parse_item(text, "s/a") == {"s/a/0": Entry("s/a/0", "o-1", 1, b"\x28" + bytes(39))}


class TestReader:
    def test_a_path_that_was_never_there_is_another_error(self, target: Target) -> None:
        copy = target.open()
        for path in ("series/A/c/9", "series/Z/c/0", "nothing", "", "/", "../up", "series", "series/A"):
            assert copy.find(path) is None
            with pytest.raises(PathNotInCopyError):
                copy.read(path)

    def test_listing_reads_no_more_manifests_than_it_needs(self, target: Target) -> None:
        copy = target.open()
        assert copy.items() == ["series/A", "series/B"]
        assert copy.children("series") == ["A", "B"]
        assert set(copy._loaded) <= {""}
        assert copy.children("") == ["index.parquet", "series"]
        assert copy.children("series/A") == ["c"]
        assert copy.children("series/A/c") == ["0", "1"]
        assert copy.children("series/A/c/0") == copy.children("nowhere") == []
        assert "series/B" not in copy._loaded
        assert list(copy.paths("series/A/")) == [VICTIM, "series/A/c/1"]
        assert list(copy.paths("ser")) == [VICTIM, "series/A/c/1", "series/B/c/0"]
        assert list(copy.paths("series/A/c/1")) == ["series/A/c/1"]

    def test_read_into_fills_what_there_is(self, target: Target) -> None:
        copy = target.open()
        room = bytearray(100)
        assert copy.read_into(VICTIM, SIZE - 30, memoryview(room)) == 30
        assert room == target.content[-30:] + bytes(70)
        assert copy.read_into(VICTIM, SIZE + 5, memoryview(room)) == 0

    def test_memory_for_manifests_is_bounded(self, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader_module, "MAX_CACHED_ENTRIES", 2)
        monkeypatch.setattr(reader_module, "MAX_CACHED_OPENERS", 1)
        copy = target.open()
        for _ in range(3):
            for path in (VICTIM, "series/B/c/0", "index.parquet"):
                assert copy.read(path, 0, 4)
                assert sum(map(len, copy._loaded.values())) <= 2
                assert len(copy._openers) == 1

    def test_threads_share_a_copy(self, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader_module, "MAX_CACHED_OPENERS", 2)
        copy = target.open()
        together = threading.Barrier(8, timeout=60)

        def read(number: int) -> bool:
            together.wait()
            copy.read("series/B/c/0", 5, 5)
            return all(
                copy.read(VICTIM, start, 30_000) == target.content[start : start + 30_000]
                for start in range(number * 777, SIZE, 17_001)
            )

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(8)))

    def test_a_closed_copy_holds_no_key(self, target: Target) -> None:
        copy = target.open()
        copy.read(VICTIM)
        copy.close()
        with pytest.raises(PathNotInCopyError):
            copy.read(VICTIM)
        assert target.bench.key not in [value for value in vars(copy).values() if isinstance(value, bytes)]
        assert not copy._openers

    def test_a_reader_is_not_pickled(self, target: Target) -> None:
        with pytest.raises(KeyStaysHereError):
            pickle.dumps(target.open())

    def test_an_error_of_the_seal_crosses_processes(self) -> None:
        error = pickle.loads(pickle.dumps(SealBrokenError("segment 3 does not open", where="o-1")))
        assert (type(error), str(error)) == (SealBrokenError, "seal-broken: segment 3 does not open (o-1)")
