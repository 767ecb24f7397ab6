"""A broker's web with a real database and keyd's own rules, and people who file documents and ask."""

from __future__ import annotations

import hashlib
import itertools
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from hdrs_hpc.broker import setup
from hdrs_hpc.broker.filing import accept, opt_out_change, trust_root
from hdrs_hpc.broker.heartbeats import Pulse
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import messages
from hdrs_hpc.broker.keyd.keyd import Keyd
from hdrs_hpc.broker.store import artefacts, transition
from hdrs_hpc.broker.store.artefacts import Artefact
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.web.app import create
from hdrs_hpc.broker.web.dependencies import Web
from hdrs_hpc.broker.web.rate_limits import RefusalLimit
from hdrs_hpc.broker.web.tokens import Challenges, Tokens
from hdrs_hpc.core import clock, ids, strict_json
from hdrs_hpc.documents.opt_out_ids import OptOutIds
from tests.support.party import GRANT, OTHERS, REGISTRATION, SPEC, Party, changed

TABLE = b"arm,n_patients\nall,120\n"
LIFE = ("RECEIVED", "ADMITTED", "STAGING", "QUEUED", "RUNNING", "COLLECTING", "IN_REVIEW")


def day(offset: int) -> str:
    return (clock.now() + timedelta(days=offset)).date().isoformat()


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@dataclass
class Office:
    """Projects: lung-fm of rae, skin-fm of sam, who is also a checker."""

    folder: Path
    party: Party = field(default_factory=Party)

    def __post_init__(self) -> None:
        self.home = BrokerHome.at(self.folder / "broker")
        setup.init(self.home, audience="north-sde", host="127.0.0.1", port=1, tick_s=1.0)
        Pulse.of_controller(
            self.home, stale_after_s=3600
        ).beat()  # web says that a broker without one is not well
        Pulse.of_keyd(self.home, stale_after_s=3600).beat()
        self.keyd = Keyd.open(self.home)
        self.db = Database(self.home.database)
        lock = threading.Lock()

        def ask[R](request: messages.Ask[R]) -> R:
            with lock:
                return self.keyd.answer(request)

        self.ask = ask
        self.web = Web(
            self.home,
            self.home.settings(),
            self.db,
            ask,
            Tokens.open(self.home.root / "web" / "token-secret"),
            Challenges(),
            RefusalLimit(),
        )
        self.http = self.http_from("127.0.0.1")
        lines = self.ask(messages.SigningKeys()).lines
        self.root_value = self.party.root_value(
            **{"broker-keys": {duty: [line] for duty, line in lines.items()}}
        )
        self.root = self.party.sign("trust-root", self.root_value, "ada", "bob")
        trust_root.accept_first(self.db, self.ask, self.root.to_bytes(), self.root.digest)
        self.accept("dataset-registration", REGISTRATION, "ada", "bob")
        self.state_opt_outs(REGISTRATION["name"], "A1")
        self.grants = {"lung-fm": self._grant("lung-fm", "rae"), "skin-fm": self._grant("skin-fm", "sam")}

    def http_from(self, address: str) -> TestClient:
        """A client at another address."""
        return TestClient(
            create(self.web),
            base_url="http://127.0.0.1:1",
            raise_server_exceptions=False,
            client=(address, 50_000),
        )

    def _grant(self, project: str, researcher: str) -> dict[str, Any]:
        value = {
            **GRANT,
            "project": project,
            "people": {"lead": researcher, "researchers": [researcher]},
            "valid": {
                "from": day(-1),
                "run-until": day(30),
                "review-grace": "14d",
                "destroy-by": day(60),
            },
        }
        self.accept("grant", value, "ada", "bob")
        return value

    def state_opt_outs(self, dataset: str, *patients: str) -> None:
        """A custodian's first statement of who opted out."""
        raw = OptOutIds.new(patients).to_bytes()
        brought, _ = opt_out_change.put_ids(self.db, self.home, raw, dataset)
        value = OTHERS["opt-out-change"][1] | {"dataset": dataset, "ids": brought.digest}
        self.accept("opt-out-change", value, "ada")

    def accept(self, kind: str, value: dict[str, Any], *people: str) -> accept.Receipt:
        raw = self.party.sign(kind, value, *people).to_bytes()
        return accept.accept(self.db, self.ask, raw, home=self.home)

    def spec(self, project: str = "lung-fm", **changes: Any) -> dict[str, Any]:
        now = clock.now()
        return {
            **SPEC,
            "project": project,
            "nonce": ids.new_id(26),
            "not-before": clock.to_text(now - timedelta(minutes=1)),
            "expires": clock.to_text(now + timedelta(days=1)),
            "trust-root": self.root.digest,
            **changes,
        }

    def job(self, project: str = "lung-fm", submitter: str = "rae") -> str:
        """A job that was just received."""
        found = self.accept("job-spec", self.spec(project), submitter).job
        assert found is not None
        return found

    def move(self, job: str, project: str, *states: str, **more: Any) -> None:
        with self.db.write() as tx:
            for old, new in itertools.pairwise(states):
                last = new == states[-1]
                transition.move(
                    tx, "job", {"project": project, "job": job}, old, new, **(more if last else {})
                )

    def job_in_review(self, project: str = "lung-fm", submitter: str = "rae") -> str:
        """A job whose table waits for checkers; its second output was refused by the check."""
        job = self.job(project, submitter)
        self.move(job, project, *LIFE)
        report = {"artefact": "cohort", "verdict": "passed", "sentences": ["Nothing had to be repaired."]}
        folder = self.home.artefacts_dir(job)
        folder.mkdir(parents=True)
        (folder / "cohort").write_bytes(TABLE)
        with self.db.write() as tx:
            artefacts.put(
                tx,
                Artefact(
                    job=job,
                    name="cohort",
                    cls="table",
                    media_type="text/csv",
                    size=len(TABLE),
                    rebuilt=digest(TABLE),
                    file="cohort.csv",
                    report=report,
                    report_digest=digest(strict_json.dumps(report)),
                    refused=None,
                    nonce=ids.new_id(26),
                    verdict=None,
                    release_record=None,
                ),
            )
            refused = {"artefact": "spacing", "verdict": "refused"}
            artefacts.put(
                tx,
                Artefact(
                    job=job,
                    name="spacing",
                    cls="image",
                    media_type=None,
                    size=None,
                    rebuilt=None,
                    file=None,
                    report=refused,
                    report_digest=digest(strict_json.dumps(refused)),
                    refused="not-a-png",
                    nonce=ids.new_id(26),
                    verdict=None,
                    release_record=None,
                ),
            )
        return job

    def decision(self, job: str, project: str = "lung-fm", **changes: Any) -> dict[str, Any]:
        report = {"artefact": "cohort", "verdict": "passed", "sentences": ["Nothing had to be repaired."]}
        value = {
            "schema": "hdrs-hpc/output-decision/1",
            "project": project,
            "job": job,
            "nonce": ids.new_id(26),
            "decisions": [
                {
                    "artefact": "cohort",
                    "rebuilt": digest(TABLE),
                    "report": digest(strict_json.dumps(report)),
                    "verdict": "approve",
                    "reason": "No small counts.",
                }
            ],
        }
        for path, new in changes.items():
            value = changed(value, path, new)
        return value

    def header(self, person: str) -> dict[str, str]:
        """As somebody who is logged in."""
        return {"Authorization": f"Bearer {self.web.tokens.issue(person).text}"}

    def get(self, path: str, person: str | None = None, **query: Any) -> Any:
        return self.http.get(path, headers=self.header(person) if person else {}, params=query)

    def post(self, path: str, content: bytes = b"", person: str | None = None) -> Any:
        return self.http.post(path, content=content, headers=self.header(person) if person else {})

    def login_envelope(self, person: str, challenge: str, audience: str = "north-sde") -> bytes:
        value = {
            "schema": "hdrs-hpc/login/1",
            "audience": audience,
            "challenge": challenge,
            "at": clock.to_text(clock.now()),
        }
        return self.party.sign("login", value, person).to_bytes()

    def events(self) -> list[str]:
        from hdrs_hpc.broker.store import log

        with self.db.read() as tx:
            return [strict_json.loads(raw)["event"] for raw in log.entries(tx)]
