"""A narrowed manifest: what it does not name does not exist, and no other manifest passes for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hdrs_hpc.sealing.cipher import SealBrokenError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.manifest import Entry, PathNotInCopyError, SealedPlace, seal_root
from hdrs_hpc.sealing.narrowed import NarrowedCopy
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.objects.layered import LayeredReads
from hdrs_hpc.sealing.reader import SealedCopy

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
WHO = ("copy", "lung-fm", "C0PY")
MANY = 100_000


class Site:
    """A copy of three items, and a narrower manifest with the first of them."""

    def __init__(self, root: Path) -> None:
        self.objects, self.added = DirectoryStore(root / "copy"), DirectoryStore(root / "added")
        self.root = root
        builder = CopyBuilder(self.objects, KEY, *WHO, root / "journals")
        for name in ("A", "A-1", "B"):
            builder.put(f"series/{name}/0/c/0", name.encode())
            builder.finish_item(f"series/{name}", {})
        builder.put("index.parquet", b"A, A-1 and B")
        builder.put("report.json", b"three")
        self.whole = builder.seal().manifest_digest
        self.narrow = self.narrowed("series/A")

    def narrowed(self, *items: str) -> str:
        made = NarrowedCopy(self.objects, self.added, KEY, *WHO, self.whole)
        made.keep(items)
        made.put("index.parquet", b"A")
        return made.seal().digest

    def open(self, digest: str, key: bytes = KEY) -> SealedCopy:
        return SealedCopy.open(LayeredReads(self.objects, self.added), key, *WHO, digest)

    def file(self, digest: str) -> Path:
        return self.root / "added" / f"m-{digest.removeprefix('sha256:')}"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_it_has_the_chosen_items_and_what_was_put_and_nothing_else(site: Site) -> None:
    copy = site.open(site.narrow)
    assert list(copy.paths()) == ["index.parquet", "series/A/0/c/0"]
    assert (copy.items(), copy.children(""), copy.children("series")) == (
        ["series/A"],
        ["index.parquet", "series"],
        ["A"],
    )
    assert (copy.read("index.parquet"), copy.read("series/A/0/c/0")) == (b"A", b"A")
    for path in ("series/B/0/c/0", "series/A-1/0/c/0", "report.json", "series/B", "series/A/../B/0/c/0"):
        assert copy.find(path) is None
        with pytest.raises(PathNotInCopyError):
            copy.read(path)
        with pytest.raises(PathNotInCopyError):
            copy.read_into(path, 0, memoryview(bytearray(1)))
    assert list(copy.entries("series/B")) == list(copy.entries("", "series/A/0/c/0")) == []


def test_the_copy_itself_is_as_it_was(site: Site) -> None:
    assert site.open(site.whole).read("index.parquet") == b"A, A-1 and B"
    assert [name for name in site.objects.list() if name == site.file(site.narrow).name] == []


def test_a_wider_manifest_in_its_place_is_refused(site: Site) -> None:
    wider = site.narrowed("series/A", "series/B")
    site.file(site.narrow).write_bytes(site.file(wider).read_bytes())
    with pytest.raises(SealBrokenError):
        site.open(site.narrow)


@pytest.mark.parametrize("place", [0, 60, -1])
def test_one_changed_bit_is_refused(site: Site, place: int) -> None:
    raw = bytearray(site.file(site.narrow).read_bytes())
    raw[place] ^= 1
    site.file(site.narrow).write_bytes(raw)
    with pytest.raises(SealBrokenError):
        site.open(site.narrow)


def test_a_cut_one_and_a_missing_one_are_refused(site: Site) -> None:
    raw = site.file(site.narrow).read_bytes()
    site.file(site.narrow).write_bytes(raw[:-16])
    with pytest.raises(SealBrokenError):
        site.open(site.narrow)
    site.file(site.narrow).unlink()
    with pytest.raises(SealBrokenError):
        site.open(site.narrow)


def test_it_does_not_open_under_another_key(site: Site) -> None:
    with pytest.raises(SealBrokenError):
        site.open(site.narrow, OTHER_KEY)


def test_an_item_that_the_copy_does_not_have_can_not_be_kept(site: Site) -> None:
    made = NarrowedCopy(site.objects, site.added, KEY, *WHO, site.whole)
    with pytest.raises(KeyError):
        made.keep(["series/C"])


def test_the_whole_index_put_where_the_narrow_one_lies_does_not_open(site: Site) -> None:
    """The name of an object is no proof of it: its manifest pins its header."""
    whole, narrow = (site.open(digest).find("index.parquet") for digest in (site.whole, site.narrow))
    assert isinstance(whole, Entry) and isinstance(narrow, Entry)
    (site.root / "added" / narrow.name).write_bytes((site.root / "copy" / whole.name).read_bytes())
    with pytest.raises(SealBrokenError):
        site.open(site.narrow).read("index.parquet")


@pytest.mark.slow
def test_a_manifest_of_a_hundred_thousand_items_is_made_in_seconds_and_opened_in_one(tmp_path: Path) -> None:
    objects, added = DirectoryStore(tmp_path / "copy"), DirectoryStore(tmp_path / "added")
    header = bytes([40]) + bytes(39)
    items = [Entry(f"series/{n:026d}", f"m-{n:064d}", 900, header) for n in range(MANY)]
    root = seal_root(KEY, SealedPlace(*WHO), items)
    objects.put(root.entry.name, root.sealed)
    began = time.process_time()
    made = NarrowedCopy(objects, added, KEY, *WHO, root.digest)
    made.keep(item.path for item in items[: MANY - 1])
    sealed = made.seal()
    made_s = time.process_time() - began
    began = time.process_time()
    copy = SealedCopy.open(LayeredReads(objects, added), KEY, *WHO, sealed.digest)
    opened_s = time.process_time() - began
    assert len(copy.items()) == MANY - 1
    assert made_s < 5, "seconds of processor time, whatever else runs here; 0.7 measured"
    assert opened_s < 2, "0.5 measured"
