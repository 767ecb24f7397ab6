"""Check the artefacts of a job: identify, parse, apply class and grant, rebuild, report.  Pure.

All artefacts of a job are checked together, because they explain each other: a count hidden in one table is
not hidden when another shows it, and an image is as safe as the table it draws.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, cast

from hdrs_hpc.broker.workers.airlock import identify
from hdrs_hpc.broker.workers.airlock.artefact_streams import Counted, Given
from hdrs_hpc.broker.workers.airlock.report import describe
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.outputs.checking import disclosure
from hdrs_hpc.catalogue.outputs.checking.additive import CountSheet
from hdrs_hpc.catalogue.outputs.checking.contract import Neighbour, Parsed
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.disclosure import Pattern
from hdrs_hpc.catalogue.outputs.checking.granted import CountRules
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError, CannotProtectError, Finding
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError

SCHEMA = "hdrs-hpc/check-report/1"
MIN_SALT_BYTES = 16


class ClassNotSupportedError(ArtefactRefusedError):
    code = "class-not-supported"
    meaning = "This version of the airlock has no rule by which an artefact of this class could leave."
    remedy = f"Declare outputs of a class with a rule: {', '.join(row.name for row in outputs.BUILT)}."


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


class ArtefactOfRealDataError(ArtefactRefusedError):
    code = "artefact-of-real-data"
    meaning = (
        "No artefact of this class may leave that was made of real data: it could hide what no reviewer sees."
    )
    remedy = "Leave it out; for an image, release the table that it draws and draw it outside."


@dataclass(frozen=True)
class Checked:
    """The airlock's word on one artefact.

    ``rebuilt`` is what may be released, where it was asked for in memory, else None; so it is when ``refused`` holds a
    reason code.  ``report`` is what
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
        return None if self.report["rebuilt"] is None else str(self.report["rebuilt"]["digest"])

    @property
    def rebuilt_bytes(self) -> int | None:
        """Its size."""
        return None if self.report["rebuilt"] is None else int(self.report["rebuilt"]["size-bytes"])


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def commitment(salt: bytes, original: bytes) -> str:
    """Binds to the original, of which this is the SHA-256, without telling it: sha256 over salt ‖ sha256(original)."""
    return digest(salt + original)


def check(declared: Declared, data: bytes, rules: OutputRules, salt: bytes, inputs: InputFacts) -> Checked:
    """Check one artefact by itself, see :func:`check_set`; an image that draws a table is refused here."""
    return check_set([(declared, data)], rules, salt, inputs)[0]


def check_set(
    artefacts: Sequence[tuple[Declared, bytes]], rules: OutputRules, salt: bytes, inputs: InputFacts
) -> list[Checked]:
    """:func:`check_streams` in memory."""
    if len({declared.name for declared, _ in artefacts}) != len(artefacts):
        raise ValueError("two artefacts of one name")
    made = [io.BytesIO() for _ in artefacts]
    given = ((declared, Given(io.BytesIO(data), len(data))) for declared, data in artefacts)
    found = check_streams(given, made.__getitem__, rules, salt, inputs)
    return [
        replace(checked, rebuilt=None if checked.refused else out.getvalue())
        for checked, out in zip(found, made, strict=True)
    ]


def check_streams(
    artefacts: Iterable[tuple[Declared, Given]],
    out: Callable[[int], BinaryIO],
    rules: OutputRules,
    salt: bytes,
    inputs: InputFacts,
) -> list[Checked]:
    """Check all artefacts of a job, in the order given; the same input gives the same bytes.

    Each is read before the next is asked for.  What is rebuilt of artefact n is written to ``out(n)``, at any time, and
    counts only when its answer says so.

    ``inputs``: what the broker knows of the data that the job read; the workload's word on it counts for nothing.
    ``salt``: at least 16 secret bytes of the broker, kept with the quarantined originals.  Raises only on
    wrong use: whatever is wrong with an artefact is its ``refused`` code.
    """
    if len(salt) < MIN_SALT_BYTES:
        raise ValueError("the salt of the commitments is too short")
    cases: list[_Case] = []
    for declared, given in artefacts:
        case = _Case(declared, given.size, Counted(out(len(cases))))
        try:
            _read(case, given, rules, inputs)
        except BadDocumentError as error:
            case.refusal = error
        case.commitment = commitment(salt, given.digest())
        cases.append(case)
    _protect(cases, rules)
    # What draws a table comes after it: a table that is refused while it is rebuilt takes its drawings along.
    _each([case for case in cases if case.sheet is not None], lambda case: _rebuild(case, rules))
    neighbours = {case.declared.name: case.as_neighbour() for case in cases}
    drawings = [case for case in cases if case.sheet is None]
    _each(drawings, lambda case: _parsed(case).compare(neighbours))
    _each(drawings, lambda case: _rebuild(case, rules))
    return [_conclude(case, rules) for case in cases]


@dataclass
class _Case:
    """One artefact on its way through the airlock; ``refusal`` ends the way."""

    declared: Declared
    size: int
    out: Counted
    commitment: str = ""
    parsed: Parsed | None = None
    sheet: CountSheet | None = None
    pattern: Pattern | None = None
    media_type: str | None = None
    repaired: dict[str, Any] = field(default_factory=dict)
    refusal: BadDocumentError | None = None

    def as_neighbour(self) -> Neighbour:
        return Neighbour(self.declared.cls, self.refusal is not None, self.pattern)


def _each(cases: Sequence[_Case], step: Callable[[_Case], None]) -> None:
    for case in cases:
        if case.refusal is None:
            try:
                step(case)
            except BadDocumentError as error:
                case.refusal = error


def _read(case: _Case, given: Given, rules: OutputRules, inputs: InputFacts) -> None:
    declared = case.declared
    row = outputs.BY_NAME.get(declared.cls)
    if row is None or row not in outputs.BUILT:
        raise ClassNotSupportedError(f"class {declared.cls}")
    if declared.cls not in rules.rules:
        raise ClassNotGrantedError(f"class {declared.cls}")
    if inputs.real and "real" in row.refused_sensitivities:
        raise ArtefactOfRealDataError(f"class {declared.cls}")
    if not case.size:
        raise ArtefactEmptyError()
    most = min(declared.max_size, row.max_bytes)
    if case.size > most:
        raise ArtefactTooLargeError(f"{case.size} bytes where {most} are allowed")
    seen = identify.check_type(row, given.head())
    rule = rules.rules[declared.cls]
    source, out = cast(BinaryIO, given), cast(BinaryIO, case.out)
    case.parsed = row.checking().read(declared, source, seen, rule, inputs, out)
    case.sheet = case.parsed.sheet()


def _parsed(case: _Case) -> Parsed:
    assert case.parsed is not None  # _read refused it otherwise
    return case.parsed


def _protect(cases: Sequence[_Case], rules: OutputRules) -> None:
    """Protect all counts together; what can't be protected drops out and the rest is tried again."""
    while True:
        counted = {
            case.declared.name: case for case in cases if case.refusal is None and case.sheet is not None
        }
        sheets = [case.sheet for case in counted.values() if case.sheet is not None]
        floors = {name: _count_rules(case, rules) for name, case in counted.items()}
        try:
            patterns = disclosure.protect(sheets, floors)
        except CannotProtectError as error:
            for name in error.sheets:
                counted[name].refusal = error
            continue
        for name, case in counted.items():
            case.pattern = patterns[name]
        return


def _count_rules(case: _Case, rules: OutputRules) -> CountRules:
    rule = rules.rules[case.declared.cls]
    assert isinstance(rule, CountRules)  # a class with counts has a rule for them
    return rule


def _rebuild(case: _Case, rules: OutputRules) -> None:
    cls = case.declared.cls
    case.media_type = outputs.BY_NAME[cls].checking().media_type
    case.repaired = _parsed(case).rebuild(rules.rules[cls], case.pattern, cast(BinaryIO, case.out))


def _conclude(case: _Case, rules: OutputRules) -> Checked:
    refused = case.refusal is not None
    findings: list[Finding] = []
    if not refused:
        findings += case.parsed.findings if case.parsed is not None else ()
        findings += case.pattern.findings if case.pattern is not None else ()
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "artefact": case.declared.name,
        "class": case.declared.cls,
        "rules": rules.as_dict().get(case.declared.cls),
        "original": {"size-bytes": case.size, "commitment": case.commitment},
        "rebuilt": None
        if refused
        else {"size-bytes": case.out.size, "digest": case.out.digest, "media-type": case.media_type},
        "verdict": "refused" if refused else "passed",
        "refusal": None if case.refusal is None else case.refusal.as_dict(),
        "findings": [finding.as_dict() for finding in findings],
        "repaired": {} if refused else case.repaired,
    }
    if case.declared.columns and (counted := case.declared.counting()):
        report["counts"] = counted
    report["sentences"] = describe(report)
    return Checked(
        name=case.declared.name,
        rebuilt=None,
        media_type=None if refused else case.media_type,
        refused=None if case.refusal is None else case.refusal.code,
        report=report,
    )
