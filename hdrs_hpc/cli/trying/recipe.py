"""What made-up data look like: taken from the spec's selection, the grant's, and what is known of the dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from hdrs_hpc.catalogue.data_kinds import PATHOLOGY, RADIOLOGY, TABLE
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import DataUse
from hdrs_hpc.documents.models.selection import DateRange

ANY_KIND = "any"
"""Of a dataset about which nothing is known: some of each kind."""
USUAL = ("CT", "MR")
"""Modalities that are drawn; of another only its name is there, on images like these."""
_DAYS = (date(2019, 1, 1), date(2023, 12, 31))
_UNDERSTOOD = {"Modality", "BodyPartExamined", "PatientSex", "Manufacturer", "StudyDate"}


@dataclass(frozen=True)
class Recipe:
    """Of one dataset; equal recipes make equal bytes."""

    kind: str
    modalities: tuple[str, ...] = USUAL
    body_parts: tuple[str, ...] = ("CHEST", "ABDOMEN", "HEAD")
    sexes: tuple[str, ...] = ("F", "M")
    manufacturers: tuple[str, ...] = ("SIEMENS", "GE MEDICAL SYSTEMS")
    first: date = _DAYS[0]
    last: date = _DAYS[1]
    columns: dict[str, Any] = field(default_factory=dict)
    """Of a linked table, as its grant writes them; none: a few to begin with."""
    patients: int = 40
    seed: int = 7

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"first": self.first.isoformat(), "last": self.last.isoformat()}


def recipe(use: DataUse, grant: Grant | None, kind: str | None, seed: int) -> tuple[Recipe, tuple[str, ...]]:
    """For one input of a spec, and the keywords of its selection that made-up data do not know.

    ``kind``: of the dataset, where that is known.
    """
    granted = grant.data.get(use.dataset) if grant else None
    select = {**(granted.select if granted else {}), **use.select}
    words: dict[str, tuple[str, ...]] = {}
    days = _DAYS
    for keyword, values in select.items():
        if isinstance(values, DateRange):
            days = (values.first, values.last) if keyword == "StudyDate" else days
        else:
            words[keyword] = tuple(values)
    columns = granted.columns if granted else {}
    shown = {name: rule.model_dump(mode="json", exclude_defaults=True) for name, rule in columns.items()}
    known = kind or (TABLE.name if columns else _by_words(words))
    blank = Recipe(known)
    made = Recipe(
        kind=known,
        modalities=tuple(word for word in words.get("Modality", blank.modalities) if word != "SM") or USUAL,
        body_parts=words.get("BodyPartExamined", blank.body_parts),
        sexes=words.get("PatientSex", blank.sexes),
        manufacturers=words.get("Manufacturer", blank.manufacturers),
        first=days[0],
        last=days[1],
        columns=shown,
        seed=seed,
    )
    return made, tuple(sorted(select.keys() - _UNDERSTOOD))


def _by_words(words: dict[str, tuple[str, ...]]) -> str:
    """The kind that a selection gives away."""
    modalities = set(words.get("Modality", ()))
    if modalities == {"SM"}:
        return PATHOLOGY.name
    return RADIOLOGY.name if modalities and "SM" not in modalities else ANY_KIND
