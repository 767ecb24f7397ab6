"""``python -m tests.integration.made_up_kind.life FOLDER``: a job from ``spec new`` to the certificate.

Run in a copy of the package that has the kind; so do keyd, the workers and the node, which it starts.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from hdrs_hpc import catalogue
from hdrs_hpc.broker.store import documents
from hdrs_hpc.cli.spec import spec
from hdrs_hpc.core import clock
from hdrs_hpc.documents.models.job_spec import JobSpecDraft
from hdrs_hpc.documents.schema import generate
from hdrs_hpc.documents.unfilled import PURPOSE
from hdrs_hpc.protocol import bundle
from tests.support import proofs, uploading
from tests.support.world import World, world

CONTEXT = """\
[context]
trust-root = "trust-root.json"
grant = "grant.json"
registrations = ["demo-ct-mr.json", "demo-he.json"]
code-approvals = [{approvals}]
person = "okafor"
[cluster]
name = "{cluster}"
isolation = "cooperative"
nodes = 1
"""


def typed(*words: object, fails: int = 0) -> str:
    """What ``hdrs-hpc spec`` prints."""
    done = CliRunner().invoke(spec, [str(word) for word in words])
    assert done.exit_code == fails, (words, done.output, done.exception)
    return done.output


def begin(w: World, desk: Path) -> None:
    """The project, and on the researcher's desk the documents that a spec is checked against."""
    outputs = {"reviewers": 2, "metrics": {}}
    grant = w.signed("grant", w.grant_value(outputs=outputs), "abara", "bell")
    w.file_raw(grant)
    (desk / "grant.json").write_bytes(grant)
    (desk / "trust-root.json").write_bytes(w.root_envelope)
    with w.ctx.db.read() as tx:
        for name, accepted in zip(w.versions, documents.of_kind(tx, "dataset-registration"), strict=True):
            (desk / f"{name}.json").write_bytes(accepted.raw)
    (desk / "hdrs-hpc.toml").write_text(CONTEXT.format(approvals="", cluster=w.cluster))


def review_code(w: World, desk: Path) -> None:
    """The code beside the spec is sent, and a reviewer answers for it."""
    code = bundle.pack(desk / "code")
    approval = {
        "schema": "hdrs-hpc/code-approval/1",
        "project": w.project,
        "bundle": bundle.digest(code),
        "reviewer": "chen",
        "statement": "Read it; it does what its purpose says.",
        "at": clock.to_text(clock.now()),
    }
    approved = w.signed("code-approval", approval, "chen")
    w.file_raw(approved)
    (desk / "approval.json").write_bytes(approved)
    uploading.bring(w.ctx.db, w.ctx.home, w.project, "okafor", code)
    (desk / "hdrs-hpc.toml").write_text(CONTEXT.format(approvals='"approval.json"', cluster=w.cluster))


def released(w: World, folder: Path, kind: str) -> list[Any]:
    """What comes out of the example of a kind, as ``spec new`` writes it and with its purpose filled in."""
    desk = folder / kind
    desk.mkdir()
    for document in folder.glob("*.*"):
        shutil.copy(document, desk)
    file = desk / "first.yaml"
    typed("new", file, "--kind", kind)
    text = file.read_text().replace(PURPOSE, "See what is there")
    file.write_text(
        text.replace("cpus-per-task: 4", "cpus-per-task: 1")
        .replace("mem: 8G", "mem: 2G")
        .replace("mem: 16G", "mem: 10G")
    )
    review_code(w, desk)
    typed("check", file)
    typed("sign", file, "--key", w.key("okafor"), "--yes")
    job = w.file_raw((desk / "first.yaml.signed.json").read_bytes()).job
    assert job is not None
    assert w.run_job(job, "IN_REVIEW", "PURGED", timeout_s=240).state == "IN_REVIEW", w.describe()
    w.review(job)
    ended = w.run_job(job, "PURGED")
    assert (ended.outcome, ended.reason) == ("SUCCEEDED", "released"), w.describe()
    files = w.home.released_dir(job).glob("*")
    return [json.loads(path.read_bytes()) for path in files if not path.name.endswith(".record.json")]


def main(folder: Path) -> None:
    assert "ScriptDraftWorkload" in generate(JobSpecDraft)["$defs"]
    desk = folder / "desk"
    desk.mkdir()
    with world(folder / "w", folder / "runtime") as w:
        begin(w, desk)
        assert released(w, desk, "script") == [{"n_patients": 10, "n_series": 20, "share": 0.75}]
        wrong = desk / "script/wrong.yaml"
        wrong.write_text((desk / "script/first.yaml").read_text().replace("mine.py", "mine.sh"))
        findings = json.loads(typed("check", wrong, "--json", fails=3))["findings"]
        assert [(found["code"], found["where"]) for found in findings] == [("bad-entry", "workload.file")]
        print(released(w, desk, "dask"))
        w.close()
        w.run_until(lambda: w.project_state() == "CLOSED", 60)
        proofs.check_closed(w)
    print(f"released from {Path(catalogue.__file__).parent}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
