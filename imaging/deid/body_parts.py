"""Body parts: the terms of Body Part Examined, and the codes by which objects name them instead."""

from __future__ import annotations

import tomllib
from importlib import resources

_TABLE = tomllib.loads((resources.files("imaging.deid") / "objects" / "body-parts.toml").read_text("utf-8"))

BODY_PARTS = frozenset({*_TABLE["uncoded"], *_TABLE["SRT"].values(), *_TABLE["SCT"].values()})
"""Defined terms of PS3.16 annex L; another word is text, which may be anything."""


def term_of(code: str, scheme: str = "SCT") -> str | None:
    """The defined term of a code of SNOMED CT, or of the older SNOMED RT; None if there is none."""
    if scheme in ("SRT", "SNM3", "99SDM"):
        from pydicom.sr import _snomed_dict  # large, and old objects alone need it

        if code in _TABLE["SRT"]:
            return str(_TABLE["SRT"][code])
        code = str(_snomed_dict.mapping["SRT"].get(code, ""))
    elif scheme != "SCT":
        return None
    found = _TABLE["SCT"].get(code)
    return None if found is None else str(found)
