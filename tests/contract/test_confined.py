"""Sandboxes keep the contract of the port; Apptainer, which is not here, is held to its documented options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hdrs_hpc.confined import apptainer, inside, table
from hdrs_hpc.confined.apptainer import Apptainer
from hdrs_hpc.confined.bubblewrap import Bubblewrap
from hdrs_hpc.confined.contract import ProviderContract, SeparatingContract
from hdrs_hpc.confined.port import Confined, Limits, Provider, Shown
from hdrs_hpc.confined.process_limits import ProcessLimits
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core import seccomp


@pytest.mark.root_parts
class TestBubblewrap(SeparatingContract):
    @pytest.fixture
    def provider(self) -> Provider:
        return Bubblewrap()


class TestProcessLimits(ProviderContract):
    @pytest.fixture
    def provider(self) -> Provider:
        return ProcessLimits()


if Apptainer().missing() is None:

    class TestApptainer(SeparatingContract):
        takes_limits = False

        @pytest.fixture
        def provider(self) -> Provider:
            return Apptainer()


# From apptainer-exec(1), version 1.4: what takes a value, and what does not.
DOCUMENTED = {
    **dict.fromkeys(
        ("--bind", "--cwd", "--drop-caps", "--env", "--hostname", "--network", "--no-mount"), True
    ),
    **dict.fromkeys(("--cleanenv", "--containall", "--net", "--no-eval", "--no-home", "--no-privs"), False),
    **dict.fromkeys(("--userns", "--uts"), False),
}


@pytest.fixture
def workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Confined:
    program = tmp_path / "apptainer"
    program.touch()
    monkeypatch.setattr(apptainer, "PROGRAMS", (str(program),))
    (tmp_path / "out").mkdir()
    return Confined(
        command=("/opt/hdrs/bin/python3", "-m", "something"),
        environment={"LD_LIBRARY_PATH": "/opt/hdrs/lib", "HOME": "/tmp"},
        folder=Path("/out"),
        shown=(
            Shown(Path("/usr"), Path("/opt/hdrs")),
            Shown(tmp_path / "out", Path("/out"), writable=True),
            Shown(Path("/etc/hostname"), Path("/data/name")),
        ),
        files={"/etc/passwd": "job:x:1:1:job:/tmp:/bin/false\n"},
        devices=(Path("/dev/null"), Path("/dev/nvidia-not-here")),
        workbench=tmp_path / "container",
    )


def options(argv: tuple[str, ...]) -> tuple[list[tuple[str, str]], list[str]]:
    """Options with their values, and what follows them; an undocumented one is an error."""
    words = list(argv[2:])
    found = []
    while words[0].startswith("--"):
        name = words.pop(0)
        found.append((name, words.pop(0) if DOCUMENTED[name] else ""))
    return found, words


def test_apptainer_is_asked_by_documented_options_for_all_that_separates(workload: Confined) -> None:
    argv = Apptainer().prepare(workload, 9).argv
    assert argv[1] == "exec"
    found, (image, python, *rest) = options(argv)
    assert {"--userns", "--containall", "--cleanenv", "--no-home", "--net", "--no-privs", "--uts"} <= dict(
        found
    ).keys()
    assert [pair for pair in found if pair[0] in ("--network", "--drop-caps", "--cwd")] == [
        ("--drop-caps", "all"),
        ("--network", "none"),
        ("--cwd", "/out"),
    ]
    assert set(dict(found)["--no-mount"].split(",")) == {"home", "cwd", "tmp", "hostfs", "sys", "bind-paths"}
    binds = [value for name, value in found if name == "--bind"]
    assert binds[0] == "/usr:/usr:ro"
    assert f"{workload.shown[1].outside}:/out:rw" in binds
    assert "/etc/hostname:/data/name:ro" in binds
    assert "/dev/null:/dev/null:rw" in binds
    assert not [bind for bind in binds if "not-here" in bind]
    writable = [bind for bind in binds if bind.endswith(":rw")]
    assert writable == [f"{workload.shown[1].outside}:/out:rw", "/dev/null:/dev/null:rw"]
    assert (image, python) == (str(workload.workbench), "/opt/hdrs/bin/python3")
    assert rest[:5] == ["-I", "-S", "-B", "/.hdrs-inside.py", "/.hdrs-filter"]
    assert json.loads(rest[5]) == {
        "argv": list(workload.command),
        "environment": dict(workload.environment),
        "up": 9,
    }


def test_the_container_holds_places_for_all_that_is_shown_and_nothing_else(workload: Confined) -> None:
    Apptainer().prepare(workload, None)
    root = workload.workbench
    assert root is not None
    for name in ("usr", "proc", "dev", "tmp", "out", "opt/hdrs"):
        assert (root / name).is_dir() and not any(path.is_file() for path in (root / "opt").rglob("*"))
    assert (root / "data/name").read_bytes() == b""
    assert (root / "etc/passwd").read_text() == workload.files["/etc/passwd"]
    assert (root / ".hdrs-filter").read_bytes() == seccomp.program()
    assert (root / ".hdrs-inside.py").read_text() == Path(inside.__file__).read_text()


def test_apptainer_refuses_what_it_can_not_give(workload: Confined) -> None:
    for asked in (
        replace(workload, limits=Limits(file_bytes=0)),
        replace(workload, tmp_bytes=1 << 20),
        replace(workload, workbench=None),
    ):
        with pytest.raises(SandboxFailedError, match="apptainer-only-for-workloads"):
            Apptainer().prepare(asked, None)
    odd = Shown(Path("/usr"), Path("/a:b"))
    with pytest.raises(SandboxFailedError, match="path-unfit-for-apptainer"):
        Apptainer().prepare(replace(workload, shown=(odd,)), None)


def test_without_a_network_of_its_own_where_that_is_asked(workload: Confined) -> None:
    found, _ = options(Apptainer().prepare(replace(workload, network="inherited"), None).argv)
    assert not {"--net", "--network"} & dict(found).keys()


def test_the_first_process_of_a_container_filters_itself_and_becomes_the_command(tmp_path: Path) -> None:
    """For real, without the container."""
    program = seccomp.program()
    assert program is not None
    (tmp_path / "filter").write_bytes(program)
    source = "print(open('/proc/self/status').read(), open('/proc/self/environ').read())"
    reader, writer = os.pipe()
    request = {"argv": [sys.executable, "-I", "-c", source], "environment": {"A": "b"}, "up": writer}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", inside.__file__, str(tmp_path / "filter"), json.dumps(request)],
        capture_output=True,
        text=True,
        pass_fds=(writer,),
        env={"OURS": "1"},
        check=True,
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert told.read() == b"{}"
    assert "Seccomp:\t2" in done.stdout and "NoNewPrivs:\t1" in done.stdout
    assert done.stdout.rstrip().endswith("A=b\0")


def test_no_filter_no_command(tmp_path: Path) -> None:
    (tmp_path / "filter").write_bytes(b"\xff" * 8)
    request = {"argv": ["/usr/bin/true"], "environment": {}, "up": None}
    argv = [sys.executable, "-I", "-S", inside.__file__, str(tmp_path / "filter"), json.dumps(request)]
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0


def test_what_is_untried_is_taken_only_where_a_probe_follows() -> None:
    for row in table.SANDBOXES:
        assert row.tried or row.users == ("node",)
