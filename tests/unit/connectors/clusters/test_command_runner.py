"""Running a command on this machine: bounded in time and output, with an environment of its own."""

from __future__ import annotations

import sys
import time

import pytest

from connectors.clusters.commands import CommandTimeoutError, HereRunner
from connectors.clusters.port import SiteCommandError
from tests.support import narrow


def test_both_outputs_and_the_exit_code_come_back() -> None:
    done = HereRunner().run(("/bin/sh", "-c", "echo out; echo err >&2; exit 7"), timeout_s=10)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_a_large_stdin_and_two_large_outputs_do_not_block_each_other() -> None:
    script = "cat; head -c 3000000 /dev/zero >&2"
    data = bytes(range(256)) * 8192
    done = HereRunner().run(("/bin/sh", "-c", script), stdin=data, timeout_s=30)
    assert done.stdout == data
    assert len(done.stderr) == 3_000_000


def test_stdin_that_nobody_reads_is_no_error() -> None:
    assert HereRunner().run(("/bin/true",), stdin=b"x" * 1_000_000, timeout_s=10).returncode == 0


def test_the_environment_is_exactly_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "value")
    done = HereRunner({"GIVEN": "1"}).run(("/usr/bin/env",), timeout_s=10)
    assert done.stdout == b"GIVEN=1\n"


def test_a_command_that_hangs_is_killed() -> None:
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError):
        HereRunner().run(("/bin/sleep", "60"), timeout_s=0.3)
    assert time.monotonic() - began < 5


def test_a_command_that_floods_is_stopped() -> None:
    with pytest.raises(SiteCommandError):
        HereRunner().run(("/bin/cat", "/dev/zero"), timeout_s=60)


def test_death_by_signal_is_128_and_the_signal() -> None:
    assert HereRunner().run(("/bin/sh", "-c", "kill -9 $$"), timeout_s=10).returncode == 137


def test_a_missing_program_is_a_site_error() -> None:
    with pytest.raises(SiteCommandError):
        HereRunner().run(("/nowhere/at/all",), timeout_s=10)


def test_complaints_are_one_short_printable_line() -> None:
    done = HereRunner().run(("/bin/sh", "-c", "printf 'a\\n\\033[31mb\\000c' >&2"), timeout_s=10)
    assert done.complaint == "a [31mb c"


@pytest.mark.parametrize(
    "source",
    [
        "os.write(1, b'o' * 200_000); os.write(2, b'e' * 200_000); sys.stdin.buffer.read()",
        "while os.read(0, 1): os.write(1, b'o'); os.write(2, b'e')",
    ],
)
def test_a_command_that_speaks_while_it_is_spoken_to_does_not_stand_still(source: str) -> None:
    whole = f"import os, sys\nfor fd in (1, 2): os.set_blocking(fd, True)\n{source}"
    with narrow.pipes():
        done = HereRunner().run((sys.executable, "-c", whole), stdin=b"i" * 200_000, timeout_s=60)
    assert (done.returncode, len(done.stdout), len(done.stderr)) == (0, 200_000, 200_000)


def test_a_command_that_prints_for_ever_byte_by_byte_ends_at_its_time() -> None:
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError):
        HereRunner().run(("/bin/sh", "-c", "while :; do printf x; done"), timeout_s=0.5)
    assert time.monotonic() - began < 10
