from __future__ import annotations

from hdrs_hpc.audit import merkle
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.store import alerts
from hdrs_hpc.documents.envelope import Envelope
from tests.support.office import Office


def test_a_project_shows_what_is_left(office: Office) -> None:
    shown = office.get("/v1/projects/lung-fm", "rae").json()
    assert (shown["gpu-hours"], shown["gpu-hours-used"], shown["days-left"]) == (100, 0.0, 30)
    assert shown["data"]["north-chest-ct"]["items"] == 1000
    assert shown["data"]["north-chest-ct"]["select"]["StudyDate"] == "2019-01-01/2023-12-31"


def test_a_grant_comes_byte_for_byte_as_it_was_signed(office: Office) -> None:
    raw = office.get("/v1/projects/lung-fm/grant", "rae").content
    assert Envelope.parse(raw).digest == office.get("/v1/projects/lung-fm", "rae").json()["grant"]


def test_the_trust_root_needs_no_login_and_says_so_under_its_version(office: Office) -> None:
    assert office.get("/v1/trust-root").content == office.root.to_bytes()
    assert office.get("/v1/trust-root/1").content == office.root.to_bytes()
    assert office.get("/v1/trust-root/2").status_code == 404
    assert office.get("/v1/broker").json()["trust-root"] == office.root.digest


def test_a_job_says_what_it_waits_for(office: Office) -> None:
    job = office.job()
    with office.db.write() as tx:
        alerts.put(tx, f"job/{job}", "cluster-unreachable", "the login node does not answer")
    shown = office.get(f"/v1/jobs/{job}", "rae").json()
    assert shown["waits-for"] == "the login node does not answer"
    assert shown["alerts"][0]["code"] == "cluster-unreachable"


def test_states_are_told_in_tes_words_too(office: Office) -> None:
    job = office.job()
    assert office.get(f"/v1/jobs/{job}", "rae").json()["tes-state"] == "QUEUED"
    office.move(job, "lung-fm", "RECEIVED", "ADMITTED", "STAGING")
    assert office.get(f"/v1/jobs/{job}", "rae").json()["tes-state"] == "INITIALIZING"


def test_a_cancel_is_noted_and_answered_with_the_job(office: Office) -> None:
    job = office.job()
    shown = office.post(f"/v1/jobs/{job}/cancel", person="rae").json()
    assert (shown["id"], shown["cancel-requested"]) == (job, True)


def test_entries_are_the_canonical_bytes_and_prove_themselves(office: Office) -> None:
    office.job()
    checkpoint = office.get("/v1/audit/checkpoint").content
    size = __import__("json").loads(Envelope.parse(checkpoint).payload)["size"]
    root = bytes.fromhex(__import__("json").loads(Envelope.parse(checkpoint).payload)["root"])
    lines = office.get("/v1/audit/entries", "ada").content.splitlines()
    assert [Entry.from_bytes(line).seq for line in lines] == list(range(len(lines)))
    told = office.get("/v1/audit/inclusion", entry=1, size=size).json()
    assert bytes.fromhex(told["leaf"]) == merkle.leaf_hash(lines[1])
    merkle.verify_inclusion(
        bytes.fromhex(told["leaf"]), 1, size, [bytes.fromhex(step) for step in told["proof"]], root
    )
    paged = office.get("/v1/audit/entries", "ada", since=2, limit=1).content
    assert paged == lines[2] + b"\n"


def test_consistency_is_proven_to_anybody_with_an_old_checkpoint(office: Office) -> None:
    from hdrs_hpc.broker.store import log

    with office.db.read() as tx:
        old, old_root = log.size(tx), log.root(tx, log.size(tx))
    office.job()
    with office.db.read() as tx:
        new, new_root = log.size(tx), log.root(tx, log.size(tx))
    assert old < new
    told = office.get("/v1/audit/consistency", old=old, new=new).json()
    proof = [bytes.fromhex(step) for step in told["proof"]]
    merkle.verify_consistency(old, old_root, new, new_root, proof)
    assert office.get("/v1/audit/consistency", old=3, new=10**6).status_code == 404
    assert office.get("/v1/audit/consistency", old=-1, new=2).status_code == 400


def test_metrics_count_and_name_nobody(office: Office) -> None:
    text = office.get("/metrics").text
    assert 'hdrs_hpc_projects{state="APPROVED"}' in text
    assert "hdrs_hpc_log_entries_total" in text
    for name in ("lung-fm", "rae", "north-chest-ct"):
        assert name not in text


def test_every_failure_has_the_same_shape(office: Office) -> None:
    for answer in (
        office.get("/v1/no/such/address"),
        office.http.put("/v1/documents"),
        office.get("/v1/jobs", "rae", project=""),
        office.get("/v1/audit/entries", "ada", since="x"),
    ):
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"kind", "code", "message", "where", "remedy", "retry"}
    assert office.get("/v1/no/such/address").status_code == 404
    assert office.get("/v1/audit/entries", "ada", since="x").status_code == 400


def test_answers_are_not_kept_by_caches(office: Office) -> None:
    assert office.get("/v1/projects", "rae").headers["cache-control"] == "no-store"


def test_the_openapi_document_names_every_route_and_its_failures(office: Office) -> None:
    told = office.get("/v1/openapi.json").json()
    assert "/v1/documents" in told["paths"]
    assert "4XX" in told["paths"]["/v1/jobs/{prefix}"]["get"]["responses"]
