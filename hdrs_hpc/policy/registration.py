"""May this dataset registration be accepted?  Data are registered by custodians of their owner, and by nobody else.

Whoever registers a source as theirs first is believed, since no signature can tell whose an archive is; from then on
neither its name, nor the inventory that a scan made of it, nor its place can be registered for another owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.documents import owners
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.source import (
    DicomwebLocation,
    DimseLocation,
    S3Location,
    SftpLocation,
    SourceLocation,
)
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy.refusals import RealDataUnderDemoError
from hdrs_hpc.policy.rules import Broken, RuleResult, judge


class OwnedByOthersError(ConflictError):
    code = "dataset-owned-by-another"
    meaning = "The dataset's name, version or place is registered already, for another owner."
    remedy = "Settle with that owner whose data they are; what is yours has a name and a place of its own."


@dataclass(frozen=True)
class RegistrationFacts:
    """What the acceptance of a registration rests on."""

    signers: tuple[str, ...]
    trust_root: TrustRoot
    registered: tuple[DatasetRegistration, ...]
    """Everything registered before, in whatever version."""


def decide(registration: DatasetRegistration, facts: RegistrationFacts) -> tuple[RuleResult, ...]:
    """Every rule on accepting a registration."""
    results: list[RuleResult] = []
    for name, kept, rule in _RULES:
        results.extend(judge(name, kept, rule(registration, facts)))
    return tuple(results)


def _theirs(registration: DatasetRegistration, facts: RegistrationFacts) -> Iterator[Broken]:
    for person in owners.strangers_to_dataset(facts.trust_root, facts.signers, registration.owner):
        message = f"{person} is no custodian of {registration.owner}"
        yield Broken(owners.RegisteredByOthersError, message, "owner")


def _nobody_elses(registration: DatasetRegistration, facts: RegistrationFacts) -> Iterator[Broken]:
    others = [item for item in facts.registered if item.owner != registration.owner]
    for field, same in (
        ("name", (item.name == registration.name for item in others)),
        ("version", (item.version == registration.version for item in others)),
        ("source", _overlapping(registration, others)),
    ):
        if any(same):
            yield Broken(OwnedByOthersError, f"its {field} is another owner's", field)


def _sensitivity(registration: DatasetRegistration, facts: RegistrationFacts) -> Iterator[Broken]:
    if registration.sensitivity != "real":
        return
    if facts.trust_root.demo:
        yield Broken(RealDataUnderDemoError, f"{registration.name} holds real data", "sensitivity")
    for threshold in facts.trust_root.one_person_decides:
        yield Broken(owners.OnePersonDecidesError, f"the threshold {threshold} is one", "sensitivity")


def _overlapping(registration: DatasetRegistration, others: Iterable[DatasetRegistration]) -> Iterator[bool]:
    archive, mine = _where(registration.source)
    for other in others:
        its_archive, its = _where(other.source)
        yield archive == its_archive and (mine.is_relative_to(its) or its.is_relative_to(mine))


def _where(place: SourceLocation) -> tuple[tuple[object, ...], PurePosixPath]:
    """An archive, and a path inside it as far as the place is one.

    What a place selects by date or modality is not compared: two owners of one archive give their parts of it
    different addresses.
    """
    match place:
        case DicomwebLocation():
            url = urlsplit(place.url.lower())
            return ("web", url.hostname, url.port or {"https": 443}.get(url.scheme, 80)), _path(url.path)
        case DimseLocation():
            return ("dimse", place.host.lower(), place.port, place.called_ae), PurePosixPath("/")
        case S3Location():
            return ("s3", (place.endpoint or "").lower().rstrip("/"), place.bucket), _path(place.prefix)
        case SftpLocation():
            return ("sftp", place.host.lower(), place.port), _path(place.path)
    path = _path(place.path)
    return ("file",), path.parent if place.type == "dicomdir" else path


def _path(text: str) -> PurePosixPath:
    """Absolute, without ``.`` and ``..``."""
    steps: list[str] = []
    for step in text.split("/"):
        if step == "..":
            steps = steps[:-1]
        elif step not in ("", "."):
            steps.append(step)
    return PurePosixPath("/", *steps)


_Rule = Callable[[DatasetRegistration, RegistrationFacts], Iterator[Broken]]
_RULES: tuple[tuple[str, str, _Rule], ...] = (
    ("signed-by-owner", "custodians of its owner signed it", _theirs),
    ("nobody-elses", "no other owner registered it", _nobody_elses),
    ("root-fits-sensitivity", "its trust root may meet such data", _sensitivity),
)
