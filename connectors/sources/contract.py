"""What every source must do, as a pytest suite: subclass, give :meth:`make`, and it tests your connector."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from connectors.sources import Source, SourceItemMissingError


class SourceContract:
    """Subclass in a test module as ``class TestMine(SourceContract)`` and override :meth:`make`."""

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

    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        return self.make(tmp_path, self.FILES)

    def test_every_item_is_listed_once_with_its_size(self, source: Source) -> None:
        listed = [(item.path, item.size) for item in source.items()]
        assert sorted(listed) == sorted((path, len(data)) for path, data in self.FILES.items())

    def test_items_come_in_order_of_their_utf8_bytes(self, source: Source) -> None:
        paths = [item.path.encode() for item in source.items()]
        assert paths == sorted(paths)

    def test_two_listings_agree(self, source: Source) -> None:
        assert list(source.items()) == list(source.items())

    def test_an_opened_item_gives_its_bytes_and_seeks(self, source: Source) -> None:
        for path, data in self.FILES.items():
            with source.open(path) as handle:
                assert handle.read() == data
                handle.seek(len(data) // 2)
                assert handle.read() == data[len(data) // 2 :]

    def test_two_readers_of_one_item_do_not_disturb_each_other(self, source: Source) -> None:
        with source.open("b/two.dcm") as first, source.open("b/two.dcm") as second:
            assert first.read(10) == second.read(10)

    def test_a_local_path_holds_the_same_bytes(self, source: Source) -> None:
        for path, data in self.FILES.items():
            local = source.local_path(path)
            assert local is None or local.read_bytes() == data

    @pytest.mark.parametrize(
        "path", ["absent", "b", "b/", "", "/", "../a", "b/../a", "./a", "/etc/hostname", "a/x", "a\0"]
    )
    def test_anything_but_a_listed_path_is_refused(self, source: Source, path: str) -> None:
        with pytest.raises(SourceItemMissingError):
            source.open(path)

    def test_an_empty_source_lists_nothing(self, tmp_path: Path) -> None:
        assert list(self.make(tmp_path, {}).items()) == []
