"""A new class of output is one module and one row: every room of the house takes it without another edit.

The package is copied, a class ``tally`` is added to the copy, and each room is asked in a process that
imports the copy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import grown_package

ROOT = Path(__file__).resolve().parents[3]
MODULE = '''
"""Tallies: lines of one digit each."""

from typing import Literal

from hdrs_hpc.catalogue.outputs.checking.contract import Checking, NoRule
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError
from hdrs_hpc.catalogue.outputs.output_class import GrantRule, OutputClass, WrittenDeclaration


class NoTallyError(ArtefactRefusedError):
    code = "no-tally"
    meaning = "A line is not one digit."
    remedy = "Write one digit a line."


class TallyRule(GrantRule):
    def sentence(self):
        return "tallies: as they are"


class TallyDeclaration(WrittenDeclaration):
    ENDS_IN = (".tally",)
    MOST_BYTES = 1024

    class_: Literal["tally"]
    digits: Literal["few", "many"] = "few"


class Tally:
    findings = ()

    def __init__(self, lines):
        self.lines = lines

    def sheet(self):
        return None

    def compare(self, neighbours):
        pass

    def rebuild(self, rule, pattern, out):
        out.write(b"".join(b"%s\\n" % line for line in self.lines))
        return {"lines": len(self.lines)}


def read(declared, source, seen, rule, inputs, out):
    lines = source.read().split()
    if not all(len(line) == 1 and line.isdigit() for line in lines):
        raise NoTallyError()
    return Tally(lines)


CLASS = OutputClass(
    name="tally",
    rule=TallyRule,
    declaration=TallyDeclaration,
    checking=lambda: Checking("text/x-tally", lambda granted: NoRule(), read),
    sentences=lambda report: [f"{report['repaired']['lines']} lines written anew."] if report["repaired"] else [],
    written_in=frozenset({"tally"}),
    begins_with=b"1\\n",
    preview="text",
    format="digits",
    holds="one digit a line",
    comes_out_as="the same digits",
    paragraph="A tally is kept with chalk.",
    grant_example="{}",
    spec_example=("marks: {class: tally, path: marks.tally, max-size: 1KiB}",),
    refused_sensitivities=frozenset({"real"}),
    refused_isolation=frozenset({"cooperative"}),
)
'''
ROOMS = {
    "schema": """
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpecDraft
from hdrs_hpc.documents.schema import generate
assert "TallyDeclaration" in generate(JobSpecDraft)["$defs"]
assert "tally" in generate(Grant)["$defs"]["OutputRules"]["properties"]
""",
    "spec check": """
from party import SPEC, changed
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.forms.document import InvalidDocumentError
spec = JobSpec.from_value(changed(SPEC, "outputs/marks", {**MARKS, "digits": "many"}))
assert JobSpec.from_payload(spec.to_payload()) == spec
for change, code, where in (
    ({"path": "marks.csv"}, "output-suffix", "outputs.marks"),
    ({"max-size": "2KiB"}, "output-size-limit", "outputs.marks"),
    ({"digits": "none"}, "bad-value", "outputs.marks.digits"),
    ({"colour": "red"}, "unknown-field", "outputs.marks.colour"),
    ({"class": "tallies"}, "bad-value", "outputs.marks.class"),
):
    try:
        JobSpec.from_value(changed(SPEC, "outputs/marks", {**MARKS, **change}))
    except InvalidDocumentError as error:
        assert [(found.code, found.where) for found in error.findings] == [(code, where)], error.findings
    else:
        raise AssertionError(change)
""",
    "spec new and grant draft": """
from party import GRANT
from hdrs_hpc.client import grantdraft, spectemplate
from hdrs_hpc.documents.models.grant import Grant
line = "marks: {class: tally, path: marks.tally, max-size: 1KiB}"
granted = Grant.from_value({**GRANT, "outputs": {**GRANT["outputs"], "tally": {}}})
assert line in spectemplate.render("first", grant=granted)
assert line not in spectemplate.render("first", grant=granted, real=True)
assert line not in spectemplate.render("first", grant=Grant.from_value(GRANT))
assert "  tally: {}" in grantdraft.first_version("lung-fm", None)
""",
    "policy": """
from dataclasses import replace
from datetime import UTC, datetime
from party import GRANT, ONES, REGISTRATION, SPEC, Party, changed
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy import job
from hdrs_hpc.policy.facts import ClusterFacts, Facts
facts = Facts(
    now=datetime(2027, 1, 16, 12, tzinfo=UTC),
    grant=Grant.from_value({**GRANT, "outputs": {**GRANT["outputs"], "tally": {}}}),
    grant_people=("ada", "bob"),
    registrations={
        "north-chest-ct": DatasetRegistration.from_value({**REGISTRATION, "sensitivity": "synthetic"})
    },
    cluster=ClusterFacts("isambard-ai", "sandboxed", 16),
    trust_root=TrustRoot.from_value(Party().root_value()),
    trust_root_digest=ONES,
    opt_outs=frozenset({"north-chest-ct"}),
)
spec = JobSpec.from_value(changed(SPEC, "outputs/marks", MARKS))
def codes(facts):
    return [rule.code for rule in job.decide(spec, "rae", facts).broken]
assert codes(facts) == []
assert codes(replace(facts, grant=Grant.from_value(GRANT))) == ["output-class-not-granted"]
real = {"north-chest-ct": DatasetRegistration.from_value(REGISTRATION)}
assert codes(replace(facts, registrations=real)) == ["output-of-real-data"]
loose = changed(GRANT, "limits/isolation", "cooperative")
loose = Grant.from_value({**loose, "outputs": {**GRANT["outputs"], "tally": {}}})
open_site = replace(facts, grant=loose, cluster=ClusterFacts("isambard-ai", "cooperative", 16))
assert codes(open_site) == ["isolation-insufficient"]
""",
    "grant": """
from party import GRANT
from hdrs_hpc.client.pages import grant
from hdrs_hpc.documents.models.grant import Grant
granted = Grant.from_value({**GRANT, "outputs": {**GRANT["outputs"], "tally": {}}})
assert granted.outputs.rule("tally") is not None
assert "- tallies: as they are" in grant._outputs(granted)
""",
    "hand-over": """
from party import SPEC, changed
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.documents.models.job_spec import written
found = written(JobSpec.from_value(changed(SPEC, "outputs/marks", MARKS)).outputs)["marks"]
assert (found.path, found.max_size) == ("marks.tally", 1024)
""",
    "airlock": """
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
import io
from hdrs_hpc.broker.workers.airlock.run import CheckRequest, Sent, run_checker
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
def check(data, real=False, granted={"tally": {}}):
    given = ((Declared("marks", "tally", "marks.tally", max_size=1024), Sent.whole(data)),)
    request = CheckRequest(given, OutputRules.from_dict(granted), bytes(16), InputFacts(9, 9, 9, real))
    out = io.BytesIO()
    return run_checker(request, lambda which: out, 60)[0], out.getvalue()
checked, rebuilt = check(b"1\\n 2\\n3\\n")
assert checked.refused is None, checked.report
assert (rebuilt, checked.media_type) == (b"1\\n2\\n3\\n", "text/x-tally")
assert checked.report["sentences"] == ["3 lines written anew."]
assert check(b"1\\n22\\n")[0].refused == "no-tally"
assert check(b"2\\n1\\n")[0].refused == "artefact-mistyped"
assert check(b"1\\n", real=True)[0].refused == "artefact-of-real-data"
assert check(b"1\\n", granted={})[0].refused == "class-not-granted"
assert check(b"1\\n" * 600)[0].refused == "artefact-too-large"
""",
    "review": """
from hdrs_hpc.cli import review
from hdrs_hpc.client.reviews import Artefact
from hdrs_hpc.catalogue import outputs
review._preview(Artefact("marks", "tally", "text/x-tally", b"1\\n2\\n", "", {}, ""))
assert outputs.BY_NAME["tally"].suffixes == (".tally",)
""",
    "docs": """
from hdrs_hpc.catalogue import outputs
page = outputs.as_markdown()
assert "A tally is kept with chalk." in page and "| `tally` | digits | `.tally` | 1KiB |" in page
""",
}


def add_class(house: Path, module: str) -> None:
    grown_package.copy_with_row(house, "outputs", "tally", module, before="weights.CLASS")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = tmp_path_factory.mktemp("house")
    add_class(copied, MODULE)
    return copied


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_takes_a_class_that_is_one_module_and_one_row(house: Path, room: str) -> None:
    marks = 'MARKS = {"class": "tally", "path": "marks.tally", "max-size": "1KiB"}\n'
    path = os.pathsep.join((str(house), str(ROOT / "tests/support")))
    done = subprocess.run(
        [sys.executable, "-B", "-c", marks + ROOMS[room]],
        env={**os.environ, "PYTHONPATH": path},
        cwd=house,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (room == "review") == ("2" in done.stdout.split())
