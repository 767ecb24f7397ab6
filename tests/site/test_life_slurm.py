"""Whole lives on real Slurm over SSH."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hdrs_hpc.broker.store import alerts, jobs, projects
from tests.support import proofs, slurm_site
from tests.support.world import World

pytestmark = [pytest.mark.root_parts, pytest.mark.slow, pytest.mark.timeout(400)]

MakeWorld = Callable[..., World]
TWO_NODES = {"nodes": 2, "cpus-per-task": 1, "mem": "1G", "time": "00:10:00"}
SPANNING = """
import json, socket

def run(context):
    copy = context.data["ct"]
    items = [row["item"] for row in copy.index().to_pylist() if row["kind"] == "volume"]
    where = context.client.run(socket.gethostname)
    workers = list(where)
    futures = [context.client.submit(voxels, item, copy, workers=[workers[n % len(workers)]], pure=False)
               for n, item in enumerate(items)]
    counts = context.client.gather(futures)
    assert all(address.startswith("tls://") for address in workers)
    assert all(hold for _, hold in counts)
    told = {"nodes": len(set(where.values())), "workers": len(workers), "nodes_used": len({h for h, _ in counts})}
    context.output("seen").write_text(json.dumps(told))

def voxels(item, copy):
    return socket.gethostname(), int(copy.volume(item)[:].size)
"""
SEEN = {
    "seen": {
        "class": "metrics",
        "path": "seen.json",
        "measures": ["nodes", "nodes_used", "workers"],
        "max-size": "1KiB",
    }
}


def test_a_life_in_sandboxes_on_slurm(make_slurm_world: MakeWorld) -> None:
    world = make_slurm_world()
    world.grant(limits=world.grant_value()["limits"] | {"isolation": "sandboxed"})
    job = world.submit()
    world.run_job(job, "IN_REVIEW", "PURGED", timeout_s=200)
    assert world.job(job).state == "IN_REVIEW", world.describe()
    assert (world.job(job).decision or {})["isolation"] == "sandboxed"
    world.review(job)
    assert world.run_job(job, "PURGED", timeout_s=60).reason == "released"
    assert len(list(world.home.released_dir(job).iterdir())) == 8
    check_slurm_knows_one_job_of_the_right_account(world, job)
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 90)
    proofs.check_closed(world)


def check_slurm_knows_one_job_of_the_right_account(world: World, job: str) -> None:
    """Slurm's own books, read as root: one job, of the project's account, with nothing but its name to say."""
    with world.ctx.db.read() as tx:
        (attempt,) = jobs.attempts_of(tx, job)
    fields = "JobID,JobName,User,Account,State,NNodes,Comment,SubmitLine,WorkDir"
    lines = sacct(f"--name={attempt.name}", "-X", f"--format={fields}")
    assert len(lines) == 1
    job_id, name, user, account, state, nodes, comment, line, folder = lines[0]
    assert (job_id, name) == (attempt.cluster_job_id, attempt.name)
    assert (user, account) == (slurm_site.project("lung-demo")["user"], "lung-demo")
    assert (state, nodes, comment) == ("COMPLETED", "1", "")
    for words in ("okafor", "cohort", job, "summary"):
        assert words not in line + folder


def sacct(*arguments: str) -> list[list[str]]:
    command = ["sacct", "--noheader", "-P", "--allusers", "--starttime=now-1hour", *arguments]
    environment = {"SLURM_CONF": slurm_site.conf(), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    return [line.split("|") for line in done.stdout.splitlines()]


def test_dask_over_two_nodes_runs_at_cooperative_and_says_so(make_slurm_world: MakeWorld) -> None:
    world = make_slurm_world()
    world.grant()
    data = {"ct": {"dataset": "demo-ct-mr"}}
    job = world.submit_bundle({"mine.py": SPANNING}, "mine:run", data=data, outputs=SEEN, resources=TWO_NODES)
    world.run_job(job, "IN_REVIEW", "PURGED", timeout_s=200)
    assert world.job(job).state == "IN_REVIEW", world.describe()
    assert (world.job(job).decision or {})["isolation"] == "cooperative"
    assert {e["isolation"] for e in proofs.details(world, "attempt-created")} == {"cooperative"}
    world.review(job)
    assert world.run_job(job, "PURGED", timeout_s=60).reason == "released"
    seen = (world.home.released_dir(job) / "seen").read_text()
    assert '"nodes": 2' in seen and '"nodes_used": 2' in seen, seen
    bound = [e.subject["node"] for e in proofs.entries(world) if e.event == "handover-bound"]
    assert sorted(bound) == ["n1", "n2"]
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 90)
    proofs.check_closed(world)


def test_two_nodes_where_the_grant_asks_for_a_sandbox_are_refused(make_slurm_world: MakeWorld) -> None:
    world = make_slurm_world()
    world.grant(limits=world.grant_value()["limits"] | {"isolation": "sandboxed"})
    job = world.run_job(world.submit(resources=TWO_NODES), "PURGED", timeout_s=20)
    assert (job.outcome, job.reason) == ("REFUSED", "isolation-insufficient")
    own: dict[str, Any] = world.grant_value()["workloads"] | {"own-code": "project"}
    other = world.grant_value(
        version=2, supersedes=grant_in_force(world), workloads=own, limits=world.grant_value()["limits"]
    )
    world.file("grant", other, "abara", "bell")
    unread = world.submit_bundle({"mine.py": SPANNING}, "mine:run", outputs=SEEN, resources=TWO_NODES)
    ended = world.run_job(unread, "PURGED", timeout_s=20)
    assert ended.reason == "isolation-insufficient", "code that nobody reviewed runs in sandboxes only"


def grant_in_force(world: World) -> str:
    with world.ctx.db.read() as tx:
        return projects.get(tx, world.project).grant


SUMMARY = {"class": "metrics", "path": "summary.json", "max-size": "64KiB"}
UNREACHABLE = {"cluster-unreachable", "site-command-broken-off", "site-command-failed", "object-transfer"}


def alerts_of(world: World) -> set[str]:
    with world.ctx.db.read() as tx:
        return {alert.code for alert in alerts.every(tx)}


class Line:
    """The network between broker and site: a relay that can be down and up again on the same port."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._ends: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self.up()

    def up(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        ends, self._ends = [self._listener, *self._ends], []
        for end in ends:
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    def _relay(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


def test_an_unreachable_cluster_is_waited_for(make_slurm_world: MakeWorld) -> None:
    """The line to the site goes down while the data are staged, and again while the job runs."""
    line = Line(slurm_site.port())
    world = make_slurm_world(port=line.port)
    world.grant()
    job = world.submit(data={"slides": {"dataset": "demo-he"}}, outputs={"summary": SUMMARY})
    world.run_until(lambda: world.job(job).state == "STAGING", 20)
    line.down()
    world.run_until(lambda: bool(alerts_of(world) & UNREACHABLE), 90)
    assert world.job(job).state in ("STAGING", "QUEUED")
    line.up()
    world.run_until(lambda: world.job(job).state == "RUNNING", 90)
    line.down()
    world.run_until(lambda: bool(alerts_of(world) & UNREACHABLE), 90)
    assert world.job(job).state == "RUNNING", "no answer is no end"
    line.up()
    assert world.run_job(job, "IN_REVIEW", "PURGED", timeout_s=200).state == "IN_REVIEW", world.describe()
    assert not alerts_of(world) & UNREACHABLE
    world.review(job)
    assert world.run_job(job, "PURGED", timeout_s=60).reason == "released"
    assert set(proofs.cluster_jobs(world).values()) == {1}
    line.down()
    world.close()
    world.run_until(lambda: bool(alerts_of(world) & UNREACHABLE), 90)
    assert world.project_state() == "CLOSING", "the certificate waits for the cluster"
    assert proofs.live_keys(world) == ["deid"], "and the keys to what lies there did not"
    line.up()
    world.run_until(lambda: world.project_state() == "CLOSED", 120)
    proofs.check_closed(world)
