"""The Debian packages that the project asks for, and which program comes from which: ``deploy/packages.txt``."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = PROJECT / "deploy" / "packages.txt"
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
NOT_PACKAGED = frozenset({"nvidia-smi", "systemd-run", "apptainer", "uv"})
"""Looked for where it is, and never needed: what only some machines have; and uv, which `make` fetches."""
_NAMED = re.compile(r"(?:/usr)?/s?bin/([A-Za-z0-9._-]+)|bin:([A-Za-z0-9._-]+)")


class UnlistedProgramError(AssertionError):
    """A test started a program of the system that no package of the list brings."""


@cache
def listed() -> dict[str, str]:
    """Each program of the list, with its Debian package."""
    found: dict[str, str] = {}
    for line in PACKAGES.read_text().splitlines():
        package, *rest = line.partition("#")[0].split() or [""]
        found.update(dict.fromkeys(rest[1:], package))
    return found


def on_system_path(name: str) -> Path | None:
    """Where a program of the system is; environments of Python are not looked into."""
    places = [Path(folder, name) for folder in SYSTEM_PATH] if "/" not in name else [Path(name)]
    for place in places:
        if str(place.parent) in SYSTEM_PATH and os.access(place, os.X_OK):
            return place
    return None


def refuse_unlisted_programs() -> None:
    """From now on code of this project can start a program of the system, in this process, only if a package of the
    list brings it.  Libraries may look for what they like: they must do without it."""

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and _started_by_us():
            name = os.fsdecode(values[0])
            found = on_system_path(name)
            if found is not None and found.name not in listed():
                raise UnlistedProgramError(f"{name} is in no package of deploy/packages.txt")

    sys.addaudithook(hook)


def _started_by_us() -> bool:
    """Whether the nearest caller that is not `subprocess` itself is a file of the project."""
    frame = sys._getframe(2)
    while frame is not None and Path(frame.f_code.co_filename).name == "subprocess.py":
        frame = frame.f_back  # type: ignore[assignment]
    caller = Path(frame.f_code.co_filename) if frame is not None else PROJECT
    return caller.is_relative_to(PROJECT) and "site-packages" not in caller.parts


def looked_for(source: str) -> Iterator[tuple[int, str]]:
    """(line, program) of what Python code asks ``which`` for, names below a folder of the system, or needs as
    ``bin:NAME`` in the benchmark."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _asks_for_a_program(node.func) and node.args:
            if isinstance(first := node.args[0], ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value
        elif isinstance(node, ast.Constant) and (match := _NAMED.fullmatch(str(node.value))):
            yield node.lineno, match[1] or match[2]


def _asks_for_a_program(function: ast.expr) -> bool:
    """``shutil.which(…)``, ``which(…)``, and ``program(…)`` of the benchmark."""
    if isinstance(function, ast.Attribute):
        return function.attr == "which"
    return isinstance(function, ast.Name) and function.id in ("which", "program")
