"""What a crash may say: only what stood in the bundle before the code saw any data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hdrs_hpc.node.launch.crash import report
from hdrs_hpc.node.launch.plan import CrashReport
from hdrs_hpc.node.verdict import judge
from hdrs_hpc.protocol import wire
from hdrs_hpc.protocol.outputs import BundleLine, Ending

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
        ("NHS_9434765919", None),
    ],
)
def test_only_known_or_own_type_names_pass(tmp_path: Path, name: str, passed: str | None) -> None:
    ended = judge(1, False, put(tmp_path, name, "mine.py", 4), BUNDLE)
    assert (ended.ending, ended.exception_type) == (Ending.CRASHED, passed)
    assert ended.bundle_line == BundleLine("mine.py", 4)


@pytest.mark.parametrize(
    ("file", "line"), [("other.py", 1), ("mine.py", 6), ("../mine.py", 1), ("mine.py", 999_999)]
)
def test_only_lines_that_the_bundle_has_pass(tmp_path: Path, file: str, line: int) -> None:
    assert judge(1, False, put(tmp_path, "Mine", file, line), BUNDLE).bundle_line is None


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"\xff", b"[" * 5000, b'{"exception-type":"A","file":null,"line":null,"x":1}']
)
def test_a_forged_report_says_nothing(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "report.json").write_bytes(raw)
    ended = judge(1, False, tmp_path, BUNDLE)
    assert (ended.ending, ended.exit_code, ended.exception_type, ended.bundle_line) == (
        "crashed",
        1,
        None,
        None,
    )


def test_a_report_that_is_a_link_or_a_pipe_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "report.json").symlink_to("/etc/passwd")
    assert judge(1, False, tmp_path, BUNDLE).exception_type is None
    (tmp_path / "report.json").unlink()
    os.mkfifo(tmp_path / "report.json")
    assert judge(1, False, tmp_path, BUNDLE).exception_type is None


@pytest.mark.parametrize(
    ("code", "late", "ending", "signal"),
    [
        (0, False, "exited", None),
        (0, True, "out-of-time", None),
        (137, False, "crashed", 9),
        (71, False, "not-started", None),
    ],
)
def test_the_launchers_exit_decides(
    tmp_path: Path, code: int, late: bool, ending: str, signal: int | None
) -> None:
    ended = judge(code, late, tmp_path, BUNDLE)
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
