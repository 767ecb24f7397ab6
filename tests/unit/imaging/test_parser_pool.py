from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from archive import real

from hdrs_hpc.confined import starting
from hdrs_hpc.confined.bubblewrap import Bubblewrap
from hdrs_hpc.confined.process_limits import ProcessLimits
from imaging.staging import sandbox
from imaging.staging.pool import ParserPool, ParserStartError, as_descriptor
from imaging.staging.refusals import Refused
from tests.support import narrow

FAKE = """
import os, socket, struct, sys, time
sys.path.insert(0, {root!r})
from imaging.staging import wire
sock = socket.socket(fileno=0)
wire.send(sock, b'{{"ready":true}}')
request, handle = wire.receive_request(sock)
word = request["op"]
if word == "die": os.abort()
if word == "hang": time.sleep(600)
if word == "junk": sock.sendall(b"x" * 100)
if word == "huge": sock.sendall(struct.pack(">I", 2**31))
if word == "list": wire.send(sock, b"[1]")
if word == "lie": wire.send(sock, b'{{"refused": "../../etc/passwd"}}')
if word == "trickle":
    sock.sendall(struct.pack(">I", 1000))
    for _ in range(60): sock.sendall(b" "); time.sleep(0.5)
if word == "good":
    wire.send(sock, b'{{"answer": 1}}', b"blob")
    wire.send(sock, b'{{"end": true}}')
time.sleep(600)
"""


@pytest.fixture
def fake() -> Iterator[ParserPool]:
    root = str(Path(__file__).resolve().parents[3])
    with ParserPool(
        1, timeout_s=3, command=[sys.executable, "-c", FAKE.format(root=root)], provider=ProcessLimits()
    ) as pool:
        yield pool


def ask(pool: ParserPool, operation: str) -> list[tuple[bytes, bytearray]]:
    with as_descriptor(b"some bytes") as file:
        return list(pool.ask(file, operation))


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("die", "parser-crashed"),
        ("hang", "parser-timeout"),
        ("trickle", "parser-timeout"),
        ("huge", "parser-crashed"),
        ("junk", "parser-crashed"),
        ("list", "parser-crashed"),
        ("lie", "parser-crashed"),
    ],
)
def test_a_parser_that_misbehaves_costs_one_item_and_the_next_is_served(
    fake: ParserPool, operation: str, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        ask(fake, operation)
    assert refused.value.code == code
    assert ask(fake, "good") == [(b'{"answer": 1}', bytearray(b"blob"))]


MANY = """
import os, sys, time
sys.path.insert(0, {root!r})
import socket
from imaging.staging import wire
sock = socket.socket(fileno=0)
wire.send(sock, b'{{"ready":true}}')
while (got := wire.receive_request(sock)) is not None:
    with os.fdopen(got[1], "rb") as file: word = file.read()
    if word == b"die": os.abort()
    if word == b"hang": time.sleep(600)
    if word == b"endless":
        for _ in range(100): wire.send(sock, b"{{}}")
    if word == b"odd": wire.send(sock, b'{{"refused": "not-dicom"}}')
    else:
        wire.send(sock, b'{{"said": "%s"}}' % word)
        wire.send(sock, b'{{"end": true}}')
    if word == b"late": os.abort()
"""


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["1", "2", "3"], {}),
        (["1", "die", "3", "odd", "die", "6"], {1: "parser-crashed", 3: "not-dicom", 4: "parser-crashed"}),
        (["die"], {0: "parser-crashed"}),
        (["hang", "2"], {0: "parser-timeout"}),
        (["1", "endless", "3"], {1: "parser-crashed"}),
        (["endless"], {0: "parser-crashed"}),
        (["1", "late", "3", "4"], {}),  # answered, then died: nobody is to blame
        ([str(n) for n in range(40)] + ["die"], {40: "parser-crashed"}),
    ],
)
def test_of_many_files_asked_about_at_once_only_the_guilty_one_is_blamed(
    words: list[str], refused: dict[int, str]
) -> None:
    root = str(Path(__file__).resolve().parents[3])
    with ParserPool(
        1, timeout_s=3, command=[sys.executable, "-c", MANY.format(root=root)], provider=ProcessLimits()
    ) as pool:
        outcomes = pool.ask_each([as_descriptor(word.encode()) for word in words], "any")
    for place, (word, outcome) in enumerate(zip(words, outcomes, strict=True)):
        if isinstance(outcome, Refused):
            assert outcome.code == refused[place]
        else:
            assert place not in refused
            assert [answer[0] for answer in outcome] == [f'{{"said": "{word}"}}'.encode()]


TALKATIVE = """
import os, sys
sys.path[:0] = {paths!r}
import socket
from tests.support import narrow
socket.socket = narrow.KINDS[{kind!r}]
from imaging.staging import wire
sock = socket.socket(fileno=0)
wire.send(sock, b'{{"ready":true}}')
while (got := wire.receive_request(sock)) is not None:
    with os.fdopen(got[1], "rb") as file: word = file.read()
    wire.send(sock, word * {times}, word * {times})
    wire.send(sock, b'{{"end": true}}')
"""


@pytest.mark.parametrize(
    ("kind", "request_bytes", "times"),
    [("smallest buffers", 60_000, 50_000), ("single bytes", 2_000, 2_000)],
)
def test_requests_and_answers_that_fit_into_no_buffer_pass_each_other(
    kind: str, request_bytes: int, times: int
) -> None:
    """Sixteen requests go out before an answer is read, and the parser reads none while it answers one."""
    root = str(Path(__file__).resolve().parents[3])
    argv = [sys.executable, "-c", TALKATIVE.format(paths=[root], kind=kind, times=times)]
    began = time.monotonic()
    with (
        narrow.sockets(narrow.KINDS[kind]),
        ParserPool(1, timeout_s=30, command=argv, provider=ProcessLimits()) as pool,
    ):
        files = [as_descriptor(bytes([65 + number])) for number in range(20)]
        outcomes = pool.ask_each(files, "any", padding="x" * request_bytes)
        one = list(pool.ask(files[0], "any", padding="x" * request_bytes))
    for number, outcome in enumerate([*outcomes, one]):
        ((header, blob),) = outcome  # type: ignore[misc]  # none is refused
        assert header == blob == bytes([65 + number % 20]) * times
    assert time.monotonic() - began < 25


ONCE = """
import os, sys, time
sys.path.insert(0, {root!r})
import socket
from imaging.staging import wire
sock = socket.socket(fileno=0)
started = time.monotonic_ns()  # each is process 1 of a namespace of its own
wire.send(sock, b'{{"ready":true}}')
while (got := wire.receive_request(sock)) is not None:
    with os.fdopen(got[1], "rb") as file: word = file.read().decode()
    try: os.mkdir(os.path.join({folder!r}, word)); first = True
    except FileExistsError: first = False
    for number in range(3):
        wire.send(sock, b'{{"number": %d}}' % number)
        if first and number == 1 and word.startswith("hang"): time.sleep(600)
        if first and number == 1 and word.startswith("die"): os.abort()
    wire.send(sock, b'{{"end": true}}')
"""


@pytest.mark.parametrize("word", ["sound", "hang", "die"])
def test_a_parser_that_is_lost_once_costs_nothing_and_no_answer_comes_twice(
    tmp_path: Path, word: str
) -> None:
    root = str(Path(__file__).resolve().parents[3])
    argv = [sys.executable, "-c", ONCE.format(root=root, folder=str(tmp_path))]
    with (
        ParserPool(1, timeout_s=2, command=argv, provider=ProcessLimits()) as pool,
        as_descriptor(word.encode()) as file,
    ):
        found = [header for header, _ in pool.ask(file, "any")]
    assert found == [b'{"number": 0}', b'{"number": 1}', b'{"number": 2}']


def test_a_file_is_asked_about_again_in_a_process_that_has_read_no_other(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[3])
    argv = [sys.executable, "-c", STARTS.format(root=root, folder=str(tmp_path))]
    with ParserPool(1, timeout_s=2, command=argv, provider=ProcessLimits()) as pool:
        files = [as_descriptor(word) for word in (b"1", b"2", b"hang", b"4")]
        outcomes = pool.ask_each(files, "any")
    told = [outcome[0][0] for outcome in outcomes]  # type: ignore[index]  # none is refused
    assert told[0] == told[1]
    assert len(set(told)) == 3 - (told[2] == told[3])
    assert told[2] != told[0]


STARTS = """
import os, sys, time
sys.path.insert(0, {root!r})
import socket
from imaging.staging import wire
sock = socket.socket(fileno=0)
started = time.monotonic_ns()  # each is process 1 of a namespace of its own
wire.send(sock, b'{{"ready":true}}')
while (got := wire.receive_request(sock)) is not None:
    with os.fdopen(got[1], "rb") as file: word = file.read().decode()
    try: os.mkdir(os.path.join({folder!r}, word)); first = True
    except FileExistsError: first = False
    if first and word == "hang": time.sleep(600)
    wire.send(sock, b"%d" % started + b" " * 300)
    wire.send(sock, b'{{"end": true}}')
"""


EARLY = """
import os, sys, time
sys.path.insert(0, {root!r})
import socket
from imaging.staging import wire
sock = socket.socket(fileno=0)
wire.send(sock, b'{{"ready":true}}')
wire.send(sock, b'{{"early": true}}')
wire.send(sock, b'{{"end": true}}')
time.sleep(600)
"""


def test_a_parser_that_answers_before_it_was_asked_is_sent_no_descriptor_later() -> None:
    """A descriptor's number may mean another file by then."""
    root = str(Path(__file__).resolve().parents[3])
    argv = [sys.executable, "-c", EARLY.format(root=root)]
    with (
        narrow.sockets(narrow.NarrowSocket),
        ParserPool(1, timeout_s=5, command=argv, provider=ProcessLimits()) as pool,
    ):
        before: set[int] = set()
        for _ in range(3):
            with as_descriptor(b"some") as file:
                assert list(pool.ask(file, "x" * 100_000)) == [(b'{"early": true}', bytearray())]
            (parser,) = pool._living
            assert not parser.usable()
            assert parser._run.process.pid not in before
            before.add(parser._run.process.pid)


def test_a_pool_closed_by_an_error_leaves_nobody_waiting() -> None:
    root = str(Path(__file__).resolve().parents[3])
    heard: list[object] = []
    pool = ParserPool(
        1, timeout_s=60, command=[sys.executable, "-c", MANY.format(root=root)], provider=ProcessLimits()
    )

    def wait() -> None:
        heard.append(pool.ask_each([as_descriptor(b"hang")], "any")[0])

    callers = [threading.Thread(target=wait) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt), pool:
        for caller in callers:
            caller.start()
        time.sleep(0.5)
        raise KeyboardInterrupt
    for caller in callers:
        caller.join(10)
    assert [getattr(one, "code", None) for one in heard] == ["parser-crashed"] * 3


def test_a_caller_that_stops_listening_does_not_poison_the_next(fake: ParserPool) -> None:
    with as_descriptor(b"") as file:
        answers = fake.ask(file, "good")
        next(answers)
        answers.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(ask(fake, "good")) == 1


def test_a_parser_that_does_not_start_is_a_clear_error() -> None:
    with ParserPool(1, command=["/bin/false"]) as pool, pytest.raises(ParserStartError):
        ask(pool, "header")


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def header(pool: ParserPool) -> None:
    with real("CT_small.dcm").open("rb") as file:
        assert len(list(pool.ask(file, "header", keywords=["Modality"]))) == 1


def test_no_process_is_left_behind() -> None:
    before = children()
    with ParserPool(2) as pool:
        header(pool)
        assert children() - before
    assert not children() - before


def test_a_parser_outlives_the_thread_that_first_asked_for_it() -> None:
    # bubblewrap's --die-with-parent follows threads: started by a thread that ends, it would die unasked.
    before = children()
    with ParserPool(1) as pool:
        caller = threading.Thread(target=header, args=(pool,))
        caller.start()
        caller.join()
        first = children() - before
        time.sleep(0.3)
        header(pool)
        assert children() - before == first


def test_a_running_parser_is_filtered_and_leaves_no_core() -> None:
    if not starting.works(Bubblewrap()):
        pytest.skip("bubblewrap does not work here")
    before = children()
    with ParserPool(1) as pool:
        header(pool)
        (wrap,) = children() - before
        (parser,) = [
            each for each in psutil.Process(wrap).children(recursive=True) if "python" in each.name()
        ]
        status = Path(f"/proc/{parser.pid}/status").read_text()
        limits = Path(f"/proc/{parser.pid}/limits").read_text()
    assert "Seccomp:\t2" in status
    assert "Max core file size        1                    1" in limits


def test_a_processor_without_a_filter_has_no_sandbox_and_the_report_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "ppc64le")
    assert sandbox.isolation() == "process-limits"


def test_the_parsers_environment_holds_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDRS_CANARY", "sensitive")
    assert "sensitive" not in str(sandbox.parser())


PROBE = """
import os, socket
found = []
for path in {paths!r}:
    if os.path.exists(path): found.append(path)
try:
    socket.create_connection(("127.0.0.1", {port}), 2); found.append("network")
except OSError: pass
try:
    open("/usr/written", "w"); found.append("written")
except OSError: pass
print(found, os.getpid())
"""


@pytest.mark.root_parts
def test_a_parser_under_bubblewrap_sees_no_network_no_home_and_no_archive(tmp_path: Path) -> None:
    if not starting.works(Bubblewrap()):
        if os.environ.get("CI") == "true":
            pytest.fail("bubblewrap does not work here")
        pytest.skip("bubblewrap does not work here")
    import socket

    (tmp_path / "archive").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        paths = [str(tmp_path), "/etc/passwd", "/run", "/home", "/var", str(Path(__file__).resolve())]
        probe = PROBE.format(paths=paths, port=server.getsockname()[1])
        confined = sandbox.parser((sys.executable, "-c", probe))
        started = starting.start(Bubblewrap(), confined, stdout=subprocess.PIPE)
        said, _ = started.process.communicate(timeout=60)
    assert said.startswith(b"[] 2")  # nothing found; process 2 of a process namespace of its own
