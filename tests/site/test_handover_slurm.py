"""Who can reach an agent that waits for its keys on real Slurm: a step inside its own job, and nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.clusters import JobPhase, StepFailedError, StepRefusedError
from connectors.clusters.contract import await_phase, request
from connectors.clusters.slurm import SlurmCluster
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import jobs
from hdrs_hpc.broker.store.jobs import Attempt
from hdrs_hpc.core import wire
from hdrs_hpc.protocol import handover, layout
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.root_parts, pytest.mark.slow, pytest.mark.timeout(400)]

HELLO = wire.to_line(handover.Request("hello"))
QUICK = {"mine.py": "def run(context):\n    context.output('t').write_text('{\"share\": 0.25}')\n"}
TABLE = {"t": {"class": "metrics", "path": "t.json", "max-size": "1KiB"}}
SLEEP = b"exec /bin/sleep 600\n"


class Waiting:
    """An attempt whose agent waits: the broker's couriers are held back until ``go``."""

    def __init__(self, world: World) -> None:
        self.world = world
        cluster = world.ctx.cluster(world.cluster, world.project)
        assert isinstance(cluster, SlurmCluster)
        self.cluster = cluster
        self._real = cluster.run_in_job
        self.argv: tuple[str, ...] = ()

    def submit(self) -> None:
        def held(*_: Any) -> list[bytes]:
            raise StepFailedError("held back")

        self.cluster.run_in_job = held  # type: ignore[method-assign]  # until ``go``
        world = self.world
        self.job = world.submit_bundle(
            QUICK, "mine:run", data={"slides": {"dataset": "demo-he"}}, outputs=TABLE
        )
        world.run_job(self.job, "RUNNING", "PURGED", timeout_s=120)
        self.argv = layout.courier_argv(world.ctx.cluster_settings(world.cluster).node_tmp, self.attempt.name)
        world.run_until(lambda: self.says_hello(), 60)

    def go(self) -> None:
        self.cluster.run_in_job = self._real  # type: ignore[method-assign]  # as it was

    @property
    def attempt(self) -> Attempt:
        with self.world.ctx.db.read() as tx:
            return jobs.attempts_of(tx, self.job)[-1]

    def courier(self, cluster: SlurmCluster, job_id: str) -> handover.Reply:
        """A courier to this attempt's agent, sent by ``cluster``'s account into job ``job_id``."""
        run = self._real if cluster is self.cluster else cluster.run_in_job
        (line,) = run(job_id, self.argv, HELLO, 1, 60)
        return handover.parse_reply(line)

    def says_hello(self) -> bool:
        try:
            return self.courier(self.cluster, self.attempt.cluster_job_id or "").hello is not None
        except StepFailedError:
            return False

    def nothing_given(self) -> bool:
        told = [e.event for e in proofs.entries(self.world) if e.subject.get("attempt") == self.attempt.name]
        return not any(event.startswith("handover") for event in told)


@pytest.fixture(scope="module")
def waiting(make_slurm_world: Callable[..., World]) -> Iterator[Waiting]:
    world = make_slurm_world()
    world.grant()
    made = Waiting(world)
    made.submit()
    yield made
    made.go()


def test_a_step_in_its_own_job_reaches_the_agent(waiting: Waiting) -> None:
    reply = waiting.courier(waiting.cluster, waiting.attempt.cluster_job_id or "")
    assert reply.hello is not None
    assert (reply.hello.attempt, reply.state) == (waiting.attempt.name, "waiting")
    assert reply.hello.node in ("n1", "n2")


def test_another_account_gets_no_step_into_the_job(waiting: Waiting, stranger: SlurmCluster) -> None:
    with pytest.raises(StepRefusedError):
        waiting.courier(stranger, waiting.attempt.cluster_job_id or "")
    assert waiting.nothing_given()


def test_another_account_on_the_same_machine_does_not_reach_the_agents_socket(
    waiting: Waiting, stranger: SlurmCluster
) -> None:
    """Both nodes of the throw-away cluster share /tmp: what keeps the stranger out is the folder's mode alone."""
    node = waiting.courier(waiting.cluster, waiting.attempt.cluster_job_id or "").node
    tmp = waiting.world.ctx.cluster_settings(waiting.world.cluster).node_tmp
    folder = layout.node_folder(tmp, waiting.attempt.name, node)
    seen = waiting.cluster.runner.run(("/bin/ls", folder), timeout_s=30)
    assert b"agent.sock" in seen.stdout
    for command in (("/bin/ls", folder), ("/bin/cat", f"{folder}/agent.sock")):
        done = stranger.runner.run(command, timeout_s=30)
        assert (done.returncode != 0, done.stdout) == (True, b"")
        assert b"Permission denied" in done.stderr


def test_a_courier_in_the_strangers_own_job_finds_no_agent(waiting: Waiting, stranger: SlurmCluster) -> None:
    asked = request(SLEEP)
    job_id = stranger.submit(asked)
    await_phase(stranger, asked.name, JobPhase.RUNNING, 60)
    try:
        with pytest.raises(StepFailedError):
            waiting.courier(stranger, job_id)
    finally:
        stranger.cancel(job_id)
        await_phase(stranger, asked.name, JobPhase.ENDED, 60)
    assert waiting.nothing_given()


def test_a_courier_on_the_wrong_node_finds_no_agent(waiting: Waiting) -> None:
    """The same account, another job on the other node: each node's agent is known by the node's name."""
    asked = request(SLEEP)
    job_id = waiting.cluster.submit(asked)
    other = await_phase(waiting.cluster, asked.name, JobPhase.RUNNING, 60)
    mine = waiting.courier(waiting.cluster, waiting.attempt.cluster_job_id or "").node
    assert other.nodes
    assert mine not in other.nodes, "allocations are exclusive"
    try:
        with pytest.raises(StepFailedError):
            waiting.courier(waiting.cluster, job_id)
    finally:
        waiting.cluster.cancel(job_id)
        await_phase(waiting.cluster, asked.name, JobPhase.ENDED, 60)
    assert waiting.nothing_given()


def test_a_finished_job_gets_no_courier_and_no_key(waiting: Waiting) -> None:
    """Last: the attempt is cancelled at the cluster while its agent waits, then the broker comes."""
    job_id = waiting.attempt.cluster_job_id or ""
    waiting.cluster.cancel(job_id)
    await_phase(waiting.cluster, waiting.attempt.name, JobPhase.ENDED, 60)
    with pytest.raises(StepRefusedError):
        waiting.courier(waiting.cluster, job_id)
    waiting.go()
    ended = waiting.world.run_job(waiting.job, "PURGED", timeout_s=120)
    assert ended.outcome == "FAILED"
    assert waiting.nothing_given()
    held = waiting.world.ctx.ask(m.Inspect(waiting.world.project)).live
    assert waiting.attempt.name not in {key.holder for key in held}
