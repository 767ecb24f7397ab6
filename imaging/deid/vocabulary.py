"""Closed lists: a value outside them is text, and text is not kept."""

from __future__ import annotations

OTHER_MANUFACTURER = "OTHER"

MANUFACTURERS: tuple[tuple[str, str], ...] = (
    ("SIEMENS", "SIEMENS"),
    ("GE MEDICAL", "GE"),
    ("GE HEALTHCARE", "GE"),
    ("GENERAL ELECTRIC", "GE"),
    ("PHILIPS", "PHILIPS"),
    ("CANON", "CANON"),
    ("TOSHIBA", "TOSHIBA"),
    ("HITACHI", "HITACHI"),
    ("FUJI", "FUJIFILM"),
    ("UNITED IMAGING", "UNITED IMAGING"),
    ("UIH", "UNITED IMAGING"),
    ("NEUSOFT", "NEUSOFT"),
    ("MINDRAY", "MINDRAY"),
    ("SAMSUNG", "SAMSUNG"),
    ("SHIMADZU", "SHIMADZU"),
    ("HOLOGIC", "HOLOGIC"),
    ("CARESTREAM", "CARESTREAM"),
    ("AGFA", "AGFA"),
    ("KONICA", "KONICA MINOLTA"),
    ("PICKER", "PICKER"),
    ("MARCONI", "MARCONI"),
    ("ELSCINT", "ELSCINT"),
    ("BRUKER", "BRUKER"),
    ("ESAOTE", "ESAOTE"),
    ("ELEKTA", "ELEKTA"),
    ("VARIAN", "VARIAN"),
    ("ACCURAY", "ACCURAY"),
    ("LEICA", "LEICA"),
    ("APERIO", "APERIO"),
    ("HAMAMATSU", "HAMAMATSU"),
    ("3DHISTECH", "3DHISTECH"),
    ("VENTANA", "ROCHE"),
    ("ROCHE", "ROCHE"),
)
"""Words by which a maker is known, and the name kept; the first match counts."""
