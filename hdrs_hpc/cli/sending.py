"""Files on their way to a broker, with a bar on standard error so that --json stays clean."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from hdrs_hpc.client.session import Session

BAR_FROM_BYTES = 1 << 20


@dataclass(frozen=True)
class Sent:
    """One file to send: where it lies, or its bytes."""

    source: Path | bytes
    digest: str
    size: int


def send(session: Session, project: str, files: Sequence[Sent]) -> None:
    """Bring files to the broker; what it holds already is not sent again."""
    from rich import progress
    from rich.console import Console

    from hdrs_hpc.client import uploads

    whole = sum(file.size for file in files)
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=whole < BAR_FROM_BYTES,
        transient=True,
    ) as bar:
        task = bar.add_task("upload", total=whole)
        before = 0
        for file in files:
            with (
                io.BytesIO(file.source) if isinstance(file.source, bytes) else file.source.open("rb")
            ) as handle:
                uploads.send(
                    session,
                    project,
                    handle,
                    file.digest,
                    file.size,
                    partial(_show, bar, task, before),
                )
            before += file.size


def _show(bar: Progress, task: TaskID, before: int, arrived: int) -> None:
    bar.update(task, completed=before + arrived)
