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
from dataclasses import replace
from pathlib import Path

import pytest

from hdrs_hpc.broker.workers.airlock import framing, run
from hdrs_hpc.broker.workers.airlock.check import check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.broker.workers.airlock.run import CheckRequest, run_checker
from hdrs_hpc.catalogue.outputs.checking.declared import Declared, InputFacts
from hdrs_hpc.confined import starting, table
from hdrs_hpc.confined.bubblewrap import Bubblewrap
from hdrs_hpc.confined.port import Confined, Provider
from hdrs_hpc.confined.process_limits import ProcessLimits
from tests.support import narrow

CHECKER = run.checker()
AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "metrics": {}})
TABLE = (Declared("t", "table", "t.csv", ("n",)), b"site,n\na,4\nb,40\nc,51\n")
BROKEN = (Declared("m", "metrics", "m.json"), b"\x80\x04.")
REQUEST = CheckRequest((TABLE, BROKEN), RULES, bytes(range(16)), AMPLE)


def python(source: str) -> Confined:
    """Other code in the checker's place, confined as it is."""
    return replace(CHECKER, command=(sys.executable, "-c", textwrap.dedent(source)))


def test_process_gives_what_the_pure_check_gives() -> None:
    inside = check_set(REQUEST.artefacts, RULES, REQUEST.salt, AMPLE)
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


@pytest.mark.parametrize(
    "source",
    [
        # Speaks before it listens, and listens to the end.
        "sys.stdout.buffer.write(b'x' * 300_000); sys.stdout.flush(); heard = len(sys.stdin.buffer.read())",
        # Takes and gives one byte at a time, by turns.
        "heard = 0\nwhile byte := os.read(0, 1): heard += len(os.write(1, b'x') * byte)",
        # Listens to nothing.
        "sys.stdout.buffer.write(b'x' * 300_000); heard = 0",
    ],
)
def test_a_checker_that_speaks_while_it_is_spoken_to_does_not_stand_still(source: str) -> None:
    speaking = python(f"import os, sys\n{source}")
    with narrow.pipes():
        answer = run._converse(table.strongest("checker"), speaking, b"r" * 300_000, 1_000_000, timeout_s=60)
    assert answer == b"x" * 300_000


def test_empty_set_needs_no_process() -> None:
    assert run_checker(CheckRequest((), RULES, bytes(16), AMPLE), timeout_s=0.0) == []


def _python(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    instead = python(source)
    monkeypatch.setattr(run, "checker", lambda: instead)


HEADER = "import sys, struct, json\nsys.stdin.buffer.read()\n"


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(3)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "import sys; sys.stdin.buffer.read(); sys.stdout.write('no frame')",
        "import sys; sys.stdout.buffer.write(b'\\xff' * 8)",
        "import time; time.sleep(60)",
        "import sys\nwhile True: sys.stdout.buffer.write(bytes(1 << 20))",
        HEADER + "b = b'{\"results\":[]}'\nsys.stdout.buffer.write(struct.pack('>I', len(b)) + b)",
        HEADER
        + "b = b'{\"results\":[1,2]}'\nsys.stdout.buffer.write(struct.pack('>I', len(b)) + b + bytes(16))",
    ],
    ids=["exit", "segfault", "nonsense", "huge header", "never ends", "flood", "other set", "not results"],
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
    only = CheckRequest((TABLE,), RULES, bytes(16), AMPLE)
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
    answer = framing.pack({"results": [result]}, [honest.rebuilt])
    _python(monkeypatch, f"import sys; sys.stdin.buffer.read(); sys.stdout.buffer.write({answer!r})")
    assert run_checker(only, timeout_s=20)[0].refused == "checker-crashed"


def test_frames_are_bounded_and_nothing_may_follow() -> None:
    good = framing.pack({"results": [1]}, [b"abc"])
    assert framing.read(io.BytesIO(good), "results") == ({"results": [1]}, [b"abc"])
    for bad in (good[:-1], good + b"x", b"", struct.pack(">I", 1 << 30), framing.pack({"other": []}, []),
                framing.pack({"results": [0] * 300}, [])):  # fmt: skip
        with pytest.raises(framing.FramingError):
            framing.read(io.BytesIO(bad), "results")


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
