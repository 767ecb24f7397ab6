"""Is an image suspected of carrying burned-in text, and what is to be done about it: two pure functions.

The rules are data (``rules.toml``).  They know no patient: they judge kinds of images, by what PS3.3 says of
their attributes and by what is published about vendors' screens.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, get_args

from imaging.deid.pixels.boxes import Box, merged, outside
from imaging.deid.pixels.facts import Facts

Finding = Literal["clean", "unsure", "captured", "areas", "somewhere", "throughout"]
Policy = Literal["blank", "hold", "refuse"]
Step = Literal["take", "blank", "hold", "refuse"]

HELD = "held-for-person"
REFUSED = "burned-in-annotation"

_IMAGE_FORMATS = frozenset({1, 2, 3, 4})
"""Ultrasound regions that hold echoes or traces; graphics (5) and those of no stated kind may hold text."""
_LEAST_OUTSIDE = 0.01
"""Regions that leave less of the frame than this were drawn around the whole screen, banner included."""
_LEAST_INSIDE = 0.02
"""Regions that are this small a part of the frame are not where the image is."""
_MOST_FOUND = 0.5
"""Found text on more of the frame than this is a page of text, or the detector at fault."""
_MOST_BLANKED = 0.95
"""A frame that is blanked beyond this, for whatever reason, shows nothing any more."""
_CLEARED_BY_SIGHT = frozenset({"unsure", "captured"})
"""Findings that the detector lifts where it finds nothing."""
_NEVER_BLANKED = frozenset({"throughout", "captured"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """``finding`` as in ``rules.toml``; ``boxes`` only for ``areas``; ``rule`` names what decided."""

    finding: Finding
    rule: str
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """``boxes`` are to be blanked where ``step`` is ``blank``; ``code`` is the reason where it is kept out."""

    step: Step
    boxes: tuple[Box, ...] = ()
    code: str = ""


def suspect(facts: Facts) -> Verdict:
    """What the rules say of an image; never raises for any facts."""
    holding = [rule for rule in _table().rules if rule.holds(facts)]
    first = holding[0]  # the last rule of the table holds always
    if first.finding != "areas":
        return Verdict(first.finding, first.name)
    boxes: list[Box] = []
    for rule in holding:
        if rule.finding == "areas":
            boxes += rule.areas(facts)
    if not boxes:
        return Verdict("somewhere", first.name)
    return Verdict("areas", first.name, tuple(sorted(set(boxes))))


def decide(
    verdict: Verdict, policy: Policy, size: tuple[int, int], found: Sequence[Box] | None = None
) -> Action:
    """What happens to an image of ``size`` (rows, columns) under a grant's ``policy``.

    ``found``: the detector's boxes, over all frames; None: it did not run.  Blanking needs to know where: an
    image whose text has no known place, or of which blanking would leave little, is held for a person instead.
    What the detector finds counts whatever the header says.
    """
    seen = tuple(merged(found or ()))
    cleared = verdict.finding == "clean" or (verdict.finding in _CLEARED_BY_SIGHT and found is not None)
    if cleared and not seen:
        return Action("take")
    boxes = (*verdict.boxes, *seen)
    if (
        policy != "blank"
        or verdict.finding in _NEVER_BLANKED
        or not boxes
        or not _leaves_enough(boxes, seen, size)
    ):
        return _kept_out(policy)
    return Action("blank", boxes)


def _leaves_enough(boxes: Sequence[Box], seen: Sequence[Box], size: tuple[int, int]) -> bool:
    """Whether blanking ``boxes``, of which ``seen`` are the detector's, leaves an image worth the name."""
    frame = size[0] * size[1]
    left = sum(box.area for box in outside(boxes, *size))
    found = frame - sum(box.area for box in outside(seen, *size))
    return found <= _MOST_FOUND * frame and left > (1 - _MOST_BLANKED) * frame


def rule_attributes() -> Mapping[str, tuple[str, ...]]:
    """Rule of the table → attributes that its conditions look at, by keyword; none for the last, which holds always."""
    return {
        rule.name: tuple(
            dict.fromkeys(keyword for condition in rule.conditions for keyword in _LOOKED_AT[condition])
        )
        for rule in _table().rules
    }


def rules_version() -> int:
    """Version of the table, for reports and manifests."""
    return _table().version


def _kept_out(policy: Policy) -> Action:
    return Action("refuse", code=REFUSED) if policy == "refuse" else Action("hold", code=HELD)


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    finding: Finding
    conditions: Mapping[str, Any]
    boxes: tuple[tuple[int | str, ...], ...]
    outside_regions: bool

    def holds(self, facts: Facts) -> bool:
        return all(_CONDITIONS[name](facts, wanted) for name, wanted in self.conditions.items())

    def areas(self, facts: Facts) -> list[Box]:
        rows, columns = facts.rows, facts.columns
        boxes = [
            Box(_edge(y0, rows), _edge(x0, columns), _edge(y1, rows), _edge(x1, columns))
            for y0, x0, y1, x1 in self.boxes
        ]
        if self.outside_regions:
            boxes += _around_regions(facts)
        return [box for box in (one.clipped(rows, columns) for one in boxes) if box.area]


@dataclass(frozen=True, slots=True)
class _Table:
    version: int
    rules: tuple[_Rule, ...]


def _around_regions(facts: Facts) -> list[Box]:
    """All that is outside the regions that hold echoes, or nothing where the regions can't be believed."""
    keep = [region.box for region in facts.regions if region.spatial_format in _IMAGE_FORMATS]
    around = outside(keep, facts.rows, facts.columns)
    frame = facts.rows * facts.columns
    part = sum(box.area for box in around) / frame if frame else 0.0
    return around if _LEAST_OUTSIDE <= part <= 1 - _LEAST_INSIDE else []


def _edge(value: int | str, size: int) -> int:
    if isinstance(value, str):
        return size
    return max(0, size + value) if value < 0 else value


def _words(text: str) -> str:
    """Words between single blanks, with one at each end, so that whole words can be looked for."""
    return f" {' '.join(re.findall(r'[A-Z0-9]+', text.upper()))} "


def _has_words(values: Sequence[str], wanted: Sequence[str]) -> bool:
    texts = [_words(value) for value in values]
    return any(_words(phrase) in text for phrase in wanted for text in texts)


def _has_part(value: str, wanted: Sequence[str]) -> bool:
    return any(part.upper() in value.upper() for part in wanted)


_CONDITIONS: Mapping[str, Any] = {
    "sop-class": lambda facts, wanted: facts.sop_class in wanted,
    "modality": lambda facts, wanted: facts.modality in wanted,
    "manufacturer": lambda facts, wanted: _has_part(facts.manufacturer, wanted),
    "model": lambda facts, wanted: _has_part(facts.model, wanted),
    "image-type": lambda facts, wanted: _has_words(facts.image_type, wanted),
    "conversion-type": lambda facts, wanted: _has_words([facts.conversion_type], wanted),
    "burned-in": lambda facts, wanted: facts.burned_in in wanted,
    "rows": lambda facts, wanted: facts.rows in wanted,
    "columns": lambda facts, wanted: facts.columns in wanted,
    "colour": lambda facts, wanted: facts.colour is wanted,
    "placed": lambda facts, wanted: facts.placed is wanted,
    "regions": lambda facts, wanted: bool(facts.regions) is wanted,
}

_LOOKED_AT: Mapping[str, tuple[str, ...]] = {
    "sop-class": ("SOPClassUID",),
    "modality": ("Modality",),
    "manufacturer": ("Manufacturer",),
    "model": ("ManufacturerModelName",),
    "image-type": ("ImageType",),
    "conversion-type": ("ConversionType",),
    "burned-in": ("BurnedInAnnotation",),
    "rows": ("Rows",),
    "columns": ("Columns",),
    "colour": ("PhotometricInterpretation", "SamplesPerPixel"),
    "placed": ("ImagePositionPatient",),
    "regions": ("SequenceOfUltrasoundRegions",),
}
"""Condition → attributes by which it is judged."""


@functools.cache
def _table() -> _Table:
    raw = tomllib.loads((resources.files("imaging.deid.pixels") / "rules.toml").read_text("utf-8"))
    return parse_rules(raw)


def parse_rules(raw: Mapping[str, Any]) -> _Table:
    """A table from its TOML; raises ValueError where it is not sound: it is ours, so that is our bug."""
    rules: list[_Rule] = []
    for entry in raw["rule"]:
        conditions = {k: v for k, v in entry.items() if k in _CONDITIONS}
        rest = set(entry) - set(conditions) - {"name", "finding", "boxes", "outside-regions"}
        areas = "boxes" in entry or "outside-regions" in entry
        if rest or entry["finding"] not in get_args(Finding) or areas != (entry["finding"] == "areas"):
            raise ValueError(f"the rule {entry['name']} is not sound")
        rules.append(
            _Rule(
                name=entry["name"],
                finding=entry["finding"],
                conditions=conditions,
                boxes=tuple(tuple(box) for box in entry.get("boxes", ())),
                outside_regions=bool(entry.get("outside-regions", False)),
            )
        )
    if len({rule.name for rule in rules}) != len(rules) or rules[-1].conditions:
        raise ValueError("names repeat, or the last rule does not hold always")
    return _Table(int(raw["version"]), tuple(rules))
