"""docs/flavours.md: what is in each flavour, with versions, from the locks."""

from __future__ import annotations

import re
from pathlib import Path

from hdrs_hpc.catalogue.flavours import FLAVOURS, Flavour
from hdrs_hpc.node.runtime import contents

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def as_markdown() -> str:
    """The page; raises RuntimeSourceMissingError."""
    lines = [
        "# Flavours",
        "",
        "Made by `make docs` from `hdrs_hpc/catalogue/flavours.py` and the locks: the packages that a job can import.",
        "A spec names one by `workload.flavour`; without, its kind's own is taken. `hdrs-hpc runtime list` tells",
        "what a built one holds. Nothing of a flavour can be replaced by a bundle; what is missing comes as wheels.",
        "",
    ]
    for flavour in FLAVOURS.values():
        lines += [f"## {flavour.name}", flavour.summary, "", *_table(flavour), ""]
    return "\n".join(lines)


def _table(flavour: Flavour) -> list[str]:
    base = _base()
    if not flavour.from_lock:
        return [
            "| package | version |",
            "| --- | --- |",
            *(f"| {name} | {base[name]} |" for name in sorted(base)),
        ]
    locks = {platform: _lock(flavour, platform) for platform in flavour.platforms}
    known = {platform: base | found for platform, found in locks.items() if found}
    lines = [
        f"- {platform}: {'locked' if platform in known else 'not locked; deploy/runtimes/README.md tells how'}"
        for platform in flavour.platforms
    ]
    names = sorted({name for found in known.values() for name in found})
    rows = [f"| {name} | {' | '.join(found.get(name, '') for found in known.values())} |" for name in names]
    head = [f"| package | {' | '.join(known)} |", f"| --- |{' --- |' * len(known)}"]
    return [*lines, "", *head, *rows]


def _base() -> dict[str, str]:
    pinned = _pinned(contents.our_root() / "requirements.lock")
    return {name: pinned[name] for name in contents.packages_of() if name in pinned}


def _lock(flavour: Flavour, platform: str) -> dict[str, str]:
    path = contents.our_root() / "deploy/runtimes" / f"{flavour.name}-{platform}.lock"
    return _pinned(path) if path.is_file() else {}


def _pinned(lock: Path) -> dict[str, str]:
    return dict(_PINNED.findall(lock.read_text("utf-8")))
