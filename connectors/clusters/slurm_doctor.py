"""What ``hdrs-hpc cluster doctor`` tries on a Slurm site: each check stands alone and names its remedy."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from connectors.clusters.commands import Completed
from connectors.clusters.port import (
    Check,
    HostKeyMismatchError,
    JobRequest,
    SiteCommandError,
)
from connectors.clusters.slurm_commands import (
    QUERY_LIMIT_S,
    SacctCommand,
    SbatchCommand,
    SdiagCommand,
    SlurmSite,
)
from hdrs_hpc.catalogue.isolation import WEAKEST, is_contained
from hdrs_hpc.confined import table
from hdrs_hpc.core.errors import SiteError
from hdrs_hpc.core.ids import new_secret_name

if TYPE_CHECKING:
    from connectors.clusters.slurm import SlurmCluster

PROGRAMS = ("sbatch", "squeue", "sacct", "scancel", "srun", "sdiag", "sinfo")
TOOLS = ("/usr/bin/sha256sum", "/usr/bin/tar", "/usr/bin/timeout")
MIN_FREE_BYTES = 1 << 30
MIN_FREE_INODES = 1000
MAX_CLOCK_SKEW_S = 30.0
_LIMIT_S = 60.0


def examine(cluster: SlurmCluster) -> list[Check]:
    """All checks that make sense; without a connection only the first."""
    reach = _reach(cluster)
    if not reach.ok:
        return [reach]
    checks: tuple[Callable[[SlurmCluster], Check], ...] = (
        _commands,
        _tools,
        _accounting,
        _submission,
        _nodes,
        _scratch_mode,
        _scratch_room,
        _clock,
        _runtime,
        _sandbox,
        _memory,
        _fuse,
    )
    return [reach, *(check(cluster) for check in checks)]


def _reach(cluster: SlurmCluster) -> Check:
    try:
        done = _run(cluster, "/usr/bin/id", "-un")
    except HostKeyMismatchError as error:
        return Check("reach", False, error.message, error.remedy)
    except SiteError as error:
        remedy = "Check host, port, user and identity in [ssh], and that the site's firewall lets us in."
        return Check("reach", False, error.message, remedy)
    found = done.stdout.decode("ascii", "replace").strip()
    if found != cluster.site.user:
        return Check(
            "reach",
            False,
            f"we are {found!r}",
            f"Give the project the user {found!r}, or log in as {cluster.site.user}.",
        )
    return Check("reach", True, f"logged in as {found}")


def _commands(cluster: SlurmCluster) -> Check:
    versions = set()
    try:
        for program in PROGRAMS:
            command = VersionCommand(cluster.site, program)
            versions.add(command.parse(cluster.runner.run(command.argv(), timeout_s=_LIMIT_S)))
    except SiteError as error:
        remedy = "Set `bin` in [slurm] to the folder of sbatch, and `conf` if the site needs SLURM_CONF."
        return Check("slurm-commands", False, error.message, remedy)
    return Check("slurm-commands", True, f"Slurm {', '.join(sorted(versions))}")


def _tools(cluster: SlurmCluster) -> Check:
    missing = [tool for tool in TOOLS if _run(cluster, "/usr/bin/test", "-x", tool).returncode != 0]
    if missing:
        return Check(
            "tools", False, f"missing {', '.join(missing)}", "Have the site install coreutils and tar."
        )
    return Check("tools", True, "sha256sum, tar and timeout are there")


def _accounting(cluster: SlurmCluster) -> Check:
    name = new_secret_name("hdrs")
    remedy = "Without accounting a lost submission can't be told from none: have slurmdbd started."
    try:
        sacct = SacctCommand(cluster.site, (name,))
        sacct.parse(cluster.runner.run(sacct.argv(), timeout_s=_LIMIT_S))
        sdiag = SdiagCommand(cluster.site)
        owed = sdiag.parse(cluster.runner.run(sdiag.argv(), timeout_s=_LIMIT_S))
    except SiteError as error:
        return Check("accounting", False, error.message, remedy)
    if owed:
        return Check("accounting", False, f"slurmctld waits to tell slurmdbd {owed} records", remedy)
    return Check("accounting", True, "slurmdbd answers and is up to date")


def _submission(cluster: SlurmCluster) -> Check:
    name = new_secret_name("hdrs")
    request = JobRequest(name, b"exit 0\n", cluster.settings.max_nodes, 1, 256, None, 60)
    command = SbatchCommand(cluster.site, request, only_test=True)
    done = cluster.runner.run(command.argv(), stdin=command.stdin(), timeout_s=_LIMIT_S)
    if done.returncode == 0:
        return Check("submission", True, f"{cluster.site.user} may submit jobs of {request.nodes} nodes")
    remedy = (
        "Compare partition, qos, account and max-nodes with `sacctmgr show assoc` and `scontrol show part`."
    )
    return Check("submission", False, done.complaint, remedy)


def _nodes(cluster: SlurmCluster) -> Check:
    try:
        told = cluster.capacity()
    except SiteError as error:
        remedy = "Compare `partition` with `sinfo`; without an answer specs are not compared with the nodes."
        return Check("nodes", False, error.message, remedy)
    kinds = (
        f"{kind.nodes} with {kind.cpus} CPUs, {kind.mem_mb} MB, {', '.join(kind.gres) or 'no GPU'}"
        for kind in told.kinds
    )
    return Check("nodes", True, "; ".join(kinds))


def _scratch_mode(cluster: SlurmCluster) -> Check:
    path = cluster.scratch_path()
    done = _run(cluster, "/usr/bin/stat", "--format=%F|%a|%U", "--", path)
    words = done.stdout.decode("utf-8", "replace").strip()
    if words == f"directory|700|{cluster.site.user}":
        return Check("scratch-mode", True, "scratch is 0700 and ours")
    remedy = f"On the site, as {cluster.site.user}: mkdir -p {path} && chmod 0700 {path}"
    return Check("scratch-mode", False, words or done.complaint, remedy)


def _scratch_room(cluster: SlurmCluster) -> Check:
    done = _run(
        cluster, "/usr/bin/stat", "--file-system", "--format=%a %S %d %c", "--", cluster.scratch_path()
    )
    remedy = "Make room on scratch, or have the quota raised."
    try:
        blocks, block_bytes, inodes, all_inodes = (int(word) for word in done.stdout.split())
    except ValueError:
        return Check("scratch-room", False, done.complaint, remedy)
    free = blocks * block_bytes
    text = f"{free >> 20} MiB and {inodes} inodes free"
    if free < MIN_FREE_BYTES or (all_inodes and inodes < MIN_FREE_INODES):
        return Check("scratch-room", False, f"only {text}", remedy)
    return Check("scratch-room", True, text)


def _clock(cluster: SlurmCluster) -> Check:
    before = time.time()
    done = _run(cluster, "/usr/bin/date", "+%s.%N")
    after = time.time()
    remedy = "Have the clocks of broker and site set by NTP: keys and specs carry times."
    try:
        there = float(done.stdout)
    except ValueError:
        return Check("clock", False, done.complaint, remedy)
    skew = max(before - there, there - after, 0.0)
    if skew > MAX_CLOCK_SKEW_S:
        return Check("clock", False, f"the clocks differ by {skew:.0f} s", remedy)
    return Check("clock", True, f"the clocks differ by less than {skew + after - before + 0.1:.1f} s")


def _runtime(cluster: SlurmCluster) -> Check:
    found = [name for name in cluster.list_tree("hdrs-hpc", "runtime") if name.endswith(".tar")]
    if found:
        return Check("runtime", True, f"{len(found)} node runtime(s) installed")
    return Check("runtime", False, "no node runtime is installed", "Run: hdrs-hpc cluster install")


def _sandbox(cluster: SlurmCluster) -> Check:
    if not is_contained(cluster.settings.isolation):
        return Check("sandbox", True, f"not needed at isolation `{cluster.settings.isolation}`")
    complaint = ""
    for row in table.giving("node", cluster.settings.isolation):
        name = row.provider.name
        for command in row.provider.trials():
            done = _run(cluster, *command)
            if done.returncode == 0 and row.tried:
                return Check("sandbox", True, f"{name} works here; each job probes its own nodes again")
            if done.returncode == 0:
                text = f"{name} is here, which this version never ran: untried; each job probes its own nodes"
                return Check("sandbox", True, text)
            complaint = complaint or done.complaint
    remedy = f"Have bubblewrap installed and user namespaces allowed, on the nodes too; or say `{WEAKEST}`."
    return Check("sandbox", False, complaint or "no sandbox works on the login node", remedy)


def _memory(cluster: SlurmCluster) -> Check:
    """Tried on a node: a step that takes four times its memory must not come to its end."""
    command = MemoryTrialCommand(cluster.site)
    done = cluster.runner.run(command.argv(), timeout_s=_LIMIT_S)
    found = command.parse(done)
    if found == "killed":
        return Check("memory", True, "the kernel ended a step that took more than its --mem")
    if found == "free":
        remedy = (
            "Have TaskPlugin=task/cgroup in slurm.conf and ConstrainRAMSpace=yes, ConstrainSwapSpace=yes in "
            "cgroup.conf on the nodes. Until then agents only watch memory, and a job can take its node down."
        )
        text = f"a step of {command.mem_mb} MiB took {command.taken_mb} MiB on a node and nothing stopped it"
        return Check("memory", False, text, remedy)
    remedy = "Run `cluster doctor` again when a node is free; the trial takes one CPU for a second."
    return Check("memory", False, f"could not be tried: {done.complaint or done.returncode}", remedy)


def _fuse(cluster: SlurmCluster) -> Check:
    """Tried on a node: without FUSE a job unpacks what it runs on, which takes seconds and memory."""
    done = cluster.runner.run(FuseTrialCommand(cluster.site).argv(), timeout_s=_LIMIT_S)
    if done.returncode == 0:
        return Check("fuse", True, "an account may open /dev/fuse on a node: flavours are mounted")
    text = f"/dev/fuse can't be opened on a node: {done.complaint or done.returncode}; flavours are unpacked"
    remedy = (
        "Have the module `fuse` loaded on the nodes, and /dev/fuse of its usual mode 0666 and among the devices that "
        "a job may use. Until then each job unpacks its flavour into its memory."
    )
    return Check("fuse", False, text, remedy)


def _run(cluster: SlurmCluster, *argv: str) -> Completed:
    return cluster.runner.run(("/usr/bin/env", "-i", *argv), timeout_s=_LIMIT_S)


@dataclass(frozen=True)
class VersionCommand:
    """``sbatch --version``: whether the commands are there at all."""

    site: SlurmSite
    program: str

    def argv(self) -> tuple[str, ...]:
        return self.site.argv(QUERY_LIMIT_S, self.program, "--version")

    def parse(self, done: Completed) -> str:
        found = re.fullmatch(rb"slurm[a-z-]* ([0-9][0-9.a-z-]*)\s*", done.stdout)
        if done.returncode != 0 or found is None:
            raise SiteCommandError(f"{self.program}: {done.complaint or done.returncode}")
        return found.group(1).decode("ascii")


def _on_a_node(site: SlurmSite, mem_mb: int, script: str) -> tuple[str, ...]:
    """srun of a shell on any node, where one is free within half a minute."""
    placement = [f"--partition={site.partition}"] if site.partition else []
    placement += [f"--account={site.account}"] if site.account else []
    placement += [f"--qos={site.qos}"] if site.qos else []
    words = ("--immediate=30", "--nodes=1", "--ntasks=1", f"--mem={mem_mb}M", "--time=1", "--chdir=/")
    step = (*words, *placement, "--mpi=none", "--quiet", "/bin/sh", "-c", script)
    return site.argv(QUERY_LIMIT_S, "srun", *step)


@dataclass(frozen=True)
class FuseTrialCommand:
    """srun of one step that opens /dev/fuse as an agent does."""

    site: SlurmSite

    def argv(self) -> tuple[str, ...]:
        return _on_a_node(self.site, 64, ": <> /dev/fuse")


@dataclass(frozen=True)
class MemoryTrialCommand:
    """srun of one step that asks for ``mem_mb`` and takes ``taken_mb``: whether the nodes hold it to that."""

    site: SlurmSite
    mem_mb: int = 64
    taken_mb: int = 256

    def argv(self) -> tuple[str, ...]:
        half = (self.taken_mb << 20) // 2
        # tail keeps all that it may have to print: the last so many bytes of twice as many.
        script = f"/usr/bin/head -c {2 * half} /dev/zero | /usr/bin/tail -c {2 * half} | /usr/bin/wc -c"
        return _on_a_node(self.site, self.mem_mb, script)

    def parse(self, done: Completed) -> Literal["killed", "free", "unknown"]:
        if done.stdout.strip() == str(self.taken_mb << 20).encode():
            return "free"
        # The step began: what the kernel killed left wc with less, or Slurm ended the step for it.
        memory = re.search(rb"oom-kill|Out Of Memory|OUT_OF_MEMORY", done.stderr, re.IGNORECASE)
        return "killed" if memory or re.fullmatch(rb"[0-9]+\s*", done.stdout) else "unknown"
