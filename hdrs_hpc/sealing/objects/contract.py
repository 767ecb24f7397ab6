"""What every ObjectStore must do, as a test suite beside the port.

Subclass :class:`ObjectStoreContract`, give it a fixture ``objects`` (a fresh, empty store) and run it with
pytest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.sealing.objects import ObjectExistsError, ObjectMissingError, ObjectStore


class ObjectStoreContract:
    """The contract suite of the ObjectStore port."""

    @pytest.fixture
    def objects(self) -> Any:
        raise NotImplementedError("give a fixture `objects`: a fresh, empty store")

    def test_what_was_put_is_got(self, objects: ObjectStore) -> None:
        objects.put("a-1", b"some bytes")
        assert objects.get("a-1") == b"some bytes"
        assert objects.size("a-1") == 10

    def test_an_empty_object_is_an_object(self, objects: ObjectStore) -> None:
        objects.put("empty", b"")
        assert objects.get("empty") == b""
        assert objects.size("empty") == 0
        assert list(objects.list()) == ["empty"]

    def test_pieces_are_put_in_order_and_their_memory_may_be_used_again(self, objects: ObjectStore) -> None:
        memory = bytearray(70_000)

        def pieces() -> Iterator[memoryview]:
            for value in (1, 2, 3):
                memory[:] = bytes([value]) * len(memory)
                yield memoryview(memory)[: len(memory) - value]

        objects.put("pieces", pieces())
        assert objects.get("pieces") == b"\x01" * 69_999 + b"\x02" * 69_998 + b"\x03" * 69_997

    def test_a_large_object_survives(self, objects: ObjectStore) -> None:
        data = bytes(range(256)) * (40 << 10) + b"end"  # 10 MiB and a bit
        objects.put("large", data)
        assert objects.get("large") == data
        assert objects.get("large", (9 << 20) - 5, 1 << 20) == data[(9 << 20) - 5 : (10 << 20) - 5]

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, 3, b"012"),
            (3, 4, b"3456"),
            (8, 2, b"89"),
            (8, 10, b"89"),
            (10, 1, b""),
            (50, 5, b""),
            (0, 0, b""),
            (4, None, b"456789"),
            (12, None, b""),
        ],
    )
    def test_a_range_is_clipped_to_the_object(
        self, objects: ObjectStore, start: int, length: int | None, expected: bytes
    ) -> None:
        objects.put("digits", b"0123456789")
        assert objects.get("digits", start, length) == expected

    @pytest.mark.parametrize(
        ("start", "room", "expected"),
        [(0, 3, b"012"), (8, 10, b"89"), (10, 4, b""), (50, 4, b""), (2, 0, b"")],
    )
    def test_given_memory_is_filled_as_far_as_the_object_goes(
        self, objects: ObjectStore, start: int, room: int, expected: bytes
    ) -> None:
        objects.put("digits", b"0123456789")
        memory = bytearray(b"." * room)
        assert objects.get_into("digits", start, memoryview(memory)) == len(expected)
        assert bytes(memory) == expected.ljust(room, b".")
        with pytest.raises(ObjectMissingError):
            objects.get_into("nothing", start, memoryview(memory))

    def test_given_memory_may_be_large(self, objects: ObjectStore) -> None:
        data = bytes(range(251)) * (20 << 10)
        objects.put("large", data)
        memory = bytearray(4 << 20)
        assert objects.get_into("large", 77, memoryview(memory)) == 4 << 20
        assert memory == data[77 : 77 + (4 << 20)]

    def test_a_name_is_given_once(self, objects: ObjectStore) -> None:
        objects.put("once", b"first")
        with pytest.raises(ObjectExistsError):
            objects.put("once", b"second")
        assert objects.get("once") == b"first"
        assert objects.sweep() == 0

    def test_of_many_puts_of_one_name_at_once_one_wins_whole(self, objects: ObjectStore) -> None:
        contents = [bytes([number]) * 100_000 for number in range(8)]
        together = threading.Barrier(len(contents), timeout=60)

        def put(content: bytes) -> bool:
            together.wait()
            try:
                objects.put("race", [content[:50_000], content[50_000:]])
            except ObjectExistsError:
                return False
            return True

        with ThreadPoolExecutor(len(contents)) as pool:
            won = list(pool.map(put, contents))
        assert sum(won) == 1
        assert objects.get("race") == contents[won.index(True)]

    def test_many_threads_put_and_get(self, objects: ObjectStore) -> None:
        def there_and_back(number: int) -> bool:
            content = number.to_bytes(4, "big") * 50_000
            objects.put(f"n{number}", content)
            return objects.get(f"n{number}") == content and objects.get(f"n{number}", 5, 90) == content[5:95]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(there_and_back, range(24)))
        assert sorted(objects.list()) == sorted(f"n{number}" for number in range(24))

    @pytest.mark.parametrize("failure", [KeyError("source"), OSError(5, "source"), EOFError("source")])
    def test_a_put_that_breaks_off_leaves_no_object(self, objects: ObjectStore, failure: Exception) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"half " * 30_000
            raise failure

        with pytest.raises(type(failure)) as raised:
            objects.put("half", pieces())
        assert raised.value is failure
        assert list(objects.list()) == []
        with pytest.raises(ObjectMissingError):
            objects.get("half")
        objects.put("half", b"whole")
        assert objects.get("half") == b"whole"

    def test_an_object_has_no_name_before_it_is_whole(self, objects: ObjectStore) -> None:
        seen: list[list[str]] = []

        def pieces() -> Iterator[bytes]:
            yield b"x" * 70_000
            seen.append(list(objects.list()))
            yield b"y" * 70_000

        objects.put("slow", pieces())
        assert seen == [[]]
        assert list(objects.list()) == ["slow"]

    def test_what_is_missing_is_said_to_be_missing(self, objects: ObjectStore) -> None:
        for there in (False, True):
            if there:
                objects.put("other", b"x")
            with pytest.raises(ObjectMissingError):
                objects.get("nothing")
            with pytest.raises(ObjectMissingError):
                objects.get("nothing", 5, 5)
            with pytest.raises(ObjectMissingError):
                objects.size("nothing")

    def test_deleting_twice_is_deleting_once(self, objects: ObjectStore) -> None:
        objects.delete("gone")
        objects.put("gone", b"x")
        objects.delete("gone")
        objects.delete("gone")
        assert list(objects.list()) == []
        with pytest.raises(ObjectMissingError):
            objects.size("gone")

    def test_listing_gives_names_and_lengths(self, objects: ObjectStore) -> None:
        assert list(objects.list()) == []
        assert list(objects.sizes()) == []
        objects.put("one", b"1")
        objects.put("three", b"333")
        assert sorted(objects.list()) == ["one", "three"]
        assert sorted(objects.sizes()) == [("one", 1), ("three", 3)]

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../up", "/etc/passwd", "a/b", ".hidden", "A", "a b", "a\n", "x" * 129]
    )
    def test_no_name_leads_out_of_the_folder(self, objects: ObjectStore, name: str) -> None:
        for act in (
            objects.get,
            objects.size,
            objects.delete,
            lambda bad: objects.get_into(bad, 0, memoryview(bytearray(1))),
            lambda bad: objects.put(bad, b"x"),
        ):
            with pytest.raises(InternalError):
                act(name)
        assert list(objects.list()) == []
