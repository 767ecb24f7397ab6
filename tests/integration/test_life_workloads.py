"""Workloads that misbehave, in one project of one world: what people learn, and that nothing else gets out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hdrs_hpc.broker.filing import cancellation
from hdrs_hpc.broker.store import artefacts, jobs
from hdrs_hpc.protocol import layout
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SLIDES = {"slides": {"dataset": "demo-he"}}
COLUMNS = {"arm": {"key": ["all"]}, "n": {"count": "patients"}}
TABLE = {"class": "table", "columns": COLUMNS, "max-size": "1KiB"}
METRICS = {"class": "metrics", "max-size": "1KiB"}


ENDLESS = """
import os, time
def run(context):
    context.output("t").write_text('{"share": 0.25}')
    if os.fork() == 0:
        os.setsid()
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world()
    made.grant()
    return made


@pytest.fixture(scope="module", autouse=True)
def endless(world: World) -> str:
    """Begun first and looked at last: a run time is at least a minute."""
    return run(world, ENDLESS, {"t": METRICS | {"path": "t.json"}}, time="00:01:00")


def run(
    world: World, code: str, outputs: dict[str, Any], *, time: str = "00:10:00", parallel: int = 1
) -> str:
    resources = {"nodes": 1, "cpus-per-task": parallel, "mem": "2G", "time": time}
    return world.submit_bundle(
        {"mine.py": code}, "mine:run", data=SLIDES, outputs=outputs, resources=resources
    )


def table(path: str) -> dict[str, Any]:
    return TABLE | {"path": path}


SECRET = "WHITECHAPEL-0451"
CRASHING = f"""
class StainTooPale(Exception):
    pass

def run(context):
    secret = "{SECRET}"
    raise StainTooPale(secret, context.data["slides"].index().to_pylist())
"""


def test_a_crash_tells_type_and_own_line_and_nothing_else(world: World) -> None:
    job = run(world, CRASHING, {"t": table("t.csv")})
    ended = world.run_job(job, "PURGED")
    assert (ended.outcome, ended.reason) == ("FAILED", "workload-failed")
    assert ended.detail == {
        "ending": "crashed",
        "exit-code": 1,
        "signal": None,
        "exception-type": "StainTooPale",
        "bundle-line": {"file": "mine.py", "line": 7},
        "memory": None,
    }
    (told,) = [e for e in proofs.entries(world) if e.event == "attempt-ended" and e.subject["job"] == job]
    assert told.detail == {
        "result": "workload-failed",
        "exit-code": 1,
        "exception": "StainTooPale",
        "line": 7,
    }
    for log in world.home.logs_dir.rglob("*"):
        assert SECRET.encode() not in log.read_bytes()
    with world.ctx.db.read() as tx:
        assert artefacts.of_job(tx, job) == []


@pytest.mark.parametrize(
    ("code", "exception", "line"),
    [("x = 1\ndef run(:\n    pass\n", "SyntaxError", 2), ("x = 1\n", "EntryError", 1)],
)
def test_code_that_can_not_begin_tells_its_file_and_line(
    world: World, code: str, exception: str, line: int
) -> None:
    job = run(world, code, {"t": table("t.csv")})
    ended = world.run_job(job, "PURGED")
    assert (ended.outcome, ended.reason) == ("FAILED", "workload-failed")
    assert ended.detail is not None
    assert ended.detail["exception-type"] == exception
    assert ended.detail["bundle-line"] == {"file": "mine.py", "line": line}


ODD_OUTPUTS = """
import os
def run(context):
    out = context.output("good").parent
    (out / "good.json").write_text('{"share": 0.25}')
    (out / "undeclared.csv").write_text("arm,n\\nall,40\\n")
    (out / "large.csv").write_text("arm,n\\n" + "all,40\\n" * 500)
    (out / "mistyped.csv").write_bytes(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(200))
    (out / "pickled.json").write_bytes(b"\\x80\\x04\\x95" + bytes(40))
    (out / "linked.csv").symlink_to("undeclared.csv")
    os.link(out / "undeclared.csv", out / "hard.csv")
    os.mkfifo(out / "fifo.csv")
"""


def test_odd_outputs_are_refused_by_name_and_the_good_one_goes_on(world: World) -> None:
    names = ("large", "mistyped", "linked", "hard", "fifo", "absent")
    outputs = {name: table(f"{name}.csv") for name in names}
    outputs |= {name: METRICS | {"path": f"{name}.json"} for name in ("good", "pickled")}
    job = run(world, ODD_OUTPUTS, outputs)
    assert world.run_job(job, "IN_REVIEW", "PURGED").state == "IN_REVIEW", world.describe()
    with world.ctx.db.read() as tx:
        found = {item.name: item.refused for item in artefacts.of_job(tx, job)}
    assert found == {
        "good": None,
        "large": "output-too-large",
        "mistyped": "artefact-mistyped",
        "linked": "output-not-regular",
        "hard": "output-linked",
        "fifo": "output-not-regular",
        "absent": "output-missing",
        "pickled": "artefact-type-refused",
    }
    assert [path.name for path in world.home.artefacts_dir(job).iterdir()] == ["good"]
    world.review(job, {"good": "refuse"})
    ended = world.run_job(job, "PURGED")
    assert (ended.outcome, ended.reason) == ("SUCCEEDED", "withheld")
    assert not world.home.released_dir(job).exists()


def test_one_dissenting_reviewer_withholds(world: World) -> None:
    good = "def run(context):\n    context.output('t').write_text('{\"share\": 0.25}')\n"
    job = run(world, good, {"t": METRICS | {"path": "t.json"}})
    assert world.run_job(job, "IN_REVIEW", "PURGED").state == "IN_REVIEW", world.describe()
    world.file("output-decision", world.decision_value(job, {}), "chen")
    other = world.decision_value(job, {})
    other["decisions"][0]["rebuilt"] = "sha256:" + "5" * 64
    assert proofs.refusal(lambda: world.file("output-decision", other, "dunne")) == [
        "decision-for-other-content"
    ]
    world.file("output-decision", world.decision_value(job, {"t": "return"}), "dunne")
    assert world.run_job(job, "PURGED").reason == "withheld"
    assert not world.home.released_dir(job).exists()


def test_a_researcher_cancels_a_running_job(world: World) -> None:
    job = run(world, "import time\ndef run(context):\n    time.sleep(600)\n", {"t": table("t.csv")})
    world.run_until(lambda: phase(world, job) == "running", 60)
    cancellation.request(world.ctx.db, "okafor", job)
    ended = world.run_job(job, "PURGED", timeout_s=30)
    assert (ended.outcome, ended.reason) == ("CANCELLED", "cancelled")
    name = attempt_of(world, job)
    assert proofs.processes_naming(name) == []
    assert (
        world.ctx.cluster("local", world.project).list_tree(*layout.attempt_parts(world.project, name)) == []
    )


def phase(world: World, job: str) -> str | None:
    with world.ctx.db.read() as tx:
        attempts = jobs.attempts_of(tx, job)
    return (attempts[-1].progress or {}).get("phase") if attempts else None


def test_what_never_ends_is_ended_by_its_time_limit_and_shows_nothing(world: World, endless: str) -> None:
    ended = world.run_job(endless, "PURGED")
    assert (ended.outcome, ended.reason) == ("FAILED", "time-limit")
    with world.ctx.db.read() as tx:
        assert artefacts.of_job(tx, endless) == [], "unfinished outputs are nobody's result"
    assert proofs.processes_naming(attempt_of(world, endless)) == []


def attempt_of(world: World, job: str) -> str:
    with world.ctx.db.read() as tx:
        return jobs.attempts_of(tx, job)[-1].name


def test_after_all_of_this_the_project_closes_and_its_certificate_verifies(world: World) -> None:
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)
    assert set(proofs.cluster_jobs(world).values()) == {1}
    assert proofs.events(world)["copy-sealed"] == 1, "one copy served them all"
