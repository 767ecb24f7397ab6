"""Slurm, over SSH to a login node or with the commands of this machine."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import batched
from pathlib import Path
from typing import ClassVar

from connectors.clusters.commands import CommandRunner, CommandTimeoutError, Completed, HereRunner
from connectors.clusters.files import DirectoryFiles, SiteFiles
from connectors.clusters.openssh import OpenSsh
from connectors.clusters.port import (
    MAX_STDIN_BYTES,
    Check,
    ClusterJob,
    ClusterUnreachableError,
    JobPhase,
    JobRequest,
    Lookup,
    RuntimeEnding,
    SiteCommandError,
    StepFailedError,
    SubmissionUncertainError,
    check_job_name,
    check_parts,
    digest_hex,
    step_lines,
)
from connectors.clusters.settings import ClusterSettings
from connectors.clusters.sftp_files import SftpFiles
from connectors.clusters.slurm_commands import (
    KILL_AFTER_S,
    QUERY_LIMIT_S,
    SUBMIT_LIMIT_S,
    SacctCommand,
    SbatchCommand,
    ScancelCommand,
    SdiagCommand,
    SlurmSite,
    SqueueCommand,
    SrunStepCommand,
    launch_argv,
)
from connectors.clusters.slurm_nodes import SinfoCommand
from connectors.clusters.ssh import CommandBrokenOffError, SshRunner
from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.sealing.objects import OBJECT_STORES, ObjectStore, Reach
from hdrs_hpc.sealing.objects.sftp import SftpPool

NAMES_PER_QUERY = 200
"""200 names of 64 characters: far below the 128 KiB that one argument may have."""
ANSWER_MARGIN_S = 15.0


class SlurmCluster:
    """``Cluster`` on Slurm.  Every method is one to three remote commands; no state is kept between them."""

    settle_s: ClassVar[float] = 2.0 * (SUBMIT_LIMIT_S + KILL_AFTER_S)
    """sbatch is killed on the site after SUBMIT_LIMIT_S; as long again for slurmctld to work off what a
    killed sbatch had already sent."""

    def __init__(self, settings: ClusterSettings, project: str) -> None:
        if settings.slurm is None:
            raise InternalError("a Slurm cluster without [slurm]")
        account = settings.account_of(project)
        if account.scratch is None:
            raise InternalError("a Slurm project without scratch")
        self.name = settings.name
        self.settings = settings
        self._scratch = account.scratch
        user = account.user or pwd.getpwuid(os.geteuid()).pw_name
        self.site = SlurmSite(
            bin=settings.slurm.bin,
            conf=settings.slurm.conf,
            partition=settings.slurm.partition,
            qos=settings.slurm.qos,
            account=account.account,
            user=user,
            lookback_days=settings.slurm.lookback_days,
        )
        self._pool: SftpPool | None = None
        if settings.ssh is None:
            self.runner: CommandRunner = HereRunner()
            self._files: SiteFiles = DirectoryFiles(Path(self._scratch))
        else:
            openssh = OpenSsh(settings.ssh, user)
            self.runner = SshRunner(openssh)
            self._pool = SftpPool(openssh.open_session)
            self._files = SftpFiles(self._pool, self.runner, self._scratch)

    def submit(self, request: JobRequest) -> str:
        command = SbatchCommand(self.site, request)
        try:
            done = self.runner.run(
                command.argv(), stdin=command.stdin(), timeout_s=SUBMIT_LIMIT_S + ANSWER_MARGIN_S
            )
        except (CommandBrokenOffError, CommandTimeoutError) as error:
            raise SubmissionUncertainError(error.message) from None
        return command.parse(done)

    def find(self, names: Sequence[str]) -> Lookup:
        jobs: dict[str, list[ClusterJob]] = {check_job_name(name): [] for name in names}
        doubts: list[str] = []
        for some in batched(jobs, NAMES_PER_QUERY):
            # slurmctld's debt to slurmdbd first: what it owes afterwards, squeue still shows.
            doubts += self._debt_to_accounting()
            live = self._squeue(some)
            try:
                recorded = self._sacct(some)
            except SiteCommandError as error:
                recorded = []
                doubts.append(error.message)
            for job in merge(live, recorded):
                if job.name in jobs:
                    jobs[job.name].append(job)
        return Lookup(jobs, absence_proven=not doubts, doubts=tuple(dict.fromkeys(doubts)))

    def _squeue(self, names: tuple[str, ...]) -> list[ClusterJob]:
        command = SqueueCommand(self.site, names)
        try:
            return command.parse(self._query(command.argv()))
        except SiteCommandError as error:
            raise ClusterUnreachableError(error.message) from None

    def _sacct(self, names: tuple[str, ...]) -> list[ClusterJob]:
        command = SacctCommand(self.site, names)
        return command.parse(self._query(command.argv()))

    def _debt_to_accounting(self) -> Iterator[str]:
        command = SdiagCommand(self.site)
        try:
            owed = command.parse(self._query(command.argv()))
        except SiteCommandError as error:
            yield error.message
        else:
            if owed:
                yield f"slurmctld has {owed} records that slurmdbd does not know yet"

    def cancel(self, job_id: str) -> None:
        command = ScancelCommand(self.site, job_id)
        command.parse(self._query(command.argv()))

    def launch_prefix(self, request: JobRequest) -> tuple[str, ...]:
        return launch_argv(self.site, request)

    def run_in_job(
        self,
        job_id: str,
        argv: Sequence[str],
        stdin: bytes,
        nodes: int,
        timeout_s: float,
        node: str | None = None,
    ) -> list[bytes]:
        if len(stdin) > MAX_STDIN_BYTES:
            raise InternalError("a step with too much to say")
        command = SrunStepCommand(self.site, job_id, nodes, tuple(argv), timeout_s, node)
        try:
            done = self.runner.run(
                command.argv(), stdin=stdin, timeout_s=timeout_s + KILL_AFTER_S + ANSWER_MARGIN_S
            )
        except CommandTimeoutError:
            raise StepFailedError(f"no answer within {timeout_s:g} s") from None
        return step_lines(command.parse(done), nodes)

    def _query(self, argv: Sequence[str]) -> Completed:
        return self.runner.run(argv, timeout_s=QUERY_LIMIT_S + ANSWER_MARGIN_S)

    def objects(self, *parts: str) -> ObjectStore:
        return OBJECT_STORES[self.settings.store].open(Reach(self.scratch_path(*parts), self._pool))

    def read_file(self, *parts: str, max_bytes: int) -> bytes | None:
        return self._files.read(check_parts(parts), max_bytes)

    def remove_tree(self, *parts: str) -> int:
        return self._files.remove_tree(check_parts(parts))

    def measure_tree(self, *parts: str) -> tuple[int, int]:
        return self._files.measure_tree(check_parts(parts))

    def list_tree(self, *parts: str) -> list[str]:
        return self._files.list_tree(check_parts(parts))

    def scratch_path(self, *parts: str) -> str:
        return "/".join((self._scratch.rstrip("/"), *check_parts(parts)))

    def install_runtime(self, file: Path, digest: str, ending: RuntimeEnding = "tar") -> None:
        hexes = digest_hex(digest)
        self._files.install(file, ("hdrs-hpc", "runtime", f"{hexes}.{ending}"), hexes)

    def capacity(self) -> Capacity:
        command = SinfoCommand(self.site)
        return command.parse(self._query(command.argv()))

    def doctor(self) -> list[Check]:
        from connectors.clusters.slurm_doctor import examine

        return examine(self)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self.runner.close()


def merge(live: Sequence[ClusterJob], recorded: Sequence[ClusterJob]) -> list[ClusterJob]:
    """One entry a job: slurmctld's word wins while it remembers the job, accounting fills the gaps.

    A job that only accounting knows and that is not over there has left slurmctld: its end has not been
    recorded yet, or never will be.  That is UNKNOWN, not ended and not running.
    """
    known = {job.job_id: job for job in recorded}
    merged = []
    for job in live:
        record = known.pop(job.job_id, None)
        if job.exit_code is None and record is not None and job.phase is JobPhase.ENDED:
            job = replace(job, exit_code=record.exit_code)
        merged.append(job)
    for record in known.values():
        if record.phase is not JobPhase.ENDED:
            record = replace(record, phase=JobPhase.UNKNOWN, reason="known to accounting only")
        merged.append(record)
    return merged
