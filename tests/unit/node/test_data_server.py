"""Data server and its clients: bytes as they were sealed, and no way to write, cut or reach beyond."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdrs_hpc.node.dataserver import DataServer
from hdrs_hpc.node.meter import Meter
from hdrs_hpc.protocol import datasocket
from hdrs_hpc.protocol.datasocket import DataServerError, Op, Range
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy
from imaging.reading import NoSuchItemError, open_staged
from imaging.reading.client import DataClient, NoSuchInputError
from imaging.reading.store import StagedStore
from tests.support import narrow

KEY = bytes(range(32))
BIG = np.random.default_rng(1).integers(0, 256, (20 << 20) + 777, dtype=np.uint8).tobytes()
VOLUME = np.random.default_rng(2).integers(0, 4096, (16, 96, 96), dtype=np.uint16)


class Served:
    def __init__(self, folder: Path) -> None:
        self.objects = folder / "objects"
        builder = CopyBuilder(DirectoryStore(self.objects), KEY, "copy", "lung-fm", "C1", folder / "journal")
        builder.put("big", BIG)
        builder.put("empty", b"")
        for number in range(30):
            builder.put(f"small/{number:02d}", bytes([number]) * number)
        zarr.create_group(builder.store(), path="series/S1")
        zarr.create_array(
            builder.store(), name="series/S1/0", data=VOLUME, chunks=(1, 32, 32), shards=(8, 96, 96)
        )
        builder.finish_item("series/S1", {})
        ref = builder.seal()
        copy = SealedCopy.open(
            DirectoryStore(self.objects), KEY, "copy", "lung-fm", "C1", ref.manifest_digest
        )
        self.meter = Meter()
        self.path = str(folder / "data.sock")
        self.server = DataServer(Path(self.path), {"ct": copy}, self.meter)
        self.client = DataClient(self.path)


@pytest.fixture(scope="module")
def module_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("served"))
    yield made
    made.server.close()


@pytest.fixture
def served(module_served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv("HDRS_DATA_SOCKET", module_served.path)
    return module_served


@pytest.mark.parametrize("kind", narrow.KINDS)
def test_requests_and_answers_pass_where_nothing_fits(tmp_path: Path, kind: str) -> None:
    with narrow.sockets(narrow.KINDS[kind]):
        served = Served(tmp_path)
        wanted = [Range("big", 5003 * number, 700) for number in range(300)]
        found = served.client.read("ct", wanted)
        assert [bytes(data or b"") for data in found] == [BIG[r.start : r.start + 700] for r in wanted]
        absent = ["absent/" + "x" * 40 + str(number) for number in range(300)]
        assert served.client.sizes("ct", absent) == [-1] * 300
        assert served.client.paths("ct", "small/") == [f"small/{number:02d}" for number in range(30)]
        with ThreadPoolExecutor(4) as pool:
            ranges = [[Range("big", 70_000 * number, 65_000)] for number in range(8)]
            several = list(pool.map(lambda one: served.client.read("ct", one)[0], ranges))
        assert [bytes(data or b"") for data in several] == [
            BIG[70_000 * number : 70_000 * number + 65_000] for number in range(8)
        ]
        served.server.close()


def test_a_signal_within_an_answer_does_not_look_like_its_end(tmp_path: Path) -> None:
    served = Served(tmp_path)
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        names = [f"absent/{number}" for number in range(50_000)]
        with narrow.sockets(narrow.NarrowSocket):
            assert DataClient(served.path).sizes("ct", names) == [-1] * len(names)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert heard
    served.server.close()


def test_names_sizes_and_paths(served: Served) -> None:
    assert served.client.inputs() == ["ct"]
    assert served.client.sizes("ct", ["big", "empty", "absent", "big"]) == [len(BIG), 0, -1, len(BIG)]
    assert served.client.paths("ct", "small/") == [f"small/{number:02d}" for number in range(30)]


wanted = st.lists(
    st.tuples(
        st.sampled_from(["big", "empty", "small/07", "absent"]),
        st.integers(0, len(BIG) + 10),
        st.integers(0, 9 << 20),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=wanted)
def test_any_ranges_in_any_batch_are_what_was_sealed(
    served: Served, wanted: list[tuple[str, int, int]]
) -> None:
    held = {"big": BIG, "empty": b"", "small/07": b"\x07" * 7}
    found = served.client.read("ct", [Range(*each) for each in wanted])
    expected = [
        held[path][start : start + length] if path in held else None for path, start, length in wanted
    ]
    assert [None if data is None else bytes(data) for data in found] == expected


def test_many_threads_never_see_each_others_bytes(served: Served) -> None:
    def read(number: int) -> bool:
        start = number * 5003
        return served.client.read("ct", [Range("big", start, 70_000)])[0] == BIG[start : start + 70_000]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, range(200)))


def test_lent_bytes_are_the_slots_own_and_only_for_the_block(served: Served) -> None:
    wanted = [
        Range("small/07", 2, 9),
        Range("absent", 0, 5),
        Range("empty", 0, 0),
        Range("big", 70_001, 1 << 20),
    ]
    with served.client.lent("ct", wanted) as views:
        assert [None if view is None else bytes(view) for view in views] == [
            b"\x07" * 5,
            None,
            b"",
            BIG[70_001 : 70_001 + (1 << 20)],
        ]
        assert all(view is None or view.readonly for view in views)
        held = views[3]
    with pytest.raises(ValueError, match="released"):
        bytes(held or b"")


def test_two_loans_at_once_do_not_share_a_slot(served: Served) -> None:
    with (
        served.client.lent("ct", [Range("big", 0, 500)]) as first,
        served.client.lent("ct", [Range("big", 9000, 500)]) as second,
    ):
        assert [bytes(view or b"") for view in (*first, *second)] == [BIG[:500], BIG[9000:9500]]


@pytest.mark.parametrize("keep", [np.frombuffer, np.asarray, lambda view, _: memoryview(view)[5:]])
def test_a_slot_that_is_still_looked_at_is_never_filled_again(
    served: Served, keep: Callable[[memoryview, type[np.uint8]], Any]
) -> None:
    with served.client.lent("ct", [Range("big", 0, 100_000)]) as views:
        assert views[0] is not None
        kept = keep(views[0], np.uint8)
        before = kept.tobytes()
    for start in range(100_000, 2_000_000, 100_000):
        served.client.read("ct", [Range("big", start, 100_000)])
    assert kept.tobytes() == before
    assert before == BIG[100_000 - len(before) : 100_000]


def test_an_error_within_the_block_ends_the_loan_and_not_the_client(served: Served) -> None:
    with pytest.raises(KeyError, match="mine"), served.client.lent("ct", [Range("big", 0, 9)]):
        raise KeyError("mine")
    assert served.client.read("ct", [Range("big", 5, 9)]) == [BIG[5:14]]


@pytest.mark.parametrize(
    "wanted",
    [
        [Range("big", 0, (8 << 20) + 1)],
        [Range("big", 0, 5 << 20), Range("big", 0, 4 << 20)],
        [Range("small/01", 0, 1)] * 4097,
    ],
)
def test_what_does_not_fit_into_one_slot_is_not_lent(served: Served, wanted: list[Range]) -> None:
    with pytest.raises(ValueError, match="one slot"), served.client.lent("ct", wanted):
        raise AssertionError("nothing is lent")


def test_a_range_far_longer_than_its_object_is_only_what_there_is(served: Served) -> None:
    found = served.client.read(
        "ct", [Range("big", 0, 1 << 40), Range("absent", 0, 1 << 40), Range("big", 1 << 40, 9)]
    )
    assert [None if data is None else bytes(data) for data in found] == [BIG, None, b""]


def test_large_reads_side_by_side_do_not_mix(served: Served) -> None:
    def read(number: int) -> bool:
        start = number * 777_001
        found = served.client.read(
            "ct", [Range("big", start, 7 << 20), Range("small/07", 0, 9), Range("big", 9, 3 << 20)]
        )
        expected = [BIG[start : start + (7 << 20)], b"\x07" * 7, BIG[9 : 9 + (3 << 20)]]
        return [bytes(data or b"") for data in found] == expected

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(24)))


def test_what_has_arrived_can_be_used_before_the_rest_has(served: Served) -> None:
    wanted = [Range("small/05", 0, 9), Range("big", 0, 6 << 20), Range("small/06", 0, 9)]
    before = served.meter.exact[2]
    arriving = served.client.arriving("ct", wanted)
    brought = next(arriving)
    assert [(which, bytes(data or b"")) for which, data in brought] == [(0, b"\x05" * 5)]
    assert served.meter.exact[2] - before <= 2
    rest = {which: bytes(data or b"") for part in arriving for which, data in part}
    assert rest == {1: BIG[: 6 << 20], 2: b"\x06" * 6}


def test_a_read_that_is_left_half_way_leaves_no_answer_to_the_next(served: Served) -> None:
    for _ in range(12):
        arriving = served.client.arriving("ct", [Range("big", 0, 6 << 20)])
        next(arriving)
        arriving.close()
        assert served.client.read("ct", [Range("small/09", 0, 99)]) == [b"\x09" * 9]


def test_a_list_comes_in_pages_whole_and_in_order(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = served.client.paths("ct")
    assert whole == sorted(whole)
    assert len(whole) > 30
    before = served.meter.exact[3]
    for page in (1, 7, len(whole) - 1, len(whole)):
        monkeypatch.setattr("hdrs_hpc.node.dataserver.LIST_PAGE", page)
        assert served.client.paths("ct") == whole
        assert served.client.paths("ct", "small/1") == [f"small/{number}" for number in range(10, 20)]
    assert served.meter.exact[3] == before


def test_names_below_a_folder_come_in_pages_too(tmp_path: Path) -> None:
    names = sorted(f"{number:04d}" + "n" * 500 for number in range(1200))  # more than one frame
    builder = CopyBuilder(DirectoryStore(tmp_path / "o"), KEY, "copy", "lung-fm", "C1", tmp_path / "j")
    for name in names:
        builder.put(f"long/{name}/0/c", b"")
        builder.finish_item(f"long/{name}", {})
    builder.put("long/readme", b"")
    digest = builder.seal().manifest_digest
    objects = DirectoryStore(tmp_path / "o")
    copy = SealedCopy.open(objects, KEY, "copy", "lung-fm", "C1", digest)
    server = DataServer(tmp_path / "s", {"ct": copy}, Meter())
    client = DataClient(str(tmp_path / "s"))
    assert client.children("ct", "long") == [*names, "readme"]
    assert client.children("ct", "") == ["long"]
    assert client.children("ct", f"long/{names[7]}/0") == ["c"]
    assert client.children("ct", "absent") == []
    server.close()


def test_zarr_reads_the_array_in_whole_and_in_part(served: Served) -> None:
    copy = open_staged("ct")
    array = copy.volume("S1")
    assert np.array_equal(array[:], VOLUME)
    assert np.array_equal(array[3:5, 10:40, 90:], VOLUME[3:5, 10:40, 90:])
    assert np.array_equal(copy.volume_lazy("S1").sum(axis=0).compute(), VOLUME.sum(axis=0))
    assert copy.series() == ["S1"]
    with pytest.raises(NoSuchItemError):
        copy.volume("S2")


def test_reads_started_together_travel_together(served: Served) -> None:
    before = served.meter.exact[2]
    array = open_staged("ct").volume("S1")
    opened = served.meter.exact[2]
    assert np.array_equal(array[:], VOLUME)
    assert opened - before <= 3
    assert served.meter.exact[2] - opened <= 6  # 144 chunks in two shards


def test_what_is_pickled_is_a_reference_without_key_or_data(served: Served) -> None:
    copy = open_staged("ct")
    raw = pickle.dumps([copy, copy.store, copy.volume("S1")])
    assert KEY not in raw
    assert served.path.encode() not in raw  # on another node it lies elsewhere
    assert len(raw) < 4000
    again, store, array = pickle.loads(raw)
    assert np.array_equal(array[0], VOLUME[0])
    assert (again.name, store == copy.store) == ("ct", True)


def test_a_forked_process_gets_a_connection_of_its_own(served: Served) -> None:
    copy = open_staged("ct")
    assert copy.read("small/03") == b"\x03" * 3
    pid = os.fork()
    if pid == 0:
        os._exit(0 if copy.read("small/04") == b"\x04" * 4 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert copy.read("small/05") == b"\x05" * 5


def test_the_store_refuses_to_write(served: Served) -> None:
    store = StagedStore("ct")
    assert (store.read_only, store.supports_writes, store.supports_deletes) == (True, False, False)
    for call in (store.delete("big"), store.delete_dir("small"), store.clear()):
        with pytest.raises(ValueError, match="read-only"):
            asyncio.run(call)
    with pytest.raises(ValueError, match="read-only"):
        zarr.create_array(store, name="new", shape=(1,), dtype="u1")


def test_unknown_inputs_and_jobless_reads_say_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSuchInputError):
        served.client.sizes("other", ["big"])
    assert open_staged("ct").read("small/02") == b"\x02\x02"
    with pytest.raises(NoSuchInputError):
        open_staged("mr")
    monkeypatch.delenv("HDRS_DATA_SOCKET")
    with pytest.raises(Exception, match="not-in-a-job"):
        open_staged("ct")


def connected(served: Served) -> tuple[socket.socket, int]:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(served.path)
    connection.sendall(datasocket.frame(Op.OPEN, datasocket.open_body()))
    _, fds, _, _ = socket.recv_fds(connection, 64, 1)
    return connection, fds[0]


def test_a_workload_can_neither_write_nor_shrink_the_slot(served: Served) -> None:
    import mmap

    connection, fd = connected(served)
    with connection:
        for attack in (
            lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            lambda: os.ftruncate(fd, 0),
            lambda: os.pwrite(fd, b"x", 0),
            lambda: os.ftruncate(fd, 1 << 30),
        ):
            with pytest.raises(PermissionError):
                attack()
    os.close(fd)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x00\x00\x00\x01",
        b"\xff\xff\xff\xff\x05",
        struct.pack("<IB", 3, 99) + b"xx",
        datasocket.frame(Op.READ, b"\xff" * 40),
        datasocket.frame(Op.OPEN, b"\x09\x00"),
        b"GET / HTTP/1.1\r\n\r\n" * 10,
    ],
)
def test_hostile_frames_are_alarms_and_the_next_client_is_served(served: Served, raw: bytes) -> None:
    before = served.meter.exact[3]
    connection, fd = connected(served)
    os.close(fd)
    with connection, contextlib.suppress(ConnectionResetError):
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    assert served.meter.exact[3] == before + 1
    assert served.client.read("ct", [Range("small/01", 0, 9)]) == [b"\x01"]


def test_damaged_objects_are_errors_not_bytes(tmp_path: Path) -> None:
    served = Served(tmp_path)
    for path in served.objects.iterdir():
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
    with pytest.raises(DataServerError):
        served.client.read("ct", [Range("small/09", 0, 9)])
    served.server.close()


@pytest.mark.parametrize("where", [9, 3 << 20, 20 << 20])
def test_damage_in_the_midst_of_a_large_read_is_an_error_for_that_read_alone(
    tmp_path: Path, where: int
) -> None:
    served = Served(tmp_path)
    big = next(path for path in served.objects.iterdir() if path.stat().st_size > len(BIG))
    raw = bytearray(big.read_bytes())
    raw[where] ^= 1
    big.write_bytes(raw)
    for _ in range(10):
        with pytest.raises(DataServerError):
            served.client.read(
                "ct", [Range("small/03", 0, 9), Range("big", 0, len(BIG)), Range("small/04", 0, 9)]
            )
        assert served.client.read("ct", [Range("small/04", 0, 9)]) == [b"\x04" * 4]
    big.unlink()
    with pytest.raises(DataServerError):
        served.client.read("ct", [Range("big", 0, len(BIG))])
    served.server.close()


def test_one_failing_chunk_fails_the_zarr_reads_that_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(tmp_path)
    monkeypatch.setenv("HDRS_DATA_SOCKET", served.path)
    big = next(path for path in served.objects.iterdir() if path.stat().st_size > len(BIG))
    big.write_bytes(big.read_bytes()[:-1] + b"?")
    store = StagedStore("ct")

    async def together() -> list[Any]:
        keys = ["small/03", "big", "small/04"]
        return await asyncio.gather(*(store.get(key) for key in keys), return_exceptions=True)

    first, *failed = asyncio.run(together())
    assert first.to_bytes() == b"\x03" * 3
    assert [type(each) for each in failed] == [DataServerError, DataServerError]
    served.server.close()


def test_the_meter_counts_what_left_and_from_which_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(tmp_path)
    monkeypatch.setenv("HDRS_DATA_SOCKET", served.path)
    open_staged("ct").read("small/20")
    assert served.meter.exact[:2] == (0, 20)
    assert open_staged("ct").volume("S1")[0, 0, 0] == VOLUME[0, 0, 0]
    assert served.meter.exact[0] == 1
    served.server.close()
