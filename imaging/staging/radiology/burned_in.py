"""Burned-in text of DICOM images under a grant's policy: rules by header first, then what the detector sees."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from imaging.deid.pixels.boxes import Box, merged
from imaging.deid.pixels.facts import Facts, Region
from imaging.deid.pixels.suspicion import Action, Finding, Verdict, decide, suspect
from imaging.staging import answers
from imaging.staging.admission import PixelPolicy
from imaging.staging.items import Bench, Made, Told
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.volume import Volume
from imaging.staging.refusals import RELEASED_FRAMES, TEXT_FOUND, ItemRefused, Refused

KEYWORDS = frozenset({"Manufacturer", "ManufacturerModelName"})
"""What the rules want to know of a header beside its fixed fields."""
FRAMES_A_PART = 64
_MAX_BOXES = 4096
_MOST_LINES = 25
"""A frame with more lines of text than this is a page of text."""
SHOWN_FRAMES = 64
"""Frames of a held instance that a person is shown; a release says nothing of any others."""


@dataclass(frozen=True, slots=True)
class TextRules:
    """What a volume's task needs to judge its instances again once the detector has looked."""

    policy: PixelPolicy
    verdicts: tuple[tuple[int, Verdict], ...]
    """By item number, without those that a person released."""
    size: tuple[int, int]
    """Rows, columns."""

    def said(self, digest: Callable[[int], str]) -> list[object]:
        """All that decides what is blanked or held, items by the digests of their bytes: for fingerprints."""
        policy = self.policy
        verdicts = sorted((digest(number), repr(verdict)) for number, verdict in self.verdicts)
        return [policy.burned_in, policy.find_text, policy.deface, verdicts, self.size]

    def boxes(self, found: Mapping[int, Sequence[Box]] | None) -> dict[int, tuple[Box, ...]]:
        """What to blank, by item number.  ``found``: the detector's boxes, None where it did not run.

        Raises :class:`ItemRefused` for an instance that is to be held or refused.
        """
        blanked: dict[int, tuple[Box, ...]] = {}
        for number, verdict in self.verdicts:
            seen = None if found is None else found.get(number, ())
            action = decide(verdict, self.policy.burned_in, self.size, seen)
            if action.code:
                by_header = decide(verdict, self.policy.burned_in, self.size, None if found is None else ())
                # What only the detector saw is told as that, not as the rule that let the image through.
                code = kept_out(action.code, verdict if by_header.code else None)
                raise ItemRefused(number, str(code))
            if action.boxes:
                # Not merged: boxes around a region, bound together, are the whole frame.
                blanked[number] = tuple(sorted(set(action.boxes)))
        return blanked


def judged(number: int, header: InstanceHeader, policy: PixelPolicy) -> tuple[Verdict | None, Action]:
    """The rules' verdict of an instance, and what is known to happen to it before the detector has run.

    With the detector on, only what no detector can clear is kept out here.  No verdict: a person released it,
    and nothing is asked any more.  A release of more frames than are shown lifts what the header says, and
    leaves the detector to search them; without it, the instance stays out as before.
    """
    verdict, size = _suspect(facts_of(header)), (header.rows, header.columns)
    if number in policy.released:
        if len(header.frames) <= SHOWN_FRAMES or (verdict.finding == "clean" and not policy.find_text):
            return None, Action("take")
        if policy.find_text:
            lifted: Finding = "captured" if verdict.finding in ("captured", "throughout") else "unsure"
            return Verdict(lifted, RELEASED_FRAMES), Action("take")
    if policy.find_text and verdict.finding != "throughout":
        early = decide(verdict, policy.burned_in, size, ())
        may_still_blank = policy.burned_in == "blank"
        return verdict, Action("take") if may_still_blank else early
    return verdict, decide(verdict, policy.burned_in, size)


def kept_out(code: str, verdict: Verdict | None) -> str | None:
    """``code`` with the rule that kept the image out, by name; without a verdict that is the detector.  None where
    there is no code."""
    return f"{code}:{TEXT_FOUND if verdict is None else verdict.rule}" if code else None


_suspect = functools.lru_cache(maxsize=4096)(suspect)
"""Kept, since the slices of a series are alike in all that the rules look at."""


def facts_of(header: InstanceHeader) -> Facts:
    """What the rules look at.  Regions that lie nowhere are left out, which can only make an image more suspect."""

    def word(keyword: str) -> str:
        value = header.attributes.get(keyword)
        return value if isinstance(value, str) else ""

    return Facts(
        sop_class=header.sop_class,
        modality=header.modality.strip().upper(),
        manufacturer=word("Manufacturer"),
        model=word("ManufacturerModelName"),
        image_type=header.image_type,
        conversion_type=header.conversion_type.strip().upper(),
        burned_in="yes" if header.burned_in == "YES" else "no" if header.burned_in == "NO" else "absent",
        photometric=header.photometric.strip().upper(),
        samples=header.samples,
        rows=header.rows,
        columns=header.columns,
        placed=all(frame.position_mm is not None for frame in header.frames),
        regions=tuple(
            Region(Box(one.y0, one.x0, one.y1 + 1, one.x1 + 1), one.spatial_format)
            for one in header.regions
            if min(one.x0, one.y0, one.x1, one.y1) >= 0
        ),
    )


@dataclass(frozen=True, slots=True)
class TextPart:
    """Tells where the detector sees text on some frames of one instance."""

    number: int
    frames: tuple[int, ...]
    size: tuple[int, int]
    share: float = 0.0
    path: str = ""
    inputs: tuple[str, ...] = ()

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        try:
            # Not as a list: it may answer without end.
            ((raw, _),) = bench.reader.ask(self.number, "text", frames=list(self.frames))
            boxes = merged(_checked(raw, len(self.frames), self.size))
        except Refused as refused:
            raise ItemRefused(self.number, refused.code) from None
        except answers.LIES:
            raise ItemRefused(self.number, "parser-crashed") from None
        return Made(b"", {"text": {"number": self.number, "boxes": [list(box) for box in boxes]}})


def _checked(raw: bytes, frames: int, size: tuple[int, int]) -> list[Box]:
    """A parser's boxes, clipped to the frame: its word is not trusted."""
    said = answers.said(raw)["boxes"]
    if len(said) != frames or sum(map(len, said)) > _MAX_BOXES * frames:
        raise ValueError("not what was asked for")
    found = [_box(box).clipped(*size) for boxes in said for box in boxes]
    if any(len(merged(map(_box, boxes))) > _MOST_LINES for boxes in said):
        return [Box(0, 0, *size)]  # all of it: this is for a person to look at
    return [box for box in found if box.area]


def _box(edges: Sequence[int]) -> Box:
    return Box(*(int(edge) for edge in edges))


def text_parts(volume: Volume) -> Iterator[TextPart]:
    """Every frame of the volume, some at a time."""
    header = volume.header
    frames: dict[int, list[int]] = {}
    for one in volume.all_slices():
        frames.setdefault(one.instance.number, []).append(one.frame)
    for number, wanted in frames.items():
        wanted.sort()
        for at in range(0, len(wanted), FRAMES_A_PART):
            yield TextPart(number, tuple(wanted[at : at + FRAMES_A_PART]), (header.rows, header.columns))


def found_text(told: Sequence[Told]) -> dict[int, list[Box]]:
    """The detector's boxes by item number, over all its frames: text mostly stands where it stands."""
    found: dict[int, list[Box]] = {}
    for one in told:
        if "text" in one:
            found.setdefault(one["text"]["number"], []).extend(Box(*box) for box in one["text"]["boxes"])
    return found
