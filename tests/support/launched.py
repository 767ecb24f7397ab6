"""A workload of a kind run by the launcher as in a sandbox, but without one: folders, a plan, and how it ended."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.catalogue.workloads.plan import Given, Peer, Rendezvous
from hdrs_hpc.core import wire
from hdrs_hpc.node import verdict
from hdrs_hpc.node.launch.plan import PLAN_NAME, Launch
from hdrs_hpc.protocol.certificates import NodeCertificate
from hdrs_hpc.protocol.outputs import WorkloadExit
from tests.support.pacs import free_port


@dataclass(frozen=True)
class Launched:
    """What a workload left: its end as the agent would tell it, and its outputs."""

    ended: WorkloadExit
    out: Path
    printed: str
    """Standard output and error, which go nowhere in a job."""


def launch(
    folder: Path,
    workload: dict[str, Any],
    files: dict[str, str],
    outputs: dict[str, str] | None = None,
    inputs: tuple[str, ...] = (),
    *,
    cpus: int = 2,
    environment: dict[str, str] | None = None,
    timeout_s: float = 240,
    told: dict[str, Any] | None = None,
) -> Launched:
    """Run ``workload`` (as in a signed spec) with the bundle ``files``; ``told`` overwrites what its plan tells."""
    places = {name: folder / name for name in ("bundle", "plan", "report", "out", "tmp")}
    for place in places.values():
        place.mkdir(parents=True)
    for name, text in files.items():
        target = places["bundle"] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        if text.startswith("#!"):
            target.chmod(0o755)
    kind = workloads.KINDS[workload["kind"]]
    given = Given(
        node="n1",
        nodes=(Peer("n1", "127.0.0.1"),),
        first_told=Rendezvous(free_port()).to_bytes(),
        cpus=cpus,
        memory_mb=4096,
        gpus=0,
        certificate=NodeCertificate("", "", ""),
    )
    plan = kind.plan(kind.read(workload), given)
    plan = dataclasses.replace(plan, files={}, told=plan.told | (told or {}))
    written = Launch(
        plan=plan,
        most_threads=0,
        inputs=inputs,
        files={},
        outputs=outputs or {},
        out=str(places["out"]),
        bundle=str(places["bundle"]),
        folder=str(places["plan"]),
        report=str(places["report"]),
        tmp=str(places["tmp"]),
    )
    (places["plan"] / PLAN_NAME).write_bytes(wire.to_bytes(written))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in paths if path),
        "TMPDIR": str(places["tmp"]),
        "HOME": str(places["tmp"]),
        **plan.environment,
        **(environment or {}),
    }
    done = subprocess.run(
        [sys.executable, "-B", "-m", "hdrs_hpc.node.launch", str(places["plan"] / PLAN_NAME)],
        env=env,
        cwd=places["out"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
        check=False,
        start_new_session=True,
    )
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    checked = {name: text.encode() for name, text in files.items()}
    return Launched(
        verdict.judge(code, places["report"], checked), places["out"], done.stdout.decode(errors="replace")
    )
