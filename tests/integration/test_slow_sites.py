"""One site hangs and another is dead: jobs of a third, projects and reviews go on in their usual time."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker import heartbeats
from hdrs_hpc.broker.filing import cancellation
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import alerts, jobs, transition
from tests.support import proofs
from tests.support.trials import wait_until
from tests.support.world import PATIENCE, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL: dict[str, Any] = {
    "data": {"slides": {"dataset": "demo-he"}},
    "outputs": {"summary": {"class": "metrics", "path": "summary.json", "max-size": "64KiB"}},
}
HANGS_S = 8
WAY_TO_THE_QUEUE = ("RECEIVED", "ADMITTED", "STAGING", "QUEUED")


@contextmanager
def controller(world: World) -> Iterator[subprocess.Popen[bytes]]:
    with (world.home.logs_dir / "controller.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hdrs_hpc.broker.controller.loop", "--home", str(world.home.root)],
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def add_hanging_site(world: World, hangs_s: int = HANGS_S) -> Path:
    """A Slurm whose squeue hangs; gives the file in which each call of a program is a line, squeue's end too."""
    programs, calls = world.root / "slow-bin", world.root / "calls"
    programs.mkdir()
    calls.touch()
    (programs / "hangs-s").write_text(str(hangs_s))
    for name in ("squeue", "sacct", "sdiag", "scancel", "sbatch"):
        script = f"echo {name} $* >> {calls}\n"
        if name == "squeue":
            script += f"sleep $(cat {programs}/hangs-s)\necho over >> {calls}\n"
        (programs / name).write_text(f"#!/bin/sh\n{script}exit 1\n")
        (programs / name).chmod(0o755)
    scratch = world.root / "slow-scratch"
    scratch.mkdir(mode=0o700)
    (world.home.clusters_dir / "slow.toml").write_text(
        f'name = "slow"\ntype = "slurm"\nisolation = "cooperative"\n[slurm]\nbin = "{programs}"\n'
        f'[projects.{world.project}]\nscratch = "{scratch}"\n'
    )
    return calls


def add_dead_site(world: World, port: int) -> None:
    """A login node that takes connections and never says a word."""
    public = world.key("bell").with_suffix(".pub").read_text().split()
    (world.home.clusters_dir / "dead.toml").write_text(
        'name = "dead"\ntype = "slurm"\nisolation = "cooperative"\n[slurm]\n'
        f'[ssh]\nhost = "127.0.0.1"\nport = {port}\nhost-key = "{public[0]} {public[1]}"\n'
        f'identity = "{world.key("abara")}"\nconnect-timeout-s = 10\n'
        f'[projects.{world.project}]\nuser = "nobody"\nscratch = "/scratch/nobody"\n'
    )


def queue_at(world: World, cluster: str) -> str:
    """A job that waits in a cluster's queue."""
    job = world.submit(**SMALL)
    with world.ctx.db.write() as tx:
        subject = jobs.get(tx, job).subject
        for old, new in itertools.pairwise(WAY_TO_THE_QUEUE):
            transition.move(
                tx, "job", subject, old, new, **({"cluster": cluster} if old == "RECEIVED" else {})
            )
        attempt = jobs.new_attempt(tx, job)
        jobs.note_attempt(tx, attempt.name, cluster_job_id="4711")
    return job


def called(calls: Path, program: str) -> int:
    """How often a program was called, or squeue (``over``) came to its end."""
    return sum(line.split()[0] == program for line in calls.read_text().splitlines())


def run_one(world: World) -> tuple[str, float]:
    """A job of the well cluster until it waits for review, and the seconds that it took."""
    began = time.monotonic()
    job = world.submit(**SMALL)
    wait_until(lambda: world.job(job).state in ("IN_REVIEW", "PURGED"), 180, world.describe)
    assert world.job(job).state == "IN_REVIEW", world.describe()
    return job, time.monotonic() - began


def alert_of(world: World, job: str) -> str | None:
    with world.ctx.db.read() as tx:
        found = alerts.find(tx, f"job/{job}")
    return found.code if found else None


def test_a_site_that_hangs_and_one_that_is_dead_cost_only_their_own_jobs(make_world) -> None:
    world = make_world()
    world.grant()
    calls = add_hanging_site(world)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        add_dead_site(world, deaf.getsockname()[1])
        with controller(world):
            run_one(world)  # stages the copy
            _, usual_s = run_one(world)
        waiting = [queue_at(world, site) for site in ("slow", "dead") for _ in range(5)]
        with controller(world):
            began = time.monotonic()
            wait_until(lambda: all(alert_of(world, job) for job in waiting), 60, world.describe)
            told_s = time.monotonic() - began
            job, took_s = run_one(world)
            began = time.monotonic()
            world.review(job)
            wait_until(lambda: world.job(job).state == "PURGED", 60, world.describe)
            reviewed_s = time.monotonic() - began
            lived_s = time.monotonic() - began + took_s + told_s
            beats = {beat.cluster: beat.stale for beat in heartbeats.clusters(world.home)}
        print(
            f"usual {usual_s:.1f} s, beside two bad sites {took_s:.1f} s, released in {reviewed_s:.1f} s; "
            f"all ten jobs told their trouble after {told_s:.1f} s"
        )
        assert took_s < 2 * usual_s + HANGS_S, "one look at the hanging site by its five jobs takes 40 s"
        assert reviewed_s < 30
        assert called(calls, "squeue") <= lived_s / HANGS_S + 2, "asked once a tick, not once a job"
        assert beats == {"local": False, "slow": False, "dead": False}
        assert {alert_of(world, job) for job in waiting} == {"cluster-unreachable"}
        assert proofs.events(world)["artefact-released"] == 1


def test_a_cancelled_job_loses_its_keys_while_its_site_hangs(make_world) -> None:
    world = make_world()
    world.grant()
    calls = add_hanging_site(world, hangs_s=30)
    cancelled, frozen = queue_at(world, "slow"), queue_at(world, "slow")
    with world.ctx.db.write() as tx:
        transition.move(tx, "job", jobs.get(tx, frozen).subject, "QUEUED", "RUNNING")
        attempts = {job: jobs.attempts_of(tx, job)[-1].name for job in (cancelled, frozen)}
    for name in attempts.values():
        world.ctx.ask(m.CreateKey(world.project, "output", name, None, None))

    def keys_of(job: str) -> bool:
        return any(key.holder == attempts[job] for key in world.ctx.ask(m.Inspect(world.project)).live)

    def took_away(job: str) -> bool:
        return world.job(job).state == "PURGING" and not keys_of(job)

    with controller(world):
        wait_until(lambda: called(calls, "squeue") == 1, 60, world.describe)
        assert keys_of(cancelled)
        took_s = {}
        for job, end in (
            (cancelled, lambda: cancellation.request(world.ctx.db, "okafor", cancelled)),
            (frozen, lambda: world.close("freeze")),
        ):
            began = time.monotonic()
            end()
            wait_until(lambda job=job: took_away(job), 20, world.describe)
            took_s[job] = time.monotonic() - began
        assert (called(calls, "squeue"), called(calls, "over")) == (1, 0), "the loop of the site still waits"
        print(f"cancelled {took_s[cancelled]:.1f} s, frozen {took_s[frozen]:.1f} s after it was asked for")
        assert max(took_s.values()) < 5 * PATIENCE
        (world.root / "slow-bin" / "hangs-s").write_text("1")
        wait_until(lambda: called(calls, "scancel") >= 2, 60, world.describe)
    assert "scancel" in calls.read_text()
    assert "4711" in calls.read_text().partition("scancel")[2].splitlines()[0]
    assert {world.job(job).reason for job in attempts} == {"cancelled", "project-frozen"}
    assert {world.job(job).state for job in attempts} == {"PURGING"}, (
        "the site has not said that they are over"
    )


def test_a_controller_whose_site_hangs_for_too_long_says_where_and_ends_itself(make_world) -> None:
    world = make_world()
    world.grant()
    add_hanging_site(world, hangs_s=70)
    job = queue_at(world, "slow")
    settings = world.home.settings_file
    settings.write_text(f"hang-limit-s = 5.0\n{settings.read_text()}")
    with controller(world) as process:
        wait_until(lambda: process.poll() is not None, 60, world.describe)
    assert process.returncode == 70, "while its squeue would take longer"
    told = (world.home.logs_dir / "controller.log").read_text()
    assert "cluster/slow: hangs for" in told
    assert f"in SubmitStep of job/{job}" in told
    assert "in observe" in told, "each thread's lines of code"


def test_a_controller_whose_own_loop_hangs_says_where_and_ends(make_world) -> None:
    world = make_world()
    world.grant()
    settings = world.home.settings_file
    settings.write_text(f"hang-limit-s = 5.0\n{settings.read_text()}")
    assert world.keyd is not None
    with controller(world) as process:
        wait_until(lambda: heartbeats.controller(world.home) is not None, 60, world.describe)
        world.keyd.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: process.poll() is not None, 30, world.describe)
        finally:
            world.keyd.send_signal(signal.SIGCONT)
    told = (world.home.logs_dir / "controller.log").read_text()
    assert process.returncode == 1
    assert "broker/keyd/client.py" in told, "what it waited for"
    assert "broker/controller/loop.py" in told
