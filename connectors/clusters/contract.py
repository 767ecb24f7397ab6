"""What every ``Cluster`` must do, as tests: subclass :class:`ClusterContract` in a test module.

The subclass gives a fixture ``cluster`` (the cluster under test) and, if there is one, ``stranger`` (the same
cluster as another project).  Needs pytest; nothing else imports this module.
"""

from __future__ import annotations

import hashlib
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from connectors.clusters.port import (
    Cluster,
    ClusterJob,
    JobPhase,
    JobRequest,
    StepFailedError,
    StepRefusedError,
    SubmissionRefusedError,
    UnsafePathError,
)
from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.core.ids import new_secret_name

ECHO = (
    "/bin/sh",
    "-c",
    'read -r line; printf \'%s|%s|%s\\n\' "$line" "$SLURM_JOB_ID" "$SLURMD_NODENAME"',
)
SLEEP = b"exec /bin/sleep 300\n"


def request(script: bytes, *, nodes: int = 1, time_s: int = 600, gres: str | None = None) -> JobRequest:
    return JobRequest(
        name=new_secret_name("hdrs"),
        script=script,
        nodes=nodes,
        cpus_per_task=1,
        mem_mb=64,
        gres=gres,
        time_s=time_s,
    )


def await_phase(
    cluster: Cluster, name: str, wanted: JobPhase, timeout_s: float, state: str | None = None
) -> ClusterJob:
    """Poll until the one job of that name is in that phase; fails with what was seen last."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = cluster.find([name]).jobs[name]
        assert len(found) <= 1, "a name must never stand for two jobs"
        if found and found[0].phase is wanted and (state is None or found[0].raw_state == state):
            return found[0]
        assert time.monotonic() < deadline, f"not {wanted} in {timeout_s} s, but {found}"
        time.sleep(0.2)


class ClusterContract:
    """Behaviour that the broker builds on; the time limits suit a slow two-core machine."""

    patience_s: ClassVar[float] = 60.0

    @pytest.fixture
    def run_job(self, cluster: Cluster) -> Callable[[JobRequest], ClusterJob]:
        def run(asked: JobRequest) -> ClusterJob:
            cluster.submit(asked)
            return await_phase(cluster, asked.name, JobPhase.ENDED, self.patience_s)

        return run

    @pytest.fixture
    def sleeping(self, cluster: Cluster) -> ClusterJob:
        asked = request(SLEEP)
        cluster.submit(asked)
        return await_phase(cluster, asked.name, JobPhase.RUNNING, self.patience_s)

    def test_a_name_never_submitted_is_proven_absent(self, cluster: Cluster) -> None:
        name = new_secret_name("hdrs")
        looked = cluster.find([name])
        assert looked.jobs == {name: []}
        assert looked.absence_proven, looked.doubts

    def test_a_job_is_found_by_name_as_soon_as_submit_returns(self, cluster: Cluster) -> None:
        asked = request(SLEEP)
        job_id = cluster.submit(asked)
        (job,) = cluster.find([asked.name]).jobs[asked.name]
        assert (job.job_id, job.name) == (job_id, asked.name)
        assert job.phase in (JobPhase.PENDING, JobPhase.RUNNING)
        assert job.submit_time
        cluster.cancel(job_id)

    def test_several_names_are_looked_up_at_once(self, cluster: Cluster, sleeping: ClusterJob) -> None:
        other = new_secret_name("hdrs")
        looked = cluster.find([sleeping.name, other])
        assert [job.name for job in looked.jobs[sleeping.name]] == [sleeping.name]
        assert looked.jobs[other] == []
        cluster.cancel(sleeping.job_id)

    def test_the_nodes_told_have_room_for_the_jobs_of_this_suite(self, cluster: Cluster) -> None:
        told = cluster.capacity()
        assert told.nodes_where(lambda kind: kind.cpus >= 1 and kind.mem_mb >= request(SLEEP).mem_mb) >= 1
        assert told.max_time_s is None or told.max_time_s >= request(SLEEP).time_s
        assert told.max_nodes is None or told.max_nodes >= 1

    def test_gpus_that_no_node_is_told_to_have_are_refused_at_submission(self, cluster: Cluster) -> None:
        told = cluster.capacity()
        more = next(n for n in range(1, 10_000) if not any(kind.gives(f"gpu:{n}") for kind in told.kinds))
        asked = request(SLEEP, gres=f"gpu:{more}")
        with pytest.raises(SubmissionRefusedError):
            cluster.submit(asked)
        assert all(job.phase is JobPhase.ENDED for job in cluster.find([asked.name]).jobs[asked.name])

    def test_a_script_that_succeeds_ends_with_exit_code_0(
        self, run_job: Callable[[JobRequest], ClusterJob]
    ) -> None:
        job = run_job(request(b"exit 0\n"))
        assert (job.raw_state, job.exit_code) == ("COMPLETED", 0)

    def test_a_script_that_fails_ends_with_its_exit_code(
        self, run_job: Callable[[JobRequest], ClusterJob]
    ) -> None:
        job = run_job(request(b"exit 7\n"))
        assert (job.raw_state, job.exit_code) == ("FAILED", 7)

    def test_the_script_sees_nothing_of_the_brokers_environment(
        self,
        cluster: Cluster,
        run_job: Callable[[JobRequest], ClusterJob],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("HDRS_CANARY", "1882-03-04T05:06:07.891011")
        assert run_job(request(b'[ -z "${HDRS_CANARY}" ] && [ -n "${SLURM_JOB_ID}" ]\n')).exit_code == 0

    def test_a_heredoc_reaches_the_script_whole(self, run_job: Callable[[JobRequest], ClusterJob]) -> None:
        script = textwrap.dedent("""\
            #!/bin/sh
            read -r first <<'END'
            a'b"c $d `e` \\f
            END
            [ "$first" = "a'b\\"c \\$d \\`e\\` \\\\f" ]
            """)
        assert run_job(request(script.replace("read -r", "IFS= read -r").encode())).exit_code == 0

    def test_cancel_ends_a_running_job_and_may_be_repeated(
        self, cluster: Cluster, sleeping: ClusterJob
    ) -> None:
        cluster.cancel(sleeping.job_id)
        job = await_phase(cluster, sleeping.name, JobPhase.ENDED, self.patience_s)
        assert job.raw_state == "CANCELLED"
        cluster.cancel(sleeping.job_id)

    def test_cancel_of_a_job_that_never_was_is_no_error(self, cluster: Cluster) -> None:
        cluster.cancel("999999999")

    def test_a_step_gets_all_of_stdin_and_gives_one_line(
        self, cluster: Cluster, sleeping: ClusterJob
    ) -> None:
        (line,) = cluster.run_in_job(sleeping.job_id, ECHO, b"to the node\n", 1, 60)
        assert line.split(b"|") == [b"to the node", sleeping.job_id.encode(), sleeping.nodes[0].encode()]
        cluster.cancel(sleeping.job_id)

    def test_a_step_carries_a_large_message_both_ways(self, cluster: Cluster, sleeping: ClusterJob) -> None:
        message = hashlib.sha512(b"seed").hexdigest().encode() * 4096
        assert len(message) == 1 << 19
        (line,) = cluster.run_in_job(sleeping.job_id, ("/bin/cat",), message + b"\n", 1, 60)
        assert line == message
        cluster.cancel(sleeping.job_id)

    def test_a_steps_arguments_are_never_read_by_a_shell(
        self, cluster: Cluster, sleeping: ClusterJob
    ) -> None:
        nasty = "$(/bin/true) `id` ; * \" ' \\ &"
        (line,) = cluster.run_in_job(sleeping.job_id, ("/bin/echo", nasty), b"", 1, 60)
        assert line == nasty.encode()
        cluster.cancel(sleeping.job_id)

    def test_a_step_that_fails_says_so_and_hides_its_stderr(
        self, cluster: Cluster, sleeping: ClusterJob
    ) -> None:
        argv = ("/bin/sh", "-c", "echo PATIENT-1882 >&2; exit 3")
        with pytest.raises(StepFailedError) as caught:
            cluster.run_in_job(sleeping.job_id, argv, b"", 1, 60)
        assert "PATIENT" not in str(caught.value)
        cluster.cancel(sleeping.job_id)

    def test_a_step_that_says_too_little_or_too_much_fails(
        self, cluster: Cluster, sleeping: ClusterJob
    ) -> None:
        for argv in (("/bin/true",), ("/bin/echo", "two\nlines")):
            with pytest.raises(StepFailedError):
                cluster.run_in_job(sleeping.job_id, argv, b"", 1, 60)
        cluster.cancel(sleeping.job_id)

    def test_a_step_that_hangs_ends_at_its_time_limit(self, cluster: Cluster, sleeping: ClusterJob) -> None:
        began = time.monotonic()
        with pytest.raises(StepFailedError):
            cluster.run_in_job(sleeping.job_id, ("/bin/sleep", "300"), b"", 1, 2)
        assert time.monotonic() - began < 30
        cluster.cancel(sleeping.job_id)

    def test_a_finished_job_admits_no_step(
        self, cluster: Cluster, run_job: Callable[[JobRequest], ClusterJob]
    ) -> None:
        job = run_job(request(b"exit 0\n"))
        with pytest.raises(StepRefusedError):
            cluster.run_in_job(job.job_id, ("/bin/echo", "in"), b"", 1, 60)

    def test_unsafe_names_never_get_to_the_cluster(self, cluster: Cluster) -> None:
        for name in ("a b", "a,b", "a;b", "-a", "A" * 10, "a\nb", "", "../a", "a" * 65):
            with pytest.raises(InternalError):
                cluster.find([name])
        for part in ("..", "a/b", "", ".hidden", "a\0b", "a\nb"):
            with pytest.raises(InternalError):
                cluster.scratch_path("x", part)

    def test_objects_lie_below_scratch_and_are_written_once(self, cluster: Cluster) -> None:
        folder = new_secret_name("copy")
        store = cluster.objects("contract", folder)
        store.put("one", b"0123456789")
        assert store.get("one", 2, 3) == b"234"
        assert store.size("one") == 10
        assert list(cluster.objects("contract", folder).list()) == ["one"]
        assert cluster.list_tree("contract", folder) == ["one"]
        assert cluster.measure_tree("contract", folder) == (1, 10)
        assert cluster.read_file("contract", folder, "one", max_bytes=10) == b"0123456789"
        assert cluster.remove_tree("contract", folder) == 1
        assert cluster.list_tree("contract", folder) == []

    def test_missing_things_read_as_missing(self, cluster: Cluster) -> None:
        missing = new_secret_name("none")
        assert cluster.read_file("contract", missing, "file", max_bytes=10) is None
        assert cluster.list_tree("contract", missing) == []
        assert cluster.measure_tree("contract", missing) == (0, 0)
        assert cluster.remove_tree("contract", missing) == 0

    def test_a_file_larger_than_expected_is_not_read(self, cluster: Cluster) -> None:
        folder = new_secret_name("large")
        cluster.objects("contract", folder).put("big", b"x" * 100)
        with pytest.raises(UnsafePathError):
            cluster.read_file("contract", folder, "big", max_bytes=99)
        cluster.remove_tree("contract", folder)

    def test_links_planted_by_a_job_are_removed_and_never_followed(
        self, cluster: Cluster, run_job: Callable[[JobRequest], ClusterJob]
    ) -> None:
        folder, outside = new_secret_name("tree"), new_secret_name("keep")
        cluster.objects("contract", outside).put("precious", b"stays")
        there = cluster.scratch_path("contract", folder)
        away = cluster.scratch_path("contract", outside)
        script = (
            f"set -e\n/bin/mkdir -p {there}/a/b\n/bin/ln -s {away} {there}/a/link\n"
            f"/bin/ln -s {away}/precious {there}/file\necho x > {there}/a/b/real\n"
        )
        assert run_job(request(script.encode())).exit_code == 0
        assert cluster.list_tree("contract", folder) == ["a/", "a/b/", "a/b/real", "a/link", "file"]
        files, size = cluster.measure_tree("contract", folder)
        assert files == 3 and 2 <= size < 10_000, "links count as what they are, not as what they lead to"
        with pytest.raises(UnsafePathError):
            cluster.read_file("contract", folder, "file", max_bytes=100)
        with pytest.raises(UnsafePathError):
            cluster.read_file("contract", folder, "a", "link", "precious", max_bytes=100)
        with pytest.raises(UnsafePathError):
            cluster.remove_tree("contract", folder, "a", "link")
        assert cluster.remove_tree("contract", folder) == 3
        assert cluster.read_file("contract", outside, "precious", max_bytes=100) == b"stays"
        cluster.remove_tree("contract", outside)

    def test_the_runtime_is_installed_once_and_mended_when_damaged(
        self, cluster: Cluster, run_job: Callable[[JobRequest], ClusterJob], tmp_path: Path
    ) -> None:
        file = tmp_path / "runtime.tar"
        file.write_bytes(new_secret_name("runtime").encode() * 30_000)
        hexes = hashlib.sha256(file.read_bytes()).hexdigest()
        for _ in range(2):
            cluster.install_runtime(file, f"sha256:{hexes}")
        there = cluster.scratch_path("hdrs-hpc", "runtime", f"{hexes}.tar")
        check = f'echo "{hexes}  {there}" | /usr/bin/sha256sum -c\n'
        assert run_job(request(check.encode())).exit_code == 0
        assert run_job(request(f"echo damage >> {there}\n".encode())).exit_code == 0
        assert run_job(request(check.encode())).exit_code != 0
        cluster.install_runtime(file, f"sha256:{hexes}")
        assert run_job(request(check.encode())).exit_code == 0
        assert [name for name in cluster.list_tree("hdrs-hpc", "runtime") if name.startswith("part-")] == []
        assert run_job(request(f"/bin/rm {there}\n".encode())).exit_code == 0

    def test_a_healthy_cluster_passes_its_own_doctor(
        self, cluster: Cluster, run_job: Callable[[JobRequest], ClusterJob], tmp_path: Path
    ) -> None:
        file = tmp_path / "runtime.tar"
        file.write_bytes(b"not a real one, which this check does not ask for")
        hexes = hashlib.sha256(file.read_bytes()).hexdigest()
        cluster.install_runtime(file, f"sha256:{hexes}")
        assert [check for check in cluster.doctor() if not check.ok] == []
        there = cluster.scratch_path("hdrs-hpc", "runtime", f"{hexes}.tar")
        assert run_job(request(f"/bin/rm {there}\n".encode())).exit_code == 0

    def test_another_project_finds_none_of_our_jobs(
        self, cluster: Cluster, stranger: Cluster, sleeping: ClusterJob
    ) -> None:
        assert stranger.find([sleeping.name]).jobs == {sleeping.name: []}
        with pytest.raises(StepRefusedError):
            stranger.run_in_job(sleeping.job_id, ECHO, b"let me in\n", 1, 60)
        stranger.cancel(sleeping.job_id)
        assert cluster.find([sleeping.name]).jobs[sleeping.name][0].phase is JobPhase.RUNNING
        cluster.cancel(sleeping.job_id)
