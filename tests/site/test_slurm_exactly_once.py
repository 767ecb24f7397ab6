"""Lost answers, half-sent scripts, accounting that is down: one submission is one job, or none that ran."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from throwaway_site import STATE

from connectors.clusters import ClusterSettings, open_cluster
from connectors.clusters.contract import SLEEP, await_phase, request
from connectors.clusters.port import (
    JobPhase,
    JobRequest,
    SubmissionRefusedError,
    SubmissionUncertainError,
)
from connectors.clusters.slurm import SlurmCluster
from tests.support.severed_line import SeveredLine

pytestmark = pytest.mark.root_parts

PADDING = b"# a comment of fifty characters that does nothing\n" * 10_000
UP = Path(__file__).parents[2] / "deploy" / "slurm" / "up"


def through(site: ClusterSettings, line: SeveredLine) -> SlurmCluster:
    assert site.ssh is not None
    there = site.model_copy(update={"ssh": site.ssh.model_copy(update={"port": line.port})})
    cluster = open_cluster(there, next(iter(site.projects)))
    assert isinstance(cluster, SlurmCluster)
    return cluster


def test_an_accepted_job_whose_answer_was_lost_is_found_and_is_the_only_one(
    site: ClusterSettings, cluster: SlurmCluster
) -> None:
    assert site.ssh is not None
    line = SeveredLine(site.ssh.port, deafen_after=len(PADDING) // 2)
    behind = through(site, line)
    asked = request(SLEEP + PADDING)
    caught: list[BaseException] = []

    def submit() -> None:
        try:
            behind.submit(asked)
        except SubmissionUncertainError as error:
            caught.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    job = await_phase(cluster, asked.name, JobPhase.RUNNING, 60)
    assert line.deaf
    line.cut()
    thread.join(30)
    assert [type(error) for error in caught] == [SubmissionUncertainError]
    (found,) = cluster.find([asked.name]).jobs[asked.name]
    assert found.job_id == job.job_id
    cluster.cancel(job.job_id)
    behind.close()


def test_half_a_script_submitted_by_a_broken_connection_does_nothing(
    site: ClusterSettings, cluster: SlurmCluster
) -> None:
    assert site.ssh is not None
    mark = request(b"x").name
    there = cluster.scratch_path(f"half-{mark}")
    line = SeveredLine(site.ssh.port, cut_after=len(PADDING) // 2)
    behind = through(site, line)
    asked = request(f"echo ran > {there}\n".encode() + PADDING + b"exit 0\n")
    with pytest.raises(SubmissionUncertainError):
        behind.submit(asked)
    deadline = time.monotonic() + 20
    while not (found := cluster.find([asked.name]).jobs[asked.name]) and time.monotonic() < deadline:
        time.sleep(0.5)
    if found:  # sbatch did submit what it had
        job = await_phase(cluster, asked.name, JobPhase.ENDED, 60)
        assert job.raw_state == "FAILED"
    assert cluster.read_file(f"half-{mark}", max_bytes=100) is None
    behind.close()


def test_lines_that_look_like_directives_are_not_obeyed(cluster: SlurmCluster) -> None:
    asked = request(b"#SBATCH --job-name=other --time=1000\n#SBATCH --array=1-3\n" + SLEEP)
    job_id = cluster.submit(asked)
    (job,) = cluster.find([asked.name]).jobs[asked.name]
    assert job.job_id == job_id
    cluster.cancel(job_id)


@pytest.mark.parametrize(
    "change", [{"nodes": 3}, {"gres": "gpu:3"}, {"mem_mb": 10**7}, {"time_s": 60 * 86_400}]
)
def test_a_job_that_can_never_run_is_refused_and_nothing_of_it_runs(
    cluster: SlurmCluster, change: dict[str, object]
) -> None:
    shape: dict[str, object] = {"nodes": 1, "gres": None, "mem_mb": 64, "time_s": 60} | change
    asked = JobRequest(name=request(b"x").name, script=SLEEP, cpus_per_task=1, **shape)  # type: ignore[arg-type]
    with pytest.raises(SubmissionRefusedError):
        cluster.submit(asked)
    # slurmctld may keep a record of what it refused (reason BadConstraints), which never had a node.
    for job in cluster.find([asked.name]).jobs[asked.name]:
        assert (job.phase, job.nodes) == (JobPhase.ENDED, ())


def test_a_stranger_taking_our_jobs_name_is_not_taken_for_it(
    cluster: SlurmCluster, stranger: SlurmCluster
) -> None:
    asked = request(SLEEP)
    job_id = stranger.submit(asked)
    until = time.monotonic() + 30
    # slurmdbd may not know the stranger's job yet; until then nothing is proven.
    while not (looked := cluster.find([asked.name])).absence_proven and time.monotonic() < until:
        time.sleep(0.5)
    assert (looked.jobs[asked.name], looked.absence_proven) == ([], True)
    stranger.cancel(job_id)


def test_while_slurmdbd_is_down_absence_is_not_proven_and_live_jobs_are_found(
    cluster: SlurmCluster,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("stopping slurmdbd needs root")
    absent = request(b"x").name
    asked = request(SLEEP)
    record = json.loads((STATE / "run" / "slurmdbd.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    try:
        job_id = cluster.submit(asked)
        looked = cluster.find([absent, asked.name])
        assert looked.jobs[absent] == []
        assert [job.job_id for job in looked.jobs[asked.name]] == [job_id]
        assert not looked.absence_proven
        assert looked.doubts
    finally:
        environment = {"HDRS_SLURM_DIR": str(STATE), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        subprocess.run([sys.executable, UP], check=True, env=environment, capture_output=True, timeout=120)
    deadline = time.monotonic() + 60
    while not cluster.find([absent]).absence_proven:
        assert time.monotonic() < deadline, cluster.find([absent]).doubts
        time.sleep(0.5)
    cluster.cancel(job_id)
