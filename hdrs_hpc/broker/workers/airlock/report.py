"""A check report in sentences, for the reviewer who has a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hdrs_hpc.catalogue import outputs


def describe(report: Mapping[str, Any]) -> list[str]:
    """What was decided, repaired and found, one sentence each, most important first."""
    if report["refusal"] is not None:
        refusal = report["refusal"]
        place = f" ({refusal['where']})" if refusal["where"] else ""
        return [f"Refused, {refusal['code']}: {_sentence(refusal['message'] + place)}", refusal["remedy"]]
    sentences = outputs.BY_NAME[report["class"]].sentences(report)
    if not sentences:
        sentences.append("Nothing had to be repaired.")
    if bits := report["repaired"].get("capacity-bits"):
        sentences.append(f"Whatever it may hide fits into {-(-bits // 8)} bytes.")
    sentences += [f"{name} counts {what}." for name, what in report.get("counts", {}).items()]
    for finding in report["findings"]:
        place = f" ({finding['where']})" if finding["where"] else ""
        sentences.append(f"Look, {finding['code']}: {_sentence(finding['message'] + place)}")
    return sentences


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
