"""The list of planted canaries, and the search for them: in clear, in other encodings, inside compression.

``python -m hdrs_hpc.cli.demo.canaries LIST ROOT… [--pid N] [--json]`` exits 0 when nothing was found and all
could be read, 1 when something was found, 2 when something could not be read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCHEMA = "hdrs-hpc/canaries/1"
WINDOW_BYTES = 64


@dataclass(frozen=True)
class Canary:
    """One thing to be found nowhere: a text, or a window of 64 bytes of pixels or of a codestream."""

    kind: str
    patterns: tuple[bytes, ...]
    """All byte forms to look for; any of them counts."""


def write_list(path: Path, strings: Mapping[str, str], windows: Mapping[str, str]) -> None:
    """Write the list; ``strings`` and ``windows`` (hexadecimal) map each canary to its kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {"schema": SCHEMA, "strings": dict(strings), "windows": dict(windows)}
    path.write_text(json.dumps(value, indent=0, ensure_ascii=False), "utf-8")


def read_list(path: Path) -> list[Canary]:
    """Read what :func:`write_list` wrote; raises ValueError for anything else."""
    value = json.loads(path.read_text("utf-8"))
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no list of canaries")
    found = [Canary(kind, text_forms(text)) for text, kind in value["strings"].items()]
    for window, kind in value["windows"].items():
        raw = bytes.fromhex(window)
        if len(raw) != WINDOW_BYTES:
            raise ValueError(f"a window of {len(raw)} bytes")
        found.append(Canary(kind, (raw,)))
    if not found:
        raise ValueError(f"{path} lists nothing, so that nothing could be found")
    return found


def text_forms(text: str) -> tuple[bytes, ...]:
    """The bytes that a text may have become: UTF-8, UTF-16 both ways, Latin-1, and escaped in JSON."""
    forms = [text.encode("utf-8"), text.encode("utf-16-le"), text.encode("utf-16-be")]
    with contextlib.suppress(UnicodeEncodeError):
        forms.append(text.encode("latin-1"))
    forms.append(json.dumps(text)[1:-1].encode("ascii"))
    return tuple(dict.fromkeys(forms))


def main() -> int:
    from hdrs_hpc.cli.demo.scanner import Scanner

    parser = argparse.ArgumentParser(description="Search folders and processes for planted canaries.")
    parser.add_argument("list", type=Path)
    parser.add_argument("roots", type=Path, nargs="*")
    parser.add_argument(
        "--pid", type=int, action="append", default=[], help="its environment and command line"
    )
    parser.add_argument(
        "--skip", type=Path, action="append", default=[], help="a file or folder to leave out"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    scanner = Scanner(read_list(asked.list))
    for root in asked.roots:
        scanner.scan_tree(root, asked.skip)
    for pid in asked.pid:
        scanner.scan_process(pid)
    report = scanner.report()
    if asked.json:
        print(json.dumps(report.as_dict()))
    else:
        print(report.as_text())
    if report.found:
        return 1
    return 2 if report.unread else 0


if __name__ == "__main__":
    sys.exit(main())
