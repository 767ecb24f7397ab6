"""Names of dyes that a channel may carry into the copy; any other name is text, and text is not kept."""

from __future__ import annotations

import re

_NAMES = frozenset(
    {
        "DAPI", "HOECHST", "FITC", "TRITC", "TEXASRED", "RHODAMINE", "CY2", "CY3", "CY3.5", "CY5", "CY5.5", "CY7",
        "GFP", "EGFP", "RFP", "YFP", "CFP", "BFP", "MCHERRY", "TDTOMATO", "DSRED", "PE", "APC", "AUTOFLUORESCENCE",
        "SYTOX", "DRAQ5", "SPECTRUMGREEN", "SPECTRUMORANGE", "SPECTRUMAQUA", "SPECTRUMRED",
        "COUMARIN", "PROPIDIUMIODIDE",
    }
)  # fmt: skip
_SERIES = re.compile(r"(ALEXAFLUOR|ALEXA|AF|OPAL|ATTO|DYLIGHT|POLARIS|CF)([0-9]{3})")


def known(name: str) -> str | None:
    """The name in one spelling, or None."""
    word = "".join(name.upper().split()).replace("-", "").replace("_", "")
    match = _SERIES.fullmatch(word)
    if match is not None:
        maker = {"ALEXA": "ALEXAFLUOR", "AF": "ALEXAFLUOR"}.get(match.group(1), match.group(1))
        return f"{maker} {match.group(2)}"
    return word if word in _NAMES else None
