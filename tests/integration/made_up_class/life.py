"""``python -m tests.integration.made_up_class.life FOLDER``: outputs of a made-up class, from grant to certificate.

Run in a copy of the package that has the class ``tally``; so do keyd, the workers and the checker, which it starts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hdrs_hpc import catalogue
from hdrs_hpc.broker.reading import reviews
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import projects
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from tests.support import proofs
from tests.support.world import World, digest, world

CODE = r"""
def run(context):
    context.output("good").write_text("1\n 2\n3\n")
    context.output("bad").write_text("1\n22\n")
    context.output("disguised").write_text("2\n1\n")
    context.output("returned").write_text("1\n")
"""
REFUSED = {"good": None, "bad": "no-tally", "disguised": "artefact-mistyped", "returned": None}
OUTPUTS = {
    name: {"class": "tally", "path": f"{name}.tally", "max-size": "1KiB", "digits": "many"}
    for name in REFUSED
}


def check_review(w: World, job: str) -> None:
    """What a checker is shown: class, sentences and the bytes that would leave."""
    with w.ctx.db.read() as tx:
        chen = Who("chen", frozenset({"checker"}), "north")
        (line,) = reviews.every(tx, chen)
        shown = {item.name: item for item in reviews.one(tx, chen, line.job).outputs}
        with reviews.artefact(tx, chen, w.home, job, "good").source as opened:
            assert opened.read() == b"1\n2\n3\n"
    assert {name: item.refused for name, item in shown.items()} == REFUSED
    good = shown["good"]
    assert (good.class_, good.media_type) == ("tally", "text/x-tally")
    assert good.report is not None and good.report["sentences"] == ["3 lines written anew."]


def check_release(w: World, job: str) -> None:
    """One artefact left, with a record that verifies; what was returned or refused did not."""
    folder = w.home.released_dir(job)
    assert sorted(path.name for path in folder.iterdir()) == ["good", "good.record.json"]
    assert (folder / "good").read_bytes() == b"1\n2\n3\n"
    root = trust.load_root(w.root_envelope, w.root_digest)
    raw = (folder / "good.record.json").read_bytes()
    record = trust.verify(Envelope.parse(raw), kinds.RELEASE_RECORD, root).document
    assert (record.class_, record.file, record.content) == ("tally", "good.tally", digest(b"1\n2\n3\n"))


def main(folder: Path) -> None:
    with world(folder / "w", folder / "runtime", isolation="sandboxed") as w:
        slides = {"slides": {"dataset": "demo-he"}}
        w.grant(outputs={"reviewers": 2, "metrics": {}})
        ungranted = w.submit_bundle({"mine.py": CODE}, "mine:run", data=slides, outputs=OUTPUTS)
        assert w.run_job(ungranted, "PURGED").outcome == "REFUSED"
        assert "output-class-not-granted" in str(w.job(ungranted)), w.job(ungranted)
        with w.ctx.db.read() as tx:
            before = projects.get(tx, w.project).grant
        w.grant(outputs={"reviewers": 2, "tally": {}}, version=2, supersedes=before)
        job = w.submit_bundle({"mine.py": CODE}, "mine:run", data=slides, outputs=OUTPUTS)
        assert w.run_job(job, "IN_REVIEW", "PURGED").state == "IN_REVIEW", w.describe()
        check_review(w, job)
        w.review(job, {"returned": "return"})
        ended = w.run_job(job, "PURGED")
        assert (ended.outcome, ended.reason) == ("SUCCEEDED", "released"), w.describe()
        check_release(w, job)
        w.close()
        w.run_until(lambda: w.project_state() == "CLOSED", 60)
        proofs.check_closed(w)
    print(f"released from {Path(catalogue.__file__).parent}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
