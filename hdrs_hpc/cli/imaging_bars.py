"""Progress of an imaging command as bars on standard error, so that --json stays clean."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from imaging.staging.engine import Progress

_EVERY_S = 0.1


class Bars:
    """One bar a phase: items, bytes, rate, time left.  Bytes move with every part, so one huge item shows too."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TextColumn("{task.fields[items]}"),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}
        self._latest: dict[str, dict[str, Any]] = {}
        self._next = 0.0
        self._bar.start()
        return self

    def __exit__(self, *error: TracebackType | type | BaseException | None) -> None:
        for phase, last in self._latest.items():
            self._bar.update(self._tasks[phase], **last)
        self._bar.stop()

    def scanned(self, items: int, size: int) -> None:
        """Of a scan: what was hashed so far; how much there is, nobody knows."""
        self._show("scan", f"{items} items", size, None, last=False)

    def staged(self, progress: Progress) -> None:
        """Of the engine."""
        done, total = progress.items_done, progress.items_total
        self._show(
            progress.phase, f"{done}/{total}", progress.bytes_done, progress.bytes_total, last=done == total
        )

    def verified(self, objects: int, size: int, objects_total: int, size_total: int) -> None:
        """Of a verification."""
        last = objects == objects_total
        self._show("verify", f"{objects}/{objects_total} objects", size, size_total, last=last)

    def _show(self, phase: str, items: str, done: int, total: int | None, *, last: bool) -> None:
        now = time.monotonic()
        self._latest[phase] = {"completed": done, "total": total, "items": items}
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(phase, items=items, total=total)
        elif now < self._next and not last:
            return  # small items come by the thousand a second
        self._next = now + _EVERY_S
        self._bar.update(self._tasks[phase], **self._latest[phase])
