"""Loading a library without those that it loads if they are there, and that nothing here asks of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Modules that can't be imported meanwhile; those that are loaded already stay so."""
    gone = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(gone))  # type: ignore[arg-type]  # None: importing it fails
    try:
        yield
    finally:
        for name in gone:
            sys.modules.pop(name)
