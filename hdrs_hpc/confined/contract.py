"""What every sandbox must do, as tests that attack it: subclass one of these in a test module.

:class:`ProviderContract` holds for all, :class:`SeparatingContract` for those that say ``separates``.  The subclass
gives a fixture ``provider``.  Needs pytest; nothing else imports this module.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hdrs_hpc.confined import interpreter, starting
from hdrs_hpc.confined.port import Confined, Limits, Provider, Shown
from hdrs_hpc.confined.running import Running, SandboxFailedError
from hdrs_hpc.core.die_with_parent import descendants

TRIALS = int(os.environ.get("HDRS_FAULT_TRIALS", "5"))
TMP_BYTES = 4 << 20
TIMEOUT_S = 60
HEADER = "import ctypes, json, os, socket, sys, time\nfrom pathlib import Path\n"
HARMLESS_DEVICES = {
    *("null", "zero", "full", "random", "urandom", "tty", "console", "fd", "stdin", "stdout", "stderr"),
    *("shm", "pts", "ptmx", "core"),
}
KILLED_PARENTS = """
import ctypes, os, random, time
from pathlib import Path
from hdrs_hpc.confined import starting
from hdrs_hpc.confined.port import Confined
from hdrs_hpc.core.die_with_parent import descendants
from {module} import {name}
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what is left comes back to us
begun = left = 0
for _ in range({trials}):
    parent = os.fork()
    if parent == 0:
        starting.start({name}(), Confined(("/usr/bin/sleep", "600"), {{}}, Path("/")))
        time.sleep(600)
    time.sleep(random.uniform(0, 0.3))
    begun += bool(descendants(parent))
    os.kill(parent, 9)
    until = time.monotonic() + 20
    while (still := descendants(os.getpid())) and time.monotonic() < until:
        time.sleep(0.01)
    left += len(still)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
print(begun, left)
"""


class ProviderContract:
    takes_limits: ClassVar[bool] = True

    @pytest.fixture
    def confined(self, tmp_path: Path) -> Confined:
        """A process with as little as Python can do with."""
        (tmp_path / "workbench").mkdir()
        return Confined(
            command=(),
            environment={"GIVEN": "as it is"},
            folder=Path("/"),
            shown=interpreter.shown(),
            workbench=tmp_path / "workbench",
        )

    def start(self, provider: Provider, confined: Confined, source: str) -> Running:
        code = HEADER + textwrap.dedent(source)
        command = (sys.executable, "-I", "-c", code)
        return starting.start(provider, replace(confined, command=command), stdout=subprocess.PIPE)

    def ask(self, provider: Provider, confined: Confined, source: str) -> Any:
        """What ``source``, run confined, prints as JSON."""
        running = self.start(provider, confined, source)
        try:
            said, _ = running.process.communicate(timeout=TIMEOUT_S)
            return json.loads(said)
        finally:
            running.kill()

    def code(self, provider: Provider, confined: Confined, source: str) -> int | None:
        running = self.start(provider, confined, source)
        running.process.communicate(timeout=TIMEOUT_S)
        return running.poll()

    @pytest.mark.parametrize(
        ("source", "code"), [("pass", 0), ("sys.exit(7)", 7), ("ctypes.string_at(0)", 139)]
    )
    def test_the_exit_code_passes_through(
        self, provider: Provider, confined: Confined, source: str, code: int
    ) -> None:
        assert self.code(provider, confined, source) == code

    def test_the_environment_is_what_was_given_and_nothing_of_ours(
        self, provider: Provider, confined: Confined, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HDRS_CANARY", "sensitive")
        found = self.ask(provider, confined, "print(json.dumps(Path('/proc/self/environ').read_text()))")
        given = dict(pair.split("=", 1) for pair in found.split("\0") if pair)
        assert given.pop("GIVEN") == "as it is"
        assert given in ({}, {"PWD": "/"})  # bubblewrap's own

    def test_descriptors_that_are_not_named_are_closed(
        self, provider: Provider, confined: Confined, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_text("canary")
        with (tmp_path / "secret").open() as named, (tmp_path / "secret").open() as other:
            for file in (named, other):
                os.set_inheritable(file.fileno(), True)
            listing = """
                names = {n: os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 2
                         and os.path.exists(f'/proc/self/fd/{n}') and not os.path.isdir(f'/proc/self/fd/{n}')}
                print(json.dumps([[int(n), os.read(int(n), 100).decode()] for n in names]))
            """
            one = replace(confined, descriptors=(named.fileno(),))
            assert self.ask(provider, one, listing) == [[named.fileno(), "canary"]]
            assert self.ask(provider, confined, listing) == []

    def test_a_limit_on_memory_holds(self, provider: Provider, confined: Confined) -> None:
        grab = """
            try: print(len(bytearray(600 << 20)))
            except MemoryError: print('"refused"')
        """
        assert self.ask(provider, confined, grab) == 600 << 20
        limited = replace(confined, limits=Limits(address_space_bytes=500 << 20))
        if not self.takes_limits:
            with pytest.raises(SandboxFailedError):
                self.ask(provider, limited, grab)
            return
        assert self.ask(provider, limited, grab) == "refused"

    def test_limits_on_files_hold_and_can_not_be_raised(
        self, provider: Provider, confined: Confined, tmp_path: Path
    ) -> None:
        if not self.takes_limits:
            return
        (tmp_path / "out").mkdir()
        inside = Path("/out") if provider.separates else tmp_path / "out"
        limited = replace(
            confined,
            shown=(*confined.shown, Shown(tmp_path / "out", inside, writable=True)),
            limits=Limits(file_bytes=1000, open_files=32),
        )
        source = f"""
            import resource
            found = []
            def attempt(call):
                try: call()
                except (OSError, ValueError) as error: found.append(getattr(error, 'errno', None) or 'refused')
                else: found.append(None)
            attempt(lambda: Path({str(inside)!r}, 'small').write_bytes(bytes(1000)))
            attempt(lambda: Path({str(inside)!r}, 'large').write_bytes(bytes(1001)))
            attempt(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)))
            attempt(lambda: [os.open('/dev/null', os.O_RDONLY) for _ in range(40)])
            print(json.dumps(found))
        """
        assert self.ask(provider, limited, source) == [None, 27, "refused", 24]  # EFBIG, EMFILE

    def test_a_limit_on_processor_time_holds(self, provider: Provider, confined: Confined) -> None:
        if self.takes_limits:
            limited = replace(confined, limits=Limits(cpu_s=1))
            assert self.code(provider, limited, "while True: pass") in (137, 152)  # SIGKILL, SIGXCPU

    def test_it_leaves_no_core_file(self, provider: Provider, confined: Confined) -> None:
        limit = self.ask(
            provider, confined, "import resource; print(json.dumps(resource.getrlimit(resource.RLIMIT_CORE)))"
        )
        assert limit in ([1, 1], [0, 0])  # 1 also stops dumps into a pipe; a hard limit of 0 can't be raised

    def test_nothing_is_left_after_a_kill(self, provider: Provider, confined: Confined) -> None:
        running = self.start(
            provider,
            confined,
            """
            for _ in range(3):
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0: time.sleep(600)
                    os._exit(0)
                os.wait()  # a child that has ended has started its own
            print(flush=True)
            time.sleep(600)
            """,
        )
        assert running.process.stdout is not None
        running.process.stdout.readline()
        started = descendants(running.process.pid)
        assert len(started) >= 4
        running.kill()
        running.process.stdout.close()
        assert not [pid for pid in started if Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid)]
        assert running.poll() is not None

    def test_it_says_when_it_is_confined(
        self, provider: Provider, confined: Confined, tmp_path: Path
    ) -> None:
        kind = type(provider)
        become = f"""
            from {kind.__module__} import {kind.__qualname__}
            from hdrs_hpc.confined import starting
            from hdrs_hpc.confined.port import Confined
            bench = Path({str(confined.workbench)!r})
            asked = Confined(('/usr/bin/sleep', '600'), {{}}, Path('/'), workbench=bench)
            starting.become({kind.__qualname__}(), asked, *map(int, sys.argv[1:]))
        """
        reader, writer = os.pipe()
        command = [sys.executable, "-c", HEADER + textwrap.dedent(become), str(writer), str(os.getpid())]
        running = Running(subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=(writer,)))
        os.close(writer)
        running.wait_until_up(reader)
        until = time.monotonic() + TIMEOUT_S
        while not any(_command(pid) == "/usr/bin/sleep 600" for pid in running.pids()):
            assert time.monotonic() < until
            time.sleep(0.01)
        running.kill()
        assert running.pids() == []

    def test_it_dies_with_its_parent_whenever_that_is_killed(self, provider: Provider) -> None:
        kind = type(provider)
        source = KILLED_PARENTS.format(module=kind.__module__, name=kind.__qualname__, trials=TRIALS)
        done = subprocess.run(
            [sys.executable, "-c", source], stdout=subprocess.PIPE, check=True, timeout=30 + 25 * TRIALS
        )
        begun, left = map(int, done.stdout.split())
        assert begun > TRIALS // 2
        assert left == 0


class SeparatingContract(ProviderContract):
    def test_no_network_but_its_own_loopback(self, provider: Provider, confined: Confined) -> None:
        source = """
            def reaches(family, place):
                try: socket.socket(family).connect(place)
                except OSError: return False
                return True
            print(json.dumps([[name for _, name in socket.if_nameindex()],
                              reaches(socket.AF_INET, ('127.0.0.1', {port})), reaches(socket.AF_UNIX, '\\0{name}'),
                              os.readlink('/proc/self/ns/net')]))
        """
        with _listening() as (port, name):
            tried = source.format(port=port, name=name)
            interfaces, tcp, abstract, namespace = self.ask(provider, confined, tried)
            assert (interfaces, tcp, abstract) == (["lo"], False, False)
            assert namespace != str(Path("/proc/self/ns/net").readlink())
            inherited = self.ask(provider, replace(confined, network="inherited"), tried)
            assert inherited[1:] == [True, True, str(Path("/proc/self/ns/net").readlink())]

    def test_no_other_processes(self, provider: Provider, confined: Confined) -> None:
        source = """
            found = {n: Path(f'/proc/{n}/cmdline').read_text() for n in os.listdir('/proc') if n.isdigit()}
            spaces = {n: os.readlink(f'/proc/self/ns/{n}') for n in ('pid', 'ipc', 'uts', 'mnt', 'user')}
            print(json.dumps([found, spaces]))
        """
        found, namespaces = self.ask(provider, confined, source)
        assert len(found) <= 3
        assert "pytest" not in str(found)
        for name, link in namespaces.items():
            assert link != str(Path(f"/proc/self/ns/{name}").readlink()), name

    def test_nothing_of_the_machine_but_its_programs(
        self, provider: Provider, confined: Confined, tmp_path: Path
    ) -> None:
        (tmp_path / "archive").write_text("canary")
        places = [
            str(tmp_path),
            str(Path.home() / ".bashrc"),
            "/home",
            "/run",
            "/var/run",
            "/var/spool",
            "/etc/slurm",
        ]
        places += [
            "/run/munge/munge.socket.2",
            "/run/dbus/system_bus_socket",
            "/etc/shadow",
            "/sys/kernel",
            "/boot",
        ]
        tried = f"print(json.dumps([[p for p in {places!r} if os.path.exists(p)], os.listdir('/dev')]))"
        seen, devices = self.ask(provider, confined, tried)
        assert seen == []
        assert set(devices) <= HARMLESS_DEVICES

    def test_nothing_can_be_written_outside_what_is_shown_for_it(
        self, provider: Provider, confined: Confined, tmp_path: Path
    ) -> None:
        for name in ("read", "write"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "there").write_text("before")
        shown = (
            Shown(tmp_path / "read", Path("/shown/read")),
            Shown(tmp_path / "write", Path("/shown/write"), writable=True),
        )
        source = """
            def writes(path):
                try: Path(path).write_text('after')
                except OSError: return False
                return True
            folders = ('', '/usr', '/usr/bin', '/etc', '/dev', '/dev/shm', '/proc', '/lib', '/tmp', '/shown', '/opt')
            tried = [f'{f}/new' for f in folders] + ['/etc/made', '/shown/read/there', '/shown/read/new']
            tried += ['/shown/write/there', '/shown/write/new']
            print(json.dumps([path for path in tried if writes(path)]))
        """
        asked = replace(confined, shown=(*confined.shown, *shown), files={"/etc/made": "content"})
        assert self.ask(provider, asked, source) == ["/shown/write/there", "/shown/write/new"]
        assert (tmp_path / "read" / "there").read_text() == "before"
        assert (tmp_path / "write" / "new").read_text() == "after"
        made = self.ask(provider, asked, "print(json.dumps(Path('/etc/made').read_text()))")
        assert made == "content"

    def test_its_tmp_is_in_memory_and_bounded(self, provider: Provider, confined: Confined) -> None:
        if not self.takes_limits:
            return
        name = f"hdrs-contract-{os.getpid()}"
        source = f"""
            written = 0
            with open('/tmp/{name}', 'wb', buffering=0) as file:
                try:
                    while written < 100 << 20: written += file.write(bytes(1 << 16))
                except OSError: pass
            print(written)
        """
        written = self.ask(provider, replace(confined, tmp_bytes=TMP_BYTES), source)
        assert 0 < written <= TMP_BYTES
        assert not Path("/tmp", name).exists()  # noqa: S108

    def test_no_rights_and_a_system_call_filter(self, provider: Provider, confined: Confined) -> None:
        source = """
            def refused(call):
                try: call()
                except (OSError, ValueError): return True
                return False
            import resource
            status = dict(l.split(':\\t', 1) for l in Path('/proc/self/status').read_text().splitlines() if ':\\t' in l)
            print(json.dumps([status, [refused(lambda: os.unshare(os.CLONE_NEWUSER)),
                                       refused(lambda: socket.socket(40, socket.SOCK_STREAM)),
                                       refused(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))]]))
        """
        status, refused = self.ask(provider, confined, source)
        assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")] == [0, 0, 0, 0]
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert refused == [True, True, True]


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return ""


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


@contextlib.contextmanager
def _listening() -> Iterator[tuple[int, str]]:
    """A port of this machine's loopback and the name of an abstract socket, both answered."""
    name = f"hdrs-contract-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{name}")
        unix.listen()
        yield tcp.getsockname()[1], name
