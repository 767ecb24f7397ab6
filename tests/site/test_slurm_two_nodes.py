"""Nodes that really differ: the launch line and the courier's step reach each of them, once."""

from __future__ import annotations

import pytest

from connectors.clusters.contract import SLEEP, await_phase, request
from connectors.clusters.port import JobPhase, JobRequest, StepFailedError
from connectors.clusters.slurm import SlurmCluster
from hdrs_hpc.core.ids import new_secret_name

pytestmark = pytest.mark.root_parts

WHO = (
    "/bin/sh",
    "-c",
    'IFS= read -r line; printf \'%s %s %s %s\\n\' "$line" "$SLURMD_NODENAME" "$(uname -n)" "$SLURM_NODEID"',
)


def test_a_courier_step_reads_stdin_on_both_nodes_and_brings_both_lines(cluster: SlurmCluster) -> None:
    asked = request(SLEEP, nodes=2, gres="gpu:2")
    job_id = cluster.submit(asked)
    job = await_phase(cluster, asked.name, JobPhase.RUNNING, 60)
    assert job.nodes == ("n1", "n2")
    lines = cluster.run_in_job(job_id, WHO, b"hello\n", 2, 60)
    assert lines == [b"hello n1 n1 0", b"hello n2 n2 1"]
    cluster.cancel(job_id)


def test_long_lines_of_two_nodes_do_not_mix(cluster: SlurmCluster) -> None:
    asked = request(SLEEP, nodes=2)
    job_id = cluster.submit(asked)
    await_phase(cluster, asked.name, JobPhase.RUNNING, 60)
    script = 'i=0; while [ $i -lt 20000 ]; do printf "%s-%s." "$SLURMD_NODENAME" $i; i=$((i+1)); done; echo'
    lines = cluster.run_in_job(job_id, ("/bin/sh", "-c", script), b"", 2, 60)
    for node, line in zip((b"n1", b"n2"), lines, strict=True):
        assert line == b"".join(b"%s-%d." % (node, number) for number in range(20_000))
    cluster.cancel(job_id)


def test_a_step_that_fails_on_one_node_only_fails_as_a_whole(cluster: SlurmCluster) -> None:
    asked = request(SLEEP, nodes=2)
    job_id = cluster.submit(asked)
    await_phase(cluster, asked.name, JobPhase.RUNNING, 60)
    script = '[ "$SLURMD_NODENAME" = n1 ] && echo ok'
    with pytest.raises(StepFailedError):
        cluster.run_in_job(job_id, ("/bin/sh", "-c", script), b"", 2, 60)
    cluster.cancel(job_id)


def test_the_launch_line_starts_one_task_a_node_beside_which_a_courier_finds_room(
    cluster: SlurmCluster,
) -> None:
    shape = request(b"x", nodes=2, gres="gpu:2")
    prefix = " ".join(cluster.launch_prefix(shape))
    folder = shape.name
    there = cluster.scratch_path("contract", folder)
    agent = f"echo $CUDA_VISIBLE_DEVICES > {there}/$SLURMD_NODENAME; exec /bin/sleep 300"
    script = f"/bin/mkdir -p {there}\nexec {prefix} /bin/sh -c '{agent}'\n"
    asked = request(script.encode(), nodes=2, gres="gpu:2")
    job_id = cluster.submit(asked)
    await_phase(cluster, asked.name, JobPhase.RUNNING, 60)
    look = f"while [ ! -s {there}/$SLURMD_NODENAME ]; do /bin/sleep 0.1; done; uname -n"
    assert cluster.run_in_job(job_id, ("/bin/sh", "-c", look), b"", 2, 60) == [b"n1", b"n2"]
    assert cluster.list_tree("contract", folder) == ["n1", "n2"]
    assert cluster.read_file("contract", folder, "n2", max_bytes=100) == b"0,1\n"
    cluster.cancel(job_id)
    await_phase(cluster, asked.name, JobPhase.ENDED, 60)
    cluster.remove_tree("contract", folder)


def test_the_launch_line_ends_when_one_nodes_task_fails(cluster: SlurmCluster) -> None:
    prefix = " ".join(cluster.launch_prefix(request(b"x", nodes=2)))
    task = '[ "$SLURMD_NODENAME" = n2 ] && exit 9; exec /bin/sleep 300'
    asked = request(f"{prefix} /bin/sh -c '{task}'\n".encode(), nodes=2)
    cluster.submit(asked)
    job = await_phase(cluster, asked.name, JobPhase.ENDED, 60)
    assert job.raw_state == "FAILED"
    assert job.exit_code


def test_a_job_step_may_make_a_bubblewrap_sandbox_without_network(cluster: SlurmCluster) -> None:
    asked = request(SLEEP)
    job_id = cluster.submit(asked)
    await_phase(cluster, asked.name, JobPhase.RUNNING, 60)
    sandbox = ("/usr/bin/bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    inside = ("/bin/sh", "-c", "cat /proc/net/dev | grep -c : ; true")
    assert cluster.run_in_job(job_id, (*sandbox, *inside), b"", 1, 60) == [b"1"]
    cluster.cancel(job_id)


def test_the_request_arrives_as_it_was_asked(cluster: SlurmCluster) -> None:
    asked = JobRequest(
        name=new_secret_name("hdrs"),
        script=(
            b"set -e\n"
            b"found=$(/usr/bin/squeue --noheader --jobs=$SLURM_JOB_ID "
            b"--Format=TimeLimit:/,NumNodes:/,MinMemory:/,Requeue:/,OverSubscribe:/,tres-per-node:/)\n"
            b'[ "$found" = "2:05:00/2/300M/0/NO/gres:gpu:1/" ]\n'
            b'[ "$SLURM_CPUS_PER_TASK" = 3 ]\n'
            b"[ $(umask) != 0000 ]\n"
        ),
        nodes=2,
        cpus_per_task=3,
        mem_mb=300,
        gres="gpu:1",
        time_s=2 * 3600 + 4 * 60 + 30,
    )
    cluster.submit(asked)
    job = await_phase(cluster, asked.name, JobPhase.ENDED, 60)
    assert (job.raw_state, job.exit_code, job.nodes) == ("COMPLETED", 0, ("n1", "n2"))
