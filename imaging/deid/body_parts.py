"""Body parts that an object names by code instead of by Body Part Examined."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources

from pydicom.sr import _snomed_dict


def term_of(code: str, scheme: str = "SCT") -> str | None:
    """The defined term (PS3.16 annex L) of a code of SNOMED CT, or of the older SNOMED RT; None if there is none."""
    if scheme in ("SRT", "SNM3", "99SDM"):
        code = str(_snomed_dict.mapping["SRT"].get(code, ""))
    elif scheme != "SCT":
        return None
    return _terms().get(code)


@functools.cache
def _terms() -> dict[str, str]:
    text = (resources.files("imaging.deid") / "objects" / "body-parts.toml").read_text("utf-8")
    return dict(tomllib.loads(text)["SCT"])
