"""Check the artefacts of a job: identify, parse, apply class and grant, rebuild, report.  Pure.

All artefacts of a job are checked together, because they explain each other: a count hidden in one table is
not hidden when another shows it, and a figure is as safe as the table it draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hdrs_hpc.broker.workers.airlock import disclosure, identify
from hdrs_hpc.broker.workers.airlock.additive import CountSheet
from hdrs_hpc.broker.workers.airlock.declared import CountRules, Declared, InputFacts, OutputRules
from hdrs_hpc.broker.workers.airlock.disclosure import CannotProtectError, Pattern
from hdrs_hpc.broker.workers.airlock.refusal import ArtefactRefusedError, Finding
from hdrs_hpc.broker.workers.airlock.report import describe
from hdrs_hpc.broker.workers.airlock.rules import figure, metrics, table
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError

SCHEMA = "hdrs-hpc/check-report/1"
SUPPORTED = ("table", "figure", "metrics")
MIN_SALT_BYTES = 16

Parsed = table.Table | metrics.Metrics | figure.Figure


class ClassNotSupportedError(ArtefactRefusedError):
    code = "class-not-supported"
    meaning = "This version of the airlock has no rule by which an artefact of this class could leave."
    remedy = (
        f"Classes with a rule: {', '.join(SUPPORTED)}.  Weights can be kept in the project (keep: project)."
    )


class ClassNotGrantedError(ArtefactRefusedError):
    code = "class-not-granted"
    meaning = "The grant does not let artefacts of this class leave."
    remedy = "Ask the custodian for a grant whose outputs name the class."


class ArtefactTooLargeError(ArtefactRefusedError):
    code = "artefact-too-large"
    meaning = "The artefact is larger than its declaration in the job spec."
    remedy = "Declare a larger max-size, within the grant, or write less."


class ArtefactEmptyError(ArtefactRefusedError):
    code = "artefact-empty"
    meaning = "The artefact is an empty file."
    remedy = "Let the workload write it, or leave it out of the outputs."


@dataclass(frozen=True)
class Checked:
    """The airlock's word on one artefact.

    ``rebuilt`` is what may be released, None when ``refused`` holds a reason code.  ``report`` is what
    reviewers sign: it holds no digest of the original, from which small counts could be guessed, only a
    commitment salted with a secret of the broker.
    """

    name: str
    rebuilt: bytes | None
    media_type: str | None
    refused: str | None
    report: Mapping[str, Any]

    @property
    def report_bytes(self) -> bytes:
        """The report as it is stored and digested."""
        return strict_json.dumps(self.report)

    @property
    def report_digest(self) -> str:
        return digest(self.report_bytes)

    @property
    def rebuilt_digest(self) -> str | None:
        return None if self.rebuilt is None else digest(self.rebuilt)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def commitment(salt: bytes, data: bytes) -> str:
    """Binds to the original without telling it: sha256 over salt ‖ sha256(original)."""
    return digest(salt + hashlib.sha256(data).digest())


def check(declared: Declared, data: bytes, rules: OutputRules, salt: bytes, inputs: InputFacts) -> Checked:
    """Check one artefact by itself, see :func:`check_set`; a figure that draws a table is refused here."""
    return check_set([(declared, data)], rules, salt, inputs)[0]


def check_set(
    artefacts: Sequence[tuple[Declared, bytes]], rules: OutputRules, salt: bytes, inputs: InputFacts
) -> list[Checked]:
    """Check all artefacts of a job, in the order given; the same input gives the same bytes.

    ``inputs``: what the broker knows of the data that the job read; the workload's word on it counts for nothing.
    ``salt``: at least 16 secret bytes of the broker, kept with the quarantined originals.  Raises only on
    wrong use: whatever is wrong with an artefact is its ``refused`` code.
    """
    if len(salt) < MIN_SALT_BYTES:
        raise ValueError("the salt of the commitments is too short")
    if len({declared.name for declared, _ in artefacts}) != len(artefacts):
        raise ValueError("two artefacts of one name")
    cases = [_Case(declared, data, commitment(salt, data)) for declared, data in artefacts]
    _each(cases, lambda case: _read(case, rules, inputs))
    _protect(cases, rules)
    _each(cases, lambda case: _check_figure_data(case, cases))
    _each(cases, lambda case: _rebuild(case, rules))
    return [_conclude(case, rules) for case in cases]


@dataclass
class _Case:
    """One artefact on its way through the airlock; ``refusal`` ends the way."""

    declared: Declared
    data: bytes
    commitment: str
    parsed: Parsed | None = None
    pattern: Pattern | None = None
    rebuilt: bytes | None = None
    media_type: str | None = None
    repaired: dict[str, Any] = field(default_factory=dict)
    refusal: BadDocumentError | None = None


def _each(cases: Sequence[_Case], step: Callable[[_Case], None]) -> None:
    for case in cases:
        if case.refusal is None:
            try:
                step(case)
            except BadDocumentError as error:
                case.refusal = error


def _read(case: _Case, rules: OutputRules, inputs: InputFacts) -> None:
    declared, data = case.declared, case.data
    if declared.cls not in SUPPORTED:
        raise ClassNotSupportedError(f"class {declared.cls}")
    if not _granted(declared.cls, rules):
        raise ClassNotGrantedError(f"class {declared.cls}")
    if declared.cls == "figure" and inputs.real:
        raise figure.RealFigureError()
    if not data:
        raise ArtefactEmptyError()
    if len(data) > declared.max_size:
        raise ArtefactTooLargeError(f"{len(data)} bytes where {declared.max_size} were declared")
    seen = identify.check_type(declared.cls, data)
    match declared.cls:
        case "table":
            case.parsed = table.parse(declared, data, _count_rules("table", rules).digits, inputs)
        case "metrics":
            case.parsed = metrics.parse(declared, data, _count_rules("metrics", rules).digits, inputs)
        case "figure":
            case.parsed = figure.parse(declared, data, seen)


def _granted(cls: str, rules: OutputRules) -> bool:
    return bool(getattr(rules, cls))


def _count_rules(cls: str, rules: OutputRules) -> CountRules:
    found = rules.table if cls == "table" else rules.metrics
    assert found is not None  # _read refused the class otherwise
    return found


def _protect(cases: Sequence[_Case], rules: OutputRules) -> None:
    """Protect all counts together; what can't be protected drops out and the rest is tried again."""
    while True:
        counted = {
            case.declared.name: case
            for case in cases
            if case.refusal is None and isinstance(case.parsed, table.Table | metrics.Metrics)
        }
        sheets = [_sheet(case) for case in counted.values()]
        floors = {name: _count_rules(case.declared.cls, rules) for name, case in counted.items()}
        try:
            patterns = disclosure.protect(sheets, floors)
        except CannotProtectError as error:
            for name in error.sheets:
                counted[name].refusal = error
            continue
        for name, case in counted.items():
            case.pattern = patterns[name]
        return


def _sheet(case: _Case) -> CountSheet:
    assert isinstance(case.parsed, table.Table | metrics.Metrics)
    return case.parsed.sheet()


def _check_figure_data(case: _Case, cases: Sequence[_Case]) -> None:
    if not isinstance(case.parsed, figure.Figure):
        return
    drawn = next((other for other in cases if other.declared.name == case.declared.data), None)
    if drawn is None or drawn.declared.cls != "table":
        raise figure.FigureWithoutDataError("no table of this job is named under data")
    if drawn.refusal is not None or drawn.pattern is None:
        raise figure.FigureWithoutDataError(f"its table {drawn.declared.name} was refused")
    if drawn.pattern.hidden:
        raise figure.FigureShowsSuppressedError(f"its table is {drawn.declared.name}")


def _rebuild(case: _Case, rules: OutputRules) -> None:
    match case.parsed:
        case table.Table() as parsed:
            assert case.pattern is not None
            case.media_type = table.MEDIA_TYPE
            made = table.rebuild(parsed, case.pattern, _count_rules("table", rules))
        case metrics.Metrics() as parsed:
            assert case.pattern is not None
            case.media_type = metrics.MEDIA_TYPE
            made = metrics.rebuild(parsed, case.pattern, _count_rules("metrics", rules))
        case figure.Figure() as parsed:
            case.media_type = figure.MEDIA_TYPE
            made = figure.rebuild(parsed)
        case _:
            raise AssertionError("an artefact that was neither parsed nor refused")
    case.rebuilt, case.repaired = made


def _conclude(case: _Case, rules: OutputRules) -> Checked:
    refused = case.refusal is not None
    findings: list[Finding] = []
    if not refused:
        findings += case.parsed.findings if case.parsed is not None else ()
        findings += case.pattern.findings if case.pattern is not None else ()
    rebuilt = None if refused else case.rebuilt
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "artefact": case.declared.name,
        "class": case.declared.cls,
        "rules": rules.as_dict().get(case.declared.cls),
        "original": {"size-bytes": len(case.data), "commitment": case.commitment},
        "rebuilt": None
        if rebuilt is None
        else {"size-bytes": len(rebuilt), "digest": digest(rebuilt), "media-type": case.media_type},
        "verdict": "refused" if refused else "passed",
        "refusal": None if case.refusal is None else case.refusal.as_dict(),
        "findings": [finding.as_dict() for finding in findings],
        "repaired": {} if refused else case.repaired,
    }
    report["sentences"] = describe(report)
    return Checked(
        name=case.declared.name,
        rebuilt=rebuilt,
        media_type=None if refused else case.media_type,
        refused=None if case.refusal is None else case.refusal.code,
        report=report,
    )
