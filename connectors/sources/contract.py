"""What every source must do, as pytest suites: subclass, give the fixtures, and it tests your connector.

:class:`SourceContract` is for all, :class:`RemoteSourceContract` for what comes over a network.
"""

from __future__ import annotations

import pickle
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from connectors.sources import Source, SourceItemMissingError, SourceUnreachableError
from connectors.sources.contract_line import CutLine
from connectors.sources.remote import Limits
from connectors.sources.retrying import Retrying


class SourceContract:
    """Subclass in a test module as ``class TestMine(SourceContract)`` and override :meth:`make`.

    An archive that can't hold arbitrary files overrides the fixtures ``held`` (what it holds), ``source`` and
    ``empty_source`` instead, and :meth:`same` if it packs the same data set differently.
    """

    FILES: ClassVar[dict[str, bytes]] = {
        "b/two.dcm": b"second" * 1000,
        "a": b"",
        "b.x": b"dot sorts before slash",
        "b/\u00e9t\u00e9 1.dcm": b"accents and spaces",
        "b/deep/er/three.dcm": b"\x00\x01\x02",
    }

    def make(self, tmp_path: Path, files: dict[str, bytes]) -> Source:
        """A source that holds exactly ``files``."""
        raise NotImplementedError

    def same(self, read: bytes, held: bytes) -> bool:
        """Whether ``read`` is what the archive holds."""
        return read == held

    @pytest.fixture
    def held(self) -> dict[str, bytes]:
        """Path → bytes of everything in ``source``; at least two items, one longer than 1,000 bytes."""
        return self.FILES

    @pytest.fixture
    def source(self, tmp_path: Path) -> Iterator[Source]:
        made = self.make(tmp_path, self.FILES)
        yield made
        made.close()

    @pytest.fixture
    def empty_source(self, tmp_path: Path) -> Iterator[Source]:
        made = self.make(tmp_path, {})
        yield made
        made.close()

    def test_every_item_is_listed_once_with_its_size(self, source: Source, held: dict[str, bytes]) -> None:
        listed = list(source.items())
        assert sorted(item.path for item in listed) == sorted(held)
        assert all(item.size in (None, len(held[item.path])) for item in listed)

    def test_items_come_in_order_of_their_utf8_bytes(self, source: Source) -> None:
        paths = [item.path.encode() for item in source.items()]
        assert paths == sorted(paths)

    def test_two_listings_agree(self, source: Source) -> None:
        assert list(source.items()) == list(source.items())

    def test_an_opened_item_gives_its_bytes_and_seeks(self, source: Source, held: dict[str, bytes]) -> None:
        for path, data in held.items():
            with source.open(path) as handle:
                whole = handle.read()
                assert self.same(whole, data)
                handle.seek(len(whole) // 2)
                assert handle.read() == whole[len(whole) // 2 :]

    def test_an_item_has_the_same_bytes_each_time(self, source: Source, held: dict[str, bytes]) -> None:
        """Its checksum is the dataset's version: no time, name of a machine or count may get into them."""
        other: Source = pickle.loads(pickle.dumps(source))  # noqa: S301 (our own)
        for path in held:
            with source.open(path) as first, other.open(path) as second:
                assert first.read() == second.read()
        other.close()

    def test_an_opened_item_has_a_descriptor_that_only_reads(
        self, source: Source, held: dict[str, bytes]
    ) -> None:
        with source.open(next(iter(held))) as handle:
            assert handle.fileno() >= 0
            assert not handle.writable()

    def test_two_readers_of_one_item_do_not_disturb_each_other(
        self, source: Source, held: dict[str, bytes]
    ) -> None:
        path = max(held, key=lambda path: len(held[path]))
        with source.open(path) as first, source.open(path) as second:
            assert first.read(10) == second.read(10) != b""

    def test_many_threads_read_at_once(self, source: Source, held: dict[str, bytes]) -> None:
        def read(path: str) -> bool:
            with source.open(path) as handle:
                return self.same(handle.read(), held[path])

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(read, sorted(held) * 4))

    def test_a_pickled_source_reads_the_same(self, source: Source, held: dict[str, bytes]) -> None:
        listed = list(source.items())
        other: Source = pickle.loads(pickle.dumps(source))  # noqa: S301 (our own)
        assert list(other.items()) == listed
        with other.open(listed[-1].path) as handle:
            assert self.same(handle.read(), held[listed[-1].path])
        other.close()

    def test_what_was_opened_stays_readable_after_closing(
        self, source: Source, held: dict[str, bytes]
    ) -> None:
        path = max(held, key=lambda path: len(held[path]))
        with source.open(path) as handle:
            source.close()
            source.close()
            assert self.same(handle.read(), held[path])

    def test_a_local_path_holds_the_same_bytes(self, source: Source, held: dict[str, bytes]) -> None:
        for path, data in held.items():
            local = source.local_path(path)
            assert local is None or local.read_bytes() == data

    @pytest.mark.parametrize(
        "path", ["absent", "b", "b/", "", "/", "../a", "b/../a", "./a", "/etc/hostname", "a/x", "a\0", "*"]
    )
    def test_anything_but_a_listed_path_is_refused(self, source: Source, path: str) -> None:
        with pytest.raises(SourceItemMissingError):
            source.open(path)

    def test_an_empty_source_lists_nothing(self, empty_source: Source) -> None:
        assert list(empty_source.items()) == []


class RemoteSourceContract(SourceContract):
    """Also give :meth:`through`, ``peer_port`` and ``large``."""

    RESUMES: ClassVar[bool]
    """Whether the protocol can go on within an item; else a broken transfer begins again."""
    LIMITS: ClassVar[Limits] = Limits(retrying=Retrying(attempts=4, first_s=0.05, longest_s=0.2))

    def through(self, port: int, tmp_path: Path) -> Source:
        """The source with its peer at ``port`` of this machine, under ``LIMITS``."""
        raise NotImplementedError

    @pytest.fixture
    def peer_port(self) -> int:
        raise NotImplementedError

    @pytest.fixture
    def large(self) -> tuple[str, bytes]:
        """Path and bytes of a held item of at least 16 MiB, in ``held`` or not."""
        raise NotImplementedError

    @pytest.fixture
    def line(self, peer_port: int) -> Iterator[CutLine]:
        with CutLine(peer_port) as line:
            yield line

    @pytest.fixture
    def remote(self, line: CutLine, tmp_path: Path) -> Iterator[Source]:
        source = self.through(line.port, tmp_path)
        yield source
        source.close()

    def test_a_transfer_that_is_cut_is_taken_up(
        self, remote: Source, line: CutLine, large: tuple[str, bytes]
    ) -> None:
        path, data = large
        line.cut_after(len(data) // 3, len(data) // 3)
        with remote.open(path) as handle:
            assert self.same(handle.read(), data)
        assert line.cuts_due == 0
        assert (line.brought_bytes < 1.3 * len(data)) == self.RESUMES

    def test_a_listing_that_is_cut_is_whole_in_the_end(
        self, remote: Source, line: CutLine, source: Source
    ) -> None:
        line.cut_after(600)
        assert list(remote.items()) == list(source.items())
        assert line.cuts_due == 0

    def test_connections_that_died_while_idle_are_replaced(
        self, remote: Source, line: CutLine, held: dict[str, bytes]
    ) -> None:
        first, second, *_ = sorted(held, key=lambda path: -len(held[path]))
        remote.open(first).close()
        line.drop_all()
        with remote.open(second) as handle:
            assert self.same(handle.read(), held[second])

    def test_a_peer_that_is_away_is_said_after_a_limited_number_of_tries(
        self, remote: Source, line: CutLine, held: dict[str, bytes]
    ) -> None:
        line.shut()
        started = time.monotonic()
        with pytest.raises(SourceUnreachableError, match="tried 4 times"):
            remote.open(next(iter(held)))
        with pytest.raises(SourceUnreachableError):
            list(remote.items())
        assert time.monotonic() - started < 30

    def test_memory_does_not_grow_with_the_item(self, remote: Source, large: tuple[str, bytes]) -> None:
        path, data = large
        smallest = min(remote.items(), key=lambda item: item.size or 0)
        remote.open(smallest.path).close()  # what a first question costs, such as a client's tables
        tracemalloc.start()
        try:
            remote.open(path).close()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < len(data) / 2, peak

    def test_an_item_that_many_ask_for_comes_once(
        self, remote: Source, line: CutLine, large: tuple[str, bytes]
    ) -> None:
        path, data = large
        with ThreadPoolExecutor(6) as threads:
            for handle in threads.map(remote.open, [path] * 6):
                handle.close()
        assert line.brought_bytes < 1.5 * len(data)

    def test_no_bytes_lie_under_a_name(
        self, remote: Source, large: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a process that is killed leaves behind would be patient data."""
        spool = tmp_path / "spool"
        spool.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(spool))
        with remote.open(large[0]):
            assert list(spool.iterdir()) == []
