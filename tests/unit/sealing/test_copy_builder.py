"""Building, resuming and sealing a copy."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdrs_hpc.sealing import journal
from hdrs_hpc.sealing.cipher import KeyStaysHereError, sealed_size
from hdrs_hpc.sealing.copy_builder import CopyBuilder, CopySealedError, ItemFinishedError
from hdrs_hpc.sealing.journal import JournalBrokenError, JournalUnwritableError
from hdrs_hpc.sealing.manifest import PathNotInCopyError, SealedObjectMissingError
from hdrs_hpc.sealing.objects import ScratchFullError
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.place import BadPathError
from hdrs_hpc.sealing.reader import SealedCopy


def test_what_was_written_is_read_before_and_after_sealing(bench: Any) -> None:
    builder = bench.builder()
    data = os.urandom(200_000)
    builder.put("series/A/c/0", data)
    builder.put("index.parquet", b"rows")
    assert builder.read("series/A/c/0", 65_470, 100) == data[65_470:65_570]
    builder.finish_item("series/A", {"slices": 12})
    copy = bench.open(builder.seal())
    assert copy.read("series/A/c/0") == data
    assert copy.read("index.parquet") == b"rows"
    assert copy.size("series/A/c/0") == 200_000
    assert list(copy.paths()) == ["index.parquet", "series/A/c/0"]


def test_the_reference_counts_what_lies_on_the_storage(bench: Any) -> None:
    builder = bench.builder()
    builder.put("series/A/c/0", bytes(100_000))
    builder.put("report.json", b"{}")
    builder.finish_item("series/A", {})
    ref = builder.seal()
    files = dict(bench.objects.sizes())
    assert ref.objects == len(files) == 5  # two of data, two items, the root
    assert ref.sealed_bytes == sum(files.values())
    assert ref.plaintext_bytes == 100_002
    assert ref.manifest_digest == "sha256:" + ref.manifest_name.removeprefix("m-")
    assert ref.manifest_name in files
    assert ref.dropped_items == ()


def test_rewriting_a_path_makes_a_new_object_and_removes_the_old(bench: Any) -> None:
    builder = bench.builder()
    builder.put("report.json", b"old")
    (old,) = bench.objects.list()
    builder.put("report.json", b"new")
    (new,) = bench.objects.list()
    assert old != new
    assert builder.read("report.json") == b"new"


def test_deleting_is_for_ever_also_in_the_manifest(bench: Any) -> None:
    builder = bench.builder()
    builder.put("a", b"1")
    builder.put("b", b"2")
    builder.delete("a")
    builder.delete("a")
    with pytest.raises(PathNotInCopyError):
        builder.read("a")
    assert list(bench.open(builder.seal()).paths()) == ["b"]


def test_a_resumed_build_keeps_finished_items_and_drops_the_rest(bench: Any) -> None:
    first = bench.builder()
    first.put("series/A/c/0", b"done")
    first.put("series/A/zarr.json", b"{}")
    first.finish_item("series/A", {"rows": [1, 2]})
    first.put("series/B/c/0", b"half of it")
    first.put("series/B/c/1", b"never written again")
    first.put("series/zarr.json", b"group")
    # … and the process dies.
    second = bench.builder()
    assert second.finished() == {"series/A": {"rows": [1, 2]}}
    assert second.paths() == ["series/A/c/0", "series/A/zarr.json", "series/zarr.json"]
    assert second.read("series/A/c/0") == b"done"
    second.put("series/B/c/0", b"the whole")
    second.finish_item("series/B", {})
    second.put("series/C/c/0", b"not finished")
    ref = second.seal()
    copy = bench.open(ref)
    assert list(copy.paths("series/B")) == ["series/B/c/0"]
    assert copy.read("series/B/c/0") == b"the whole"
    assert copy.items() == ["series/A", "series/B"]
    assert ref.dropped_items == ("series/C",)
    assert len(list(bench.objects.list())) == ref.objects  # nothing unnamed is left


def test_a_finished_item_with_no_objects_is_not_repeated(bench: Any) -> None:
    bench.builder().finish_item("series/X", {"refused": "no-pixels"})
    assert bench.builder().finished() == {"series/X": {"refused": "no-pixels"}}


def test_a_finished_item_does_not_change(bench: Any) -> None:
    builder = bench.builder()
    builder.put("series/A/c/0", b"1")
    builder.finish_item("series/A", {})
    for act in (
        lambda: builder.put("series/A/c/0", b"2"),
        lambda: builder.put("series/A/c/1", b"2"),
        lambda: builder.delete("series/A/c/0"),
        lambda: builder.drop_item("series/A"),
        lambda: builder.finish_item("series/A", {}),
    ):
        with pytest.raises(ItemFinishedError):
            act()
    assert builder.read("series/A/c/0") == b"1"
    assert len(list(bench.objects.list())) == 1


def test_an_item_that_failed_half_way_can_be_dropped_and_begun_again(bench: Any) -> None:
    builder = bench.builder()
    builder.put("series/A/c/0", b"1")
    builder.put("series/A/c/1", b"2")
    builder.drop_item("series/A")
    assert list(bench.objects.list()) == []
    builder.put("series/A/c/0", b"3")
    builder.finish_item("series/A", {})
    assert list(bench.open(builder.seal()).paths()) == ["series/A/c/0"]


def test_after_sealing_nothing_is_written_by_anyone(bench: Any) -> None:
    builder = bench.builder()
    builder.put("a", b"1")
    ref = builder.seal()
    before = bench.raw()
    for late in (builder, bench.builder()):
        assert late.sealed
        for act in (
            lambda b=late: b.put("b", b"2"),
            lambda b=late: b.delete("a"),
            lambda b=late: b.finish_item("series/A", {}),
            lambda b=late: b.drop_item("series/A"),
        ):
            with pytest.raises(CopySealedError):
                act()
        assert late.seal() == ref
        assert late.read("a") == b"1"
    assert bench.raw() == before


def test_sealing_interrupted_at_any_moment_ends_in_the_same_manifest(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail at the n-th write or removal of the sealing, start again, for every n."""

    class Stop(Exception):
        pass

    left = 0

    def counted(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Stop
            left -= 1
            return method(*args, **kwargs)

        return call

    builder = bench.builder()
    for item in ("series/A", "series/B"):
        builder.put(f"{item}/c/0", item.encode())
        builder.finish_item(item, {})
    builder.put("series/C/c/0", b"unfinished")
    builder.close()
    state = bench.folder
    digests = set()
    store = type(bench.objects)
    for steps in itertools.count():
        bench.folder = state.with_name(f"after-{steps}")
        shutil.copytree(state, bench.folder)
        interrupted = False
        with monkeypatch.context() as patch:
            left = steps
            patch.setattr(store, "put", counted(store.put))
            patch.setattr(store, "delete", counted(store.delete))
            patch.setattr(journal.Journal, "sealed", counted(journal.Journal.sealed))
            try:
                bench.builder().seal()
            except Stop:
                interrupted = True
        ref = bench.builder().seal()
        digests.add(ref.manifest_digest)
        assert len(list(bench.objects.list())) == ref.objects == 5
        assert list(bench.open(ref).paths()) == ["series/A/c/0", "series/B/c/0"]
        if not interrupted:
            break
    assert steps == 5  # two items, the root, one removal, the note that all is done
    assert len(digests) == 1


def test_an_object_lost_before_sealing_is_noticed(bench: Any) -> None:
    builder = bench.builder()
    builder.put("a", b"1")
    (name,) = bench.objects.list()
    bench.objects.delete(name)
    with pytest.raises(SealedObjectMissingError):
        builder.seal()


def test_many_workers_and_threads_build_one_copy(bench: Any) -> None:
    workers = [bench.builder() for _ in range(3)]

    def write(number: int) -> None:
        worker = workers[number % 3]
        item = f"series/S{number}"
        for chunk in range(4):
            worker.put(f"{item}/c/{chunk}", f"{number}:{chunk}".encode())
        worker.finish_item(item, {"n": number})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(30)))
    assert len(list(bench.journals.iterdir())) == 3
    copy = bench.open(bench.builder().seal())
    assert len(copy.items()) == 30
    assert all(copy.read(f"series/S{n}/c/{c}") == f"{n}:{c}".encode() for n in range(30) for c in range(4))


def test_two_workers_that_finished_the_same_item_do_not_mix(bench: Any) -> None:
    one, two = bench.builder(), bench.builder()
    one.put("series/A/c/0", b"one")
    two.put("series/A/c/0", b"two")
    two.put("series/A/c/1", b"two")
    two.finish_item("series/A", {"by": 2})
    one.finish_item("series/A", {"by": 1})
    merged = bench.builder()
    assert merged.finished() == {"series/A": {"by": 1}}  # whose journal is the older
    copy = bench.open(merged.seal())
    assert [copy.read(path) for path in copy.paths()] == [b"one"]


def test_threads_that_rewrite_one_path_leave_one_whole_object(bench: Any) -> None:
    builder = bench.builder()
    together = threading.Barrier(6, timeout=60)

    def write(number: int) -> None:
        together.wait()
        for _ in range(10):
            builder.put("series/A/c/0", bytes([number]) * 70_000)
            assert len(set(builder.read("series/A/c/0"))) == 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert len(list(bench.objects.list())) == 1
    assert len(set(builder.read("series/A/c/0"))) == 1


def test_a_large_object_is_written_from_pieces(bench: Any) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(50):
            yield bytes([number]) * 100_000

    builder = bench.builder()
    builder.put("big", pieces())
    assert builder.find("big").size == 5_000_000
    assert builder.read("big", 4_899_999, 2) == b"\x30\x31"


@pytest.mark.parametrize("size", [(4 << 20) - 1, 4 << 20, (9 << 20) + 12_345])
def test_a_large_object_in_one_piece_is_sealed_ahead_of_its_writing(bench: Any, size: int) -> None:
    data = os.urandom(1 << 20) * (size // (1 << 20)) + os.urandom(size % (1 << 20))
    builder = bench.builder()
    builder.put("index.parquet", bytearray(data))
    assert builder.read("index.parquet") == data
    assert (
        bench.open(builder.seal()).read("index.parquet", 12_345, 5 << 20) == data[12_345 : 12_345 + (5 << 20)]
    )


def test_a_large_object_that_can_not_be_written_leaves_no_thread_and_no_object(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = bench.builder()
    real, written = os.write, []

    def full(handle: int, data: memoryview) -> int:
        written.append(len(data))
        if len(written) == 3:
            raise OSError(28, "no space")
        return real(handle, data)

    monkeypatch.setattr("hdrs_hpc.sealing.objects.directory.os.write", full)
    before = threading.active_count()
    with pytest.raises(ScratchFullError):
        builder.put("index.parquet", bytes(30 << 20))
    monkeypatch.undo()
    assert len(written) == 3
    assert threading.active_count() == before
    assert builder.paths() == []
    assert list(bench.objects.list()) == []


def test_the_root_is_written_when_all_other_manifests_are_there(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = bench.builder()
    for number in range(40):
        builder.put(f"series/{number}/c", b"x")
        builder.finish_item(f"series/{number}", {})
    put, begun, done = DirectoryStore.put, [], []

    def noted(store: DirectoryStore, name: str, data: Any) -> None:
        begun.append((name, len(done)))
        if len(begun) == 17:
            raise ScratchFullError()
        put(store, name, data)
        done.append(name)

    monkeypatch.setattr(DirectoryStore, "put", noted)
    with pytest.raises(ScratchFullError):
        builder.seal()
    missing = 40 - len(done)
    assert missing > 0
    begun.clear()
    begun.extend([("", 0)] * 17)  # no further failure
    done.clear()
    ref = builder.seal()
    assert begun[-1] == (ref.manifest_name, missing)
    assert len(bench.open(ref).items()) == 40


def test_a_put_that_fails_changes_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = bench.builder()
    builder.put("a", b"old")

    def full(*_: object) -> None:
        raise ScratchFullError

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.objects), "put", full)
        with pytest.raises(ScratchFullError):
            builder.put("a", b"new")
    assert builder.read("a") == b"old"
    assert bench.builder().read("a") == b"old"


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", "a/../b", "./a", "..", "a\0b", "x" * 1025, "\ud800"]
)
def test_a_path_that_readers_could_take_for_another_is_refused(bench: Any, path: str) -> None:
    builder = bench.builder()
    with pytest.raises(BadPathError):
        builder.put(path, b"x")
    assert bench.raw() == {}


@pytest.mark.parametrize("item", ["", "A", "series/A/0", "series/", "/A", "series/.."])
def test_only_items_are_finished_or_dropped(bench: Any, item: str) -> None:
    """A slip in the name must not lose what was written under the right one, nor the root item."""
    builder = bench.builder()
    builder.put("index.parquet", b"rows")
    for act in (builder.drop_item, lambda name: builder.finish_item(name, {})):
        with pytest.raises(BadPathError):
            act(item)
    assert list(bench.open(builder.seal()).paths()) == ["index.parquet"]


def test_a_builder_is_not_pickled(bench: Any) -> None:
    with pytest.raises(KeyStaysHereError):
        pickle.dumps(bench.builder())


class TestJournal:
    def test_a_torn_last_line_did_not_happen(self, bench: Any) -> None:
        builder = bench.builder()
        builder.finish_item("series/A", {})
        builder.finish_item("series/B", {})
        (file,) = bench.journals.iterdir()
        whole = file.read_bytes()
        second_ends = len(whole)
        first_ends = whole[:-1].rindex(b"\n") + 1
        header_ends = whole.index(b"\n") + 1
        for length in range(len(whole) + 1):
            file.write_bytes(whole[:length])
            expected = (length >= first_ends) + (length >= second_ends)
            if length < header_ends:
                expected = 0
            assert len(bench.builder().finished()) == expected

    def test_a_damaged_line_in_the_midst_is_an_error(self, bench: Any) -> None:
        builder = bench.builder()
        builder.finish_item("series/A", {})
        builder.finish_item("series/B", {})
        (file,) = bench.journals.iterdir()
        lines = file.read_bytes().split(b"\n")
        for damaged in (
            [lines[0], lines[2], lines[1], b""],  # another order
            [lines[0], lines[2], b""],  # one left out
            [lines[0], lines[1][:-4], lines[2], b""],
            [lines[0], b"!" + lines[1][1:], lines[2], b""],
            [b"hdrs-hpc/journal/9 " + lines[0][19:], lines[1], lines[2], b""],
        ):
            file.write_bytes(b"\n".join(damaged))
            with pytest.raises(JournalBrokenError):
                bench.builder()

    def test_the_journal_of_another_copy_is_refused(self, bench: Any) -> None:
        bench.builder().finish_item("series/A", {})
        bench.holder = "OTHER0"
        with pytest.raises(JournalBrokenError):
            bench.builder()

    def test_after_a_failed_write_nothing_follows_the_torn_line(
        self, bench: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        builder = bench.builder()
        builder.finish_item("series/A", {})

        def half(handle: int, data: bytes | memoryview) -> int:
            written = real_write(handle, data[: len(data) // 2])
            if len(data) < 20:
                raise OSError(28, "full")
            return written

        real_write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(journal.os, "write", half)
            with pytest.raises(JournalUnwritableError):
                builder.finish_item("series/B", {})
        with pytest.raises(JournalUnwritableError):
            builder.finish_item("series/C", {})
        assert bench.builder().finished() == {"series/A": {}}

    def test_a_forked_child_does_not_write_under_its_parents_nonces(self, bench: Any) -> None:
        program = (
            "import os, pathlib, sys\n"
            "from hdrs_hpc.sealing.copy_builder import CopyBuilder\n"
            "from hdrs_hpc.sealing.objects.directory import DirectoryStore\n"
            "folder, key, project, holder = sys.argv[1:]\n"
            "objects, journals = DirectoryStore(pathlib.Path(folder, 'o')), pathlib.Path(folder, 'journals')\n"
            "builder = CopyBuilder(objects, bytes.fromhex(key), 'copy', project, holder, journals)\n"
            "builder.finish_item('series/A', {})\n"
            "child = os.fork()\n"
            "builder.finish_item('series/C' if child else 'series/B', {})\n"
            "if child: sys.exit(os.waitpid(child, 0)[1])\n"
        )
        arguments = [str(bench.folder), bench.key.hex(), bench.project, bench.holder]
        subprocess.run([sys.executable, "-c", program, *arguments], timeout=60, check=True)
        assert len(list(bench.journals.iterdir())) == 2
        assert set(bench.builder().finished()) == {"series/A", "series/B", "series/C"}

    def test_journals_are_for_the_owner_alone(self, bench: Any) -> None:
        bench.builder().finish_item("series/A", {})
        assert bench.journals.stat().st_mode & 0o777 == 0o700
        (file,) = bench.journals.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600


def test_sealed_sizes_are_what_the_builder_expects(bench: Any) -> None:
    builder = bench.builder()
    for size in (0, 65_480, 65_481, 131_000, 131_001):
        builder.put("a", bytes(size))
        assert [length for _, length in bench.objects.sizes()] == [sealed_size(size)]


NAMES = st.sampled_from(
    ["a", "a-1", "a-1/b", "a/b", "a/b/c", "a/b-1/c", "a/b/d/e", "b", "a/b.x/c", "z/y/x", "a/\u00e9/c"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    paths=st.sets(NAMES),
    prefix=st.sampled_from(["", "a", "a/", "a/b", "a/b/", "a/b/c", "b", "z/y/x/", "q"]),
    after=NAMES,
)
def test_any_page_of_a_list_is_what_sorting_all_paths_gives(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str], prefix: str, after: str
) -> None:
    folder = tmp_path_factory.mktemp("list")
    objects = DirectoryStore(folder / "objects")
    builder = CopyBuilder(objects, bytes(32), "copy", "lungs", "C1", folder / "journals")
    for path in paths:
        builder.put(path, path.encode())
    for item in {"/".join(path.split("/")[:2]) for path in paths if path.count("/") > 1}:
        builder.finish_item(item, {})
    digest = builder.seal().manifest_digest
    copy = SealedCopy.open(objects, bytes(32), "copy", "lungs", "C1", digest)
    assert list(copy.paths()) == sorted(paths)
    page = [(entry.path, entry.size) for entry in copy.entries(prefix, after)]
    expected = sorted(path for path in paths if path.startswith(prefix) and path > after)
    assert page == [(path, len(path.encode())) for path in expected]


def test_a_page_of_a_list_reads_only_the_manifests_on_it(bench: Any) -> None:
    builder = bench.builder()
    for number in range(100):
        builder.put(f"series/{number:03d}/c", b"x")
        builder.finish_item(f"series/{number:03d}", {})
    copy = bench.open(builder.seal())
    first = list(itertools.islice(copy.entries("series/", "series/041/c"), 5))
    assert [entry.path for entry in first] == [f"series/{number:03d}/c" for number in range(42, 47)]
    assert set(copy._loaded) <= {f"series/{number:03d}" for number in range(41, 48)}
    assert len(copy.children("series")) == 100
    assert len(copy._loaded) < 8
