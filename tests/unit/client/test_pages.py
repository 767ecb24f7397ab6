"""What a person reads before signing: values of the document as they were typed, what they lead to, 80 columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hdrs_hpc.client.pages import (
    closure,
    code_approval,
    dataset_registration,
    grant,
    job_spec,
    layout,
    opt_out_change,
    output_decision,
    trust_root,
)
from hdrs_hpc.client.pages.layout import Page
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.kinds import ANYONE, BROKER, KINDS
from hdrs_hpc.documents.models.approval import CodeApproval
from hdrs_hpc.documents.models.closure import Closure
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.documents.models.opt_out import OptOutChange
from hdrs_hpc.documents.models.review import OutputDecision
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy.facts import ClusterFacts, Facts
from tests.support.party import DUTIES, GRANT, NINES, ONES, OTHERS, REGISTRATION, SPEC, TWOS, Party, changed

LONG = "a" + 39 * "b"
"""As long as a name may be."""


def lines_of(page: Page, width: int = 80) -> list[str]:
    return [line for line, _ in layout.lines(page.sections, width)]


def text_of(page: Page) -> str:
    """Its lines joined, so that it does not matter where they are broken."""
    lines = lines_of(page)
    assert max(map(len, lines)) <= 80
    return " ".join(" ".join(lines).split())


def known(party: Party, **changes: Any) -> Facts:
    facts: dict[str, Any] = {
        "now": datetime(2027, 1, 16, 12, tzinfo=UTC),
        "grant": Grant.from_value(GRANT),
        "grant_people": ("ada", "bob"),
        "registrations": {"north-chest-ct": DatasetRegistration.from_value(REGISTRATION)},
        "cluster": ClusterFacts("isambard-ai", "sandboxed", 16),
        "trust_root": TrustRoot.from_value(party.root_value()),
        "trust_root_digest": ONES,
        "gpu_hours_used": 12.5,
    }
    return Facts(**facts | changes)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.role not in (BROKER, ANYONE)])
def test_every_kind_that_people_sign_has_a_page(kind: str) -> None:
    module = __import__(f"hdrs_hpc.client.pages.{kind.replace('-', '_')}", fromlist=["page"])
    assert callable(module.page)


def test_a_specs_page_says_what_it_is_served_uses_up_and_lets_out(party: Party) -> None:
    asked = {
        "nodes": 2,
        "cpus-per-task": 64,
        "mem": "256G",
        "gres": "gpu:4",
        "time": "12:00:00",
        "cluster": "local",
    }
    text = text_of(job_spec.page(JobSpec.from_value(changed(SPEC, "resources", asked)), known(party)))
    for said in (
        "Check spacing before pretraining",
        "north-chest-ct real",
        "BodyPartExamined CHEST",  # of the grant, which the spec narrows
        "Modality CT",
        "built in cohort-summary@1",
        "CPUs 64 128",
        "memory 256G 2 × 256G",
        "GPUs gpu:4 8",
        "time 12:00:00",
        "cluster local",
        "2 nodes × 4 GPUs × 12:00:00 = 96.0 GPU hours, charged to the project",
        "Of the 100 GPU hours granted, 87.5 are left",
        "2 nodes × 64 CPUs × 12:00:00 = 1,536.0 CPU hours",
        "cohort table cohort.csv 1MiB may leave",
        "counts below 10 suppressed, others rounded to 5",
        "2 reviewers from outside the project must agree",
        "until 2027-01-22 00:00 UTC",
    ):
        assert said in text, said


def test_a_specs_page_names_its_code_and_what_is_not_known_without_the_project() -> None:
    work = {
        "kind": "dask",
        "bundle": {"digest": TWOS, "size": 123456},
        "entry": "mae.train:main",
        "parameters": {"epochs": 20},
    }
    kept = changed(changed(SPEC, "workload", work), "outputs/cohort/keep", "project")
    text = text_of(job_spec.page(JobSpec.from_value(kept), None))
    for said in (
        TWOS,
        "123,456 bytes",
        "starts at mae.train:main",
        "parameter epochs 20",
        "not known here",
        "the reviewers whom the grant asks for",
        "cohort table cohort.csv 1MiB stays in the project",
        "sealed, serves its later jobs, and is destroyed with it",
    ):
        assert said in text, said
    assert "left before it" not in text


def test_a_specs_page_says_what_each_output_may_hold_and_what_is_told_while_it_runs(party: Party) -> None:
    columns = {
        "site": {"key": ["north", "south"], "also": ["TOTAL"]},
        "modality": {"key": {"vocabulary": "dicom-modality@1"}},
        "year": {"key": {"grid": {"from": 2019, "to": 2023, "step": 1}}},
        "spacing": {"key": {"ranges": [0, 0.5, 10]}},
        "n_patients": {"count": "patients with a scan", "most": 5000},
        "mean_hu": {"measure": "mean", "from": -1000, "to": 1000.5, "step": 0.5, "n": "n_patients"},
    }
    outputs = {
        "cohort": {"class": "table", "path": "cohort.csv", "columns": columns, "max-size": "1MiB"},
        "drawn": {"class": "image", "path": "drawn.png", "data": "cohort", "max-size": "1MiB"},
        "told": {
            "class": "metrics",
            "path": "told.json",
            "counts": ["n_series"],
            "measures": ["*_mm"],
            "max-size": "1KiB",
        },
    }
    value = changed(changed(SPEC, "outputs", outputs), "progress", {"loss": {"from": 0, "to": 2.5}})
    bundle = {"digest": TWOS, "size": 123456, "wheels": {"lock": NINES, "size": 77777}}
    work = {"kind": "dask", "bundle": bundle, "entry": "mae.train:main", "sweep": {"x": [1, "1", True, "a"]}}
    text = text_of(job_spec.page(JobSpec.from_value(changed(value, "workload", work)), known(party)))
    for said in (
        "site: labels north, south; also TOTAL",
        "modality: labels of the vocabulary dicom-modality@1",
        "year: labels from 2019 to 2023 in steps of 1",
        "spacing: labels of ranges between 0, 0.5, 10",
        "n_patients: counts patients with a scan, at most 5,000",
        "mean_hu: mean from -1000 to 1000.5 in steps of 0.5, of n_patients",
        "drawn from cohort",
        "counts of people or things: n_series",
        "whole numbers that measure: *_mm",
        "loss, in coarse steps from 0 to 2.5",
        f"77,777 bytes of wheels; lock {NINES}",
        'sweep x 1, "1", true, a',
        "broker north-sde",
        f"trust root {ONES}",
        "memory 16G 16G",
    ):
        assert said in text, said


def test_a_grants_page_says_what_ends_when_and_what_changed() -> None:
    first = Grant.from_value(GRANT)
    text = text_of(grant.page(first))
    for said in (
        "rae may run jobs",
        "until the end of 2027-06-30",
        "Reviews may go on for 14 days",
        "By the end of 2027-07-31 (UTC) all that the project holds is destroyed",
        "up to 8 nodes for 24:00:00",
        "up to 16MiB",
        "100 GPU hours",
        NINES,
        "None: it makes the project",
    ):
        assert said in text, said
    value = changed(changed(GRANT, "limits/nodes", 16), "people/researchers", ["rae", "sam"])
    second = Grant.from_value({**value, "version": 2, "supersedes": ONES})
    text = text_of(grant.page(second, first))
    assert "people.researchers rae rae, sam limits.nodes 8 16" in text
    assert f"{ONES}, which is not at hand here" in text_of(grant.page(second))


def test_a_trust_roots_page_says_who_gains_and_loses_which_role_and_key(party: Party) -> None:
    first = TrustRoot.from_value(party.root_value())
    text = text_of(trust_root.page(first))
    assert "It is the first" in text
    assert all(record.fingerprint in text for who in first.people.values() for record in who.keys)
    value = party.root_value(version=2, supersedes=ONES)
    people = value["people"]
    people["sam"]["roles"] = ["researcher", "admin"]
    people["di"]["keys"] = [{"key": people["di"]["keys"][0], "retired-from": 90}, Party().line("di")]
    people["new"] = {
        "name": "Nia New",
        "organisation": "uni",
        "keys": [Party().line("hal")],
        "roles": ["admin"],
    }
    del people["cy"]
    value["thresholds"]["grant"] = 3
    second = TrustRoot.from_value(value)
    text = text_of(trust_root.page(second, first))
    retired, fresh = (record.fingerprint for record in second.people["di"].keys)
    for said in (
        "sam gains the role admin",
        "sam loses the roles checker and code-reviewer",
        "cy (Cy) is left out, and loses the role checker",
        "new (Nia New, uni) is new, with the role admin",
        f"the key {retired} of di is retired from entry 90 of the log",
        f"di gets the key {fresh}",
        "a grant needs 3 signatures in place of 2",
    ):
        assert said in text, said
    assert "ada gains" not in text
    assert "is not at hand here" in text_of(trust_root.page(second))


def test_a_decisions_page_shows_digest_findings_and_what_happens_next() -> None:
    decision = OutputDecision.from_value(OTHERS["output-decision"][1])
    seen = [output_decision.SeenArtefact("cohort", "table", 812, ["2 counts below 10 suppressed."])]
    review = output_decision.ReviewedJob("spacing", "Pretraining", "Check spacing", 0, 2, seen)
    text = text_of(output_decision.page(decision, review))
    for said in (
        "cohort: APPROVE",
        ONES,
        "table, 812 bytes",
        "2 counts below 10 suppressed.",
        "No small counts are left.",
        "1 other checker has to decide after you, of 2",
        "It is final",
    ):
        assert said in text, said
    refused = changed(OTHERS["output-decision"][1], "decisions", [
        {**OTHERS["output-decision"][1]["decisions"][0], "verdict": "refuse"}
    ])  # fmt: skip
    last = output_decision.ReviewedJob("spacing", "Pretraining", "Check spacing", 1, 2, seen)
    text = text_of(output_decision.page(OutputDecision.from_value(refused), last))
    assert "None of these artefacts leaves" in text and "Nobody else has to decide" in text


PLAN = closure.ClosingPlan(
    "lung-fm",
    [closure.DoomedCopy("7K3QW2", "north-chest-ct", "isambard-ai", "READY", 38, 123456789)],
    [closure.DoomedKept("7K3QW1", "encoder", "weights", 88_000_000)],
    [closure.DoomedJob("8M4RX3", "mae-chest", "RUNNING")],
    2,
    3,
    timedelta(days=14),
)


@pytest.mark.parametrize("action", ["close", "revoke"])
def test_the_end_of_a_project_names_what_is_destroyed_and_that_it_is_for_ever(action: str) -> None:
    page = closure.page(Closure.from_value({**OTHERS["closure"][1], "action": action}), PLAN)
    text = text_of(page)
    for said in (
        "The study is done.",
        "7K3QW2 north-chest-ct isambard-ai 38 123,456,789",
        "8M4RX3 mae-chest RUNNING",
        "3 released artefacts",
        "can not be undone by anybody",
    ):
        assert said in text, said
    grace = {"close": "unless decided within 14 days", "revoke": "at once"}
    assert f"2 artefacts in review, {grace[action]}." in text
    assert "for ever" in page.title


def test_a_freeze_can_be_undone_and_its_lifting_names_it() -> None:
    frozen = Closure.from_value({**OTHERS["closure"][1], "action": "freeze"})
    assert "It can be undone" in text_of(closure.page(frozen))
    lifted = Closure.from_value({**OTHERS["closure"][1], "action": "unfreeze", "freeze": ONES})
    assert ONES in text_of(closure.page(lifted))


def test_an_opt_outs_page_counts_patients_and_says_what_becomes_of_copies_and_jobs() -> None:
    before = opt_out_change.OptOutsInForce(
        100,
        60,
        [opt_out_change.ReachedCopy("7K3QW2", "lung-fm", "isambard-ai", "READY", True)],
        [opt_out_change.ReachedJob("8M4RX3", "mae-chest", "lung-fm", "RUNNING")],
    )
    value = OTHERS["opt-out-change"][1]
    text = text_of(opt_out_change.page(OptOutChange.from_value(value), before, 3))
    for said in ("3 patients more opted out of north-chest-ct", "its key at", "it may run on for 60 s", TWOS):
        assert said in text, said
    nobody = OptOutChange.from_value({**value, "action": "nobody", "reason": "test objects"})
    assert "everybody comes off the list, up to 100 patients" in text_of(
        opt_out_change.page(nobody, before, 0)
    )


def test_pages_of_approvals_and_registrations_say_what_is_stated() -> None:
    approval = CodeApproval.from_value(OTHERS["code-approval"][1])
    text = text_of(code_approval.page(approval, ["main.py", *(f"part{n}.py" for n in range(40))], 4096))
    for said in ("Read in full.", TWOS, "41 files, 4,096 bytes", "- main.py", "and 11 more"):
        assert said in text, said
    text = text_of(dataset_registration.page(DatasetRegistration.from_value(REGISTRATION)))
    for said in ("path /archive/ct", "1,000 files", NINES, "data of real patients", "custodians of north"):
        assert said in text, said


@pytest.mark.parametrize("width", [60, 80])
def test_names_as_long_as_they_may_be_fit_the_screen(party: Party, width: int) -> None:
    columns = {LONG: {"key": ["north", "south"]}, "n": {"count": "patients"}}
    outputs = {LONG: {"class": "table", "path": f"{LONG}/{LONG}.csv", "max-size": "1MiB", "columns": columns}}
    spec = changed(changed(SPEC, "outputs", outputs), "data", {LONG: {"dataset": LONG}})
    work = {**SPEC["workload"], "parameters": {"p" * 90: "x", "q": 1}, "sweep": {"s" * 100: [1, 2]}}
    spec = changed(spec, "workload", work)
    assert max(map(len, lines_of(job_spec.page(JobSpec.from_value(spec), known(party)), width))) <= width


def test_nothing_on_a_page_rewrites_the_screen() -> None:
    seen = [output_decision.SeenArtefact("cohort", "table", 812, ["\x1b[2Jall is well\u202e"])]
    review = output_decision.ReviewedJob("spacing", "Pretraining", "Check spacing", 0, 2, seen)
    page = output_decision.page(OutputDecision.from_value(OTHERS["output-decision"][1]), review)
    assert all(line.isprintable() for line in lines_of(page))


def test_headings_and_names_of_values_do_not_rewrite_the_screen_or_forge_lines(party: Party) -> None:
    forged = "epochs\x1b[2J\ndigest  sha256:good"
    work = {**SPEC["workload"], "parameters": {forged: 1}}
    spec = JobSpec.from_value(changed(SPEC, "workload", work))
    lines = lines_of(job_spec.page(spec, known(party)))
    assert all(line.isprintable() for line in lines)
    assert not any(line.strip().startswith("digest") for line in lines)
    heading = layout.Section("A\x1b[2J title\nDigest of exactly what is signed", ["x"])
    shown = [(line, is_heading) for line, is_heading in layout.lines([heading], 80) if line]
    assert [line for line, is_heading in shown if is_heading] == [
        "A\ufffd[2J title Digest of exactly what is signed"
    ]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\u3164", "\u2800", "\u200f"])
def test_only_a_line_feed_begins_a_line_and_nothing_looks_empty_that_is_not(character: str) -> None:
    lines = [line for line, _ in layout.lines([layout.Section("a", [f"one{character}two"])], 80)]
    assert lines == ["", "a", "  one\ufffdtwo"]


def test_empty_lines_do_not_scroll_a_page_away() -> None:
    lines = [line for line, _ in layout.lines([layout.Section("a", ["\n\none\n\n \n\n\ntwo\n\n"])], 80)]
    assert lines == ["", "a", "  one", "", "  two"]


@pytest.mark.parametrize("character", "\u2028\u2029\u200e\u200f\u061c\u3164\u2800\u202e\x1b")
@pytest.mark.parametrize("field", ["title", "lay-summary"])
def test_text_for_people_holds_no_mark_that_changes_what_they_read(character: str, field: str) -> None:
    with pytest.raises(BadDocumentError):
        Grant.from_value(changed(GRANT, field, f"Computers learn {character} from chest scans"))


def test_a_trust_roots_page_shows_the_brokers_keys_and_which_of_them_change(party: Party) -> None:
    first = TrustRoot.from_value(party.root_value())
    text = text_of(trust_root.page(first))
    for duty in DUTIES:
        assert f"{duty} {sshsig.fingerprint(party.line(duty))}" in text
    assert "stays accepted" not in text, "nothing was accepted before the first"
    assert "uni A University 2, once it has any none, as yet" in text
    value = party.root_value(version=2, supersedes=ONES)
    value["broker-keys"]["release-record"] = [Party().line("release-record")]
    value["people"]["di"]["keys"] = [
        {"key": party.line("di"), "retired-from": 90, "compromised-from": 70},
        Party().line("di"),
    ]
    second = TrustRoot.from_value(value)
    new = sshsig.fingerprint(value["broker-keys"]["release-record"][0])
    text = text_of(trust_root.page(second, first))
    assert f"the broker signs a release record with the new key {new}" in text
    old = sshsig.fingerprint(party.line("release-record"))
    assert f"the broker signs no release record with {old} any more" in text
    alone = text_of(trust_root.page(second))
    assert "compromised from entry 70" in alone and "retired from entry 90" in alone
    shown = lines_of(trust_root.page(second))
    for record in second.people["di"].keys:
        assert any(record.fingerprint in line for line in shown), "it is compared, so it stands in one line"
