"""What a staging did, for machines (JSON) and for people (HTML): counts, codes, item numbers; no patient data.

An item number is a row of the registered inventory, which only the data zone has.  Opt-outs are counted and
not numbered.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imaging.staging.refusals import REASONS, UNLISTED

SCHEMA = "hdrs-hpc/staging-report/1"
LISTED_ITEMS = 1000
"""Item numbers listed a code; the count is always whole."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """``refused``: reason code → sorted item numbers.  ``notes``: what was staged and deserves a look."""

    inventory: str
    profile: str
    items_in: int
    bytes_in: int
    staged: Mapping[str, int]
    staged_items: int
    patients: int
    image_bytes: int
    failed: int
    refused: Mapping[str, tuple[int, ...]]
    notes: Mapping[str, int]
    isolation: str
    seconds: float = field(default=0.0, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON form.  ``seconds`` is left out: the copy holds this and must not depend on the clock."""
        return {
            "schema": SCHEMA,
            "inventory": self.inventory,
            "profile": self.profile,
            "in": {"items": self.items_in, "bytes": self.bytes_in},
            "staged": {
                **dict(self.staged),
                "items": self.staged_items,
                "patients": self.patients,
                "image-bytes": self.image_bytes,
            },
            "failed": self.failed,
            "refused": {code: _refusal(code, numbers) for code, numbers in sorted(self.refused.items())},
            "notes": dict(sorted(self.notes.items())),
            "parsers": self.isolation,
        }

    def as_html(self) -> str:
        """One page that needs no other file and loads nothing."""
        rows = "".join(_row(code, numbers) for code, numbers in sorted(self.refused.items()))
        refused = (
            f"<table><tr><th>code<th>items<th>what it means<th>what to do<th>item numbers</tr>{rows}</table>"
            if rows
            else "<p>Nothing was refused.</p>"
        )
        notes = "".join(
            f"<li>{html.escape(_NOTES.get(note, note))}: {count}</li>"
            for note, count in sorted(self.notes.items())
        )
        volumes, slides = self.staged.get("volumes", 0), self.staged.get("slides", 0)
        return _PAGE.format(
            volumes=volumes,
            slides=slides,
            staged_items=self.staged_items,
            items_in=self.items_in,
            bytes_in=_size(self.bytes_in),
            image_bytes=_size(self.image_bytes),
            patients=self.patients,
            failed=self.failed,
            refused=refused,
            notes=f"<h2>Worth a look</h2><ul>{notes}</ul>" if notes else "",
            profile=html.escape(self.profile),
            inventory=html.escape(self.inventory),
            isolation=html.escape(self.isolation),
        )


_NOTES = {
    "uneven-spacing": "volumes whose slices are not evenly spaced (positions are kept)",
    "tilted": "volumes with a tilted gantry (the affine tells)",
    "time-axis": "volumes with a time axis",
    "split-series": "series that became more than one volume",
    "lossy-source": "volumes whose source was compressed with loss",
    "slide-without-size": "slides without a physical pixel size",
}


def _refusal(code: str, numbers: tuple[int, ...]) -> dict[str, Any]:
    listed = [] if code in UNLISTED else list(numbers[:LISTED_ITEMS])
    return {"count": len(numbers), "items": listed, "failed": REASONS[code].failed}


def _row(code: str, numbers: tuple[int, ...]) -> str:
    reason = REASONS[code]
    listed = (
        "" if code in UNLISTED else ", ".join(map(str, numbers[:50])) + (" …" if len(numbers) > 50 else "")
    )
    return (
        f"<tr><td><code>{html.escape(code)}</code><td>{len(numbers)}<td>{html.escape(reason.meaning)}"
        f"<td>{html.escape(reason.remedy)}<td>{listed}</tr>"
    )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Staging report</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }} td, th {{ border: 1px solid #bbb; padding: .3rem .6rem; text-align: left;
vertical-align: top; }} .big {{ font-size: 1.4rem; }}
</style></head><body>
<h1>Staging report</h1>
<p class="big">{volumes} volumes and {slides} slides of {patients} patients, made of {staged_items} of {items_in}
items ({bytes_in}).</p>
<p>{failed} items failed. Image data: {image_bytes}.</p>
<h2>Not in the copy</h2>
{refused}
{notes}
<h2>How</h2>
<p>Profile {profile}; files parsed under {isolation}; dataset version <code>{inventory}</code>.
Item numbers are rows of the registered inventory, counted from 1.</p>
</body></html>
"""
