"""What ``grant draft`` writes: an example, or the next version of the grant in force."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.data_kinds import RADIOLOGY
from hdrs_hpc.catalogue.isolation import LEAST_FOR_REAL_DATA
from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.documents import unfilled
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.forms.words import NAME_PATTERN

if TYPE_CHECKING:
    from hdrs_hpc.client.session import Session

_EXAMPLE = """\
schema: {schema}
project: {project}
version: 1
title: {title}
approval: {{body: {committee}, reference: {reference}}}
valid: {{from: {start}, run-until: {end}, review-grace: 14d, destroy-by: {destroy}}}
people: {{lead: {lead}, researchers: [{lead}]}}
lay-summary: {lay_summary}
legal-basis: {{article6: 6(1)(e), article9: 9(2)(j)}}    # public task; research
use: [DUO:0000042]        # Data Use Ontology: general research use
contact: {contact}
data:
  {dataset}:
    version: {version}    # `hdrs-hpc dataset list --json` shows it
    select: {{Modality: [CT]}}
    profile: {profile}
    max-failed: 50
workloads:
  builtin: [{builtin}]
  own-code: reviewed        # none | reviewed (a signed code approval names the digest) | project
limits:
  clusters: [{cluster}]
  isolation: {isolation}
  nodes: 1
  time: "04:00:00"
  gpu-hours: 100
  bundle-size: 16MiB        # of the researchers' code; leave it out for own-code: none
outputs:
  reviewers: 2
{outputs}
"""


def example(stem: str) -> str:
    """A whole grant with dates from today, to be filled in."""
    today = clock.now().date()
    return _EXAMPLE.format(
        schema=Grant.SCHEMA,
        project=stem if re.fullmatch(NAME_PATTERN.strip("^$"), stem) else unfilled.PROJECT,
        title=unfilled.TITLE,
        committee=unfilled.COMMITTEE,
        reference=unfilled.REFERENCE,
        start=today,
        end=today + timedelta(days=180),
        destroy=today + timedelta(days=210),
        lead=unfilled.LEAD,
        lay_summary=unfilled.LAY_SUMMARY,
        contact=unfilled.CONTACT,
        dataset=unfilled.DATASET,
        version=unfilled.VERSION,
        profile=RADIOLOGY.profile,
        cluster=unfilled.CLUSTER,
        builtin=", ".join(BUILT_IN),
        isolation=LEAST_FOR_REAL_DATA,
        outputs="\n".join(f"  {row.name}: {row.grant_example}" for row in outputs.BUILT),
    )


def next_version(session: Session, project: str) -> str:
    """The grant in force with its version counted up and its digest named, to be changed and signed."""
    envelope = Envelope.parse(session.api.get_bytes(f"/v1/projects/{project}/grant"))
    value: dict[str, Any] = strict_json.loads(envelope.payload)
    value |= {"version": value["version"] + 1, "supersedes": envelope.digest}
    form = Grant.from_value(value).model_dump(mode="json", by_alias=True)
    return to_yaml(_in_order({"schema": value["schema"]} | value, {"schema": ...} | form))


def _in_order(value: Any, form: Any) -> Any:
    """The same value with its keys in the order of the format, where signing had sorted them."""
    if not isinstance(value, dict) or not isinstance(form, dict):
        return value
    keys = [*(key for key in form if key in value), *(key for key in value if key not in form)]
    return {key: _in_order(value[key], form.get(key)) for key in keys}


def to_yaml(value: dict[str, Any]) -> str:
    """YAML 1.2 that strict YAML reads back as the same value."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.version = "1.2"
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its annotation says None only
    yaml.default_flow_style = False
    yaml.width = 110
    target = io.StringIO()
    yaml.dump(value, target)
    # The directive would be refused as one too many: strict YAML is 1.2 always.
    return target.getvalue().removeprefix("%YAML 1.2\n").removeprefix("---\n")
