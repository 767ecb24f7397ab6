"""What a staging did, for machines (JSON) and for people (HTML): counts, codes, item numbers; no patient data.

An item number is a row of the registered inventory, which only the data zone has.  Opt-outs are counted and
not numbered; the list itself is told by its keyed digest and a rounded length.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imaging.staging.refusals import REASONS, UNLISTED
from imaging.staging.unread import Lacking

SCHEMA = "hdrs-hpc/staging-report/4"
LISTED_ITEMS = 1000
"""Item numbers listed a code; the count is always whole."""
_ALWAYS = ("volume", "slide", "table")


@dataclass(frozen=True, slots=True)
class Group:
    """What became of one modality, as one kind of item."""

    kind: str
    modality: str
    items: int
    source_items: int
    image_bytes: int


@dataclass(frozen=True, slots=True)
class StageReport:
    """``refused``: reason code → sorted item numbers.  ``notes``: what was staged and deserves a look, counted.
    ``policy``: what was done about identity in pixels.  ``opt_out``: see ``OptOut.as_dict``.
    ``made_for``: what the plan says of whom and when the copy is made for, such as project and date.
    Seconds and workers are of this run, not of the copy."""

    inventory: str
    profile: str
    policy: Mapping[str, Any]
    opt_out: Mapping[str, Any]
    items_in: int
    bytes_in: int
    groups: tuple[Group, ...]
    patients: int
    table_rows: int
    failed: int
    refused: Mapping[str, tuple[int, ...]]
    notes: Mapping[str, int]
    isolation: str
    made_for: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[Lacking, ...] = ()
    """Volumes and slides left out since parsers failed on a part of them."""
    details: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Item number → what its refusal names: attributes that are missing, the kind of a file that is no imaging."""
    seconds: float = field(default=0.0, compare=False)
    reading_s: float = field(default=0.0, compare=False)
    workers: str = field(default="", compare=False)
    taken_over: int = field(default=0, compare=False)
    """Items of the copy that were sealed again from an earlier one."""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], **facts: Any) -> StageReport:
        """With the counts of what the index lists."""
        items: Counter[tuple[str, str]] = Counter()
        sources: Counter[tuple[str, str]] = Counter()
        sizes: Counter[tuple[str, str]] = Counter()
        patients = set()
        table_rows = 0
        for row in rows:
            key = (str(row["kind"]), str(row.get("modality") or ""))
            items[key] += 1
            sources[key] += int(row.get("source_items") or 1)
            sizes[key] += int(row.get("image_bytes") or 0)
            patients.add(row.get("patient"))
            if row["kind"] == "table":
                table_rows += int(row["shape"][0])
        groups = tuple(Group(*key, items[key], sources[key], sizes[key]) for key in sorted(items))
        return cls(groups=groups, patients=len(patients - {None}), table_rows=table_rows, **facts)

    @property
    def staged(self) -> dict[str, int]:
        """Items of the copy by kind, in the plural: ``volumes``, ``slides``, ``tables`` and whatever else there is."""
        found: Counter[str] = Counter({f"{kind}s": 0 for kind in _ALWAYS})
        for group in self.groups:
            found[f"{group.kind}s"] += group.items
        return dict(found)

    @property
    def staged_items(self) -> int:
        """Items of the archive that went in."""
        return self.items_in - sum(map(len, self.refused.values()))

    def named(self, code: str) -> dict[str, int]:
        """What refusals by ``code`` name, counted; the most frequent first."""
        found = Counter(detail for number in self.refused[code] for detail in self.details.get(number, ()))
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def image_bytes(self) -> int:
        """Plaintext bytes of image data."""
        return sum(group.image_bytes for group in self.groups)

    def as_dict(self) -> dict[str, Any]:
        """JSON form of what the copy is.  It depends on neither clock nor machine: the copy holds it."""
        return {
            "schema": SCHEMA,
            "made-for": dict(self.made_for),
            "inventory": self.inventory,
            "profile": self.profile,
            "policy": dict(self.policy),
            "opt-out": dict(self.opt_out),
            "in": {"items": self.items_in, "bytes": self.bytes_in},
            "staged": {
                **self.staged,
                "items": self.staged_items,
                "patients": self.patients,
                "table-rows": self.table_rows,
                "image-bytes": self.image_bytes,
                "by-modality": [
                    {
                        "kind": group.kind,
                        "modality": group.modality,
                        "items": group.items,
                        "source-items": group.source_items,
                        "image-bytes": group.image_bytes,
                    }
                    for group in self.groups
                ],
            },
            "failed": self.failed,
            "refused": {
                code: refusal(code, numbers, self.named(code))
                for code, numbers in sorted(self.refused.items())
            },
            "unread": [
                {"items": list(one.items[:LISTED_ITEMS]), "lacks": list(one.lacks[:LISTED_ITEMS])}
                for one in self.lacking[:LISTED_ITEMS]
            ],
            "notes": dict(sorted(self.notes.items())),
            "parsers": self.isolation,
        }

    def as_run(self) -> dict[str, Any]:
        """The same with what this run took: ``seconds``, rates over the whole run, workers."""
        seconds = max(self.seconds, 1e-9)
        return {
            **self.as_dict(),
            "seconds": round(self.seconds, 2),
            "run": {
                "seconds": round(self.seconds, 2),
                "reading-seconds": round(self.reading_s, 2),
                "items-per-second": round(self.items_in / seconds, 1),
                "bytes-per-second": round(self.bytes_in / seconds),
                "workers": self.workers,
                "taken-over": self.taken_over,
            },
        }

    def as_html(self) -> str:
        """One page for people that needs no other file and loads nothing."""
        from imaging.staging.report_page import page

        return page(self)


def by_cause(report: StageReport) -> dict[bool, dict[str, int]]:
    """Counts of refusals: True → those that count as failed, False → those kept out by rule."""
    found: dict[bool, dict[str, int]] = defaultdict(dict)
    for code, numbers in report.refused.items():
        found[REASONS[code].failed][code] = len(numbers)
    return found


def refusal(code: str, numbers: tuple[int, ...], named: Mapping[str, int]) -> dict[str, Any]:
    listed = [] if code in UNLISTED else list(numbers[:LISTED_ITEMS])
    told: dict[str, Any] = {"details": dict(named)} if named else {}
    reason = REASONS[code]
    return {
        "count": len(numbers),
        "items": listed,
        "failed": reason.failed,
        "meaning": reason.meaning,
        **told,
    }
