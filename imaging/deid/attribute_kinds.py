"""Attributes by what they hold (``objects/attribute-kinds.toml``)."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any


def kind(name: str) -> frozenset[str]:
    """Keywords (or coding schemes) listed under ``name``."""
    return frozenset(_table()[name])


@functools.cache
def _table() -> dict[str, Any]:
    text = (resources.files("imaging.deid") / "objects" / "attribute-kinds.toml").read_text("utf-8")
    return tomllib.loads(text)
