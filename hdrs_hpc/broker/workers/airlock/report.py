"""A check report in sentences, for the reviewer who has a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe(report: Mapping[str, Any]) -> list[str]:
    """What was decided, repaired and found, one sentence each, most important first."""
    if report["refusal"] is not None:
        refusal = report["refusal"]
        place = f" ({refusal['where']})" if refusal["where"] else ""
        return [f"Refused, {refusal['code']}: {_sentence(refusal['message'] + place)}", refusal["remedy"]]
    sentences = [*_counts(report), *_figure(report["repaired"])]
    if not sentences:
        sentences.append("Nothing had to be repaired.")
    if bits := report["repaired"].get("capacity-bits"):
        sentences.append(f"Whatever it may hide fits into {-(-bits // 8)} bytes.")
    for finding in report["findings"]:
        place = f" ({finding['where']})" if finding["where"] else ""
        sentences.append(f"Look, {finding['code']}: {_sentence(finding['message'] + place)}")
    return sentences


def _counts(report: Mapping[str, Any]) -> list[str]:
    repaired, rules = report["repaired"], report["rules"] or {}
    sentences = []
    if small := repaired.get("counts-suppressed-as-small"):
        sentences.append(f"{_number(small, 'count')} below {rules['min-count']} suppressed.")
    if more := repaired.get("counts-suppressed-to-protect-them"):
        sentences.append(f"{_number(more, 'more count')} suppressed to protect them.")
    if statistics := repaired.get("statistics-suppressed"):
        sentences.append(f"{_number(statistics, 'statistic')} of those groups suppressed.")
    if removed := repaired.get("rows-removed"):
        sentences.append(f"{_number(removed, 'row')} removed in which no count was left.")
    if changed := repaired.get("numbers-rounded"):
        sentences.append(
            f"{_number(changed, 'number')} rounded: counts to the nearest {rules['round']}, "
            f"others to {rules['significant-digits']} significant digits."
        )
    if repaired.get("rows-reordered"):
        sentences.append("Rows put in the order of their labels, since an order can tell what no cell shows.")
    if repaired.get("byte-order-mark-removed"):
        sentences.append("A byte order mark was removed.")
    return sentences


def _figure(repaired: Mapping[str, Any]) -> list[str]:
    if "encoded-anew-from" not in repaired:
        return []
    sentences = [
        f"Decoded from {repaired['encoded-anew-from'].upper()} and encoded anew as PNG, "
        f"{repaired['width']} × {repaired['height']} pixels, {repaired['bits-kept-per-channel']} bits a channel."
    ]
    if repaired["metadata-removed-bytes"]:
        names = ", ".join(repaired["metadata-removed"])
        sentences.append(f"{repaired['metadata-removed-bytes']} bytes of metadata removed ({names}).")
    return sentences


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
