"""What a crash may say: only what stood in the bundle before the code saw any data."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from hdrs_hpc.core import wire
from hdrs_hpc.node.launch.crash import report, write_first
from hdrs_hpc.node.launch.plan import Cause, CrashReport
from hdrs_hpc.node.verdict import judge
from hdrs_hpc.protocol.outputs import BundleLine, Ending
from hdrs_hpc.workloads.entry import EntryError, load

BUNDLE = {"mine.py": b"class Mine(Exception):\n    pass\n\nraise Mine('secret')\n"}


def put(folder: Path, *fields: object) -> Path:
    (folder / "report.json").write_bytes(wire.to_bytes(CrashReport(*fields)))  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("Mine", "Mine"),
        ("ValueError", "ValueError"),
        ("KilledWorker", "KilledWorker"),
        ("NHS_9434765919", "Exception"),
        ("secret", "Exception"),  # it stands in the source, but not as a class
    ],
)
def test_only_known_or_own_type_names_pass(tmp_path: Path, name: str, passed: str) -> None:
    ended = judge(1, put(tmp_path, name, "mine.py", 4), BUNDLE)
    assert (ended.ending, ended.exception_type) == (Ending.CRASHED, passed)
    assert ended.bundle_line == BundleLine("mine.py", 4)


@pytest.mark.parametrize(
    ("file", "line"), [("other.py", 1), ("mine.py", 6), ("../mine.py", 1), ("mine.py", 999_999)]
)
def test_only_lines_that_the_bundle_has_pass(tmp_path: Path, file: str, line: int) -> None:
    assert judge(1, put(tmp_path, "Mine", file, line), BUNDLE).bundle_line is None


WORDS = b"class A(Exception):\n    pass\nWORDS = (\n    'alpha',\n    'beta',\n)\nx = 1; y = 2\n\n# end\n"


@pytest.mark.parametrize(
    ("line", "passed"), [(1, 1), (2, 2), (3, 3), (4, 3), (6, 3), (7, 7), (8, None), (9, None)]
)
def test_a_line_is_told_as_the_beginning_of_its_statement(
    tmp_path: Path, line: int, passed: int | None
) -> None:
    ended = judge(1, put(tmp_path, "A", "mine.py", line), {"mine.py": WORDS})
    assert ended.bundle_line == (BundleLine("mine.py", passed) if passed else None)


def test_a_bundle_that_is_a_code_book_says_hardly_anything(tmp_path: Path) -> None:
    """Attack: words and lines by the thousand, so that which one is reported carries what was read."""
    book = b"".join(b"class W%05d: pass\n" % number for number in range(10_001))
    ended = judge(1, put(tmp_path, "W05000", "book.py", 5000), {"book.py": book})
    assert (ended.exception_type, ended.bundle_line) == ("Exception", None)
    assert judge(1, put(tmp_path, "W00063", "book.py", 1), {"book.py": book}).exception_type == "W00063"
    assert judge(1, put(tmp_path, "W00064", "book.py", 1), {"book.py": book}).exception_type == "Exception"
    text = {"words.txt": b"class Word: pass\n" * 9, "blank.py": b"\n" * 9000}
    for file in text:
        ended = judge(1, put(tmp_path, "Word", file, 5), text)
        assert (ended.exception_type, ended.bundle_line) == ("Exception", None)


@pytest.mark.parametrize(
    "source",
    [b"class Word(:\n", b"\x00", b"\xff\xfe", b"(" * 100_000, b"-" * 100_000 + b"1", b"x = 1\n" * 200_000],
)
def test_source_that_can_not_be_parsed_says_nothing_and_stops_nobody(tmp_path: Path, source: bytes) -> None:
    bundle = {"bad.py": source, **(BUNDLE if len(source) < 1 << 20 else {})}
    ended = judge(1, put(tmp_path, "Word", "bad.py", 1), bundle)
    assert (ended.ending, ended.exception_type, ended.bundle_line) == ("crashed", "Exception", None)


@pytest.mark.parametrize("code", [1, 2, 71, 77, 128])
def test_an_exit_code_is_zero_or_one(tmp_path: Path, code: int) -> None:
    assert judge(code, put(tmp_path, "Mine", None, None), BUNDLE).exit_code == 1


@pytest.mark.parametrize(
    ("code", "signal"), [(137, 9), (139, 11), (134, 6), (129 + 40, None), (255, None), (138, None)]
)
def test_a_signal_is_one_of_seven_and_comes_without_a_report(
    tmp_path: Path, code: int, signal: int | None
) -> None:
    ended = judge(code, put(tmp_path, "Mine", "mine.py", 4), BUNDLE)
    assert (ended.ending, ended.signal) == ("crashed", signal)
    assert (ended.exit_code, ended.exception_type, ended.bundle_line) == (None, None, None)


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"\xff", b"[" * 5000, b'{"exception-type":"A","file":null,"line":null,"x":1}']
)
def test_a_forged_report_says_nothing(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "report.json").write_bytes(raw)
    ended = judge(1, tmp_path, BUNDLE)
    assert (ended.ending, ended.exit_code, ended.exception_type, ended.bundle_line) == (
        "crashed",
        1,
        None,
        None,
    )


def test_a_report_that_is_a_link_or_a_pipe_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "report.json").symlink_to("/etc/passwd")
    assert judge(1, tmp_path, BUNDLE).exception_type is None
    (tmp_path / "report.json").unlink()
    os.mkfifo(tmp_path / "report.json")
    assert judge(1, tmp_path, BUNDLE).exception_type is None


@pytest.mark.parametrize(
    ("code", "ending", "signal"),
    [(0, "exited", None), (137, "crashed", 9), (71, "not-started", None)],
)
def test_the_launchers_exit_decides(tmp_path: Path, code: int, ending: str, signal: int | None) -> None:
    ended = judge(code, tmp_path, BUNDLE)
    assert (ended.ending, ended.signal) == (ending, signal)


def test_a_report_names_the_bundles_last_line_and_never_the_message(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text("import json\ndef run(x):\n    return json.loads(x)\n")
    space: dict[str, object] = {}
    exec(compile(source.read_text(), str(source), "exec"), space)
    try:
        space["run"]("patient 943 476 5919")  # type: ignore[operator]
    except ValueError as error:
        made = report(error, tmp_path)
    assert made == CrashReport("JSONDecodeError", "mine.py", 3)
    assert b"943" not in wire.to_bytes(made)


BROKEN = {"mine/main.py": b"import mine.helper\n", "mine/helper.py": b"a = 1\ndef f(:\n    pass\n"}


@pytest.mark.parametrize("name", ["SyntaxError", "IndentationError"])
def test_of_a_file_that_python_cannot_read_the_agent_tells_its_own_line(tmp_path: Path, name: str) -> None:
    for claimed in (1, 2, 77):
        ended = judge(1, put(tmp_path, name, "mine/helper.py", claimed), BROKEN)
        assert (ended.exception_type, ended.bundle_line) == (name, BundleLine("mine/helper.py", 2))


def test_an_unreadable_file_is_named_for_no_other_reason(tmp_path: Path) -> None:
    assert judge(1, put(tmp_path, "ValueError", "mine/helper.py", 2), BROKEN).bundle_line is None


def test_an_entry_that_is_not_there_names_its_file(tmp_path: Path) -> None:
    ended = judge(1, put(tmp_path, "EntryError", "mine/main.py", 1), BROKEN)
    assert (ended.exception_type, ended.bundle_line) == ("EntryError", BundleLine("mine/main.py", 1))


def test_the_workloads_side_reports_the_file_that_could_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_bundle.py").write_text("x = 1\nif x\n    pass\n")
    (tmp_path / "whole_bundle.py").write_text("# nothing\ndef ran(context): pass\n")
    for target, told in (
        ("broken_bundle:run", CrashReport("SyntaxError", "broken_bundle.py", 2)),
        ("whole_bundle:run", CrashReport("EntryError", "whole_bundle.py", 1)),
    ):
        with pytest.raises((SyntaxError, EntryError)) as caught:
            load(None, target, tmp_path)
        assert report(caught.value, tmp_path) == told
    with pytest.raises(SyntaxError) as elsewhere:
        compile("1 +", "<what was computed>", "exec")
    assert report(elsewhere.value, tmp_path).file is None


@pytest.mark.parametrize(
    ("cause", "ending"),
    [
        ("no-network", "no-network"),
        ("process-exited", "process-exited"),
        ("process-ended-early", "process-ended-early"),
        ("process-not-joined", "process-not-joined"),
    ],
)
def test_what_befell_a_process_is_told_with_its_line_and_without_a_type(
    tmp_path: Path, cause: str, ending: str
) -> None:
    ended = judge(1, put(tmp_path, "Mine", "mine.py", 4, Cause(cause), 9), BUNDLE)
    assert (ended.ending, ended.exception_type, ended.signal) == (ending, None, None)
    assert ended.bundle_line == BundleLine("mine.py", 4)


@pytest.mark.parametrize(("number", "told"), [(9, 9), (11, 11), (10, None), (64, None)])
def test_a_killed_rank_is_told_by_one_of_seven_signals_and_nothing_else(
    tmp_path: Path, number: int, told: int | None
) -> None:
    ended = judge(1, put(tmp_path, "Mine", "mine.py", 4, Cause.PROCESS_KILLED, number), BUNDLE)
    assert (ended.ending, ended.signal) == ("process-killed", told)
    assert (ended.exit_code, ended.exception_type, ended.bundle_line) == (None, None, None)


def test_only_the_first_report_is_kept_and_no_draft_is_left(tmp_path: Path) -> None:
    write_first(tmp_path, CrashReport("Mine", "mine.py", 4))
    write_first(tmp_path, CrashReport("RuntimeError", "mine.py", 1))
    assert judge(1, tmp_path, BUNDLE).exception_type == "Mine"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def wrapped(error: Exception) -> Exception:
    """As libraries do: an error of their own, raised while they handled this one."""
    outer = RuntimeError("could not fetch a patient's page")
    outer.__context__ = ConnectionError("no answer")
    outer.__context__.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no-network"),
        (socket.gaierror(-3, "Temporary failure in name resolution"), "no-network"),
        (wrapped(socket.gaierror(-2, "Name or service not known")), "no-network"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "exception"),
        (wrapped(FileNotFoundError(errno.ENOENT, "no such file")), "exception"),
        (ValueError("x"), "exception"),
    ],
)
def test_an_address_that_was_not_reached_is_told_apart(tmp_path: Path, error: Exception, cause: str) -> None:
    assert report(error, tmp_path).cause == cause


def test_causes_that_go_in_a_circle_end(tmp_path: Path) -> None:
    first, second = ValueError(), KeyError()
    first.__context__, second.__context__ = second, first
    assert report(first, tmp_path).cause == "exception"
