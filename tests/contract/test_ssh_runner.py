"""Commands over SSH: what comes back, what a broken line looks like, and that nothing is taken for anything else."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connectors.clusters.commands import CommandTimeoutError
from connectors.clusters.openssh import IdentityError, OpenSsh
from connectors.clusters.port import ClusterUnreachableError, HostKeyMismatchError, SiteCommandError
from connectors.clusters.settings import SshSettings
from connectors.clusters.ssh import MAX_COMMANDS_AT_ONCE, CommandBrokenOffError, SshRunner
from tests.support import narrow
from tests.support.severed_line import SeveredLine
from tests.support.sshd import SftpServer, sftp_server

pytestmark = pytest.mark.root_parts


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with sftp_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def opened(server: SftpServer, **changes: object) -> SshRunner:
    settings = {
        "host": "127.0.0.1",
        "port": server.port,
        "host_key": server.host_key,
        "identity": str(server.identity),
        "connect_timeout_s": 30,
    }
    return SshRunner(OpenSsh(SshSettings.model_validate({**settings, **changes}), server.user))


@pytest.fixture
def runner(sshd: SftpServer) -> Iterator[SshRunner]:
    with contextlib.closing(opened(sshd)) as made:
        yield made


def sh(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


@pytest.mark.parametrize("code", [0, 1, 7, 124, 254, 255])
def test_both_outputs_and_every_exit_code_come_back(runner: SshRunner, code: int) -> None:
    done = runner.run(sh(f"echo out; echo err >&2; exit {code}"), timeout_s=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"out\n", b"err\n")


def test_words_arrive_as_they_are(runner: SshRunner) -> None:
    words = ("a b", "$HOME", "`id`", "'", '"', "\n", ";exit 3", "*", "", "é", "--", "\\")
    done = runner.run((*sh('printf "%s|" "$@"'), "sh", *words), timeout_s=60)
    assert done.stdout.decode() == "|".join(words) + "|"


def test_no_shell_stays_behind_the_command(runner: SshRunner) -> None:
    done = runner.run(("/bin/cat", "/proc/self/stat"), timeout_s=60)
    parent = int(done.stdout.rsplit(b")", 1)[1].split()[1])
    assert b"sshd" in Path(f"/proc/{parent}/comm").read_bytes()


def test_a_command_killed_by_a_signal_has_no_exit_code(runner: SshRunner) -> None:
    with pytest.raises(CommandBrokenOffError):
        runner.run(sh("kill -9 $$"), timeout_s=60)
    assert runner.run(("/bin/true",), timeout_s=60).returncode == 0


def test_a_large_stdin_and_two_large_outputs_do_not_block_each_other(runner: SshRunner) -> None:
    data = bytes(range(256)) * 8192
    with narrow.pipes():
        done = runner.run(sh("cat; head -c 3000000 /dev/zero >&2"), stdin=data, timeout_s=120)
    assert done.stdout == data
    assert len(done.stderr) == 3_000_000


def test_stdin_that_nobody_reads_is_no_error(runner: SshRunner) -> None:
    assert runner.run(("/bin/true",), stdin=b"x" * 1_000_000, timeout_s=60).returncode == 0


def test_a_command_without_stdin_reads_an_end_at_once(runner: SshRunner) -> None:
    assert runner.run(("/bin/cat",), timeout_s=60).stdout == b""


def test_a_command_that_hangs_is_given_up_and_the_connection_stays(runner: SshRunner) -> None:
    runner.run(("/bin/true",), timeout_s=60)
    kept, _ = runner._kept.connected()
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError):
        runner.run(("/bin/sleep", "30"), timeout_s=3)
    assert time.monotonic() - began < 20
    assert runner.run(("/bin/echo", "on"), timeout_s=60).stdout == b"on\n"
    assert runner._kept.connected()[0] is kept


def test_a_command_that_floods_is_stopped(runner: SshRunner) -> None:
    with pytest.raises(SiteCommandError) as caught:
        runner.run(("/bin/cat", "/dev/zero"), timeout_s=120)
    assert type(caught.value) is SiteCommandError
    assert runner.run(("/bin/true",), timeout_s=60).returncode == 0


def test_many_commands_at_once_share_one_connection(runner: SshRunner) -> None:
    with ThreadPoolExecutor(3 * MAX_COMMANDS_AT_ONCE) as threads:
        done = threads.map(
            lambda n: runner.run(sh(f"sleep 0.2; echo {n}"), timeout_s=120).stdout,
            range(3 * MAX_COMMANDS_AT_ONCE),
        )
        assert [int(said) for said in done] == list(range(3 * MAX_COMMANDS_AT_ONCE))


def test_another_host_key_is_refused(sshd: SftpServer) -> None:
    other = " ".join((sshd.identity.parent / "other.pub").read_text().split()[:2])
    with contextlib.closing(opened(sshd, host_key=other)) as stranger, pytest.raises(HostKeyMismatchError):
        stranger.run(("/bin/true",), timeout_s=60)


def test_a_host_key_that_changes_is_refused_at_the_next_connection(sshd: SftpServer, tmp_path: Path) -> None:
    with sftp_server(tmp_path) as impostor:
        line = SeveredLine(sshd.port)
        authorized = impostor.identity.parent / "authorized"
        authorized.write_text(sshd.identity.with_suffix(".pub").read_text())
        with contextlib.closing(opened(sshd, port=line.port)) as runner:
            assert runner.run(("/bin/true",), timeout_s=60).returncode == 0
            line._target = impostor.port
            kept, _ = runner._kept.connected()
            line.drop_all()
            _wait_until(lambda: not kept.alive)
            with pytest.raises(HostKeyMismatchError):
                runner.run(("/bin/true",), timeout_s=60)
        line.cut()


def test_an_identity_that_is_not_let_in_is_said(sshd: SftpServer) -> None:
    other = str(sshd.identity.parent / "other")
    with contextlib.closing(opened(sshd, identity=other)) as stranger:
        with pytest.raises(ClusterUnreachableError, match="refused the broker's key"):
            stranger.run(("/bin/true",), timeout_s=60)
        with pytest.raises(ClusterUnreachableError, match="next is due"):
            stranger.run(("/bin/true",), timeout_s=60)


def test_an_identity_that_is_none_is_said(sshd: SftpServer, tmp_path: Path) -> None:
    (tmp_path / "open").write_bytes(sshd.identity.read_bytes())
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "none").write_bytes(b"not a key")
    (tmp_path / "none").chmod(0o600)
    for name in ("open", "none", "absent"):
        with (
            contextlib.closing(opened(sshd, identity=str(tmp_path / name))) as runner,
            pytest.raises(IdentityError),
        ):
            runner.run(("/bin/true",), timeout_s=60)


@pytest.mark.parametrize("end", ["line", "keeper"])
def test_a_command_that_is_broken_off_is_not_known_to_have_ended(sshd: SftpServer, end: str) -> None:
    line = SeveredLine(sshd.port)
    with contextlib.closing(opened(sshd, port=line.port)) as runner:
        runner.run(("/bin/true",), timeout_s=60)
        kept, _ = runner._kept.connected()
        ends = line.drop_all if end == "line" else lambda: kept.end(at_once=True)
        timer = threading.Timer(1.0, ends)
        timer.start()
        began = time.monotonic()
        with pytest.raises(CommandBrokenOffError):
            runner.run(sh("echo begun; sleep 60"), timeout_s=90)
        assert time.monotonic() - began < 30
        timer.join()
        _wait_until(lambda: not kept.alive)
        assert runner.run(("/bin/echo", "again"), timeout_s=60).stdout == b"again\n"
    line.cut()


def test_a_command_whose_words_are_lost_on_the_way_may_have_begun(sshd: SftpServer) -> None:
    """The line goes deaf before the server's answer to the new session arrives."""
    line = SeveredLine(sshd.port)
    with contextlib.closing(opened(sshd, port=line.port, connect_timeout_s=3)) as runner:
        runner.run(("/bin/true",), timeout_s=60)
        line._deafen_after = 0
        began = time.monotonic()
        with pytest.raises(CommandBrokenOffError):
            runner.run(("/bin/true",), timeout_s=60)
        assert time.monotonic() - began < 20
    line.cut()


def test_a_server_that_cannot_be_reached_ran_nothing(sshd: SftpServer) -> None:
    line = SeveredLine(sshd.port)
    with contextlib.closing(opened(sshd, port=line.port)) as runner:
        runner.run(("/bin/true",), timeout_s=60)
        kept, _ = runner._kept.connected()
        line.cut()
        _wait_until(lambda: not kept.alive)
        with pytest.raises(ClusterUnreachableError) as caught:
            runner.run(("/bin/true",), timeout_s=60)
        assert type(caught.value) is ClusterUnreachableError


def test_a_server_that_says_nothing_is_given_up(sshd: SftpServer) -> None:
    line = SeveredLine(sshd.port, deafen_after=0)
    with contextlib.closing(opened(sshd, port=line.port, connect_timeout_s=2)) as runner:
        began = time.monotonic()
        with pytest.raises(ClusterUnreachableError):
            runner.run(("/bin/true",), timeout_s=60)
        assert time.monotonic() - began < 20
    line.cut()


def test_the_socket_is_the_owners_alone_and_gone_at_the_end(sshd: SftpServer) -> None:
    runner = opened(sshd)
    runner.run(("/bin/true",), timeout_s=60)
    kept, control = runner._kept.connected()
    assert control.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in control.parent.iterdir()] == [control.name]
    runner.close()
    assert not kept.alive
    assert not control.parent.exists()


def test_nothing_of_this_machine_s_agent_or_environment_goes_along(
    runner: SshRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "value")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
    monkeypatch.setenv("LANG", "xx_SECRET")
    said = runner.run(("/usr/bin/env",), timeout_s=60).stdout
    assert b"SECRET" not in said and b"SSH_AUTH_SOCK" not in said and b"DISPLAY" not in said


def test_a_long_tmpdir_is_no_reason_not_to_connect(
    sshd: SftpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with contextlib.closing(opened(sshd)) as runner:
        assert runner.run(("/bin/true",), timeout_s=60).returncode == 0


def test_the_connection_ends_with_the_process_that_made_it(sshd: SftpServer, tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from connectors.clusters.openssh import OpenSsh
from connectors.clusters.settings import SshSettings
from connectors.clusters.ssh import SshRunner
settings = SshSettings(host="127.0.0.1", port={sshd.port}, host_key="{sshd.host_key}", identity="{sshd.identity}")
runner = SshRunner(OpenSsh(settings, "{sshd.user}"))
runner.run(("/bin/true",), timeout_s=60)
print(runner._kept.connected()[0]._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    read, write = os.pipe()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", code],
        {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)],
    )
    os.close(write)
    with os.fdopen(read) as said:
        keeper = int(said.readline())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    _wait_until(lambda: not Path(f"/proc/{keeper}").exists())


def _wait_until(true: Callable[[], bool], within_s: float = 30) -> None:
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
