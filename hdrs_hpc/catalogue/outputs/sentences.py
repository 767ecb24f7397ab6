"""Sentences that several classes say of what was repaired, for the reviewer who has a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_counts(report: Mapping[str, Any]) -> list[str]:
    """What was suppressed and rounded in an artefact that holds counts."""
    repaired, rules = report["repaired"], report["rules"] or {}
    said = []
    if small := repaired.get("counts-suppressed-as-small"):
        said.append(f"{number(small, 'count')} below {rules['min-count']} suppressed.")
    if more := repaired.get("counts-suppressed-to-protect-them"):
        said.append(f"{number(more, 'more count')} suppressed to protect them.")
    if statistics := repaired.get("statistics-suppressed"):
        said.append(f"{number(statistics, 'statistic')} of those groups suppressed.")
    if removed := repaired.get("rows-removed"):
        said.append(f"{number(removed, 'row')} removed in which no count was left.")
    if changed := repaired.get("numbers-rounded"):
        said.append(
            f"{number(changed, 'number')} rounded: counts to the nearest {rules['round']}, "
            f"others to {rules['significant-digits']} significant digits."
        )
    if repaired.get("rows-reordered"):
        said.append("Rows put in the order of their labels, since an order can tell what no cell shows.")
    if repaired.get("byte-order-mark-removed"):
        said.append("A byte order mark was removed.")
    return said


def nothing(_report: Mapping[str, Any]) -> list[str]:
    """Of classes in which nothing is repaired."""
    return []


def number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
