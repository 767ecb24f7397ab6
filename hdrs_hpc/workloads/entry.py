"""From the name in a job spec to the function that is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.core.errors import BadDocumentError

type Entry = Callable[[Any], object]
"""Called with the context of its kind."""


class EntryError(BadDocumentError):
    code = "workload-entry"
    meaning = "The workload's entry can't be found, or is not a function."
    remedy = "Write `entry: package.module:function`, as the bundle has it."


def load(builtin: str | None, entry: str | None, bundle: Path) -> Entry:
    """The function to call with the context of its kind.  Raises EntryError, or what importing the bundle raises."""
    if builtin is not None:
        entry = BUILT_IN[builtin].entry if builtin in BUILT_IN else None
    if entry is None or ":" not in entry:
        raise EntryError()
    prepare_imports(bundle)
    module, name = entry.split(":", 1)
    imported = importlib.import_module(module)
    found = getattr(imported, name, None)
    if not callable(found):
        raise EntryError(where=imported.__file__)
    return found  # type: ignore[no-any-return]  # any callable of one argument


def prepare_imports(bundle: Path) -> None:
    """Let a process import the bundle's wheels, then the bundle, after everything installed: no library is replaced.

    Wheels lie where ``HDRS_WHEELS`` says, so that processes which a workload starts find them too.
    """
    for folder in (os.environ.get("HDRS_WHEELS"), str(bundle)):
        if folder and folder not in sys.path:
            sys.path.append(folder)
