"""What ``grant draft`` writes: a first version filled in from what the broker knows, or the next one of a project."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.data_kinds import DATA_KINDS, RADIOLOGY, Kind
from hdrs_hpc.catalogue.isolation import LEAST_FOR_REAL_DATA
from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.client.http import BrokerRefusedError
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents import unfilled
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.trust_root import Role, TrustRoot
from hdrs_hpc.forms.words import NAME_PATTERN, walltime_text
from hdrs_hpc.policy.grant import DatasetUnregisteredError, ProjectClosedError

if TYPE_CHECKING:
    from hdrs_hpc.client.session import Session

_GRANT = """\
schema: {schema}
project: {project}
version: 1
title: {title}
approval: {{body: {committee}, reference: {reference}}}
valid: {{from: {start}, run-until: {end}, review-grace: 14d, destroy-by: {destroy}}}
{people}
lay-summary: {lay_summary}
legal-basis: {{article6: 6(1)(e), article9: 9(2)(j)}}    # public task; research
use: [DUO:0000042]        # Data Use Ontology: general research use
contact: {contact}
data:
{data}
workloads:
  builtin: [{builtin}]
  own-code: reviewed        # none | reviewed (a signed code approval names the digest) | project
limits:
{limits}
  bundle-size: 2GiB         # of the researchers' code and its packages; leave it out for own-code: none
outputs:
  reviewers: 2{checkers}
{outputs}
"""
AS_USUAL = ("legal-basis", "use", "valid", "max-failed", "own-code", "time", "gpu-hours", "reviewers")
"""What a first version says as most grants do, though a person must decide it."""
_TIME_S = 4 * 3600


@dataclass(frozen=True)
class Known:
    """What the broker knows of what a grant names."""

    root: TrustRoot
    datasets: Mapping[str, Mapping[str, Any]]
    """The newest registered version of each."""
    clusters: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, session: Session) -> Known:
        registered = {item["name"]: item for item in session.api.get("/v1/datasets")}
        try:
            clusters = session.api.get("/v1/clusters")
        except BrokerRefusedError as error:
            if error.kind != NotFoundError.kind:
                raise
            clusters = {}  # shown to custodians and admins only
        return cls(session.refresh_root().document, registered, clusters)


def first_version(name: str, known: Known | None, chosen: Sequence[str] = ()) -> str:
    """A whole grant with dates from today.

    What the broker knows is filled in, of data those ``chosen`` or the only ones; what a person must decide stays a
    draft's word, which nobody can sign, with the choices beside it.
    """
    today = clock.now().date()
    datasets = _datasets(known, chosen)
    cluster = _only(known.clusters) if known else None
    return _GRANT.format(
        schema=Grant.SCHEMA,
        project=name if re.fullmatch(NAME_PATTERN.strip("^$"), name) else unfilled.PROJECT,
        title=unfilled.TITLE,
        committee=unfilled.COMMITTEE,
        reference=unfilled.REFERENCE,
        start=today,
        end=today + timedelta(days=180),
        destroy=today + timedelta(days=210),
        people=_people(known),
        lay_summary=unfilled.LAY_SUMMARY,
        contact=unfilled.CONTACT,
        data=_data(known, datasets).rstrip("\n"),
        builtin=", ".join(BUILT_IN),
        limits=_limits(known, cluster, datasets).rstrip("\n"),
        checkers=_who(known, "checker", " " * 14 + "# who could: "),
        outputs="\n".join(f"  {row.name}: {row.grant_example}" for row in outputs.BUILT),
    )


def _only(names: Iterable[str]) -> str | None:
    """The one that there is, where nobody has to choose."""
    found = list(names)
    return found[0] if len(found) == 1 else None


def _datasets(known: Known | None, chosen: Sequence[str]) -> tuple[str, ...]:
    if known is None:
        return ()
    for name in chosen:
        if name not in known.datasets:
            raise DatasetUnregisteredError(f"{name} is not registered", where=name)
    only = _only(known.datasets)
    return tuple(chosen) or ((only,) if only else ())


def _who(known: Known | None, role: Role, before: str) -> str:
    """The people of a role with their organisations."""
    if known is None:
        return ""
    people = (f"{name} ({known.root.people[name].organisation})" for name in known.root.having(role))
    return f"{before}{', '.join(people) or 'nobody yet'}"


def _people(known: Known | None) -> str:
    lead = (_only(known.root.having("researcher")) if known else None) or unfilled.LEAD
    told = _who(known, "researcher", "# Who leads, and who works with the data; researchers here: ")
    return f"{told}\n".lstrip("\n") + f"people: {{lead: {lead}, researchers: [{lead}]}}"


def _data(known: Known | None, datasets: Sequence[str]) -> str:
    if known is None or not datasets:
        return (
            _choice(known.datasets, "which data; `grant draft --dataset NAME` fills in") if known else ""
        ) + f"  {unfilled.DATASET}:\n    version: {unfilled.VERSION}\n{_terms(RADIOLOGY)}"
    text = ""
    for name in datasets:
        item = known.datasets[name]
        about = f"{item['kind']}, {item['items']} items, {item['sensitivity']}, of {item['owner']}"
        text += f"  {name}:    # {about}\n    version: {item['version']}\n{_terms(DATA_KINDS[item['kind']])}"
    return text


def _terms(kind: Kind) -> str:
    """What a grant says of data of this kind beside their version."""
    if kind.by_columns:
        return (
            f"    profile: {kind.profile}\n"
            "    columns:                # those that are granted, each with its rule\n"
            f"      {unfilled.COLUMN}: {{rule: category, values: [A, B]}}\n"
        )
    part = "    # select: {Modality: [CT]}    # only a part of it\n" if kind is RADIOLOGY else ""
    return f"{part}    profile: {kind.profile}\n    max-failed: 50\n"


def _choice(names: Iterable[str], what: str) -> str:
    return f"  # Choose {what}: {', '.join(names) or 'there is none yet'}\n"


def _limits(known: Known | None, cluster: str | None, datasets: Sequence[str]) -> str:
    isolation, time_s, gpu_hours, text = LEAST_FOR_REAL_DATA, _TIME_S, 100, ""
    if known is not None and cluster is not None:
        offer = known.clusters[cluster]
        has = Capacity.from_value(offer["capacity"]) if offer["capacity"] else None
        if datasets and all(known.datasets[name]["sensitivity"] != "real" for name in datasets):
            isolation = offer["isolation"]
        if has is not None:
            time_s = min(time_s, has.max_time_s or time_s)
            gpu_hours = gpu_hours if has.gres else 0
    elif known is not None:
        offers = (f"{name} ({offer['isolation']})" for name, offer in known.clusters.items())
        text = _choice(offers, "where jobs run")
    return text + (
        f"  clusters: [{cluster or unfilled.CLUSTER}]\n"
        f"  isolation: {isolation}\n"
        "  nodes: 1\n"
        f'  time: "{walltime_text(time_s)}"\n'
        f"  gpu-hours: {gpu_hours}\n"
    )


def for_project(session: Session, project: str) -> str | None:
    """The next version of a project's grant; None where there is no such project, or it is not theirs to see.

    Raises ProjectClosedError where no grant can follow.
    """
    try:
        state = session.api.get(f"/v1/projects/{quote(project, safe='')}")["state"]
    except BrokerRefusedError as error:
        if error.kind != NotFoundError.kind:
            raise
        return None
    if state in ("CLOSING", "CLOSED"):
        raise ProjectClosedError(f"{project} is {state}", where=project)
    return next_version(session, project)


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
