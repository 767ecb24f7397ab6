from __future__ import annotations

from tests.support.office import Office


def decide(office: Office, job: str, person: str, **changes: object):
    value = office.decision(job, **changes)
    return office.post("/v1/documents", office.party.sign("output-decision", value, person).to_bytes())


def test_nobody_learns_another_checkers_verdict_before_all_have_decided(office: Office) -> None:
    job = office.job_in_review()
    assert decide(office, job, "cy", **{"decisions/0/reason": "SECRET-REASON"}).status_code == 200
    for person in ("di", "ada", "hal", "rae"):
        for path in (f"/v1/reviews/{job}", "/v1/reviews", f"/v1/jobs/{job}", "/v1/audit/entries"):
            assert "SECRET-REASON" not in office.get(path, person).text
    assert office.get(f"/v1/reviews/{job}", "di").json()["decisions"] == []
    assert [d["person"] for d in office.get(f"/v1/reviews/{job}", "cy").json()["decisions"]] == ["cy"]
    assert decide(office, job, "di").status_code == 200
    shown = office.get(f"/v1/reviews/{job}", "di").json()["decisions"]
    assert {item["person"] for item in shown} == {"cy", "di"}


def test_a_sealed_decision_is_no_readable_document(office: Office) -> None:
    job = office.job_in_review()
    filed = decide(office, job, "cy").json()["digest"]
    assert filed not in office.get("/v1/audit/documents", "ada").json()
    assert office.get(f"/v1/audit/documents/{filed}", "ada").status_code == 404


def test_a_checker_who_works_in_the_project_can_not_decide(office: Office) -> None:
    job = office.job_in_review("skin-fm", "sam")
    answer = decide(office, job, "sam", project="skin-fm")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "policy-refused")
    broken = [rule["code"] for rule in answer.json()["error"]["rules"] if not rule["ok"]]
    assert broken == ["conflict-of-interest"]


def test_a_decision_replayed_on_another_job_is_refused(office: Office) -> None:
    first, second = office.job_in_review(), office.job_in_review()
    value = office.decision(first)
    assert (
        office.post("/v1/documents", office.party.sign("output-decision", value, "cy").to_bytes()).json()[
            "job"
        ]
        == first
    )
    answer = decide(office, second, "cy", **{"decisions/0/rebuilt": "sha256:" + "0" * 64})
    assert answer.status_code == 403
    assert office.get(f"/v1/reviews/{second}", "cy").json()["reviews-done"] == 0


def test_bytes_can_not_be_looked_at_once_the_review_is_over(office: Office) -> None:
    job = office.job_in_review()
    assert office.get(f"/v1/reviews/{job}/artefacts/cohort", "cy").status_code == 200
    office.move(job, "lung-fm", "IN_REVIEW", "RELEASING")
    assert office.get(f"/v1/reviews/{job}/artefacts/cohort", "cy").status_code == 404
    assert office.get(f"/v1/reviews/{job}", "cy").status_code == 200
