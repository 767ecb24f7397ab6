"""The matrix at the top of ``api/permissions.py``, asked over HTTP; what one may not see is 404, never 403."""

from __future__ import annotations

import pytest

from tests.support.office import TABLE, Office

# rae: researcher of lung-fm.  sam: researcher of skin-fm and checker.  cy: checker.  ada: custodian.  hal: admin.
WHO_SEES = {
    "/v1/projects/lung-fm": {"rae", "ada"},
    "/v1/projects/lung-fm/grant": {"rae", "ada"},
    "/v1/projects/lung-fm/closing-plan": {"rae", "ada"},
    "/v1/projects/skin-fm": {"sam", "ada"},
    "/v1/datasets/north-chest-ct": {"rae", "sam", "ada"},
    "/v1/opt-outs/north-chest-ct": {"ada"},
    "/v1/jobs/{lung}": {"rae", "ada"},
    "/v1/jobs/{skin}": {"sam", "ada"},
    "/v1/reviews/{lung}": {"sam", "cy"},
    "/v1/reviews/{lung}/artefacts/cohort": {"sam", "cy"},
    "/v1/reviews/{skin}": {"cy"},
    "/v1/reviews/{skin}/artefacts/cohort": {"cy"},
    "/v1/audit/entries": {"ada", "hal"},
    "/v1/audit/documents": {"ada", "hal"},
    "/v1/audit/checkpoints": {"ada", "hal"},
    "/v1/status": {"ada", "hal"},
}
PEOPLE = ("rae", "sam", "cy", "ada", "hal")


@pytest.fixture(scope="module")
def jobs(office: Office) -> dict[str, str]:
    return {"lung": office.job_in_review("lung-fm", "rae"), "skin": office.job_in_review("skin-fm", "sam")}


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("path", WHO_SEES)
def test_who_may_see_what(office: Office, jobs: dict[str, str], path: str, person: str) -> None:
    answer = office.get(path.format(**jobs), person)
    assert answer.status_code == (200 if person in WHO_SEES[path] else 404), answer.text


@pytest.mark.parametrize("path", [*WHO_SEES, "/v1/projects", "/v1/jobs", "/v1/reviews", "/v1/datasets"])
def test_nothing_of_it_is_shown_without_a_login(office: Office, jobs: dict[str, str], path: str) -> None:
    answer = office.get(path.format(**jobs))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not-logged-in")


def test_what_is_not_yours_and_what_is_not_there_look_the_same(office: Office, jobs: dict[str, str]) -> None:
    hidden = office.get("/v1/projects/skin-fm", "rae").json()["error"]
    absent = office.get("/v1/projects/no-such", "rae").json()["error"]
    assert {**hidden, "where": None} == {**absent, "where": None}
    hidden_job = office.get(f"/v1/jobs/{jobs['skin']}", "rae").json()["error"]
    absent_job = office.get("/v1/jobs/ZZZZZZ", "rae").json()["error"]
    assert {**hidden_job, "where": None} == {**absent_job, "where": None}


def test_lists_hold_only_what_a_person_may_see(office: Office, jobs: dict[str, str]) -> None:
    assert [item["name"] for item in office.get("/v1/projects", "rae").json()] == ["lung-fm"]
    assert [item["name"] for item in office.get("/v1/projects", "ada").json()] == ["lung-fm", "skin-fm"]
    assert office.get("/v1/projects", "cy").json() == []
    assert {item["project"] for item in office.get("/v1/jobs", "sam").json()} == {"skin-fm"}
    assert {item["job"] for item in office.get("/v1/reviews", "sam").json()} == {jobs["lung"]}
    assert {item["job"] for item in office.get("/v1/reviews", "cy").json()} == set(jobs.values())
    assert office.get("/v1/reviews", "rae").json() == []


def test_only_custodians_learn_where_an_archive_lies(office: Office) -> None:
    assert office.get("/v1/datasets/north-chest-ct", "ada").json()[0]["source"] == "/archive/ct"
    assert office.get("/v1/datasets/north-chest-ct", "rae").json()[0]["source"] is None


def test_a_job_of_another_project_never_makes_a_prefix_ambiguous(
    office: Office, jobs: dict[str, str]
) -> None:
    """Ambiguity would tell that a job exists which the asker may not know of."""
    own = jobs["lung"]
    shared = next((n for n in range(1, 6) if not jobs["skin"].startswith(own[:n])), 1)
    assert office.get(f"/v1/jobs/{own[:shared]}", "rae").json()["id"] == own


def test_a_researcher_can_not_cancel_another_projects_job(office: Office, jobs: dict[str, str]) -> None:
    assert office.post(f"/v1/jobs/{jobs['skin']}/cancel", person="rae").status_code == 404
    assert office.post(f"/v1/jobs/{jobs['lung']}/cancel", person="cy").status_code == 404
    assert office.get(f"/v1/jobs/{jobs['skin']}", "sam").json()["cancel-requested"] is False


def test_an_unreleased_artefact_shows_the_researcher_its_state_and_nothing_of_its_content(
    office: Office, jobs: dict[str, str]
) -> None:
    shown = {item["name"]: item for item in office.get(f"/v1/jobs/{jobs['lung']}", "rae").json()["artefacts"]}
    assert (shown["cohort"]["state"], shown["cohort"]["content"], shown["cohort"]["size"]) == (
        "in-review",
        None,
        None,
    )
    assert (shown["spacing"]["state"], shown["spacing"]["code"]) == ("refused", "not-a-png")
    for path in ("artefacts/cohort", "artefacts/cohort/record", "artefacts/spacing"):
        assert office.get(f"/v1/jobs/{jobs['lung']}/{path}", "rae").status_code == 404


def test_a_checker_gets_exactly_the_bytes_that_would_leave(office: Office, jobs: dict[str, str]) -> None:
    answer = office.get(f"/v1/reviews/{jobs['lung']}/artefacts/cohort", "cy")
    assert answer.content == TABLE
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert office.get(f"/v1/reviews/{jobs['lung']}/artefacts/spacing", "cy").status_code == 404


def test_a_job_that_never_came_to_review_is_none_for_a_checker(office: Office) -> None:
    assert office.get(f"/v1/reviews/{office.job()}", "cy").status_code == 404


@pytest.mark.parametrize("person", ["cy", "ada", "hal"])
def test_only_researchers_upload_code(office: Office, person: str) -> None:
    begin = f"/v1/uploads?project=lung-fm&digest=sha256:{'1' * 64}"
    answer = office.http.post(begin, headers=office.header(person) | {"Upload-Length": "1"})
    assert answer.status_code == 403
