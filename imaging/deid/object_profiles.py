"""Profiles for whole DICOM objects: the basic profile and a choice of its options (PS3.15 E.3).

Data like the profiles of a copy's attributes (:mod:`imaging.deid.profiles`): versioned, never changed once
released.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from imaging.deid.annex_e import BASIC_PROFILE, MEANINGS, Option
from imaging.deid.profiles import UnknownProfileError


@dataclass(frozen=True, slots=True)
class ObjectProfile:
    """The basic profile under these options."""

    name: str
    options: frozenset[Option]

    @property
    def codes(self) -> dict[str, str]:
        """Code value → code meaning of what the profile does (CID 7050), for (0012,0064)."""
        return {code: MEANINGS[code] for code in sorted({BASIC_PROFILE, *self.options})}

    @property
    def temporal(self) -> str:
        """Longitudinal Temporal Information Modified (0028,0303)."""
        if Option.RETAIN_FULL_DATES in self.options:
            return "UNMODIFIED"
        return "MODIFIED" if Option.RETAIN_MODIFIED_DATES in self.options else "REMOVED"


@functools.cache
def load(name: str) -> ObjectProfile:
    """The profile ``name@version``; raises :class:`UnknownProfileError`."""
    if name not in names():
        raise UnknownProfileError(f"no profile {name[:60]!r}", remedy=f"Choose one of: {', '.join(names())}.")
    raw = tomllib.loads((_folder() / f"{name}.toml").read_text("utf-8"))
    options = frozenset(Option(code) for code in raw["options"])
    if raw["name"] != name or options >= {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES}:
        raise RuntimeError(f"the profile {name} is broken")
    return ObjectProfile(name, options)


def names() -> tuple[str, ...]:
    """All profiles there are, sorted."""
    found = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if "@" in name))


def _folder() -> Any:
    return resources.files("imaging.deid") / "objects"
