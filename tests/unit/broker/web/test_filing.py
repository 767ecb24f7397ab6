from __future__ import annotations

import io
import tarfile

import pytest

from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from tests.support.office import Office, digest
from tests.support.party import NINES, Party
from tests.support.uploading import bring


def tar(**files: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/") + ".py")
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return target.getvalue()


def test_the_same_spec_twice_is_one_job(office: Office) -> None:
    raw = office.party.sign("job-spec", office.spec(), "rae").to_bytes()
    first, second = (office.post("/v1/documents", raw).json() for _ in range(2))
    assert (first["job"], first["known"], second["known"]) == (second["job"], False, True)


def test_a_receipt_brings_a_signed_checkpoint_of_the_log_that_holds_it(office: Office) -> None:
    raw = office.party.sign("job-spec", office.spec(), "rae").to_bytes()
    receipt = office.post("/v1/documents", raw).json()
    root = trust.load_root(office.root.to_bytes(), office.root.digest)
    checkpoint = trust.verify(Envelope.parse(receipt["checkpoint"].encode()), kinds.CHECKPOINT, root).document
    assert checkpoint.size >= len(office.events()) - 1
    assert receipt["digest"] == Envelope.parse(raw).digest


def test_filing_needs_no_login_because_the_signature_is_the_authority(office: Office) -> None:
    raw = office.party.sign("job-spec", office.spec(), "rae").to_bytes()
    assert office.post("/v1/documents", raw).status_code == 200


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (lambda office: b"", 422, "malformed-document"),
        (lambda office: b"{", 422, "malformed-document"),
        (lambda office: b"[1, 2]", 422, "malformed-envelope"),
        (lambda office: b'{"payload": "", "payload": ""}', 422, "duplicate-key"),
        (lambda office: b"[" * 40 + b"]" * 40, 422, "document-too-deep"),
        (lambda office: office.party.sign("job-spec", office.spec()).to_bytes(), 403, "unsigned"),
        (
            lambda office: office.party.sign("job-spec", office.spec(), "ada").to_bytes(),
            403,
            "signer-lacks-role",
        ),
        (lambda office: Party().sign("job-spec", office.spec(), "rae").to_bytes(), 403, "signer-unknown"),
        (
            lambda office: office.party.sign("job-spec", office.spec("skin-fm"), "rae").to_bytes(),
            404,
            "not-found",
        ),
        (
            lambda office: office.party.sign("job-spec", office.spec("no-such"), "rae").to_bytes(),
            404,
            "not-found",
        ),
        (lambda office: office.party.signed("checkpoint").to_bytes(), 422, "not-for-filing"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_refused_is_refused_by_name_and_makes_no_job(office: Office, make, status, code) -> None:
    before = len(office.get("/v1/jobs", "ada").json())
    answer = office.post("/v1/documents", make(office))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert set(answer.json()["error"]) >= {"kind", "code", "message", "where", "remedy", "retry"}
    assert len(office.get("/v1/jobs", "ada").json()) == before


def test_a_body_over_the_limit_is_cut_off_whatever_its_header_claims(office: Office) -> None:
    def endless():
        for _ in range(40):
            yield b"x" * (1 << 20)

    answer = office.http.post("/v1/documents", content=endless())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body-too-large")
    headers = office.header("rae") | {"Upload-Offset": "0"}
    answer = office.http.patch("/v1/uploads/anything", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body-too-large")


def test_a_spec_with_a_bundle_needs_that_very_bundle_first(office: Office) -> None:
    raw = tar(cohort__main=b"def run(context): ...")
    workload = {
        "kind": "dask",
        "bundle": {"digest": digest(raw), "size": len(raw)},
        "entry": "cohort.main:run",
    }
    spec = office.party.sign("job-spec", office.spec(workload=workload), "rae").to_bytes()
    assert office.post("/v1/documents", spec).json()["error"]["code"] == "bundle-missing"
    bring(office.db, office.home, "lung-fm", "rae", raw)
    assert office.post("/v1/documents", spec).status_code == 200


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"not a tar", "bundle-malformed"),
        (tar(hdrs_hpc__evil=b"x"), "bundle-shadows-names"),
    ],
)
def test_a_bundle_that_may_not_be_one_is_refused_with_its_spec(office: Office, raw: bytes, code: str) -> None:
    named = {"digest": bring(office.db, office.home, "lung-fm", "rae", raw), "size": len(raw)}
    spec = office.spec(workload={"kind": "dask", "bundle": named, "entry": "cohort.main:run"})
    answer = office.post("/v1/documents", office.party.sign("job-spec", spec, "rae").to_bytes())
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)


def test_a_closure_freezes_before_anything_else(office: Office) -> None:
    """A project of its own: closing is for ever."""
    value = {**office.grants["lung-fm"], "project": "short-lived"}
    office.accept("grant", value, "ada", "bob")
    closure = {
        "schema": "hdrs-hpc/closure/2",
        "project": "short-lived",
        "action": "freeze",
        "reason": "A question came up.",
        "nonce": "0" * 26,
        "at": "2026-11-22T12:00:00Z",
    }
    raw = office.party.sign("closure", closure, "bob").to_bytes()
    assert office.post("/v1/documents", raw).json()["project"] == "short-lived"
    shown = office.get("/v1/projects/short-lived", "rae").json()
    assert (shown["frozen"], shown["state"]) == (True, "APPROVED")


def test_a_flood_of_refusals_is_braked_and_honest_documents_from_elsewhere_are_not(tmp_path) -> None:
    office = Office(tmp_path)
    codes = [office.post("/v1/documents", b"{").status_code for _ in range(125)]
    assert codes[:120] == [422] * 120
    assert codes[120:] == [429] * 5
    office.db.close()


def test_our_own_bug_tells_nothing_of_what_was_sent(office: Office, monkeypatch, caplog) -> None:
    canary = "-".join(("PATIENT", "CANARY", "1234"))  # made here, since a traceback quotes our own source

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(canary)

    monkeypatch.setattr("hdrs_hpc.broker.filing.accept.accept", broken)
    answer = office.post("/v1/documents", b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal-bug")
    assert canary not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_the_access_log_names_no_project_job_or_query(office: Office, caplog) -> None:
    caplog.set_level("INFO", logger="hdrs_hpc.access")
    office.get("/v1/projects/lung-fm", "rae")
    office.get("/v1/jobs", "rae", project="lung-fm")
    office.get("/v1/nothing/here-CANARY", "rae")
    assert "/projects/{name} 200" in caplog.text
    assert "lung-fm" not in caplog.text
    assert "CANARY" not in caplog.text


def test_web_asks_keyd_for_nothing_but_what_filing_needs(office: Office) -> None:
    from hdrs_hpc.broker.keyd import messages
    from hdrs_hpc.broker.web.dependencies import Web
    from hdrs_hpc.core.errors import InternalError

    web = Web.open(office.home)
    for request in (
        messages.UseKey("stage", "lung-fm", "X"),
        messages.CreateKey("lung-fm", "copy", "X", "north-chest-ct", NINES),
        messages.Destroy("lung-fm", "all", None),
        messages.Inspect("lung-fm"),
    ):
        with pytest.raises(InternalError):
            web.ask(request)
