"""The desk where documents are filed: a database and a keyd in this process, people with keys, no cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.filing import accept, opt_out_change, trust_root
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.keyd import Keyd
from hdrs_hpc.broker.store import artefacts, documents, log, opt_outs, transition
from hdrs_hpc.broker.store.artefacts import Artefact
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.store.schema import metadata
from hdrs_hpc.core import clock, ids
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.opt_out_ids import OptOutIds
from hdrs_hpc.policy.rules import PolicyRefusedError
from tests.support.party import GRANT, ONES, OTHERS, REGISTRATION, SPEC, TWOS, Party

PROJECT = GRANT["project"]


class Desk:
    def __init__(self, folder: Path) -> None:
        self.home = BrokerHome(folder)
        self.home.make_folders()
        self.db = Database(self.home.database)
        self.db.migrate()
        self.keyd = Keyd.open(self.home)
        self.party = Party()
        self.now = clock.now()

    def ask[R](self, request: m.Ask[R]) -> R:
        return self.keyd.answer(request)

    def begin(self) -> Desk:
        """Root pinned, dataset registered, grant in force."""
        self.pin()
        self.file("dataset-registration", REGISTRATION, "ada", "bob")
        self.file("opt-out-change", self.opt_out(["A1"]), "ada")
        self.file("grant", self.grant(), "ada", "bob")
        return self

    def opt_out(self, patients: Iterable[str] = (), action: str = "add", **changes: Any) -> dict[str, Any]:
        """A change that follows what is in force; its ids are brought into the data zone."""
        dataset = changes.get("dataset", REGISTRATION["name"])
        brought, _ = opt_out_change.put_ids(self.db, self.home, OptOutIds.new(patients).to_bytes(), dataset)
        with self.db.read() as tx:
            said = opt_outs.of_dataset(tx, dataset)
        value = OTHERS["opt-out-change"][1] | {
            "dataset": dataset,
            "version": len(said) + 1,
            "action": action,
            "ids": brought.digest,
            "nonce": ids.new_id(26),
            "at": clock.to_text(self.now),
        }
        value |= {"supersedes": said[-1].document} if said else {}
        value |= {} if action == "add" else {"reason": "Confirmed by the opt-out office."}
        return value | changes

    def pin(self) -> None:
        lines = self.ask(m.SigningKeys()).lines
        keys = {"broker-keys": {kind: [line] for kind, line in lines.items()}}
        self.root = self.party.sign("trust-root", self.party.root_value() | keys, "ada", "bob")
        trust_root.accept_first(self.db, self.ask, self.root.to_bytes(), self.root.digest)

    # --- documents of today

    def grant(self, **changes: Any) -> dict[str, Any]:
        valid = {
            "from": clock.to_text(self.now - timedelta(days=1)),
            "run-until": clock.to_text(self.now + timedelta(days=30)),
            "review-grace": "14d",
            "destroy-by": clock.to_text(self.now + timedelta(days=60)),
        }
        return GRANT | {"valid": valid} | changes

    def spec(self, **changes: Any) -> dict[str, Any]:
        return (
            SPEC
            | {
                "nonce": ids.new_id(26),
                "not-before": clock.to_text(self.now - timedelta(hours=1)),
                "expires": clock.to_text(self.now + timedelta(days=1)),
                "trust-root": self.root.digest,
            }
            | changes
        )

    def sign(self, kind: str, value: Any, *people: Any) -> Envelope:
        return self.party.sign(kind, value, *people)

    def file(self, kind: str, value: Any, *people: Any) -> accept.Receipt:
        return self.take(self.sign(kind, value, *people).to_bytes())

    def take(self, raw: bytes) -> accept.Receipt:
        return accept.accept(self.db, self.ask, raw, home=self.home)

    def every_kind(self) -> dict[str, Envelope]:
        """One document of each kind that people file, each acceptable as it stands (a decision needs a review)."""
        made = clock.to_text(self.now)
        job = self.job_in_review()
        root = {**self.party.root_value(version=2, supersedes=self.root.digest)}
        root["broker-keys"] = {kind: [line] for kind, line in self.ask(m.SigningKeys()).lines.items()}
        second = self.grant(version=2, supersedes=self.in_force("grant"), title="Second")
        return {
            "trust-root": self.sign("trust-root", root, "ada", "bob"),
            "dataset-registration": self.sign(
                "dataset-registration", REGISTRATION | {"name": "north-lung-ct"}, "ada", "bob"
            ),
            "grant": self.sign("grant", second, "ada", "bob"),
            "code-approval": self.sign("code-approval", OTHERS["code-approval"][1] | {"at": made}, "di"),
            "job-spec": self.sign("job-spec", self.spec(), "rae"),
            "output-decision": self.sign("output-decision", self.decision(job), "cy"),
            "opt-out-change": self.sign("opt-out-change", self.opt_out(["B2"]), "ada"),
            "closure": self.sign("closure", OTHERS["closure"][1] | {"at": made}, "ada"),
        }

    def in_force(self, kind: str) -> str:
        with self.db.read() as tx:
            return documents.of_kind(tx, kind)[-1].digest

    def job_in_review(self) -> str:
        """A job whose one artefact waits for the reviewers."""
        job = self.file("job-spec", self.spec(), "rae").job
        assert job is not None
        path = ("RECEIVED", "ADMITTED", "STAGING", "QUEUED", "RUNNING", "COLLECTING", "IN_REVIEW")
        with self.db.write() as tx:
            for old, new in pairwise(path):
                transition.move(tx, "job", {"project": PROJECT, "job": job}, old, new)
            for name in ("cohort", "spacing"):
                artefacts.put(
                    tx,
                    Artefact(
                        job,
                        name,
                        "table",
                        "text/csv",
                        9,
                        ONES,
                        "f.csv",
                        {},
                        TWOS,
                        None,
                        ids.new_id(26),
                        None,
                        None,
                    ),
                )
        return job

    def decision(self, job: str, **verdict: Any) -> dict[str, Any]:
        one = {"rebuilt": ONES, "report": TWOS, "verdict": "approve", "reason": "Fine."} | verdict
        return {
            "schema": "hdrs-hpc/output-decision/1",
            "project": PROJECT,
            "job": job,
            "nonce": ids.new_id(26),
            "decisions": [{"artefact": name, **one} for name in ("cohort", "spacing")],
        }

    # --- what is there

    def entries(self) -> list[Entry]:
        with self.db.read() as tx:
            return [Entry.from_bytes(raw) for raw in log.entries(tx)]

    def contents(self) -> dict[str, list[Any]]:
        """Every row of every table but the log, its tree and its checkpoints."""
        with self.db.read() as tx:
            return {
                table.name: [tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key))]
                for table in metadata.sorted_tables
                if table.name not in ("log", "log_nodes", "checkpoints")
            }

    def count(self, table: str) -> int:
        with self.db.read() as tx:
            found: int = tx.execute(select(func.count()).select_from(metadata.tables[table])).scalar_one()
        return found

    def refused(self, act: Callable[[], object]) -> str:
        """The reason code with which ``act`` is refused; asserts that nothing of it was accepted.

        Nothing changed but the log, and in the log nothing but ``document-refused`` with that code.
        """
        before, entries = self.contents(), len(self.entries())
        try:
            act()
        except PolicyRefusedError as error:
            code = next(rule.code for rule in error.results if rule.code)
        except HdrsError as error:
            code = error.code
        else:
            raise AssertionError("it was accepted")
        assert self.contents() == before
        added = self.entries()[entries:]
        assert [(entry.event, entry.detail["code"]) for entry in added] == [("document-refused", code)]
        return code
