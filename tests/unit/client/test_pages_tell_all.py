"""Whatever can be changed in a document changes the page that people read before they sign it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
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
from hdrs_hpc.documents.kinds import ANYONE, BROKER, KINDS
from hdrs_hpc.documents.models.review import OutputDecision
from tests.support.party import GRANT, NINES, ONES, OTHERS, REGISTRATION, SPEC, TWOS, Party

Value = dict[str, Any]
Path = tuple[str | int, ...]

NOT_SHOWN = {
    "schema": "names the form, of which there is one",
    "nonce": "random, so that two documents differ; it says nothing",
    "at": "when it was made: whoever signs is there",
}
"""Fields of any kind that no page shows, and why."""
FIXED = {
    ("dataset-registration", "source/type"): "another type is another form",
    ("trust-root", "thresholds/code-approval"): "is always 1",
    ("closure", "action"): "each action has an example of its own",
    ("opt-out-change", "action"): "each action has an example of its own",
    ("opt-out-change", "version"): "the first is always 1",
    ("job-spec", "outputs/*/class"): "another class is another form",
    ("job-spec", "workload/kind"): "what is built in is of one kind; the example with own code is changed",
    ("grant", "data/outcomes/columns/nhs_number/rule"): "exactly one column is the patient's id",
    ("grant", "data/outcomes/columns/seen/rule"): "only a date has `within`; the rule of `age` is changed",
    ("grant", "data/outcomes/columns/site/rule"): "only a category has values; the rule of `age` is changed",
}
"""Leaves that can't be changed by themselves in an example, and why."""


def _spec() -> Value:
    columns = {
        "site": {"key": ["north", "south"], "also": ["TOTAL"]},
        "modality": {"key": {"vocabulary": "dicom-modality@1"}},
        "year": {"key": {"grid": {"from": 2019, "to": 2023, "step": 1}}},
        "spacing": {"key": {"ranges": [0, 0.5, 10]}},
        "n_patients": {"count": "patients", "most": 5000},
        "n_series": {"count": "series"},
        "mean_hu": {"measure": "mean", "from": -1000, "to": 1000, "step": 0.5, "n": "n_patients", "df": 7},
        "share": {"derive": "share", "of": "n_patients"},
    }
    metrics = {"class": "metrics", "path": "a.json", "max-size": "1KiB"}
    return SPEC | {
        "workload": {
            "kind": "dask",
            "bundle": {"digest": TWOS, "size": 123456, "wheels": {"lock": NINES, "size": 77777}},
            "entry": "mae.train:main",
            "parameters": {"epochs": 20, "deep": {"a": [1, "b", True]}},
            "sweep": {"rate": [0.1, 0.2], "word": ["1", "x"]},
        },
        "inputs": {
            "before": {"job": "7K3QW2", "output": "weights"},
            "outside": {"file": {"digest": ONES, "size": 5}, "source": "A university", "licence": "MIT"},
        },
        "resources": SPEC["resources"] | {"nodes": 2, "cluster": "local"},
        "attempts": {"at-most": 3, "after": ["node-failure"]},
        "checkpoints": {"keep": 2, "max-size": "1GiB"},
        "progress": {"loss": {"from": 0, "to": 2.5}},
        "outputs": {
            "cohort": {"class": "table", "path": "a.csv", "columns": columns, "max-size": "1MiB"},
            "again": {"class": "table", "path": "b.csv", "columns": columns, "max-size": "1MiB"},
            "drawn": {"class": "image", "path": "a.png", "data": "cohort", "max-size": "1MiB", "keep": "project"},
            "told": {**metrics, "columns": {"n": {"count": "patients"}}},
            "old": {**metrics, "path": "b.json", "counts": ["n_series"], "measures": ["*_mm"]},
            "chart": {"class": "chart", "data": "cohort", "spec": {"digest": NINES, "size": 6}},
            "model": {
                "class": "weights",
                "path": "a.safetensors",
                "max-size": "1GiB",
                "architecture": {"digest": TWOS, "size": 7},
            },
        },
    }  # fmt: skip


def _grant() -> Value:
    columns = {
        "age": "age",
        "nhs_number": {"rule": "patient-id", "issuer": "NHS"},
        "seen": {"rule": "shifted-date", "within": "2019-01-01/2020-12-31"},
        "site": {"rule": "category", "values": [f"SITE{n}" for n in range(9)], "only": True},
    }
    rules = {"min-count": 10, "round": 5, "significant-digits": 3}
    images = GRANT["data"]["north-chest-ct"] | {
        "cohort": ONES,
        "pixels": {"burned-in": "hold", "find-text": True, "deface": True},
    }
    table = {"version": TWOS, "profile": "table-basic@1", "columns": columns}
    return GRANT | {
        "version": 2,
        "supersedes": ONES,
        "audience": "north-sde",
        "people": {"lead": "rae", "researchers": ["rae", "sam"]},
        "data": {"north-chest-ct": images, "outcomes": table},
        "limits": GRANT["limits"] | {"network": "job", "kept-size": "1GiB"},
        "outputs": {
            "reviewers": 2,
            "bits": 50000,
            "table": rules,
            "metrics": rules,
            "image": {},
            "weights": {"keep": "project"},
        },
    }


def _root() -> Value:
    party = Party()
    value = party.root_value(version=2, supersedes=ONES)
    for organisation in ("north", "south"):
        value["organisations"][organisation]["threshold"] = 1
    value["recovery"] = {"people": ["sam", "cy", "hal"], "threshold": 2}
    line = value["people"]["di"]["keys"][0]
    value["people"]["di"]["keys"] = [
        {"key": line, "retired-from": 90, "compromised-from": 70},
        Party().line("di"),
    ]
    return value


def _closure(action: str) -> Value:
    value = {**OTHERS["closure"][1], "action": action}
    return value | {"freeze": ONES} if action == "unfreeze" else value


_OPT_OUT = OTHERS["opt-out-change"][1]
_SOURCES: list[Value] = [
    {"type": "folder", "path": "/archive/ct"},
    {
        "type": "dicomweb",
        "url": "https://pacs.example/dicom-web",
        "select": {
            "study-date-from": "2019-01-01",
            "study-date-to": "2020-12-31",
            "modalities": ["CT", "MR"],
        },
        "token-file": "token",
        "ca-file": "ca.pem",
    },
    {
        "type": "dimse",
        "host": "pacs.example",
        "port": 105,
        "called-ae": "ARCHIVE",
        "calling-ae": "NORTH",
        "associations": 3,
        "select": {"patients-file": "patients.txt"},
        "tls": {"ca-file": "ca.pem", "server-name": "pacs.example"},
    },
    {
        "type": "s3",
        "bucket": "images",
        "prefix": "ct/",
        "endpoint": "https://s3.example",
        "region": "eu-west-2",
        "credentials-file": "s3",
    },
    {
        "type": "sftp",
        "host": "files.example",
        "port": 23,
        "user": "reader",
        "host-key": Party().line("ada").rpartition(" ")[0],
        "identity": "id",
        "path": "/ct",
    },
]
EXAMPLES: list[tuple[str, Value]] = [
    ("trust-root", _root()),
    ("grant", _grant()),
    ("job-spec", _spec()),
    ("job-spec", SPEC),
    *(("dataset-registration", REGISTRATION | {"issuer": "NHS", "source": source}) for source in _SOURCES),
    ("code-approval", OTHERS["code-approval"][1]),
    ("output-decision", OTHERS["output-decision"][1]),
    *(("closure", _closure(action)) for action in ("freeze", "unfreeze", "close", "revoke")),
    ("opt-out-change", _OPT_OUT),
    ("opt-out-change", {**_OPT_OUT, "version": 2, "supersedes": ONES, "action": "remove", "reason": "An error"}),
]  # fmt: skip


def _decision_page(decision: OutputDecision) -> Page:
    seen = [output_decision.SeenArtefact(item.artefact, "table", 812, []) for item in decision.decisions]
    return output_decision.page(decision, output_decision.ReviewedJob("a", "b", "c", 0, 2, seen))


PAGES: dict[str, Callable[[Any], Page]] = {
    "trust-root": trust_root.page,
    "grant": grant.page,
    "job-spec": lambda spec: job_spec.page(spec, None),
    "dataset-registration": dataset_registration.page,
    "code-approval": lambda approval: code_approval.page(approval, ["main.py"], 4096),
    "output-decision": _decision_page,
    "closure": closure.page,
    "opt-out-change": lambda change: opt_out_change.page(
        change, opt_out_change.OptOutsInForce(100, 60, [], []), 3
    ),
}


def _text(kind: str, value: Value) -> str | None:
    """The page; None where there is no such document."""
    try:
        document = KINDS[kind].model.from_value(value)
    except BadDocumentError:
        return None
    page = PAGES[kind](document)
    return "\n".join([page.title, *(line for line, _ in layout.lines(page.sections, 80))])


def _leaves(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield from _leaves(item, (*at, step))
    if not isinstance(value, dict | list) and value is not None:
        yield at, value


def _words(schema: Any) -> Iterator[str]:
    """Every word that a field of the form chooses from."""
    if isinstance(schema, dict):
        found = [*schema.get("enum", []), schema.get("const")]
        yield from (word for word in found if isinstance(word, str))
    for item in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _words(item)


def _others(value: Any, words: list[str]) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value - 1, value + 0.25, value * 2)
    elif value.startswith("ssh-"):
        yield from (line := Party().line("ada"), line.rpartition(" ")[0])
    else:
        yield from (
            value[:place] + other + value[place + 1 :]
            for place in range(len(value))
            for other in ("3", "7", "q", "Q", "a")
            if other != value[place]
        )
        yield from (
            "north",
            "south",
            "gpu:3",
            "n_series",
            "again",
            "sam",
            "cy",
            "rae",
            "dicom-body-part@1",
            *words,
        )


def _changed_value(kind: str, value: Value, path: Path, leaf: Any, words: list[str]) -> Value | None:
    """A document that differs in this leaf only; None where nothing else may stand there."""
    for other in _others(leaf, words):
        holder: Any = (made := copy.deepcopy(value))
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = other
        if other != leaf and _text(kind, made) is not None:
            return made
    return None


def _pattern(where: str) -> str:
    return re.sub(r"^outputs/[^/]+/", "outputs/*/", where)


def test_every_kind_that_people_sign_is_tried() -> None:
    signed = {name for name, kind in KINDS.items() if kind.role not in (BROKER, ANYONE)}
    assert set(PAGES) == signed == {kind for kind, _ in EXAMPLES}


@pytest.mark.parametrize(
    ("kind", "value"), EXAMPLES, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(EXAMPLES)]
)
def test_whatever_is_changed_in_a_document_changes_its_page(kind: str, value: Value) -> None:
    before = _text(kind, value)
    assert before is not None
    words = sorted(set(_words(KINDS[kind].model.model_json_schema())))
    hidden, fixed = [], []
    for path, leaf in _leaves(value):
        where = "/".join(map(str, path))
        if path[0] in NOT_SHOWN:
            continue
        made = _changed_value(kind, value, path, leaf, words)
        if made is None:
            fixed += [] if (kind, _pattern(where)) in FIXED else [where]
        elif _text(kind, made) == before:
            hidden.append(where)
    assert hidden == []
    assert fixed == [], "the example leaves these without another value"


@pytest.mark.parametrize(("kind", "module"), [("trust-root", trust_root), ("grant", grant)])
def test_whatever_is_changed_against_the_version_before_is_told_as_a_change(kind: str, module: Any) -> None:
    value = next(value for name, value in EXAMPLES if name == kind)
    model = KINDS[kind].model
    before, words = model.from_value(value), sorted(set(_words(model.model_json_schema())))
    untold = []
    for path, leaf in _leaves(value):
        made = _changed_value(kind, value, path, leaf, words)
        if path[0] in ("schema", "version", "supersedes") or made is None:
            continue
        page = module.page(model.from_value(made), before)
        (told,) = (item.blocks for item in page.sections if item.heading.startswith("What changes"))
        if told in (["Nothing."], ["- nothing but the version"]):
            untold.append("/".join(map(str, path)))
    assert untold == []
