"""Models: all faults at once, each with its code and place; domain rules; the way to bytes and back."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from party import DUTIES, GRANT, OTHERS, REGISTRATION, changed
from party import SPEC as SPEC_OF_TABLES

from hdrs_hpc.core import strict_json, strict_yaml
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents import kinds
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.models.dataset import counted
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec, JobSpecDraft
from hdrs_hpc.forms.document import InvalidDocumentError
from hdrs_hpc.forms.words import memory_text, parse_memory, parse_size, parse_walltime, size_text
from hdrs_hpc.policy import charging

INTERFACES_SPEC = """\
schema: hdrs-hpc/job-spec/2
project: lung-fm
name: spacing-and-stain
purpose: Check spacing and stain balance before pretraining
data:
  ct:
    dataset: north-chest-ct
    select: {Modality: [CT], StudyDate: 2019-01-01/2023-12-31}
  slides: {dataset: north-lung-he}
inputs:
  encoder: {job: 7K3QW2, output: encoder}
workload:
  kind: dask
  bundle: ./cohort
  entry: cohort.main:run
  parameters: {bins: 64}
resources:
  nodes: 2
  cpus-per-task: 16
  mem: 64G
  gres: gpu:4
  time: "02:00:00"
outputs:
  cohort:
    class: table
    path: cohort.csv
    max-size: 1MiB
    columns:
      Modality:   {key: [CT, MR]}
      n_patients: {count: patients}
      mean_hu:    {measure: mean, from: -1000, to: 1000, step: 1, n: n_patients}
      share:      {derive: share, of: n_patients}
  spacing: {class: image, path: spacing.png, data: cohort, max-size: 2MiB}
  encoder: {class: weights, path: enc.safetensors, keep: project, max-size: 2GiB}
"""
INTERFACES_GRANT = """\
schema: hdrs-hpc/grant/2
project: lung-fm
version: 1
title: Self-supervised pretraining on chest CT and lung H&E
approval: {body: North SDE Data Access Committee, reference: DAC-2026-0142}
valid: {from: 2026-12-01, run-until: 2027-06-30, review-grace: 14d, destroy-by: 2027-07-31}
people: {lead: okafor, researchers: [okafor, lindqvist]}
lay-summary: Computers learn from chest scans, so that they help to find disease earlier
legal-basis: {article6: 6(1)(e), article9: 9(2)(j)}
use: [DUO:0000007, DUO:0000042]
contact: dac@north.example
data:
  north-chest-ct:
    version: sha256:9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c
    select: {BodyPartExamined: [CHEST], StudyDate: 2019-01-01/2023-12-31}
    profile: radiology-basic@1
    max-failed: 50
  north-lung-he:
    version: sha256:4141414141414141414141414141414141414141414141414141414141414141
    profile: slide-basic@1
workloads:
  builtin: [cohort-summary@1]
  own-code: reviewed
limits:
  clusters: [isambard-ai]
  isolation: sandboxed
  nodes: 8
  time: "24:00:00"
  gpu-hours: 20000
  bundle-size: 16MiB
outputs:
  reviewers: 2
  table: {min-count: 10, round: 5}
  image: {}
  metrics: {}
  weights: {keep: project}
"""
DECLARED = {"class": "table", "path": "cohort.csv", "max-size": "1MiB"}
FIGURE = {"class": "image", "path": "spacing.png", "data": "cohort", "max-size": "2MiB"}
SPEC = changed(SPEC_OF_TABLES, "outputs/spacing", FIGURE)
SUMMARY = {"class": "metrics", "path": "m.json", "counts": ["n"], "max-size": "1KiB"}
METRICS_OF_65_KIB = {"class": "metrics", "path": "m.json", "max-size": "65KiB"}


def _codes(model, value) -> list[tuple[str, str]]:
    with pytest.raises(InvalidDocumentError) as caught:
        model.from_value(value)
    return [(item.code, item.where) for item in caught.value.findings]


def test_the_spec_that_people_are_shown_is_read_as_they_mean_it():
    spec = JobSpecDraft.from_value(strict_yaml.load(INTERFACES_SPEC.encode())[0])
    assert spec.resources.mem == 65536
    assert spec.resources.time == 7200
    assert spec.resources.gpus_per_node == 4
    assert charging.gpu_hours(spec.resources, None) == 16
    assert spec.outputs["encoder"].max_size == 2147483648
    assert list(spec.outputs["cohort"].columns) == ["Modality", "n_patients", "mean_hu", "share"]
    assert spec.workload.parameters == {"bins": 64}


def test_the_grant_that_people_are_shown_is_read_as_they_mean_it():
    grant = Grant.from_value(strict_yaml.load(INTERFACES_GRANT.encode())[0])
    assert grant.valid.from_ == datetime(2026, 12, 1, tzinfo=UTC)
    assert grant.valid.run_until == datetime(2027, 7, 1, tzinfo=UTC), "the last day counts whole"
    assert grant.valid.destroy_by == datetime(2027, 8, 1, tzinfo=UTC)
    assert grant.valid.review_grace == timedelta(days=14)
    assert grant.limits.time == 86400
    assert grant.everyone == {"okafor", "lindqvist"}

    assert grant.limits.bundle_size == 16 << 20
    assert grant.limits.network == "none" and grant.limits.kept_size is None and grant.outputs.bits is None


def test_a_grant_of_the_version_before_is_told_what_to_change():
    with pytest.raises(InvalidDocumentError) as caught:
        Grant.from_value({**GRANT, "schema": "hdrs-hpc/grant/1"})
    message = caught.value.findings[0].message
    assert "must be hdrs-hpc/grant/2" in message
    for field in ("lay-summary", "legal-basis", "use", "contact", "limits.bundle-size"):
        assert field in message


@pytest.mark.parametrize(
    "kind", [row for row in KINDS.values() if row.version > 1 and row.model_place], ids=lambda row: row.name
)
def test_every_format_with_a_version_before_tells_what_changed(kind):
    older = f"hdrs-hpc/{kind.name}/{kind.version - 1}"
    with pytest.raises(InvalidDocumentError) as caught:
        kind.model.from_value({"schema": older})
    assert f"since {older} " in caught.value.findings[0].message


@pytest.mark.parametrize("schema", ["hdrs-hpc/grant/3", "hdrs-hpc/job-spec/1", 1, None])
def test_another_format_is_not_told_how_to_become_a_grant(schema):
    with pytest.raises(InvalidDocumentError) as caught:
        Grant.from_value({**GRANT, "schema": schema})
    assert caught.value.findings[0].message == "here `schema` must be hdrs-hpc/grant/2"


def test_every_fault_is_reported_at_once():
    value = changed(SPEC, "project", "Lung FM")
    value["surprise"] = 1
    value["resources"]["nodes"] = "two"
    value["resources"]["cpu-per-task"] = value["resources"].pop("cpus-per-task")
    del value["outputs"]["cohort"]["max-size"]
    assert sorted(_codes(JobSpec, value)) == [
        ("bad-name", "project"),
        ("missing-field", "outputs.cohort.max-size"),
        ("missing-field", "resources.cpus-per-task"),
        ("unknown-field", "resources.cpu-per-task"),
        ("unknown-field", "surprise"),
        ("wrong-type", "resources.nodes"),
    ]


def test_a_misspelt_field_is_answered_with_the_one_that_was_meant():
    with pytest.raises(InvalidDocumentError) as caught:
        JobSpec.from_value({**SPEC, "porpose": "x"})
    assert "did you mean" not in caught.value.findings[0].message, "it is there already"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("output", "outputs"),
        ("resources/cpu-per-task", "cpus-per-task"),
        ("outputs/cohort/maxsize", "max-size"),
        ("outputs/cohort/columns/site/kye", None),
        ("outputs/cohort/columns/site/aslo", "also"),
    ],
)
def test_the_field_that_was_meant_is_one_of_that_very_place(written, meant):
    *place, name = written.split("/")
    value = copy.deepcopy(SPEC)
    part = value
    value["outputs"]["cohort"]["columns"] = {"site": {"key": ["a"]}, "n": {"count": "patients"}}
    for step in place:
        part = part[step]
    part[name] = part.pop(meant, ["b"])
    with pytest.raises(InvalidDocumentError) as caught:
        JobSpec.from_value(value)
    messages = [item.message for item in caught.value.findings if item.code == "unknown-field"]
    hint = f"; did you mean {meant!r}?" if meant else ""
    assert messages == [f"the format has no field {name!r} here{hint}"]


@pytest.mark.parametrize(
    ("key", "where", "code"),
    [
        ({"vocabulary": "planets@1"}, ".vocabulary", "bad-column"),
        ({"grid": {"from": 0, "to": 1}}, ".grid.step", "missing-field"),
        ({}, "", "bad-column"),
        ("CT", "", "wrong-type"),
        ([], "", "bad-value"),
    ],
)
def test_a_wrong_key_of_a_column_is_one_fault_at_its_plain_place(key, where, code):
    columns = {"site": {"key": key}, "n": {"count": "patients"}}
    with pytest.raises(InvalidDocumentError) as caught:
        JobSpec.from_value(changed(SPEC, "outputs/cohort/columns", columns))
    assert [(item.where, item.code) for item in caught.value.findings] == [
        (f"outputs.cohort.columns.site.key{where}", code)
    ]


@pytest.mark.parametrize(
    ("path", "new", "code", "where"),
    [
        ("schema", "hdrs-hpc/job-spec/1", "unknown-schema", "schema"),
        ("schema", ..., "missing-field", "schema"),
        ("name", "-x", "bad-name", "name"),
        ("name", "a" * 41, "bad-name", "name"),
        ("name", "name\n", "bad-name", "name"),
        ("name", "náme", "bad-name", "name"),
        ("purpose", "too short", "bad-value", "purpose"),
        ("purpose", "hides \u202e backwards", "bad-value", "purpose"),
        ("purpose", "escapes \x1b[2J the terminal", "bad-value", "purpose"),
        ("data", {}, "bad-value", "data"),
        ("data/ct/select", {"modality": ["CT"]}, "bad-selection", "data.ct.select.modality"),
        ("data/ct/select/Modality", "CT", "bad-selection", "data.ct.select.Modality"),
        ("data/ct/select/Modality", [], "bad-selection", "data.ct.select.Modality"),
        ("data/ct/select/Modality", [7], "bad-selection", "data.ct.select.Modality"),
        ("data/ct/select/Modality", ["CT", "CT"], "bad-selection", "data.ct.select.Modality"),
        (
            "data/ct/select",
            {"StudyDate": "2020-01-02/2020-01-01"},
            "bad-selection",
            "data.ct.select.StudyDate",
        ),
        ("data/ct/select", {"StudyDate": "2020-13-01/2021-01-01"}, "bad-date", "data.ct.select.StudyDate"),
        ("data/ct/select", {"StudyDate": ["2020-01-01"]}, "bad-selection", "data.ct.select"),
        ("data/ct/select", {"Modality": "2020-01-01/2021-01-01"}, "bad-selection", "data.ct.select"),
        ("workload/entry", "a:b", "workload-ambiguous", "workload"),
        ("workload/builtin", ..., "workload-ambiguous", "workload"),
        ("workload/builtin", "cohort-summary", "bad-value", "workload.builtin"),
        ("workload/parameters", {"x": "y" * 70000}, "parameters-too-large", "workload.parameters"),
        ("resources/nodes", True, "wrong-type", "resources.nodes"),
        ("resources/nodes", 1.0, "wrong-type", "resources.nodes"),
        ("resources/nodes", 0, "bad-value", "resources.nodes"),
        ("resources/mem", "64GB", "bad-memory", "resources.mem"),
        ("resources/mem", 64, "wrong-type", "resources.mem"),
        ("resources/gres", "gpu", "bad-gres", "resources.gres"),
        ("resources/gres", "gpu:0", "bad-gres", "resources.gres"),
        ("resources/gres", "gpu:1\n#SBATCH --uid=0", "bad-gres", "resources.gres"),
        ("resources/time", "2:00", "bad-walltime", "resources.time"),
        ("resources/time", "00:00:30", "bad-walltime", "resources.time"),
        ("resources/time", 7200, "wrong-type", "resources.time"),
        ("outputs/cohort/path", "/etc/passwd.csv", "output-path-refused", "outputs.cohort.path"),
        ("outputs/cohort/path", "a/../b.csv", "output-path-refused", "outputs.cohort.path"),
        ("outputs/cohort/path", "./b.csv", "output-path-refused", "outputs.cohort.path"),
        ("outputs/cohort/path", ".b.csv", "output-path-refused", "outputs.cohort.path"),
        ("outputs/cohort/path", "a\\b.csv", "output-path-refused", "outputs.cohort.path"),
        ("outputs/cohort/path", "a//b.csv", "output-path-refused", "outputs.cohort.path"),
        ("outputs/cohort/path", "a.csv\n", "output-path-refused", "outputs.cohort.path"),
        ("outputs/cohort/path", "a.pkl", "output-suffix", "outputs.cohort"),
        ("outputs/cohort/class", "notebook", "bad-value", "outputs.cohort.class"),
        ("outputs/cohort/max-size", "1MB", "bad-size", "outputs.cohort.max-size"),
        ("outputs/cohort/max-size", "9MiB", "output-size-limit", "outputs.cohort"),
        ("outputs/spacing/max-size", "65MiB", "output-size-limit", "outputs.spacing"),
        ("outputs/cohort", METRICS_OF_65_KIB, "output-size-limit", "outputs.cohort"),
        ("resources/nodes", 65, "bad-value", "resources.nodes"),
        ("resources/time", "30-00:00:01", "bad-walltime", "resources.time"),
        ("outputs/spacing/data", "spacing", "output-without-table", "outputs"),
        ("outputs/spacing/data", ..., "output-without-table", "outputs"),
        ("outputs/spacing/counts", ["n"], "unknown-field", "outputs.spacing.counts"),
        ("outputs/spacing/measures", ["n"], "unknown-field", "outputs.spacing.measures"),
        ("outputs/cohort/counts", ["n_patients"], "columns-not-declared", "outputs.cohort"),
        ("outputs/cohort/measures", ["n_patients"], "columns-not-declared", "outputs.cohort"),
        ("outputs/cohort/columns", ..., "columns-not-declared", "outputs.cohort"),
        ("outputs/cohort", SUMMARY | {"measures": ["n"]}, "counts-misplaced", "outputs.cohort"),
        (
            "outputs/cohort",
            SUMMARY | {"columns": {"n": {"count": "patients"}}},
            "counts-misplaced",
            "outputs.cohort",
        ),
        *(
            ("outputs/cohort", DECLARED | {"columns": columns}, code, where)
            for columns, code, where in (
                ({"site": {"key": ["a"]}}, "table-without-count", "outputs.cohort"),
                ({"n": {"count": "patients"}, "x": {}}, "bad-column", "outputs.cohort.columns.x"),
                ({"n": {"counts": "patients"}}, "bad-column", "outputs.cohort.columns.n"),
                ({"n": {"count": "patients", "of": 3}}, "unknown-field", "outputs.cohort.columns.n.of"),
                ({"n": {"count": ["n"]}}, "wrong-type", "outputs.cohort.columns.n.count"),
                (
                    {"n": {"count": "p"}, "m": {"measure": "mean", "from": 0, "to": 9, "step": 1, "n": "x"}},
                    "bad-column",
                    "outputs.cohort.columns",
                ),
                (
                    {"n": {"count": "p"}, "m": {"measure": "mean", "from": 9, "to": 0, "step": 1}},
                    "bad-column",
                    "outputs.cohort.columns.m",
                ),
                (
                    {"n": {"count": "p"}, "m": {"measure": "mode", "from": 0, "to": 9, "step": 1}},
                    "bad-value",
                    "outputs.cohort.columns.m.measure",
                ),
            )
        ),
        ("outputs/cohort/path", "spacing.png/c.csv", "output-clash", "outputs"),
        ("nonce", "ILOU5678901234567890123456", "bad-value", "nonce"),
        ("trust-root", "sha256:ABC", "bad-digest", "trust-root"),
        ("expires", "2027-01-22", "bad-date", "expires"),
        ("expires", "2027-01-22T00:00:00+01:00", "bad-date", "expires"),
        ("expires", "2027-01-15T00:00:00Z", "dates-out-of-order", ""),
        ("expires", "2027-03-15T00:00:00Z", "dates-out-of-order", ""),
    ],
)
def test_a_spec_with_one_mistake_is_refused_for_it(path, new, code, where):
    value = changed(SPEC, path, new)
    assert _codes(JobSpec, value) == [(code, where)]


@pytest.mark.parametrize(
    ("path", "new", "code", "where"),
    [
        ("valid/run-until", "2026-11-01", "dates-out-of-order", "valid"),
        ("valid/destroy-by", "2027-06-01", "dates-out-of-order", "valid"),
        ("valid/review-grace", "2 weeks", "bad-duration", "valid.review-grace"),
        ("valid/from", "2026-02-30", "bad-date", "valid.from"),
        ("version", 2, "supersedes-mismatch", ""),
        ("people/researchers", [], "bad-value", "people.researchers"),
        ("people/researchers", "rae", "wrong-type", "people.researchers"),
        ("workloads/own-code", "all", "bad-value", "workloads.own-code"),
        ("limits/bundle-size", ..., "bundle-size-unsaid", ""),
        ("limits/bundle-size", 16, "wrong-type", "limits.bundle-size"),
        ("limits/network", "all", "bad-value", "limits.network"),
        ("lay-summary", ..., "missing-field", "lay-summary"),
        ("lay-summary", "Research.", "bad-value", "lay-summary"),
        ("legal-basis", ..., "missing-field", "legal-basis"),
        ("legal-basis/article6", "6(1)(g)", "legal-basis", "legal-basis.article6"),
        ("legal-basis/article6", "6(1)(e)\n", "legal-basis", "legal-basis.article6"),
        ("legal-basis/article9", "9(2)(k)", "legal-basis", "legal-basis.article9"),
        ("use", [], "data-use-term", "use"),
        ("use", ["DUO:0000042", "DUO:0000042"], "data-use-term", "use"),
        ("use", ["DUO:0000001"], "data-use-term", "use[0]"),
        ("use", ["general research"], "data-use-term", "use[0]"),
        ("contact", "", "bad-value", "contact"),
        ("outputs/bits", 0, "bad-value", "outputs.bits"),
        ("limits/isolation", "none", "bad-value", "limits.isolation"),
        ("outputs/table/min-count", 0, "bad-value", "outputs.table.min-count"),
        ("outputs/pickle", {}, "unknown-field", "outputs.pickle"),
        ("data/north-chest-ct/profile", "basic", "bad-value", "data.north-chest-ct.profile"),
        ("data/north-chest-ct/columns", {"age": "age"}, "bad-columns", "data.north-chest-ct.columns"),
        (
            "data/north-chest-ct/columns",
            {"id": "patient-id", "sex": "category"},
            "bad-columns",
            "data.north-chest-ct.columns.sex",
        ),
        (
            "data/north-chest-ct/columns",
            {"id": "patient-id", "note": "text"},
            "bad-value",
            "data.north-chest-ct.columns.note.rule",
        ),
    ],
)
def test_a_grant_with_one_mistake_is_refused_for_it(path, new, code, where):
    assert _codes(Grant, changed(GRANT, path, new)) == [(code, where)]


def test_the_rules_of_a_table_s_columns_survive_the_way_to_bytes_and_back():
    columns = {
        "nhs_number": {"rule": "patient-id", "issuer": "NHS"},
        "diagnosed": {"rule": "shifted-date", "within": "2019-01-01/2020-12-31"},
        "stage": {"rule": "category", "values": ["I", "II"], "only": True},
        "age": "age",
    }
    grant = Grant.from_value(changed(GRANT, "data/north-chest-ct/columns", columns))
    again = Grant.from_payload(grant.to_payload())
    assert again == grant
    assert again.data["north-chest-ct"].columns["age"].rule == "age"


def test_a_certificate_is_not_issued_while_a_check_fails():
    value = changed(OTHERS["certificate"][1], "checks/0/result", "failed")
    assert _codes(kinds.CERTIFICATE.model, value) == [("bad-value", "")]


def test_a_certificate_that_can_prove_everything_is_not_believed():
    value = changed(OTHERS["certificate"][1], "cannot-prove", [])
    assert _codes(kinds.CERTIFICATE.model, value) == [("bad-value", "cannot-prove")]


def test_a_keystore_that_only_unlinks_gives_no_hardware_assurance():
    value = changed(OTHERS["certificate"][1], "assurance", "hardware-keystore")
    assert _codes(kinds.CERTIFICATE.model, value) == [("bad-value", "")]


def test_an_artefact_is_decided_once():
    value = OTHERS["output-decision"][1]
    twice = {**value, "decisions": value["decisions"] * 2}
    assert _codes(kinds.OUTPUT_DECISION.model, twice) == [("bad-value", "")]


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "handover-answer"])
def test_a_document_survives_the_way_to_bytes_and_back(party, kind):
    model = KINDS[kind].model
    first = model.from_payload(party.signed(kind).payload)
    assert model.from_payload(first.to_payload()) == first


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "malformed-document"),
        (b"7", "invalid-document"),
        (b'{"schema": "hdrs-hpc/grant/1", "schema": "hdrs-hpc/grant/1"}', "duplicate-key"),
        (b'{"schema": 1e999}', "malformed-document"),
        (b'{"schema": NaN}', "malformed-document"),
        (b'{"schema": "\\ud800"}', "malformed-document"),
        (b'{"\\ud800": 1}', "malformed-document"),
        (b'{"a":' * 30 + b"1" + b"}" * 30, "document-too-deep"),
        (b" " * (2 << 20), "document-too-large"),
    ],
)
def test_payloads_are_bounded_and_strict(raw, code):
    with pytest.raises(BadDocumentError) as caught:
        Grant.from_payload(raw)
    assert caught.value.code == code


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(SPEC)), _JSON)
def test_any_value_in_any_field_is_taken_or_refused_but_never_crashes(field, new):
    try:
        payload = strict_json.dumps({**SPEC, field: new})
    except UnicodeEncodeError:
        return
    try:
        JobSpec.from_payload(payload)
    except BadDocumentError as error:
        assert error.code


@given(st.integers(1, 10**12))
def test_sizes_are_read_back_as_written(size):
    assert parse_size(size_text(size)) == size


@given(st.integers(1, 10**6))
def test_memory_is_read_back_as_written(mebibytes):
    assert parse_memory(memory_text(mebibytes)) == mebibytes


def test_run_times_are_read_as_slurm_does():
    assert parse_walltime("02:00:00") == 7200
    assert parse_walltime("1-12:00:01") == 129601
    assert parse_walltime("99:59:59") == 359999


def test_a_spec_may_ask_for_what_agents_and_output_check_take_and_for_no_more():
    from hdrs_hpc.catalogue import outputs
    from hdrs_hpc.core import limits
    from hdrs_hpc.forms import words

    assert limits.MAX_NODES == 64
    assert {row.name: row.max_bytes for row in outputs.BUILT} == {
        "table": 8 << 20,
        "metrics": 64 << 10,
        "image": 64 << 20,
    }
    assert words.MAX_WALLTIME_S == 30 * 86400


def test_every_kind_of_document_has_its_own_type_and_namespace():
    assert len({kind.payload_type for kind in KINDS.values()}) == len(KINDS) == 13
    assert kinds.GRANT.payload_type == "application/vnd.hdrs-hpc.grant+json"
    assert kinds.GRANT.namespace == "hdrs-hpc/grant@1"
    assert {name for name, kind in KINDS.items() if kind.role == "broker"} == set(DUTIES)


def test_a_registration_states_where_data_lie():
    assert _codes(kinds.DATASET_REGISTRATION.model, changed(REGISTRATION, "source/type", "ftp")) == [
        ("bad-value", "source")
    ]


def test_a_registration_says_that_its_number_counts_files_and_no_patients():
    assert counted("radiology", 84_211).startswith("84,211 files that the scan listed; staging makes series")
    assert counted("pathology", 1).startswith("1 file that the scan listed")
    assert "none of them is one patient" in counted("table", 2)
