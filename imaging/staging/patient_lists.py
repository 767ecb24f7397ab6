"""Lists of patients, as keyed hashes: who opted out, and who is in a cohort.

A list is read strictly (:mod:`imaging.staging.patient_list_file`) where the custodian keeps it, hashed at once and
never logged; a report counts and names nobody.
An opt-out is matched generously, since one id is written in many ways and a patient too many left out harms
nobody; a cohort strictly, for the opposite reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.core.errors import UsageError
from imaging.deid.keyed import DeidKey, normalise
from imaging.staging.patient_list_file import same_patient, split

_LONGEST_RUN = 6
_MOST_PARTS = 64


class OptOutMissingError(UsageError):
    code = "opt-out-missing"
    meaning = "Nobody said who opted out, and a list that is missing is never taken for an empty one."
    remedy = "Give the list, or the reason why nobody opted out: `--opt-out FILE` or `--no-opt-out REASON`."


@dataclass(frozen=True, slots=True)
class OptOut:
    """What was said of who opted out, as a staging needs and tells it.

    ``hashes``: of the list's entries, empty where nobody opted out.  ``digest``: of the whole list, under a key, so
    that who knows some patients' ids can't try whether they are on it.  ``about``: see :func:`rounded`.  ``reason``:
    why nobody opted out, where that was said here and not in a signed document.
    """

    hashes: frozenset[str]
    digest: str
    about: int
    reason: str | None = None

    @classmethod
    def of(cls, key: DeidKey, entries: Iterable[str]) -> OptOut:
        """The statement of a list's entries; its digest is under the de-identification key."""
        listed = tuple(entries)
        patients = {same_patient(entry) for entry in listed}
        return cls(opt_out_hashes(key, listed), key.list_digest("opt-out", patients), rounded(len(patients)))

    @classmethod
    def nobody(cls, key: DeidKey, reason: str) -> OptOut:
        """Nobody opted out, for this reason.  Raises :class:`OptOutMissingError` for a reason without a word."""
        if not any(char.isalpha() for char in reason):
            raise OptOutMissingError("the reason holds no word")
        return cls(frozenset(), key.list_digest("opt-out", ()), 0, reason)

    def as_dict(self) -> dict[str, Any]:
        """For reports: no patient can be read from it."""
        told: dict[str, Any] = {"list": self.digest, "about": self.about}
        return told | ({"nobody": self.reason} if self.reason is not None else {})


def rounded(count: int) -> int:
    """A list's length as it is told: 0, else the power of ten that it does not pass, from 10 on.

    One patient more or less does not show, except to who watches the list grow past such a power.
    """
    told = 10
    while told < count:
        told *= 10
    return told if count else 0


def opt_out_hashes(key: DeidKey, lines: Iterable[str]) -> frozenset[str]:
    """Hashes of a list with one id a line, each in the ways it may also be written; empty lines don't count.

    ``ISSUER|ID`` means this issuer's patient only, an id alone that of any issuer.
    """
    return frozenset(
        key.opt_out_hash(issuer, way) for issuer, patient_id in _entries(lines) for way in _ways(patient_id)
    )


def cohort_hashes(key: DeidKey, lines: Iterable[str]) -> frozenset[str]:
    """Hashes of a cohort's list, in the same form; an id matches as :func:`normalise` writes it, no other way."""
    return frozenset(key.opt_out_hash(issuer, patient_id) for issuer, patient_id in _entries(lines))


def opted_out(key: DeidKey, hashes: frozenset[str], patient_id: str, issuers: Iterable[str]) -> bool:
    """Whether a patient is on the opt-out list, under any of these issuers or under none."""
    wanted = {"", *issuers}
    return any(key.opt_out_hash(issuer, way) in hashes for way in _ways(patient_id) for issuer in wanted)


def opted_out_slide(
    key: DeidKey, hashes: frozenset[str], stem: str, identifiers: Iterable[str], issuers: Iterable[str]
) -> bool:
    """The same of a slide: by what its file is called, in whole or in part, and by ids its header gives.

    ``stem``: file name without its ending; a list may name the specimen (``S12-3456``) or the patient, and a
    name may hold either beside a stain or block.  ``identifiers``: patient, accession, container, specimen.
    """
    every = tuple(issuers)
    return any(opted_out(key, hashes, one, every) for one in {*_runs(stem), *filter(None, identifiers)})


def in_cohort(key: DeidKey, hashes: frozenset[str], patient_id: str, issuers: Iterable[str]) -> bool:
    """Whether a patient belongs to the cohort; nobody without an id does."""
    return bool(patient_id.strip()) and any(
        key.opt_out_hash(issuer, patient_id) in hashes for issuer in {"", *issuers}
    )


def _entries(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        issuer, patient_id = split(line)
        if normalise(patient_id):
            yield issuer, patient_id


def _ways(patient_id: str) -> set[str]:
    """An id as it is, without punctuation, and without zeros in front."""
    plain = normalise(patient_id)
    bare = "".join(char for char in plain if char.isalnum())
    return {way for way in (plain, bare, bare.lstrip("0")) if way}


def _runs(stem: str) -> set[str]:
    """The whole name and every run of neighbouring parts of it, as ids may be hidden between other words."""
    spaced = "".join(char if char.isalnum() else " " for char in stem)
    parts = spaced.split()[:_MOST_PARTS]
    runs = {
        "".join(parts[first : first + length])
        for length in range(1, _LONGEST_RUN + 1)
        for first in range(len(parts) - length + 1)
    }
    return {stem, *runs}
