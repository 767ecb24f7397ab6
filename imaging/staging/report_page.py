"""The staging report as one HTML page: the numbers are made here, the page is ``pages/staging-report.html``.

Every value is escaped by Jinja2; charts are inline SVG, nothing is loaded, no image of a patient is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import jinja2

from imaging.staging.notes import NOTES
from imaging.staging.refusals import REASONS, UNLISTED
from imaging.staging.report import StageReport, by_cause

_SHOWN_NUMBERS = 40
_COLOURS = {"staged": "#0b6e69", "ruled": "#b7791f", "failed": "#b3392f"}
_POLICY = {
    "refuse": "Images that may carry burned-in text were refused.",
    "hold": "Images that may carry burned-in text were held for a person.",
    "blank": "Places that may carry burned-in text were blanked.",
}


def page(report: StageReport) -> str:
    """The whole page."""
    ruled = sum(by_cause(report)[False].values())
    return _template().render(
        report=report,
        title=f": {', '.join(report.made_for.values())}" if report.made_for else "",
        colours=_COLOURS,
        headline=_headline(report),
        tiles=(
            (f"{report.items_in:,}", f"files in, {size(report.bytes_in)}"),
            (f"{report.staged_items:,}", "files staged"),
            (f"{report.patients:,}", "patients"),
            (size(report.image_bytes), "of image data"),
            (f"{ruled:,}", "kept out by rule"),
            (f"{report.failed:,}", "failed"),
        ),
        balance_title=f"{report.staged_items} staged, {ruled} kept out by rule, {report.failed} failed",
        balance=tuple(_balance(report.staged_items, ruled, report.failed)),
        groups=tuple(_groups(report)),
        refused=tuple(_refused(report)),
        notes=tuple(_notes(report)),
        opt_out=_opt_out(report),
        how=tuple(_how(report)),
    )


def _headline(report: StageReport) -> str:
    """Of whom is left out where no item tells its patient."""
    of = f" of {counted([('patients', report.patients)])}" if report.patients else ""
    return f"{counted(report.staged.items())}{of}"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def counted(staged: Iterable[tuple[str, int]]) -> str:
    """``3 volumes, 1 slide``; what there is none of is left out."""
    parts = [f"{n:,} {name if n != 1 else name.removesuffix('s')}" for name, n in staged if n]
    return ", ".join(parts) or "nothing"


@cache
def _template() -> jinja2.Template:
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("imaging.staging", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return pages.get_template("staging-report.html")


def _balance(staged: int, ruled: int, failed: int) -> Iterator[dict[str, Any]]:
    """Pieces of one bar, 1,000 wide: what became of all files."""
    total = max(staged + ruled + failed, 1)
    at = 0.0
    labels = {"staged": "staged", "ruled": "kept out by rule", "failed": "failed"}
    for (what, label), count in zip(labels.items(), (staged, ruled, failed), strict=True):
        width = 1000 * count / total
        yield {"at": at, "width": width, "colour": _COLOURS[what], "label": label, "percent": width / 10}
        at += width


def _bar(share: float) -> float:
    """The width of a bar that is 100 wide when full; one that is nearly empty is still seen."""
    return max(100 * share, 0.5)


def _groups(report: StageReport) -> Iterator[dict[str, Any]]:
    largest = max((group.image_bytes for group in report.groups), default=0) or 1
    for group in report.groups:
        yield {
            "kind": group.kind,
            "modality": group.modality,
            "count": f"{group.items:,}",
            "source_items": f"{group.source_items:,}",
            "image_bytes": size(group.image_bytes),
            "share": _bar(group.image_bytes / largest),
        }


def _refused(report: StageReport) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Title and rows of each table: what failed first, the most frequent reason first."""
    for failed, title in ((True, "Failed: broken or unreadable"), (False, "Kept out by rule")):
        codes = [code for code in report.refused if REASONS[code].failed == failed]
        if codes:
            yield (
                title,
                [
                    _refusal(report, code)
                    for code in sorted(codes, key=lambda code: (-len(report.refused[code]), code))
                ],
            )


def _refusal(report: StageReport, code: str) -> dict[str, Any]:
    reason, numbers = REASONS[code], report.refused[code]
    most = max(len(numbers) for numbers in report.refused.values())
    listed = ", ".join(map(str, numbers[:_SHOWN_NUMBERS])) + (" …" if len(numbers) > _SHOWN_NUMBERS else "")
    return {
        "code": code,
        "meaning": reason.meaning,
        "details": "; ".join(f"{name}: {count:,}" for name, count in report.named(code).items()),
        "count": f"{len(numbers):,}",
        "share": _bar(len(numbers) / most),
        "colour": _COLOURS["failed" if reason.failed else "ruled"],
        "remedy": reason.remedy,
        "numbers": "counted only" if code in UNLISTED else listed,
    }


def _notes(report: StageReport) -> Iterator[tuple[str, str, str]]:
    for note, count in sorted(report.notes.items(), key=lambda pair: (-pair[1], pair[0])):
        yield f"{count:,}", NOTES.get(note, note), note


def _how(report: StageReport) -> Iterator[tuple[str, str]]:
    yield "Burned-in text", _POLICY[str(report.policy["burned-in"])]
    yield "Search for text", "in every image" if report.policy["find-text"] else "not switched on"
    yield "Rules for text", f"version {report.policy['text-rules']}"
    yield "Faces", "removed from head scans" if report.policy["deface"] else "left as they are"
    yield "Files were parsed under", report.isolation
    if report.seconds:
        rate = f"{report.items_in / report.seconds:,.0f} files/s, {size(report.bytes_in / report.seconds)}/s"
        yield "Time", f"{report.seconds:,.1f} s ({report.reading_s:,.1f} s reading headers); {rate}"
        yield "Workers", report.workers


def _opt_out(report: StageReport) -> str:
    told = report.opt_out
    length = f"up to {told['about']:,} patients" if told["about"] else "nobody opted out"
    return f"{length}: {told['nobody']}" if "nobody" in told else length
