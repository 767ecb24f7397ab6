"""The checker process: same answers as in process, hard limits, no way out, crashes refuse the set."""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hdrs_hpc.broker.workers.airlock import framing, run
from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.broker.workers.airlock.run import CheckRequest, Sent
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.confined import starting, table
from hdrs_hpc.confined.bubblewrap import Bubblewrap
from hdrs_hpc.confined.port import Confined, Provider
from hdrs_hpc.confined.process_limits import ProcessLimits
from hdrs_hpc.sealing.cipher import SealBrokenError
from tests.support import declaring, narrow

CHECKER = run.checker()
AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "metrics": {}})
TEXT = b"site,n\na,4\nb,40\nc,51\n"
TABLE = (declaring.table(TEXT), TEXT)
BROKEN = (Declared("m", "metrics", "m.json"), b"\x80\x04.")
GIVEN = (TABLE, BROKEN)
REQUEST = CheckRequest(
    tuple((declared, Sent.whole(data)) for declared, data in GIVEN), RULES, bytes(range(16)), AMPLE
)


def run_checker(request: CheckRequest, timeout_s: float) -> list[Checked]:
    """The checker with what it rebuilds kept in memory."""
    made = [io.BytesIO() for _ in request.artefacts]
    return [
        replace(one, rebuilt=None if one.refused else out.getvalue())
        for one, out in zip(run.run_checker(request, made.__getitem__, timeout_s), made, strict=True)
    ]


def python(source: str) -> Confined:
    """Other code in the checker's place, confined as it is."""
    return replace(CHECKER, command=(sys.executable, "-c", textwrap.dedent(source)))


def test_process_gives_what_the_pure_check_gives() -> None:
    inside = check_set(GIVEN, RULES, REQUEST.salt, AMPLE)
    outside = run_checker(REQUEST, timeout_s=60)
    assert [one.rebuilt for one in outside] == [one.rebuilt for one in inside]
    assert [one.refused for one in outside] == [None, "artefact-type-refused"]
    for one, other in zip(outside, inside, strict=True):
        report = dict(one.report)
        assert report.pop("checker")["sandbox"] in ("bubblewrap", "process-limits")
        assert report == other.report


def test_same_request_gives_the_same_report_again() -> None:
    first, second = (run_checker(REQUEST, timeout_s=60) for _ in range(2))
    assert [one.report_bytes for one in first] == [one.report_bytes for one in second]


def test_the_same_answers_where_nothing_fits_into_a_pipe() -> None:
    with narrow.pipes():
        assert [one.report_bytes for one in run_checker(REQUEST, timeout_s=60)] == [
            one.report_bytes for one in run_checker(REQUEST, timeout_s=60)
        ]


ANSWER = """
import os, struct, sys
whole = b"P" + struct.pack(">II", 0, 300_000) + b"x" * 300_000 + b"H" + struct.pack(">I", 14) + b'{"results":[]}'
"""


@pytest.mark.parametrize(
    "source",
    [
        # Speaks before it listens, and listens to the end.
        "sys.stdout.buffer.write(whole); sys.stdout.flush(); heard = len(sys.stdin.buffer.read())",
        # Takes and gives one byte at a time, by turns.
        "for at in range(len(whole)): os.read(0, 1); os.write(1, whole[at : at + 1])",
        # Listens to nothing.
        "sys.stdout.buffer.write(whole); heard = 0",
    ],
)
def test_a_checker_that_speaks_while_it_is_spoken_to_does_not_stand_still(source: str) -> None:
    speaking = python(f"{ANSWER}\n{source}")
    large = CheckRequest(((TABLE[0], Sent.whole(b"r" * 300_000)),), RULES, bytes(16), AMPLE)
    heard: list[bytes] = []
    with narrow.pipes():
        sending = run._Sending({"artefacts": [{}]}, large)
        answer = run._converse(
            table.strongest("checker"), speaking, sending, lambda _, piece: heard.append(piece), timeout_s=60
        )
    assert (b"".join(heard), answer) == (b"x" * 300_000, {"results": []})


def test_empty_set_needs_no_process() -> None:
    assert run_checker(CheckRequest((), RULES, bytes(16), AMPLE), timeout_s=0.0) == []


def _python(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    instead = python(source)
    monkeypatch.setattr(run, "checker", lambda: instead)


PACKED = "t = {!r}\nsys.stdout.buffer.write(b'H' + struct.pack('>I', len(t)) + t)"
HEADER = "import sys, struct, json\nsys.stdin.buffer.read()\n"


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(3)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "import sys; sys.stdin.buffer.read(); sys.stdout.write('no frame')",
        "import sys; sys.stdout.buffer.write(b'H' + b'\\xff' * 8)",
        "import time; time.sleep(60)",
        "import sys\nwhile True: sys.stdout.buffer.write(bytes(1 << 20))",
        HEADER + PACKED.format(b'{"results":[]}'),
        HEADER + PACKED.format(b'{"results":[1,2]}'),
        "import sys, struct; sys.stdout.buffer.write(b'P' + struct.pack('>II', 2, 1) + b'x')",
        "import sys, struct\nmany = 1 << 20\n"
        "while True: sys.stdout.buffer.write(b'P' + struct.pack('>II', 0, many) + bytes(many))",
    ],
    ids=[
        "exit",
        "segfault",
        "nonsense",
        "huge header",
        "never ends",
        "flood",
        "other set",
        "not results",
        "other one",
        "pieces",
    ],
)
def test_checker_that_fails_refuses_the_whole_set(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    _python(monkeypatch, source)
    checked = run_checker(REQUEST, timeout_s=3)
    assert [one.refused for one in checked] == ["checker-crashed"] * 2
    assert all(one.rebuilt is None for one in checked)
    assert checked[0].report["refusal"]["remedy"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "other"), ("refused", "some-code"), ("report/verdict", "refused"), ("report/class", "image"),
     ("report/rebuilt/digest", "sha256:" + "0" * 64), ("report/original/commitment", "sha256:" + "0" * 64),
     ("report/checker/sandbox", "a stronger one"), ("report", None)],
)  # fmt: skip
def test_answer_that_contradicts_itself_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, field: str, value: object
) -> None:
    """A checker taken over by an artefact can choose the bytes, but not what they are said to be."""
    only = CheckRequest(((TABLE[0], Sent.whole(TABLE[1])),), RULES, bytes(16), AMPLE)
    (honest,) = run_checker(only, timeout_s=60)
    result = json.loads(
        json.dumps({"name": "t", "refused": None, "media-type": honest.media_type, "report": honest.report})
    )
    *path, last = field.split("/")
    target = result
    for step in path:
        target = target[step]
    target[last] = value
    assert honest.rebuilt is not None
    answer = framing.answer({"results": [result]}, [honest.rebuilt])
    _python(monkeypatch, f"import sys; sys.stdin.buffer.read(); sys.stdout.buffer.write({answer!r})")
    assert run_checker(only, timeout_s=20)[0].refused == "checker-crashed"


def test_frames_are_bounded_and_nothing_may_follow() -> None:
    heard: list[tuple[int, bytes]] = []

    def read(raw: bytes, most: tuple[int, ...] = (3, 9)) -> dict[str, object]:
        heard.clear()
        return framing.read_answer(io.BytesIO(raw), most, lambda *piece: heard.append(piece), "results")

    good = framing.answer({"results": [1]}, [b"abc", b"defg"])
    assert (read(good), heard) == ({"results": [1]}, [(0, b"abc"), (1, b"defg")])
    for bad in (good[:-1], good + b"x", b"", b"H" + struct.pack(">I", 1 << 30), framing.answer({"other": []}, []),
                b"P" + struct.pack(">II", 2, 1) + b"x" + good, b"P" + struct.pack(">II", 0, 0) + good):  # fmt: skip
        with pytest.raises(framing.FramingError):
            read(bad)
    with pytest.raises(framing.FramingError):
        read(good, (2, 9))


def test_a_request_is_read_in_order_and_nothing_may_follow() -> None:
    out = io.BytesIO()
    framing.send_request(out, {"artefacts": [1, 2]}, [(3, [b"a", b"bc"]), (0, [])])
    header, blobs = framing.read_request(io.BytesIO(out.getvalue()), "artefacts")
    assert header == {"artefacts": [1, 2]}
    assert [(size, blob.read()) for size, blob in blobs] == [(3, b"abc"), (0, b"")]
    for bad in (out.getvalue()[:-1], out.getvalue() + b"x"):
        _, blobs = framing.read_request(io.BytesIO(bad), "artefacts")
        with pytest.raises((framing.FramingError, struct.error)):
            [blob.read() for _, blob in blobs]


def test_an_artefact_that_breaks_while_it_is_sent_is_not_blamed_on_the_checker() -> None:
    def broken() -> Iterator[bytes]:
        yield b"site,n\n"
        raise SealBrokenError()

    request = CheckRequest(((TABLE[0], Sent(20, broken)),), RULES, bytes(16), AMPLE)
    with pytest.raises(SealBrokenError):
        run_checker(request, timeout_s=20)


@pytest.mark.parametrize("provider", [Bubblewrap(), ProcessLimits()], ids=lambda provider: provider.name)
def test_checker_is_limited_in_a_sandbox_and_without(provider: Provider, tmp_path: Path) -> None:
    """Asked of the process itself: no file may be written, no core dumped, memory and time are bounded."""
    if not starting.works(provider):
        pytest.skip("bubblewrap is missing or does not work here")
    source = """
        import resource
        from hdrs_hpc.broker.workers.airlock.checker import start_nothing
        start_nothing()
        names = ("AS", "CPU", "FSIZE", "NOFILE", "CORE", "NPROC")
        print([resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names])
        try:
            with open("written", "wb") as out:
                out.write(b"x")
                out.flush()
            print("WROTE")
        except OSError as error:
            print(error.strerror)
    """
    folder = Path("/tmp") if provider.separates else tmp_path
    started = starting.start(provider, replace(python(source), folder=folder), stdout=subprocess.PIPE)
    said, _ = started.process.communicate(timeout=60)
    limits, written = said.decode().splitlines()
    pairs = json.loads(limits.replace("(", "[").replace(")", "]"))
    assert all(soft == hard != resource.RLIM_INFINITY for soft, hard in pairs)
    assert [pairs[2][0], pairs[4][0], pairs[5][0]] == [0, 1, 0]  # 1: no core file, and no piped one
    assert written == "File too large"


def test_environment_of_the_broker_does_not_reach_the_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_SECRET", "CANARY")
    _python(
        monkeypatch,
        "import os, sys; sys.stdin.buffer.read(); sys.exit(9 if 'BROKER_SECRET' in os.environ else 8)",
    )
    (checked, _) = run_checker(REQUEST, timeout_s=20)
    assert "status 8" in checked.report["refusal"]["message"]


PROBE = """
import json, os, socket, sys
import ctypes
found = {}
libc = ctypes.CDLL(None, use_errno=True)
def add_key():
    number = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
    if libc.syscall(number, b"user", b"x", b"x", ctypes.c_size_t(1), -2) < 0:
        raise OSError(ctypes.get_errno(), "")
def attempt(name, call):
    try:
        found[name] = repr(call())
    except Exception as error:
        found[name] = "refused " + type(error).__name__
attempt("connect", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2))
attempt("interfaces", lambda: sorted(name for _, name in socket.if_nameindex()))
attempt("home", lambda: open(sys.argv[2]).read())
attempt("repository", lambda: open(sys.argv[3]).read())
attempt("write", lambda: open(sys.argv[4], "w"))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("keyring", add_key)
attempt("user namespace", lambda: os.unshare(os.CLONE_NEWUSER))
attempt("run", lambda: os.listdir("/run"))
attempt("passwd", lambda: open("/etc/passwd").read())
attempt("others", lambda: sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
attempt("environment", lambda: sorted(os.environ))
print(json.dumps(found))
"""


@pytest.mark.root_parts
def test_checker_sandbox_has_no_network_no_home_and_nothing_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not starting.works(Bubblewrap()):
        if os.environ.get("CI") == "true":
            pytest.fail("bubblewrap is missing or does not work here")
        pytest.skip("bubblewrap is missing or does not work here")
    monkeypatch.setenv("BROKER_SECRET", "CANARY")
    home = tmp_path / "home-file"
    home.write_text("CANARY")
    repository = Path(run.__file__).parents[4] / "pyproject.toml"
    package = Path(run.__file__).parent / "planted"
    with socket.create_server(("127.0.0.1", 0)) as server:
        told = map(str, (server.getsockname()[1], home, repository, package))
        probe = replace(run.checker(), command=(sys.executable, "-c", PROBE, *told))
        started = starting.start(Bubblewrap(), probe, stdout=subprocess.PIPE)
        said, _ = started.process.communicate(timeout=60)
    found = json.loads(said)
    assert found["connect"].startswith("refused")
    assert found["interfaces"] == "['lo']"
    for place in ("vsock", "keyring", "user namespace", "home", "repository", "write", "run", "passwd"):
        assert found[place].startswith("refused"), place
    assert len(json.loads(found["others"])) <= 2
    assert "BROKER_SECRET" not in found["environment"]


def test_a_processor_without_a_filter_has_no_sandbox_and_the_report_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "ppc64le")
    assert table.strongest("checker").name == "process-limits"
    assert run_checker(REQUEST, timeout_s=60)[0].report["checker"] == {"sandbox": "process-limits"}


def test_the_running_checker_is_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is started for real, asked by way of its exit status."""
    if not starting.works(Bubblewrap()):
        pytest.skip("bubblewrap is missing or does not work here")
    ask = HEADER + "sys.exit(6 + ('Seccomp:\\t2' in open('/proc/self/status').read()))"
    _python(monkeypatch, ask)
    (checked, _) = run_checker(REQUEST, timeout_s=60)
    assert "status 7" in checked.report["refusal"]["message"]


@pytest.mark.root_parts
def test_report_says_that_bubblewrap_was_used() -> None:
    if not starting.works(Bubblewrap()):
        if os.environ.get("CI") == "true":
            pytest.fail("bubblewrap is missing or does not work here")
        pytest.skip("bubblewrap is missing or does not work here")
    assert run_checker(REQUEST, timeout_s=60)[0].report["checker"] == {"sandbox": "bubblewrap"}
