"""Which items go into the copy, and as what: the rules of one staging, kind by kind.  Pure; needs the key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from imaging.deid.keyed import DeidKey
from imaging.deid.profiles import Profile
from imaging.staging import patient_lists
from imaging.staging.headers import Header
from imaging.staging.items import Task
from imaging.staging.selection import Selection


@dataclass
class Judged:
    """``refused``: item number → reason code.  ``notes``: what deserves a look, counted."""

    tasks: list[Task] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


BurnedIn = Literal["blank", "hold", "refuse"]


@dataclass(frozen=True, slots=True)
class PixelPolicy:
    """What a grant says of identity in the pixels themselves (PS3.15 E.3.1, E.3.2)."""

    burned_in: BurnedIn = "refuse"
    """Of images suspected to carry burned-in text: blank the places, hold for a person, or refuse."""
    find_text: bool = False
    """Search every image for text, also where no rule suspects any."""
    deface: bool = False
    """Remove the face from head scans."""
    released: frozenset[int] = frozenset()
    """Item numbers that a person looked at and found free of identity: not held for text again."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a grant says of one kind of data, with the key that makes pseudonyms."""

    key: DeidKey
    profile: Profile
    selection: Selection
    opt_out: frozenset[str]
    issuer: str
    """Stands in for an absent Issuer of Patient ID."""
    pixels: PixelPolicy = PixelPolicy()
    cohort: frozenset[str] | None = None
    """Hashes of the patients wanted; None: all."""

    def opted_out(self, issuer: str, patient_id: str) -> bool:
        """Whether this id, of this issuer, of the source's or of any, is on the opt-out list."""
        return bool(self.opt_out) and patient_lists.opted_out(
            self.key, self.opt_out, patient_id, {issuer, issuer or self.issuer}
        )

    def slide_opted_out(self, issuer: str, stem: str, identifiers: Iterable[str]) -> bool:
        """The same of a slide, by its file's name without ending and by all ids that its header gives."""
        return bool(self.opt_out) and patient_lists.opted_out_slide(
            self.key, self.opt_out, stem, identifiers, {issuer, issuer or self.issuer}
        )

    def wanted(self, issuer: str, patient_id: str) -> bool:
        """Whether this patient is in the cohort."""
        return self.cohort is None or patient_lists.in_cohort(
            self.key, self.cohort, patient_id, {issuer, issuer or self.issuer}
        )

    def pseudonym(self, issuer: str, patient_id: str, study: str) -> str:
        """The patient's pseudonym; without an id, one unknown person per study."""
        if patient_id.strip():
            return self.key.patient(issuer or self.issuer, patient_id)
        return self.key.patient_of_study(study)


class Kind(Protocol):
    """The rules of one kind of data: ``radiology``, ``pathology`` or ``table``."""

    @property
    def keywords(self) -> frozenset[str]:
        """Attributes that a parser is asked for."""
        ...

    def takes(self, header: Header) -> bool:
        """Whether this header is of the kind."""
        ...

    def identity(self, number: int, header: Any) -> tuple[str, ...] | None:
        """What no other item of the copy may be, of an item whose SOP Instance UID another has too; None where a rule
        keeps it out, or it has no UID."""
        ...

    def judge(self, headers: Mapping[int, Any], paths: Sequence[str]) -> Judged:
        """Tasks and refusals of these headers (item number → header), which :meth:`takes` said yes to."""
        ...


class Judge:
    """All kinds of one staging; an item of another kind is ``wrong-kind``."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self._kinds = tuple(kinds)

    @property
    def keywords(self) -> frozenset[str]:
        """See :attr:`Kind.keywords`."""
        return frozenset().union(*(kind.keywords for kind in self._kinds))

    def identity(self, number: int, header: Header) -> tuple[str, ...] | None:
        """See :meth:`Kind.identity`."""
        kind = next((kind for kind in self._kinds if kind.takes(header)), None)
        return None if kind is None else kind.identity(number, header)

    def judge(self, headers: Mapping[int, Header], paths: Sequence[str]) -> Judged:
        """Tasks in a stable order; memory is proportional to the headers."""
        whole = Judged()
        left = dict(sorted(headers.items()))
        for kind in self._kinds:
            mine = {number: header for number, header in left.items() if kind.takes(header)}
            for number in mine:
                del left[number]
            judged = kind.judge(mine, paths)
            whole.tasks += judged.tasks
            whole.refused |= judged.refused
            whole.notes += judged.notes
        whole.refused |= dict.fromkeys(left, "wrong-kind")
        whole.tasks.sort(key=lambda task: task.path)
        return whole
