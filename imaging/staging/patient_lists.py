"""Lists of patients, as keyed hashes: who opted out, and who is in a cohort.

A list is read where the custodian keeps it, hashed at once and never logged; a report counts and names nobody.
An opt-out is matched generously, since one id is written in many ways and a patient too many left out harms
nobody; a cohort strictly, for the opposite reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imaging.deid.keyed import DeidKey, normalise

_LONGEST_RUN = 6
_MOST_PARTS = 64


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
        issuer, bar, patient_id = line.strip().rpartition("|")
        if normalise(patient_id):
            yield (issuer.strip() if bar else ""), patient_id


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
