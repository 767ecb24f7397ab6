"""What can happen to a playground: ports taken, pids used again, an `up` that was killed, a folder that was deleted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connectors.clusters import local_supervisor
from hdrs_hpc.cli.playground import command, keeper
from hdrs_hpc.cli.playground.making import MARKER

PATIENCE = float(os.environ.get("HDRS_TEST_PATIENCE", "1"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hdrs-") as made:
        yield Path(made) / "play"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Some process of ours."""
    with subprocess.Popen(["/usr/bin/sleep", "600"]) as running:
        yield running
        running.kill()


def run(*words: object) -> Result:
    return CliRunner().invoke(command.playground, [str(word) for word in words])


def recorded(folder: Path, process: subprocess.Popen[bytes], **other: object) -> None:
    pid = process.pid
    record = {"pid": pid, "start": local_supervisor.start_time(pid), "boot": local_supervisor.boot_id()}
    keeper.record_of(folder).write_text(json.dumps(record | other))


def code_of(result: Result) -> str:
    return str(getattr(result.exception, "code", result.exception))


def test_down_where_there_is_none_says_so(folder: Path) -> None:
    result = run("down", "--dir", folder)
    assert (result.exit_code, result.output) == (0, "✓ there was none\n")


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_folder_of_somebody_elses_is_left_as_it_is(folder: Path, verb: str) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")
    assert code_of(run(verb, "--dir", folder)) == "playground-folder-in-use"
    assert (folder / "thesis.tex").read_text() == "precious"


def test_a_port_that_is_taken_is_told_before_anything_is_made(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert code_of(run("up", "--dir", folder, "--port", port)) == "playground-port-taken"
    assert not folder.exists()


def test_the_port_of_a_playground_may_have_been_taken_after_a_reboot(folder: Path) -> None:
    folder.mkdir()
    (folder / MARKER).touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        (folder / "playground.json").write_text(json.dumps({"url": url, "cluster": "here"}))
        assert code_of(run("up", "--dir", folder)) == "playground-port-taken"
    assert (folder / "playground.json").is_file(), "nothing is made anew over it"


@pytest.mark.parametrize("other", [{"start": 1}, {"boot": "another"}])
def test_a_pid_that_is_anothers_by_now_is_left_alone(
    folder: Path, process: subprocess.Popen[bytes], other: dict[str, object]
) -> None:
    folder.mkdir()
    (folder / MARKER).touch()
    recorded(folder, process, **other)
    assert keeper.running(folder) is None
    assert run("down", "--dir", folder).exit_code == 0
    assert process.poll() is None, "it lives"
    assert not folder.exists() and not keeper.record_of(folder).exists()


def test_a_broker_whose_folder_was_deleted_is_still_ended(
    folder: Path, process: subprocess.Popen[bytes]
) -> None:
    recorded(folder, process)
    told = run("status", "--dir", folder)
    assert told.exit_code == 7 and "hdrs-hpc playground down" in told.output
    assert run("down", "--dir", folder).exit_code == 0
    assert process.wait(10) == -signal.SIGTERM


def test_two_at_once_do_not_disturb_each_other(folder: Path) -> None:
    with command._alone(folder):
        assert code_of(run("up", "--dir", folder)) == "playground-busy"
        assert code_of(run("down", "--dir", folder)) == "playground-busy"
    assert not folder.exists()


def test_nobody_is_anybody_where_none_runs(folder: Path) -> None:
    assert code_of(run("as", "--dir", folder, "okafor")) == "playground-not-there"


@pytest.mark.slow
@pytest.mark.timeout(300 * PATIENCE)
def test_an_up_that_was_killed_in_the_middle_leaves_nothing_after_down(folder: Path) -> None:
    making = subprocess.Popen(
        [sys.executable, "-m", "hdrs_hpc.cli.main", "playground", "up", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120 * PATIENCE
    while keeper.running(folder) is None and time.monotonic() < until:
        time.sleep(0.1)
    pid = keeper.running(folder)
    making.kill()
    making.wait()
    assert pid is not None and keeper.running(folder) == pid, "the broker outlives it"
    told = run("status", "--dir", folder)
    assert told.exit_code == 7 and "not whole" in told.output
    assert run("down", "--dir", folder).exit_code == 0
    assert local_supervisor.start_time(pid) is None
    assert not folder.exists() and not keeper.record_of(folder).exists()
