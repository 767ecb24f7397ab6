"""Searches files, their names, and processes for canaries, through whatever they are packed in."""

from __future__ import annotations

import mmap
import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ahocorasick_rs

from hdrs_hpc.cli.demo.canaries import Canary
from hdrs_hpc.cli.demo.unwrap import MAGICS, OutputTooLargeError, decoded_text, unpack

CHUNK_BYTES = 32 << 20
MAX_DEPTH = 5
"""How many packings inside each other are opened."""
SMALL_BYTES = 1 << 16
"""Unpacked pieces below this are searched together: most are a few bytes of chance."""
SHOWN_PLACES = 20

_GAP = bytes(8)


@dataclass(frozen=True)
class Finding:
    """A canary's kind, the file or process it was found in, and the packings it was found through."""

    kind: str
    place: str
    through: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """``found`` counts different canaries, ``findings`` tells where; values are never repeated."""

    canaries: int
    found: int
    findings: tuple[Finding, ...]
    files: int
    size_bytes: int
    unread: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        places = [
            {"kind": item.kind, "place": item.place, "through": list(item.through)} for item in self.findings
        ]
        return {
            "canaries": self.canaries,
            "found": self.found,
            "files": self.files,
            "bytes": self.size_bytes,
            "unread": list(self.unread),
            "findings": places,
        }

    def as_text(self) -> str:
        lines = [
            f"{self.canaries} canaries: {self.found} found "
            f"in {self.files} files, {self.size_bytes / 1e6:.1f} MB"
        ]
        for item in self.findings[:SHOWN_PLACES]:
            lines.append(f"  {item.kind} in {item.place} {' > '.join(item.through)}".rstrip())
        if len(self.findings) > SHOWN_PLACES:
            lines.append(f"  and {len(self.findings) - SHOWN_PLACES} more")
        lines.extend(f"  could not read {place}" for place in self.unread[:SHOWN_PLACES])
        return "\n".join(lines)


class Scanner:
    """Searches for many canaries at once by Aho–Corasick; give it trees and processes, then ask for the report.

    The starts of packed streams are patterns of the same automaton, so one pass finds both.
    """

    def __init__(self, canaries: Sequence[Canary]) -> None:
        self._canaries = canaries
        patterns: list[bytes] = []
        self._owners: list[int] = []
        for index, canary in enumerate(canaries):
            for pattern in canary.patterns:
                patterns.append(pattern)
                self._owners.append(index)
        self._kinds = list(MAGICS.values())
        patterns.extend(MAGICS)
        self._overlap = max(len(pattern) for pattern in patterns) - 1
        self._automaton = ahocorasick_rs.BytesAhoCorasick(
            patterns, implementation=ahocorasick_rs.Implementation.ContiguousNFA
        )
        self._found: dict[int, set[tuple[str, tuple[str, ...]]]] = defaultdict(set)
        self._unread: set[str] = set()
        self._files = self._bytes = 0

    def scan_tree(self, root: Path, skip: Collection[Path] = ()) -> None:
        """All regular files below ``root`` (or ``root`` itself), and the names of everything below it.

        What is in ``skip`` is left out with all below it.  Links are not followed, sockets and devices not
        opened; what vanishes meanwhile is passed over.
        """
        names: list[bytes] = []
        stack = [root]
        while stack:
            path = stack.pop()
            if path in skip:
                continue
            names.append(os.fsencode(path.name))
            try:
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode):
                    stack.extend(path.iterdir())
                elif stat.S_ISLNK(mode):
                    names.append(os.fsencode(path.readlink()))
                elif stat.S_ISREG(mode):
                    self._scan_file(path)
            except FileNotFoundError:
                continue
            except OSError:
                self._unread.add(str(path))
        self.scan_bytes(b"\0".join(names), f"{root} (names)")

    def scan_process(self, pid: int) -> None:
        """Environment and command line of a process; its memory is not searched."""
        for part in ("environ", "cmdline"):
            try:
                content = Path(f"/proc/{pid}/{part}").read_bytes()
            except FileNotFoundError:
                continue
            except OSError:
                self._unread.add(f"process {pid} {part}")
                continue
            self.scan_bytes(content, f"process {pid} {part}")

    def scan_bytes(self, content: bytes, place: str) -> None:
        """Any bytes; ``place`` is how the report calls them."""
        self._search(memoryview(content), place, ())

    def report(self) -> Report:
        """What was found so far."""
        findings = [
            Finding(self._canaries[index].kind, place, through)
            for index, places in self._found.items()
            for place, through in places
        ]
        findings.sort(key=lambda item: (item.place, item.kind, item.through))
        return Report(
            canaries=len(self._canaries),
            found=len(self._found),
            findings=tuple(findings),
            files=self._files,
            size_bytes=self._bytes,
            unread=tuple(sorted(self._unread)),
        )

    def _scan_file(self, path: Path) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            size = os.fstat(descriptor).st_size
            self._files += 1
            self._bytes += size
            if size == 0:
                return
            with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                self._search(view, str(path), ())
        except ValueError:  # it shrank between the two calls
            self._unread.add(str(path))
        finally:
            os.close(descriptor)

    def _search(self, data: memoryview, place: str, through: tuple[str, ...]) -> None:
        deeper = len(through) < MAX_DEPTH
        small = bytearray()
        finished = 0
        for start, number in self._matches(data):
            if number < len(self._owners):
                self._found[self._owners[number]].add((place, through))
                continue
            if not deeper or start < finished:
                continue
            kind = self._kinds[number - len(self._owners)]
            try:
                unpacked = unpack(data, start, kind)
            except OutputTooLargeError:
                self._unread.add(f"{place}, a {kind} stream too large to unpack")
                continue
            if unpacked is None:
                continue
            finished = max(finished, unpacked.end)
            if len(unpacked.data) < SMALL_BYTES:
                small += unpacked.data + _GAP
            else:
                self._search(memoryview(unpacked.data), place, (*through, kind))
        if small:
            self._search(memoryview(bytes(small)), place, (*through, "packed"))
        if deeper:
            self._search_text(data, place, through)

    def _search_text(self, data: memoryview, place: str, through: tuple[str, ...]) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES + 4 * self._overlap]
            decoded = _GAP.join(decoded_text(chunk))
            if decoded:
                self._search(memoryview(decoded), place, (*through, "text-encoded"))

    def _matches(self, data: memoryview) -> Iterator[tuple[int, int]]:
        """(offset, pattern number) of every match, in order within a chunk; windows overlap, so that a match
        on a chunk's edge is seen, perhaps twice."""
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES + self._overlap]
            for number, first, _ in self._automaton.find_matches_as_indexes(chunk, overlapping=True):
                yield start + first, number
