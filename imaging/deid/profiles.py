"""Profiles: which attributes a copy keeps, by which rule, under which options of PS3.15 annex E.

A profile is data (``tables/<name>.toml``), versioned by ``@n`` and never changed once released: a copy's
manifest and a grant name it.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from hdrs_hpc.core.errors import BadDocumentError
from imaging.deid.codes import is_public
from imaging.deid.guard import IDENTIFYING, guard
from imaging.deid.rules import CLOSED, RULES, Patient, Value


class UnknownProfileError(BadDocumentError):
    code = "profile-unknown"
    meaning = "There is no de-identification profile of that name and version."
    remedy = "Choose one of those in docs/deidentification.md, such as radiology-basic@2 or slide-basic@2."


@dataclass(frozen=True, slots=True)
class Profile:
    """``attributes``: DICOM keyword → name of its rule.  ``options``: code → meaning (CID 7050).

    A keyword may be a path as ``RadiopharmaceuticalInformationSequence.RadionuclideTotalDose``: of each sequence
    on the way its first item.
    """

    name: str
    kind: str
    options: Mapping[str, str]
    attributes: Mapping[str, str]

    @property
    def keywords(self) -> frozenset[str]:
        """What a parser is asked for: also what is only looked for in the rest, or gives an absent age."""
        return frozenset(self.attributes) | IDENTIFYING

    def apply(
        self, patient: Patient, attributes: Mapping[str, Value], said: Mapping[str, Value] | None = None
    ) -> dict[str, Value]:
        """The attributes that go into the copy, sorted by keyword.

        ``said``: all raw attributes of the instance, where ``attributes`` are only some of them.  What carries a name
        or an id that the instance gives elsewhere stays behind.
        """
        said = attributes if said is None else said
        people = guard(said)
        patient = replace(patient, known=people.known)
        kept: dict[str, Value] = {}
        for keyword, rule in sorted(self.attributes.items()):
            raw = attributes.get(keyword)
            value = RULES[rule](patient, raw) if raw is not None else None
            if value is None or (rule == "coded" and not _is_coded(keyword, said)):
                continue
            if rule in CLOSED or not people.is_in(value):
                kept[keyword] = value
        return kept

    def stamp(self) -> dict[str, Any]:
        """What PS3.15 wants said of a de-identified object (0012,0062 to 0012,0064)."""
        return {
            "PatientIdentityRemoved": "YES",
            "DeidentificationMethod": f"hdrs-hpc {self.name}",
            "DeidentificationMethodCodeSequence": [
                {"CodeValue": code, "CodingSchemeDesignator": "DCM", "CodeMeaning": meaning}
                for code, meaning in sorted(self.options.items())
            ],
        }


@functools.cache
def load(name: str) -> Profile:
    """The profile ``name@version``; raises :class:`UnknownProfileError`."""
    if name not in names():
        raise UnknownProfileError(f"no profile {name[:60]!r}")
    raw = tomllib.loads((_folder() / f"{name}.toml").read_text("utf-8"))
    attributes = {keyword: rule for rule, keywords in raw["attributes"].items() for keyword in keywords}
    options = dict(raw["options"])
    if "extends" in raw:
        wider = load(raw["extends"])
        attributes, options = {**wider.attributes, **attributes}, {**wider.options, **options}
    unknown = set(attributes.values()) - set(RULES)
    if unknown or raw["name"] != name:
        raise RuntimeError(f"the profile {name} is broken: {sorted(unknown)}")
    return Profile(name=name, kind=raw["kind"], options=options, attributes=attributes)


def names() -> tuple[str, ...]:
    """All profiles there are, sorted."""
    return tuple(
        sorted(
            entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")
        )
    )


def _is_coded(keyword: str, said: Mapping[str, Value]) -> bool:
    """Whether an item's Code Value and Coding Scheme Designator make a public code; either tells nothing alone."""
    item = keyword.rpartition(".")[0]
    scheme, value = (said.get(f"{item}.{last}") for last in ("CodingSchemeDesignator", "CodeValue"))
    return isinstance(scheme, str) and isinstance(value, str) and is_public(scheme, value)


def _folder() -> Any:
    return resources.files("imaging.deid") / "tables"
