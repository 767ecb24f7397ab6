"""Checking, drafting and signing a spec on the laptop."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from party import GRANT, REGISTRATION

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.client import context, speccheck, specdraft, spectemplate
from hdrs_hpc.core import strict_json, strict_yaml
from hdrs_hpc.core.errors import BadDocumentError, HdrsError
from hdrs_hpc.documents import kinds, trust, unfilled
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.protocol import bundle

SPEC = """\
schema: hdrs-hpc/job-spec/2
project: lung-fm
name: spacing
purpose: Check spacing before pretraining
data:
  ct: {dataset: north-chest-ct}
workload:
  kind: dask
  bundle: ./code
  entry: cohort.main:run
resources: {nodes: 1, cpus-per-task: 4, mem: 16G, time: "00:30:00"}
outputs:
  cohort: {class: table, path: cohort.csv, columns: {site: {key: [a]}, n: {count: patients}}, max-size: 1MiB}
"""
NOON = datetime(2027, 1, 15, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path, party) -> Path:
    """A folder with a context, a spec and its code."""
    (tmp_path / "root.json").write_bytes(party.signed("trust-root").to_bytes())
    own = {**GRANT, "workloads": {"builtin": ["cohort-summary@1"], "own-code": "project"}}
    (tmp_path / "grant.json").write_bytes(party.sign("grant", own, "ada", "bob").to_bytes())
    registration = party.sign("dataset-registration", REGISTRATION, "ada", "bob")
    (tmp_path / "ct.json").write_bytes(registration.to_bytes())
    (tmp_path / "hdrs-hpc.toml").write_text(
        f"""[context]
trust-root = "root.json"
root-digest = "{Envelope.parse((tmp_path / "root.json").read_bytes()).digest}"
grant = "grant.json"
registrations = ["ct.json"]
person = "rae"
at = "2027-01-15T12:00:00Z"
[cluster]
name = "isambard-ai"
isolation = "sandboxed"
nodes = 4
"""
    )
    (tmp_path / "work/code/cohort").mkdir(parents=True)
    (tmp_path / "work/code/cohort/main.py").write_text("def run(context): pass\n")
    (tmp_path / "work/spec.yaml").write_text(SPEC)
    return tmp_path


def _check(home, text: str | None = None) -> speccheck.SpecReport:
    path = home / "work/spec.yaml"
    if text is not None:
        path.write_text(text)
    found = context.find(path)
    return speccheck.check(path, context.load(found) if found else None)


def test_the_context_is_found_by_walking_up(home):
    assert context.find(home / "work/spec.yaml") == home / "hdrs-hpc.toml"
    (home / "work/hdrs-hpc.toml").write_text("")
    assert context.find(home / "work/spec.yaml") == home / "work/hdrs-hpc.toml", "the nearest one"


def test_a_good_spec_gets_the_whole_verdict(home):
    report = _check(home)
    assert report.ok and report.exit_code == 0
    assert report.decision is not None and report.decision.allowed


def test_what_a_new_draft_says_is_told_before_anybody_signs(home):
    text = SPEC.replace("Check spacing before pretraining", unfilled.PURPOSE)
    text = text.replace("north-chest-ct", unfilled.DATASET)
    report = _check(home, text)
    assert [(item.line, item.code, item.where) for item in report.findings] == [
        (4, "draft-unfilled", "purpose"),
        (6, "draft-unfilled", "data.ct.dataset"),
    ], "and no word of what the rules say of a name that is none"
    assert report.exit_code == 3 and report.decision is not None


COHORT = "{%s: {key: [CT]}, %s: {key: [CHEST]}, n_patients: {count: patients}, n_series: {count: series of images}}"


@pytest.mark.parametrize(
    ("columns", "output", "where", "message"),
    [
        (("modality", "bodypart"), "cohort", "outputs.cohort.columns.bodypart",
         "cohort-summary@1 writes body_part; did you mean it by bodypart?"),
        (("modality", "x"), "cohort", "outputs.cohort.columns.x", "cohort-summary@1 writes no x into cohort"),
        (("modality", "body_part"), "cohorts", "outputs.cohorts",
         "cohort-summary@1 writes cohort; did you mean it by cohorts?"),
    ],
)  # fmt: skip
def test_what_a_built_in_workload_does_not_write_is_told(home, columns, output, where, message):
    text = SPEC.replace("bundle: ./code\n  entry: cohort.main:run", "builtin: cohort-summary@1")
    text = text.replace("{site: {key: [a]}, n: {count: patients}}", COHORT % columns)
    report = _check(home, text.replace("  cohort: {", f"  {output}: {{"))
    assert report.exit_code == 3
    first = report.findings[0]
    assert (first.code, first.where, first.line, first.message) == (
        "builtin-writes-other",
        where,
        12,
        message,
    )


def test_a_column_that_a_built_in_workload_writes_and_nobody_declares_is_told(home):
    text = SPEC.replace("bundle: ./code\n  entry: cohort.main:run", "builtin: cohort-summary@1")
    declared = COHORT.replace("%s: {key: [CHEST]}, ", "") % "modality"
    report = _check(home, text.replace("{site: {key: [a]}, n: {count: patients}}", declared))
    assert [(item.where, item.message) for item in report.findings] == [
        (
            "outputs.cohort.columns",
            "cohort-summary@1 writes body_part into cohort, which declares no such column",
        )
    ]


def test_a_broker_is_not_asked_about_a_project_without_a_name(home):
    path = home / "work/spec.yaml"
    path.write_text(SPEC.replace("lung-fm", unfilled.PROJECT))
    report = speccheck.check(path, None, lambda _: pytest.fail("asked"))
    assert [(item.line, item.code, item.where) for item in report.findings] == [
        (2, "draft-unfilled", "project")
    ]


def test_faults_of_form_are_all_told_with_their_lines(home):
    text = (
        SPEC.replace("mem: 16G", "mem: lots")
        .replace("max-size", "maxsize")
        .replace("kind: dask", "kind: ray")
    )
    report = _check(home, text)
    assert [(item.line, item.code, item.where) for item in report.findings] == [
        (8, "bad-value", "workload.kind"),
        (11, "bad-memory", "resources.mem"),
        (13, "missing-field", "outputs.cohort.max-size"),
        (13, "unknown-field", "outputs.cohort.maxsize"),
    ]
    assert report.decision is None and report.exit_code == 3


def test_refusals_are_told_with_the_line_that_earned_them(home):
    report = _check(home, SPEC.replace("nodes: 1", "nodes: 2").replace("lung-fm", "heart-fm"))
    assert [(item.line, item.code) for item in report.findings] == [
        (2, "project-unknown"),
        (11, "isolation-insufficient"),
    ]
    assert report.exit_code == 4


def test_without_a_context_only_the_form_is_checked(home):
    report = speccheck.check(home / "work/spec.yaml", None)
    assert report.ok and report.decision is None


def test_a_spec_that_is_no_yaml_is_told_with_its_line(home):
    report = _check(home, "a: 1\nb: [\n")
    assert [item.code for item in report.findings] == ["malformed-document"]
    assert report.findings[0].line == 3


def test_an_altered_grant_in_the_context_is_not_believed(home, party):
    value = json.loads((home / "grant.json").read_text())
    other = {**GRANT, "limits": {**GRANT["limits"], "nodes": 1000}}
    value["payload"] = json.loads(party.sign("grant", other).to_bytes())["payload"]
    (home / "grant.json").write_text(json.dumps(value))
    with pytest.raises(HdrsError) as caught:
        context.load(home / "hdrs-hpc.toml")
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize(
    "change",
    [
        ("person", "persona"),
        ("root.json", "missing.json"),
        ("nodes = 4", "nodes = 0"),
        ("[cluster]", "[clus"),
    ],
)
def test_a_context_that_can_not_be_used_is_named(home, change):
    file = home / "hdrs-hpc.toml"
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(context.ContextUnusableError) as caught:
        context.load(file)
    assert caught.value.where == str(file)


def test_a_draft_adds_what_makes_it_binding(home, party):
    root = party.root()
    drafted = specdraft.build(home / "work/spec.yaml", root, now=NOON)
    spec = JobSpec.from_payload(drafted.payload)
    assert spec == drafted.spec
    assert (spec.audience, spec.trust_root) == ("north-sde", root.digest)
    assert (spec.not_before, spec.expires) == (NOON, NOON + timedelta(days=7))
    assert spec.workload.bundle is not None and drafted.bundle is not None
    assert spec.workload.bundle.digest == bundle.digest(drafted.bundle)
    assert spec.workload.bundle.size == len(drafted.bundle)
    written = strict_yaml.load(SPEC.encode())[0]
    signed = strict_json.loads(drafted.payload)
    assert {key: signed[key] for key in written if key != "workload"} == {
        key: written[key] for key in written if key != "workload"
    }, "what was written is signed as it was written"


CHART = """
  bars: {class: chart, data: cohort, spec: ./bars.vl.json}
  model: {class: weights, path: m.safetensors, keep: project, architecture: ./model.json, max-size: 1MiB}
"""


def test_files_of_outputs_are_pinned_by_their_digests(home, party):
    (home / "work/spec.yaml").write_text(SPEC.rstrip() + CHART)
    with pytest.raises(specdraft.InputFileMissingError) as caught:
        specdraft.build(home / "work/spec.yaml", party.root())
    assert caught.value.where == "outputs.bars.spec"
    digests = set()
    for text in (b'{"mark": "bar"}', b'{"mark": "line"}'):
        (home / "work/bars.vl.json").write_bytes(text)
        (home / "work/model.json").write_bytes(b"{}")
        drafted = specdraft.build(home / "work/spec.yaml", party.root())
        signed = strict_json.loads(drafted.payload)["outputs"]
        expected = {"digest": f"sha256:{hashlib.sha256(text).hexdigest()}", "size": len(text)}
        assert signed["bars"] == {"class": "chart", "data": "cohort", "spec": expected}
        assert signed["model"]["architecture"]["size"] == 2
        digests.add(drafted.spec.outputs["bars"].spec.digest)
    assert len(digests) == 2
    report = _check(home)
    assert [item.where for item in report.findings if item.code == "not-built"] == [
        "outputs.bars.class",
    ], "pinned, and still refused by name"


def test_a_missing_file_of_an_output_is_told_where_it_is_named(home):
    report = _check(home, SPEC.rstrip() + CHART)
    assert [(item.code, item.where, item.line) for item in report.findings] == [
        ("input-file-missing", "outputs.bars.spec", 14)
    ]


def test_columns_are_signed_in_the_order_in_which_they_were_written(home, party):
    drafted = specdraft.build(home / "work/spec.yaml", party.root())
    assert list(strict_json.loads(drafted.payload)["outputs"]["cohort"]["columns"]) == ["site", "n"]
    (home / "work/spec.yaml").write_text(
        SPEC.replace("{site: {key: [a]}, n: {count: patients}}", "{n: {count: patients}, site: {key: [a]}}")
    )
    drafted = specdraft.build(home / "work/spec.yaml", party.root())
    assert list(drafted.spec.outputs["cohort"].columns) == ["n", "site"]


def test_two_drafts_of_one_spec_have_two_nonces_and_one_bundle(home, party):
    first, second = (specdraft.build(home / "work/spec.yaml", party.root(), now=NOON) for _ in range(2))
    assert first.spec.nonce != second.spec.nonce
    assert first.bundle == second.bundle


def test_a_changed_line_of_code_is_another_bundle(home, party):
    first = specdraft.build(home / "work/spec.yaml", party.root()).spec.workload.bundle
    (home / "work/code/cohort/main.py").write_text("def run(context): return 1\n")
    second = specdraft.build(home / "work/spec.yaml", party.root()).spec.workload.bundle
    assert first is not None and second is not None and first.digest != second.digest


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda code: (code / "hdrs_hpc.py").write_text(""), "bundle-shadows-names"),
        (
            lambda code: (code / "connectors").mkdir() or (code / "connectors/x.py").write_text(""),
            "bundle-shadows-names",
        ),
        (lambda code: (code / "link").symlink_to("/etc/passwd"), "bundle-malformed"),
        (
            lambda code: (code / "cohort/main.py").unlink() or (code / "a.py").write_text(""),
            "entry-not-in-bundle",
        ),
        (lambda code: (code / "cohort/main.py").unlink(), "bundle-malformed"),
        (lambda code: (code / "big.bin").write_bytes(bytes(17 << 20)), "bundle-too-large"),
    ],
)
def test_a_bundle_that_the_broker_would_refuse_is_refused_here(home, spoil, code):
    spoil(home / "work/code")
    report = _check(home)
    assert [item.code for item in report.findings] == [code]
    assert report.findings[0].line == 9


def test_a_signed_draft_is_believed_as_its_signers(home, party, tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    value = party.root_value()
    value["people"]["rae"]["keys"] = [(tmp_path / "key.pub").read_text().strip()]
    root = trust.load_root(party.sign("trust-root", value, "ada", "bob").to_bytes(), None)
    envelope = specdraft.build(home / "work/spec.yaml", root).sign(key, root.document)
    found = trust.verify(Envelope.parse(envelope.to_bytes()), kinds.JOB_SPEC, root)
    assert found.people == ("rae",)


@pytest.mark.parametrize("kind", [None, *workloads.built()])
def test_a_new_spec_passes_the_check_once_its_purpose_is_said(home, kind):
    grant = Grant.from_value({**GRANT, "outputs": {**GRANT["outputs"], "metrics": {}}})
    chosen = workloads.KINDS[kind] if kind else None
    text = spectemplate.render("first", grant=grant, kind=chosen).replace(
        unfilled.PURPOSE, "See what is there"
    )
    if chosen is not None:
        shutil.rmtree(home / "work/code", ignore_errors=True)
        assert spectemplate.write_code(chosen, home / "work")
    report = speccheck.check(_file(home, text), None)
    assert report.ok, report.findings


def test_a_new_spec_for_own_code_declares_what_its_example_writes(home):
    kind = workloads.KINDS[workloads.built()[0]]
    text = spectemplate.render("first", grant=None, kind=kind)
    declared = strict_yaml.load(text.encode())[0]["outputs"]
    assert {Path(item["path"]).suffix for item in declared.values()} == set(kind.example.writes) == {".json"}


def _file(home, text: str) -> Path:
    path = home / "work/new.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("stem", "name"), [("My Spec_2", "my-spec-2"), ("7up", "first-look"), ("é", "first-look"), ("ok", "ok")]
)
def test_a_spec_is_named_after_its_file(stem, name):
    assert spectemplate.name_from(stem) == name


def test_a_check_never_raises_for_what_a_person_wrote(home):
    for text in ("", "null", "7", "- a", "schema: 7", "schema: hdrs-hpc/job-spec/2", "\0", "a: &b 1"):
        report = _check(home, text)
        assert not report.ok and report.exit_code == 3


def test_reading_a_spec_raises_only_our_errors(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadDocumentError):
        specdraft.read(path)


def test_a_context_with_another_trust_root_than_the_pinned_one_is_refused(home, party):
    other = party.sign("trust-root", party.root_value(audience="elsewhere"), "ada", "bob")
    (home / "root.json").write_bytes(other.to_bytes())
    with pytest.raises(HdrsError) as caught:
        context.load(home / "hdrs-hpc.toml")
    assert caught.value.code == "trust-root-mismatch"


def test_faults_of_the_code_are_told_with_their_own_file_and_line(home):
    code = home / "work/code/cohort/main.py"
    code.write_text("import torch\n\n\ndef run(context):\n    context.output('cohrt')\n")
    report = _check(home)
    assert [(item.code, item.where, item.line) for item in report.findings] == [
        ("output-not-in-spec", "./code/cohort/main.py:5", 9)
    ]
    assert [(item.code, item.where) for item in report.warnings] == [
        ("import-unknown", "./code/cohort/main.py:1")
    ]
    assert report.exit_code == 3 and report.as_dict()["warnings"][0]["code"] == "import-unknown"
    code.write_text("import torch\n\n\ndef run(context):\n    context.output('cohort')\n")
    report = _check(home)
    assert report.ok and report.decision is not None and len(report.warnings) == 1


def test_a_person_in_the_singular_is_told_to_be_no_unit(home):
    report = _check(home, SPEC.replace("count: patients", "count: patient"))
    assert report.ok
    assert [(item.code, item.where, item.message) for item in report.warnings] == [
        ("count-of-things", "outputs.cohort.columns.n", "'patient' is no unit of people; write patients")
    ]


def test_a_modality_that_dicom_does_not_have_is_told(home):
    report = _check(home, SPEC.replace("north-chest-ct}", "north-chest-ct, select: {Modality: [CTT]}}"))
    assert [(item.code, item.line, item.message) for item in report.warnings] == [
        ("modality-unknown", 6, "'CTT' is no modality of DICOM; did you mean CT?")
    ]


def test_the_line_of_a_tab_is_told_once(home):
    (found,) = _check(home, "a:\n\tb: 1\n").findings
    assert (found.code, found.line) == ("yaml-tab", 2) and "line" not in found.where


def test_every_finding_of_code_is_explained():
    from hdrs_hpc.cli import reasons

    known = {item.code for item in reasons.known()}
    assert {"bundle-syntax", "entry-not-in-module", "output-not-in-spec", "import-unknown"} <= known
