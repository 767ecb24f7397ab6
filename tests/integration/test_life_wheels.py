"""Whole lives of jobs that bring packages along: one of Python alone, and a compiled one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.store import artefacts
from hdrs_hpc.core import strict_json
from tests.support import proofs
from tests.support.wheels import build
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SLIDES = {"slides": {"dataset": "demo-he"}}
METRICS = {"class": "metrics", "max-size": "1KiB", "path": "t.json"}
CODE = """
import sys
from pathlib import Path

def answer(_):
    import tiny
    return tiny.ANSWER

def run(context):
    import numpy
    import pydantic_core
    import tiny
    wheels, bundle = Path(tiny.__file__).parent, Path(__file__).parent
    places = [Path(place) for place in sys.path]
    installed = Path(numpy.__file__).parent.parent
    checks = [
        tiny.ANSWER == 42,
        pydantic_core.from_json(b"[1, 2]") == [1, 2],
        places.index(installed) < places.index(wheels) < places.index(bundle),
        context.client.submit(answer, 0).result() == 42,
        not list(wheels.rglob("*.whl")),
        not (wheels / "tiny.conf").exists(),
    ]
    context.output("t").write_text('{"share": %f}' % (sum(checks) / len(checks) / 4))
"""


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world()
    made.grant()
    return made


def compiled() -> tuple[str, bytes]:
    """A wheel with a shared library: a package of this environment that no flavour holds."""
    found = metadata.distribution("pydantic-core")
    files = {
        str(file): Path(str(file.locate())).read_bytes()
        for file in found.files or ()
        if file.parts[0] == "pydantic_core" and file.suffix in (".py", ".so")
    }
    return build("pydantic-core", found.version, files, tag="cp313-cp313-manylinux_2_17_x86_64")


def pure() -> tuple[str, bytes]:
    return build(files={"tiny.py": b"ANSWER = 42\n", "tiny-1.0.data/data/tiny.conf": b""})


def submit(world: World, brought: list[tuple[str, bytes]], code: str = CODE, **resources: Any) -> str:
    asked = {"nodes": 1, "cpus-per-task": 1, "mem": "2G", "time": "00:10:00"}
    return world.submit_bundle(
        {"mine.py": code},
        "mine:run",
        brought,
        data=SLIDES,
        outputs={"t": METRICS},
        resources=asked | resources,
    )


def test_packages_that_came_along_are_imported_and_the_job_lives_to_its_end(world: World) -> None:
    job = submit(world, [pure(), compiled()])
    world.run_job(job, "IN_REVIEW")
    with world.ctx.db.read() as tx:
        (found,) = artefacts.of_job(tx, job)
    assert found.refused is None
    assert strict_json.loads((world.home.artefacts_dir(job) / "t").read_bytes()) == {"share": 0.25}
    world.review(job)
    assert world.run_job(job, "PURGED").outcome == "SUCCEEDED"


def test_a_wheel_whose_bytes_changed_at_the_broker_starts_no_workload(world: World) -> None:
    """Whoever rules the broker's disk can swap a file; the node asks the lock that was signed."""
    file, raw = build("swapped", "1.0", {"swapped.py": b"GOOD = True\n"})
    _, evil = build("swapped", "1.0", {"swapped.py": b"GOOD = None\n"})
    job = submit(
        world, [(file, raw)], "def run(context):\n    context.output('t').write_text('{\"share\": 0.25}')\n"
    )
    for stored in (world.home.root / "files").iterdir():
        if stored.read_bytes() == raw:
            stored.unlink()
            stored.write_bytes(evil)
    ended = world.run_job(job, "PURGED")
    assert (ended.outcome, ended.reason) == ("FAILED", "agent-stopped-wheels-refused")


def test_after_this_the_project_closes_and_its_certificate_verifies(world: World) -> None:
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)
