"""Ours, the largest level alone: ``SRC DEST SECRET``.

The command has no such option, since a copy always gets a pyramid.  So this runs the same staging with one thing
changed in this process: a slide has the levels that its file has, and none is derived.  The slide given has one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.contenders import tell
from connectors.sources.opening import open_source
from imaging import standalone
from imaging.staging.engine import StagePlan
from imaging.staging.pathology.arrays import LevelArray
from imaging.staging.pathology.task import SlideTask
from imaging.standalone.staging import stage_folder


_all_levels = SlideTask.arrays


def _stored_only(task: SlideTask) -> list[LevelArray]:
    return _all_levels(task)[: len(task.slide.levels)]


def main(source: str, dest: Path, secret_file: Path) -> None:
    SlideTask.arrays = _stored_only  # type: ignore[method-assign, assignment]  # see above
    secret = standalone.read_secret(secret_file)
    plan = StagePlan(
        "any", "", standalone.deid_key(secret), max_failed=0, workers=len(os.sched_getaffinity(0))
    )
    report = stage_folder(open_source(source), dest, secret, plan)
    copy = standalone.open_staged(dest, secret)
    (slide,) = copy.slides()
    levels = len(copy.multiscale(f"slides/{slide}").levels)
    if levels != 1:
        raise RuntimeError(f"{levels} levels were written")
    tell(stage_s=report.seconds, headers_s=report.reading_s, levels=levels)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
