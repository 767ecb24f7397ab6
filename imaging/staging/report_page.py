"""The staging report as one HTML page: charts are inline SVG, nothing is loaded, no image of a patient is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from imaging.staging.notes import NOTES
from imaging.staging.refusals import REASONS, UNLISTED
from imaging.staging.report import StageReport, by_cause

_SHOWN_NUMBERS = 40
_TEAL, _AMBER, _RED = "#0b6e69", "#b7791f", "#b3392f"
_POLICY = {
    "refuse": "Images that may carry burned-in text were refused.",
    "hold": "Images that may carry burned-in text were held for a person.",
    "blank": "Places that may carry burned-in text were blanked.",
}


def page(report: StageReport) -> str:
    """The whole page."""
    causes = by_cause(report)
    ruled = sum(causes[False].values())
    return _PAGE.format(
        style=_STYLE,
        headline=_headline(report),
        tiles="".join(
            _tile(value, label)
            for value, label in (
                (f"{report.items_in:,}", f"files in, {size(report.bytes_in)}"),
                (f"{report.staged_items:,}", "files staged"),
                (f"{report.patients:,}", "patients"),
                (size(report.image_bytes), "of image data"),
                (f"{ruled:,}", "kept out by rule"),
                (f"{report.failed:,}", "failed"),
            )
        ),
        balance=_balance(report.staged_items, ruled, report.failed),
        groups=_groups(report),
        refused=_refused(report),
        notes=_notes(report),
        how=_how(report),
    )


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


def _headline(report: StageReport) -> str:
    return f"{counted(report.staged.items())} of {counted([('patients', report.patients)])}"


def _tile(value: str, label: str) -> str:
    return f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>"


def _balance(staged: int, ruled: int, failed: int) -> str:
    """One bar: what became of all files."""
    total = max(staged + ruled + failed, 1)
    at, bars = 0.0, ""
    for count, colour in ((staged, _TEAL), (ruled, _AMBER), (failed, _RED)):
        width = 1000 * count / total
        bars += f'<rect x="{at:.2f}" width="{width:.2f}" height="18" fill="{colour}"/>'
        at += width
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{label} {100 * count / total:.1f} %</span>'
        for count, colour, label in (
            (staged, _TEAL, "staged"),
            (ruled, _AMBER, "kept out by rule"),
            (failed, _RED, "failed"),
        )
    )
    title = f"{staged} staged, {ruled} kept out by rule, {failed} failed"
    return (
        f'<svg viewBox="0 0 1000 18" preserveAspectRatio="none" role="img"><title>{title}</title>{bars}</svg>'
        f'<p class="legend">{legend}</p>'
    )


def _bar(share: float, colour: str) -> str:
    return (
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" class="bar" aria-hidden="true">'
        f'<rect width="{max(100 * share, 0.5):.2f}" height="10" fill="{colour}"/></svg>'
    )


def _groups(report: StageReport) -> str:
    if not report.groups:
        return "<p>Nothing was staged.</p>"
    largest = max(max(group.image_bytes for group in report.groups), 1)
    rows = "".join(
        f"<tr><td>{escape(group.kind)}<td>{escape(group.modality) or '–'}<td class=n>{group.items:,}"
        f"<td class=n>{group.source_items:,}<td class=n>{size(group.image_bytes)}"
        f"<td>{_bar(group.image_bytes / largest, _TEAL)}</tr>"
        for group in report.groups
    )
    return (
        "<table><thead><tr><th>kind<th>modality<th class=n>items<th class=n>from files<th class=n>image data<th>"
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )


def _refused(report: StageReport) -> str:
    if not report.refused:
        return "<p>Nothing was refused.</p>"
    most = max(len(numbers) for numbers in report.refused.values())
    parts = []
    for failed, title in ((True, "Failed: broken or unreadable"), (False, "Kept out by rule")):
        codes = [code for code in report.refused if REASONS[code].failed == failed]
        if codes:
            rows = "".join(
                _refusal(code, report.refused[code], most, report.named(code))
                for code in sorted(codes, key=lambda code: (-len(report.refused[code]), code))
            )
            parts.append(
                f"<h3>{title}</h3><table><thead><tr><th>why<th class=n>files<th><th>what to do<th>item numbers"
                f"</tr></thead><tbody>{rows}</tbody></table>"
            )
    return "".join(parts)


def _refusal(code: str, numbers: tuple[int, ...], most: int, named: Mapping[str, int]) -> str:
    reason = REASONS[code]
    details = "; ".join(f"{escape(name)}: {count:,}" for name, count in named.items())
    listed = ", ".join(map(str, numbers[:_SHOWN_NUMBERS])) + (" …" if len(numbers) > _SHOWN_NUMBERS else "")
    colour = _RED if reason.failed else _AMBER
    return (
        f"<tr><td><code>{escape(code)}</code><br>{escape(reason.meaning)}"
        f"{f'<br>{details}' if details else ''}<td class=n>{len(numbers):,}"
        f"<td>{_bar(len(numbers) / most, colour)}<td>{escape(reason.remedy)}"
        f"<td class=numbers>{'counted only' if code in UNLISTED else listed}</tr>"
    )


def _notes(report: StageReport) -> str:
    if not report.notes:
        return ""
    rows = "".join(
        f"<tr><td class=n>{count:,}<td>{escape(NOTES.get(note, note))}<td><code>{escape(note)}</code></tr>"
        for note, count in sorted(report.notes.items(), key=lambda pair: (-pair[1], pair[0]))
    )
    return f"<h2>Worth a look</h2><table><tbody>{rows}</tbody></table>"


def _how(report: StageReport) -> str:
    facts = [
        ("Profile", escape(report.profile)),
        ("Dataset version", f"<code>{escape(report.inventory)}</code>"),
        ("Opt-out list", _opt_out(report)),
        ("Burned-in text", _POLICY[str(report.policy["burned-in"])]),
        ("Search for text", "in every image" if report.policy["find-text"] else "not switched on"),
        ("Rules for text", f"version {escape(str(report.policy['text-rules']))}"),
        ("Faces", "removed from head scans" if report.policy["deface"] else "left as they are"),
        ("Files were parsed under", escape(report.isolation)),
    ]
    if report.seconds:
        rate = f"{report.items_in / report.seconds:,.0f} files/s, {size(report.bytes_in / report.seconds)}/s"
        facts.append(("Time", f"{report.seconds:,.1f} s ({report.reading_s:,.1f} s reading headers); {rate}"))
        facts.append(("Workers", escape(report.workers)))
    return "<dl>" + "".join(f"<dt>{name}<dd>{text}" for name, text in facts) + "</dl>"


def _opt_out(report: StageReport) -> str:
    told = report.opt_out
    length = f"up to {told['about']:,} patients" if told["about"] else "nobody opted out"
    reason = f": {escape(str(told['nobody']))}" if "nobody" in told else ""
    return f"{length}{reason}, <code>{escape(str(told['list']))}</code>"


_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1c2b2a; max-width: 68rem;
  margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.1rem; font-weight: 600; color: #5b6b6a; margin: 0; }
h1 + p { font-size: 1.9rem; line-height: 1.25; margin: .1rem 0 1.4rem; font-weight: 600; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; margin: 0 0 1.2rem; }
.tiles div { background: #f2f6f5; border-radius: .5rem; padding: .7rem .9rem; }
.tiles b { display: block; font-size: 1.35rem; } .tiles span, .legend { color: #5b6b6a; font-size: .9rem; }
svg { display: block; width: 100%; height: 18px; border-radius: 4px; }
svg.bar { width: 8rem; height: 10px; border-radius: 2px; margin-top: .45rem; }
.legend span { margin-right: 1.2rem; } .legend i { display: inline-block; width: .8em; height: .8em;
  border-radius: 2px; margin-right: .4em; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: #5b6b6a; font-size: .9rem; }
td, th { padding: .4rem .7rem .4rem 0; vertical-align: top; } tbody tr { border-top: 1px solid #dfe7e6; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td:has(br) { width: 30%; }
.numbers { font-size: .85rem; color: #5b6b6a; max-width: 16rem; overflow-wrap: anywhere; }
code { font-size: .87em; background: #f2f6f5; padding: .05em .3em; border-radius: 3px; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; }
dt { color: #5b6b6a; } dd { margin: 0; }
footer { margin-top: 2.5rem; color: #5b6b6a; font-size: .9rem; border-top: 1px solid #dfe7e6; padding-top: .8rem; }
@media print { body { margin: 0; } .tiles div { border: 1px solid #dfe7e6; } }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Staging report</title><style>{style}</style></head><body>
<h1>Staging report</h1>
<p>{headline}</p>
<div class="tiles">{tiles}</div>
{balance}
<h2>What came in</h2>
{groups}
<h2>Not in the copy</h2>
{refused}
{notes}
<h2>How</h2>
{how}
<footer>Item numbers are rows of the registered inventory, counted from 1. This page holds counts and reasons;
pictures for review are in the sealed copy alone.</footer>
</body></html>
"""
