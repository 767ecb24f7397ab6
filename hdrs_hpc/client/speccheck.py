"""``spec check``: every fault of a spec at once, with line and remedy; then the broker's verdict, rule by rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hdrs_hpc.catalogue.workloads import builtin
from hdrs_hpc.client import bundlecheck, specdraft
from hdrs_hpc.client.context import SpecContext
from hdrs_hpc.core import strict_yaml, vocabularies
from hdrs_hpc.core.errors import BadDocumentError, NotAllowedError
from hdrs_hpc.documents import unfilled
from hdrs_hpc.documents.models.job_spec import JobSpecDraft
from hdrs_hpc.documents.unfilled import DraftUnfilledError
from hdrs_hpc.forms.document import Finding, InvalidDocumentError, path_text
from hdrs_hpc.policy import job as job_policy
from hdrs_hpc.policy import not_built
from hdrs_hpc.policy.facts import Facts
from hdrs_hpc.policy.not_built import NotBuiltError
from hdrs_hpc.policy.refusals import ProjectUnknownError
from hdrs_hpc.protocol import bundle as bundles

_LINE = re.compile(r"line ([0-9]+)")
# A spec that is only checked is never sent, so its nonce may be anybody's.
_UNSENT_NONCE = "0" * 26


class BuiltinWritesOtherError(BadDocumentError):
    code = "builtin-writes-other"
    meaning = "The spec declares other outputs or columns than its built-in workload writes, so nothing would leave."
    remedy = "Declare what it writes; `hdrs-hpc spec new` shows all of it."


@dataclass(frozen=True)
class LocatedFinding:
    """A fault with the line of the file where it is, or of the nearest thing that is there."""

    code: str
    where: str
    line: int | None
    message: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "where": self.where,
            "line": self.line,
            "message": self.message,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class SpecReport:
    """What the check found.  ``decision`` is None where the form is wrong or no context is at hand."""

    path: Path
    findings: tuple[LocatedFinding, ...]
    decision: job_policy.Decision | None
    context_file: Path | None
    broker: str | None = None
    """The broker whose answers were used where no context is near."""
    untold: tuple[str, ...] = ()
    """What could not be judged here, so that only the broker's decision tells."""
    warnings: tuple[LocatedFinding, ...] = ()
    """What may be a fault of the bundle's code."""
    facts: Facts | None = None
    """The project as it was known here."""

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def exit_code(self) -> int:
        """0, or that of the kind of error: a bad document before a refusal."""
        if self.ok:
            return 0
        if {item.code for item in self.findings} & {DraftUnfilledError.code, BuiltinWritesOtherError.code}:
            return BadDocumentError.exit_code
        named = {ProjectUnknownError.code, NotBuiltError.code}
        refused = self.decision is not None or self.findings[0].code in named
        return NotAllowedError.exit_code if refused else BadDocumentError.exit_code

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": self.path.name,
            "ok": self.ok,
            "findings": [item.as_dict() for item in self.findings],
            "decision": self.decision.as_dict() if self.decision else None,
            "context": str(self.context_file) if self.context_file else None,
            "broker": self.broker,
            "not-applied": list(self.untold),
            "warnings": [item.as_dict() for item in self.warnings],
        }


def check(
    path: Path, context: SpecContext | None, ask: Callable[[JobSpecDraft], SpecContext] | None = None
) -> SpecReport:
    """Check a spec's form, its bundle and, with a context, every rule of the project.  Raises nothing for these.

    Without a context ``ask`` is called for one, once the form is right; what it raises passes through, but for a
    project that is unknown, which is a finding.
    """
    place = context.file if context else None
    lines: dict[strict_yaml.Path, int] = {}
    try:
        value, lines = specdraft.read(path)
        written = specdraft.WrittenSpec(path, value, lines, JobSpecDraft.from_value(value))
    except InvalidDocumentError as error:
        located = (_locate(item, lines) for item in error.findings)
        in_order = tuple(sorted(located, key=lambda item: (item.line or 0, item.where)))
        return SpecReport(path, in_order, None, place)
    except BadDocumentError as error:
        return SpecReport(path, (_unreadable(error),), None, place)
    try:
        faults, warnings = _of_code(written)
        warnings = (*warnings, *_units(written), *_modalities(written))
        if faults:
            return SpecReport(path, faults, None, place, warnings=warnings)
        faults = (*_unfilled(written), *_unlike_builtin(written))
        if context is None and ask is not None and "project" not in {item.where for item in faults}:
            context = ask(written.draft)
        if context is None:
            return SpecReport(path, (*faults, *_not_built(written)), None, None, warnings=warnings)
        drafted = specdraft.bind(written, context.root, now=context.facts.now, nonce=_UNSENT_NONCE)
    except BadDocumentError as error:
        placed = (specdraft.InputFileMissingError, *specdraft.BUNDLE_FAULTS.values())
        told = isinstance(error, placed)
        place_in_spec = tuple((error.where or "").split(".")) if told else ("workload", "bundle")
        fault = Finding(error.code, place_in_spec, error.message, error.remedy)
        return SpecReport(path, (_locate(fault, lines),), None, place)
    except ProjectUnknownError as error:
        unknown = Finding(error.code, ("project",), error.message, error.remedy)
        return SpecReport(path, (_locate(unknown, lines),), None, place)
    decision, untold = _judged(job_policy.decide(drafted.spec, context.person, context.facts), context)
    by_text = {path_text(step): line for step, line in lines.items()}
    broken = tuple(
        LocatedFinding(rule.code or "", rule.where, _line_of(rule.where, by_text), rule.message, rule.remedy)
        for rule in decision.broken
        if rule.where not in {item.where for item in faults}
    )
    broker = context.root.document.audience if place is None else None
    return SpecReport(path, (*faults, *broken), decision, place, broker, untold, warnings, context.facts)


def _unfilled(written: specdraft.WrittenSpec) -> tuple[LocatedFinding, ...]:
    """What still says what a new draft says: nobody can sign it."""
    by_text = {path_text(step): line for step, line in written.lines.items()}
    return tuple(
        LocatedFinding(
            DraftUnfilledError.code,
            where,
            _line_of(where, by_text),
            "it still says what a new draft says",
            DraftUnfilledError.remedy,
        )
        for where in dict.fromkeys(unfilled.places(written.value))
    )


def _unlike_builtin(written: specdraft.WrittenSpec) -> tuple[LocatedFinding, ...]:
    """What a built-in workload writes otherwise than the spec declares."""
    declared = {name: item.get("columns", ()) for name, item in written.value["outputs"].items()}
    return tuple(
        _locate(
            Finding(BuiltinWritesOtherError.code, place, sentence, BuiltinWritesOtherError.remedy),
            written.lines,
        )
        for place, sentence in builtin.unlike(written.value["workload"].get("builtin"), declared)
    )


_SINGULAR = {
    "patient": "patients",
    "person": "people",
    "subject": "subjects",
    "participant": "participants",
    "individual": "individuals",
    "donor": "donors",
}


def _units(written: specdraft.WrittenSpec) -> Iterator[LocatedFinding]:
    """Counts of people that would be taken for counts of things."""
    for name, item in written.value["outputs"].items():
        columns = item.get("columns", {})
        for column, declared in columns.items():
            meant = _SINGULAR.get(str(declared.get("count", "")).casefold().strip())
            if meant is not None:
                place = ("outputs", name, "columns", column)
                message = f"{declared['count']!r} is no unit of people; write {meant}"
                remedy = "Else it is taken for a count of things"
                yield _locate(Finding("count-of-things", place, message, remedy), written.lines)


def _modalities(written: specdraft.WrittenSpec) -> Iterator[LocatedFinding]:
    """Modalities to select by that DICOM does not have, so that they select nothing."""
    for name, item in written.value["data"].items():
        chosen = (item.get("select") or {}).get("Modality", [])
        for value in chosen if isinstance(chosen, list) else [chosen]:
            if value not in vocabularies.MODALITIES:
                near = get_close_matches(str(value), vocabularies.MODALITIES, 1)
                message = f"{value!r} is no modality of DICOM" + (
                    f"; did you mean {near[0]}?" if near else ""
                )
                place = ("data", name, "select", "Modality")
                remedy = "Nothing may be selected by it"
                yield _locate(Finding("modality-unknown", place, message, remedy), written.lines)


def _not_built(written: specdraft.WrittenSpec) -> tuple[LocatedFinding, ...]:
    """What no project could run, told without any."""
    by_text = {path_text(step): line for step, line in written.lines.items()}
    return tuple(
        LocatedFinding(
            item.error.code, item.where, _line_of(item.where, by_text), item.message, item.error.remedy
        )
        for item in not_built.in_spec(written.draft)
    )


def _of_code(
    written: specdraft.WrittenSpec,
) -> tuple[tuple[LocatedFinding, ...], tuple[LocatedFinding, ...]]:
    """Faults and warnings of the bundle's code, by its own files and lines.  Raises BadDocumentError."""
    packed, draft = specdraft.pack(written), written.draft
    specdraft.wheels_of(written, packed)
    if packed is None or draft.workload.entry is None:
        return (), ()
    folder = str(draft.workload.bundle).rstrip("/")
    there = specdraft.importable(written, packed)
    found = bundlecheck.check(bundles.read(packed).files, draft.workload.entry, list(draft.outputs), there)
    line = written.lines.get(("workload", "bundle"))
    told: tuple[list[LocatedFinding], list[LocatedFinding]] = ([], [])
    for item in found:
        where = f"{folder}/{item.file}" + (f":{item.line}" if item.line else "")
        told[item.warning].append(LocatedFinding(item.code, where, line, item.message, item.remedy))
    return tuple(told[False]), tuple(told[True])


def _judged(
    decision: job_policy.Decision, context: SpecContext
) -> tuple[job_policy.Decision, tuple[str, ...]]:
    """The decision without the answers that what is known here can't give, and what these would have needed."""
    left_out = [rule for rule in decision.rules if rule.code in context.untold]
    kept = tuple(rule for rule in decision.rules if rule.code not in context.untold)
    untold = tuple(dict.fromkeys(f"{rule.rule}: {context.untold[rule.code or '']}" for rule in left_out))
    return replace(decision, rules=kept), untold


def _locate(found: Finding, lines: dict[strict_yaml.Path, int]) -> LocatedFinding:
    path = found.path
    while path and path not in lines:
        path = path[:-1]  # a missing field has no line; what should hold it has
    return LocatedFinding(found.code, found.where, lines.get(path), found.message, found.remedy)


def _line_of(where: str, by_text: dict[str, int]) -> int | None:
    while where and where not in by_text:
        where = where.rpartition(".")[0]
    return by_text.get(where)


def _unreadable(error: BadDocumentError) -> LocatedFinding:
    found = _LINE.match(error.where or "")
    if found is None:
        return LocatedFinding(error.code, error.where or "", None, error.message, error.remedy)
    rest = (error.where or "")[found.end() :].lstrip(", ")  # the line is told by itself
    return LocatedFinding(error.code, rest, int(found[1]), error.message, error.remedy)
