"""What a case has at hand: the size of things, folders for data and for output, makers with progress."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.comparing import Contender
from benchmarks.measure import sync_tree
from benchmarks.sizes import Size

type Making = Callable[[int, int], None]
"""Told (done, in all) while data are made."""


class Watcher(Protocol):
    """Who wants to see what is going on."""

    def making(self, name: str, done: int, total: int) -> None: ...

    def running(self, comparison: str, contender: str, number: int, rounds: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Bench:
    """``data``: made once and kept for the next run.  ``scratch``: of this run only.  ``slide``: whose tiles the large
    slide is made of, instead of those that come with wsidicom-data."""

    size: Size
    data: Path
    scratch: Path
    watcher: Watcher
    slide: Path | None = None

    def made(self, name: str, parameters: Mapping[str, Any], make: Callable[[Path, Making], None]) -> Path:
        """The folder ``name`` of data with these parameters, made now if it is not there yet.

        ``make`` gets an empty folder.  What was interrupted leaves nothing.
        """
        said = json.dumps([name, dict(sorted(parameters.items()))], sort_keys=True, default=str)
        folder = self.data / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
        if folder.is_dir():
            return folder
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            make(partial, lambda done, total: self.watcher.making(name, done, total))
            self.watcher.making(name, 1, 1)
            sync_tree(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return folder

    def out(self, name: str) -> Path:
        """A folder for the output of one contender."""
        return self.scratch / name.replace("/", "-")


def ours(*words: str | Path) -> tuple[str, ...]:
    """The command line of ``hdrs-hpc``, as its console script runs it."""
    return (sys.executable, "-m", "hdrs_hpc.cli.main", *map(str, words))


def contender(module: str, *words: str | Path | int | float) -> tuple[str, ...]:
    """The command line of a program of ``benchmarks/contenders``."""
    return (sys.executable, "-m", f"benchmarks.contenders.{module}", *map(str, words))


LIMIT, NO_WORK = "reading and writing the bytes", "no work done"


def bytes_only(bench: Bench, inputs: tuple[Path, ...], like: Path) -> Contender:
    """The physical limit: read the input once and write as many bytes as ``like`` has, which ran just before."""
    out = bench.out("bytes-only")
    return Contender(
        LIMIT, contender("bytes_only", out, like, *inputs), inputs=inputs, outputs=out, remark=NO_WORK
    )
