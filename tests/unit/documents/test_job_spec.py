"""``job-spec/2`` as people are shown it: the whole is read, what later versions do is refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from party import SPEC, TWOS, changed

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.core import strict_yaml
from hdrs_hpc.documents.models.job_spec import DraftFile, JobSpec, JobSpecDraft, KeptArtefact
from hdrs_hpc.forms.document import InvalidDocumentError
from hdrs_hpc.policy import not_built

WHOLE = """\
schema: hdrs-hpc/job-spec/2
project: lung-fm
name: mae-chest
purpose: Pretrain an encoder on chest CT for nodule triage
data:
  ct:
    dataset: north-chest-ct
    select: {Modality: [CT], StudyDate: 2019-01-01/2023-12-31}
inputs:
  start:   {file: ./vit-small.safetensors, source: timm vit_small_patch16_224, licence: Apache-2.0}
  encoder: {job: 7K3QW2, output: encoder}
workload:
  kind: torch
  bundle: ./mae
  entry: mae.train:main
  parameters: {model: vit-small, epochs: 20}
  sweep: {lr: [1.0e-4, 3.0e-4]}
resources:
  nodes: 2
  cpus-per-task: 64
  mem: 256G
  gres: gpu:4
  time: "12:00:00"
attempts: {at-most: 5, after: [node-failure, preemption, time-limit]}
checkpoints: {keep: 2, max-size: 20GiB}
progress: {loss: {from: 0, to: 2}}
outputs:
  encoder: {class: weights, keep: project, path: encoder.safetensors, architecture: ./mae/encoder.json, max-size: 2GiB}
  cohort:
    class: table
    path: cohort.csv
    max-size: 1MiB
    columns:
      Modality: {key: [CT, MR]}
      n_patients: {count: patients}
      mean_hu: {measure: mean, from: -1000, to: 1000, step: 1, n: n_patients}
      share: {derive: share, of: n_patients}
  spacing: {class: chart, data: cohort, spec: ./charts/spacing.vl.json}
"""
BUNDLE = {"digest": TWOS, "size": 10240}
COMMAND = {"kind": "command", "bundle": BUNDLE, "run": ["python3", "mine.py"]}
FILE = {"file": {"digest": TWOS, "size": 7}, "source": "timm", "licence": "Apache-2.0"}


def _codes(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidDocumentError) as caught:
        JobSpec.from_value(value)
    return [(item.code, item.where) for item in caught.value.findings]


def test_the_whole_spec_is_read_as_its_author_means_it():
    spec = JobSpecDraft.from_value(strict_yaml.load(WHOLE.encode())[0])
    assert isinstance(spec.inputs["start"], DraftFile) and spec.inputs["start"].licence == "Apache-2.0"
    assert isinstance(spec.inputs["encoder"], KeptArtefact) and spec.inputs["encoder"].job == "7K3QW2"
    assert (spec.workload.kind, spec.workload.entry, spec.workload.builtin) == (
        "torch",
        "mae.train:main",
        None,
    )
    assert spec.workload.parameters == {"model": "vit-small", "epochs": 20}
    assert spec.workload.sweep == {"lr": (1.0e-4, 3.0e-4)}
    assert spec.attempts is not None and spec.attempts.at_most == 5
    assert spec.checkpoints is not None and spec.checkpoints.max_size == 20 << 30
    assert (spec.progress["loss"].from_, spec.progress["loss"].to) == (0, 2)


def test_everything_of_it_that_this_version_does_not_do_is_named():
    spec = JobSpecDraft.from_value(strict_yaml.load(WHOLE.encode())[0])
    assert sorted(item.where for item in not_built.in_spec(spec)) == [
        "attempts",
        "checkpoints",
        "inputs.start",
        "outputs.cohort.columns.share",
        "outputs.spacing.class",
        "progress",
        "resources.nodes",
        "workload.sweep",
    ]


def test_a_spec_that_asks_for_nothing_unbuilt_is_left_alone():
    assert list(not_built.in_spec(JobSpec.from_value(SPEC))) == []


def test_a_spec_of_the_version_before_is_told_what_to_change():
    with pytest.raises(InvalidDocumentError) as caught:
        JobSpecDraft.from_value({**SPEC, "schema": "hdrs-hpc/job-spec/1"})
    assert "`figure` is an `image`" in caught.value.findings[0].message


@pytest.mark.parametrize(
    ("path", "new", "code", "where"),
    [
        ("inputs", {"x": {"job": "7K3QW2"}}, "missing-field", "inputs.x.output"),
        ("inputs", {"x": {"file": "./w.safetensors", "source": "s", "licence": "l"}}, "wrong-type", "inputs.x.file"),
        ("inputs", {"x": {k: v for k, v in FILE.items() if k != "licence"}}, "missing-field", "inputs.x.licence"),
        ("inputs", {"x": {**FILE, "job": "7K3QW2"}}, "unknown-field", None),
        ("workload/kind", "mpi", "bad-value", "workload.kind"),
        ("workload/kind", 7, "wrong-type", "workload.kind"),
        ("workload", {"kind": "torch", "bundle": BUNDLE}, "missing-field", "workload.entry"),
        ("workload", {"kind": "torch", "entry": "a:b"}, "workload-ambiguous", "workload"),
        ("workload", {"kind": "torch", "bundle": BUNDLE, "entry": "a b"}, "bad-entry", "workload.entry"),
        ("workload", COMMAND | {"run": []}, "bad-value", "workload.run"),
        ("workload", COMMAND | {"entry": "a:b"}, "unknown-field", "workload.entry"),
        ("workload/sweep", {"bins": []}, "sweep-refused", "workload.sweep"),
        ("workload/sweep", {"bins": [1, 1]}, "sweep-refused", "workload.sweep"),
        ("workload/sweep", {"a": list(range(17)), "b": list(range(16))}, "sweep-refused", "workload.sweep"),
        ("attempts", {"at-most": 0, "after": ["preemption"]}, "bad-value", "attempts.at-most"),
        ("attempts", {"at-most": 2, "after": ["crash"]}, "bad-value", "attempts.after[0]"),
        ("attempts", {"at-most": 2, "after": ["preemption", "preemption"]}, "bad-value", "attempts.after"),
        ("checkpoints", {"keep": 2}, "missing-field", "checkpoints.max-size"),
        ("progress", {"loss": {"from": 2, "to": 2}}, "bad-value", "progress.loss"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_new_part_is_refused_where_it_is(path, new, code, where):
    found = _codes(changed(SPEC, path, new))
    assert code in {item for item, _ in found}
    assert where is None or (code, where) in found


def test_a_swept_parameter_has_no_other_value():
    work = SPEC["workload"] | {"parameters": {"bins": 1}, "sweep": {"bins": [1, 2]}}
    assert _codes({**SPEC, "workload": work}) == [("sweep-refused", "workload")]


@pytest.mark.parametrize("work", [
    {"kind": "dask", "builtin": "cohort-summary@1", "sweep": {"bins": [1, 2.5, "x", True]}},
    {"kind": "torch", "bundle": BUNDLE | {"wheels": {"lock": TWOS, "size": 9}}, "entry": "a:b"},
    COMMAND,
])  # fmt: skip
def test_each_kind_survives_the_way_to_bytes_and_back(work):
    spec = JobSpec.from_value({**SPEC, "workload": work, "inputs": {"x": FILE}})
    assert JobSpec.from_payload(spec.to_payload()) == spec


@pytest.mark.parametrize(
    ("output", "field", "refused"),
    [
        ({"class": "chart", "data": "cohort"}, "spec", "class"),
        ({"class": "weights", "path": "m.safetensors", "max-size": "1KiB"}, "architecture", "keep"),
    ],
)
def test_a_draft_names_files_of_outputs_by_path_and_a_signed_spec_by_digest(output, field, refused):
    pinned = {"digest": TWOS, "size": 7}
    named, digested = (
        changed(SPEC, "outputs/made", output | {field: file}) for file in ("./mine.json", pinned)
    )
    spec = JobSpec.from_value(digested)
    assert JobSpec.from_payload(spec.to_payload()) == spec
    assert f"outputs.made.{refused}" in [item.where for item in not_built.in_spec(spec)]
    assert _codes(named) == [("file-not-pinned", "")]
    assert _codes(changed(digested, f"outputs/made/{field}/digest", "x")) == [
        ("bad-digest", f"outputs.made.{field}.digest")
    ]
    added = ("audience", "nonce", "not-before", "expires", "trust-root")
    draft = {name: value for name, value in named.items() if name not in added}
    assert JobSpecDraft.from_value(draft).outputs["made"] is not None
    with pytest.raises(InvalidDocumentError, match="file-not-pinned"):
        JobSpecDraft.from_value({**draft, "outputs": digested["outputs"]})


def test_a_kind_that_is_added_to_the_table_needs_no_edit_of_the_models(monkeypatch):
    from hdrs_hpc.documents.models import workload

    @dataclasses.dataclass(frozen=True)
    class Fields:
        script: str
        words: tuple[str, ...] = ()

    made_up = dataclasses.replace(
        workloads.KINDS["command"], name="made-up", fields=Fields, rules=lambda fields, has_bundle: ()
    )
    monkeypatch.setitem(workloads.KINDS, "made-up", made_up)
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(workload._any_of("Workload", workload.BundleRef))
    read = adapter.validate_python({"kind": "made-up", "script": "x", "words": ["a"]})
    assert (read.kind, read.script, read.words, read.builtin, read.parameters) == (
        "made-up",
        "x",
        ("a",),
        None,
        {},
    )
