"""The local cluster under attack: brokers and supervisors that die, processes that hide, pids used again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.clusters import ClusterSettings
from connectors.clusters.contract import SLEEP, await_phase, request
from connectors.clusters.local import LocalCluster
from connectors.clusters.local_supervisor import descendants, start_time, write_once
from connectors.clusters.port import JobPhase

SUBMIT_AND_DIE = """
import os, sys
from connectors.clusters import ClusterSettings, JobRequest, open_cluster
cluster = open_cluster(ClusterSettings.from_toml(sys.argv[1].encode()), "lung-demo")
cluster.submit(JobRequest(sys.argv[2], sys.argv[3].encode(), 1, 1, 64, None, 600))
os.kill(os.getpid(), 9)
"""


def toml(root: Path) -> str:
    return f'name="here"\ntype="local"\nisolation="cooperative"\n[local]\nroot="{root}"\n'


@pytest.fixture
def cluster(tmp_path: Path) -> LocalCluster:
    return LocalCluster(ClusterSettings.from_toml(toml(tmp_path).encode()), "lung-demo")


def folder_of(root: Path, name: str) -> Path:
    return root / "jobs" / "lung-demo" / name


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    return start_time(pid) is not None


def pid_in(path: Path) -> int:
    assert eventually(lambda: path.exists() and path.read_text().strip() != "")
    return int(path.read_text())


def test_a_job_outlives_a_broker_that_is_killed(cluster: LocalCluster, tmp_path: Path) -> None:
    name = request(b"x").name
    script = f"/bin/sleep 1; echo done > {tmp_path}/mark"
    argv = [sys.executable, "-c", SUBMIT_AND_DIE, toml(tmp_path), name, script]
    root = Path(__file__).parents[4]
    assert subprocess.run(argv, cwd=root).returncode == -9
    job = await_phase(cluster, name, JobPhase.ENDED, 20)
    assert job.exit_code == 0
    assert (tmp_path / "mark").exists()


def test_submitting_the_same_name_again_gives_the_same_job_once(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    asked = request(f"echo ran >> {tmp_path}/mark".encode())
    assert {cluster.submit(asked) for _ in range(5)} == {asked.name}
    await_phase(cluster, asked.name, JobPhase.ENDED, 20)
    time.sleep(0.3)
    assert (tmp_path / "mark").read_text() == "ran\n"


def test_a_job_whose_supervisor_never_started_is_started_by_the_next_look(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(b"exit 0\n")
    with monkeypatch.context() as patch:  # the broker dies between rename and fork
        patch.setattr(cluster, "_supervise", lambda folder: None)
        cluster.submit(asked)
    assert not (folder_of(tmp_path, asked.name) / "started.json").exists()
    assert cluster.find([asked.name]).jobs[asked.name][0].phase is JobPhase.PENDING
    await_phase(cluster, asked.name, JobPhase.ENDED, 20)


def test_the_time_limit_kills_even_what_ignores_signals_and_leaves_the_session(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    hidden = (
        f"trap '' TERM\n/usr/bin/setsid /bin/sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/pid; "
        "while :; do /bin/sleep 1; done' &\nwhile :; do /bin/sleep 1; done\n"
    )
    asked = request(hidden.encode(), time_s=1)
    cluster.submit(asked)
    pid = pid_in(tmp_path / "pid")
    assert os.getsid(pid) == pid
    job = await_phase(cluster, asked.name, JobPhase.ENDED, 30)
    assert job.raw_state == "TIMEOUT"
    assert not alive(pid)


def test_what_a_script_leaves_behind_dies_with_it(cluster: LocalCluster, tmp_path: Path) -> None:
    script = f"/usr/bin/setsid /bin/sleep 300 &\necho $! > {tmp_path}/pid\n/bin/sleep 0.3\nexit 0\n"
    asked = request(script.encode())
    cluster.submit(asked)
    job = await_phase(cluster, asked.name, JobPhase.ENDED, 20)
    assert job.raw_state == "COMPLETED"
    assert not alive(pid_in(tmp_path / "pid"))


def test_a_killed_supervisor_ends_its_job_as_node_failure_and_leaves_no_orphan(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    script = f"/usr/bin/setsid /bin/sleep 300 &\necho $! > {tmp_path}/pid\nexec /bin/sleep 300\n"
    asked = request(script.encode())
    cluster.submit(asked)
    pid = pid_in(tmp_path / "pid")
    await_phase(cluster, asked.name, JobPhase.RUNNING, 20)
    started = json.loads((folder_of(tmp_path, asked.name) / "started.json").read_text())
    os.kill(started["pid"], signal.SIGKILL)
    job = await_phase(cluster, asked.name, JobPhase.ENDED, 20)
    assert job.raw_state == "NODE_FAIL"
    assert eventually(lambda: not alive(pid))


def test_a_cancel_before_the_start_is_not_lost(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(f"echo ran > {tmp_path}/mark".encode())
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "_supervise", lambda folder: None)
        cluster.submit(asked)
    cluster.cancel(asked.name)
    job = await_phase(cluster, asked.name, JobPhase.ENDED, 20)
    assert job.raw_state == "CANCELLED"
    assert not (tmp_path / "mark").exists()


def test_cancel_never_signals_another_process_under_a_reused_pid(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    innocent = subprocess.Popen(["/bin/sleep", "300"])
    time.sleep(0.05)  # start times are told apart by clock ticks of 10 ms
    try:
        asked = request(SLEEP)
        cluster.submit(asked)
        await_phase(cluster, asked.name, JobPhase.RUNNING, 20)
        path = folder_of(tmp_path, asked.name) / "started.json"
        started = json.loads(path.read_text())
        os.kill(started["pid"], signal.SIGSTOP)  # it is gone, and its pid was given to another
        path.write_text(json.dumps(started | {"pid": innocent.pid}))
        cluster.cancel(asked.name)
        assert cluster.find([asked.name]).jobs[asked.name][0].raw_state == "NODE_FAIL"
        assert innocent.poll() is None
        os.kill(started["pid"], signal.SIGKILL)
    finally:
        innocent.kill()
        innocent.wait()


def test_after_a_reboot_no_pid_is_believed(cluster: LocalCluster, tmp_path: Path) -> None:
    asked = request(SLEEP)
    cluster.submit(asked)
    await_phase(cluster, asked.name, JobPhase.RUNNING, 20)
    path = folder_of(tmp_path, asked.name) / "started.json"
    started = json.loads(path.read_text())
    os.kill(started["pid"], signal.SIGSTOP)  # the boot that ended took it along
    path.write_text(json.dumps(started | {"boot": "another"}))
    assert await_phase(cluster, asked.name, JobPhase.ENDED, 20).raw_state == "NODE_FAIL"
    os.kill(started["pid"], signal.SIGKILL)


def test_nothing_a_script_prints_is_kept(cluster: LocalCluster, tmp_path: Path) -> None:
    asked = request(b"echo CANARY-1882-03-04\necho CANARY-1882-03-04 >&2\n")
    cluster.submit(asked)
    await_phase(cluster, asked.name, JobPhase.ENDED, 20)
    kept = {path.name: path.read_bytes() for path in folder_of(tmp_path, asked.name).iterdir()}
    assert [name for name, data in kept.items() if b"CANARY" in data] == ["script"]


def test_files_of_a_job_are_private_and_so_is_what_it_makes(cluster: LocalCluster, tmp_path: Path) -> None:
    asked = request(f"echo x > {tmp_path}/made\n".encode())
    cluster.submit(asked)
    await_phase(cluster, asked.name, JobPhase.ENDED, 20)
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0
    assert folder_of(tmp_path, asked.name).stat().st_mode & 0o077 == 0


def test_write_once_keeps_the_first(tmp_path: Path) -> None:
    assert write_once(tmp_path / "a.json", {"n": 1})
    assert not write_once(tmp_path / "a.json", {"n": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_descendants_are_found_through_generations() -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "/bin/sleep 30 & /bin/sleep 30"])
    try:
        assert eventually(lambda: len(descendants(process.pid)) == 2)
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
