"""Scores the de-identification engine on synthetic patients; ``--write`` puts the table into the docs.

python tests/tools/deid_score.py [--write] [--failures]
"""

from __future__ import annotations

import copy
import functools
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from phantom_phi import TYPES, Phantom, phantoms  # noqa: E402
from phantom_phi_score import Score, score  # noqa: E402

from imaging.deid import object_profiles  # noqa: E402
from imaging.deid.engine import deidentify  # noqa: E402
from imaging.deid.keyed import DeidKey  # noqa: E402

DOC = ROOT / "docs" / "deidentification.md"
BEGIN, END = "<!-- score: begin -->", "<!-- score: end -->"
KEY = DeidKey(bytes(range(32)))


def blank_outside_regions(dataset: Dataset) -> None:
    """Rows above an ultrasound's first region become black: the region rule of these phantoms."""
    if dataset.get("BurnedInAnnotation") == "YES" and "SequenceOfUltrasoundRegions" in dataset:
        top = int(dataset.SequenceOfUltrasoundRegions[0].RegionLocationMinY0)
        pixels = (
            np.frombuffer(dataset.PixelData, "<u2").reshape(int(dataset.Rows), int(dataset.Columns)).copy()
        )
        pixels[:top] = 0
        dataset.PixelData = pixels.tobytes()


def ours(phantom: Phantom) -> Dataset | None:
    profile = object_profiles.load("dicom-research-pixels@1")
    return deidentify(phantom.dataset, profile, KEY, pixels=blank_outside_regions)


def peer(phantom: Phantom) -> Dataset | None:
    """The engine of the package whose table we use, with that same table."""
    from dicomanonymizer import simpledicomanonymizer as package

    dataset = copy.deepcopy(phantom.dataset)
    rules = functools.partial(package.initialize_actions, "dicomfields_2026c")
    try:
        package.anonymize_dataset(dataset, base_rules_gen=rules)
    except (NotImplementedError, ValueError, TypeError, AttributeError, KeyError):
        return None
    meta = dataset.file_meta
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        dataset.SOPClassUID,
        dataset.SOPInstanceUID,
    )
    return dataset


def run(persons: int = 84, each: int = 7, engine: object = ours) -> Score:
    """The score over ``persons × each`` instances."""
    assert callable(engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return score((phantom, engine(phantom)) for phantom in phantoms(persons, each))


def table(own: Score, other: Score) -> str:
    lines = [
        f"{own.instances} instances of {len(own.sop_classes)} SOP classes, {own.total} expectations.",
        "",
        "| action type | expectations | this engine | `dicom-anonymizer`'s own engine |",
        "| --- | ---: | ---: | ---: |",
    ]
    for kind in TYPES:
        lines.append(
            f"| `{kind}` | {own.counts[kind][1]} | {own.percent(kind):.2f} % | {other.percent(kind):.2f} % |"
        )
    lines += [
        f"| **all** | {own.total} | **{own.percent():.2f} %** | {other.percent():.2f} % |",
        f"| inserted identifiers found in the bytes of the output | | **{len(own.leaks)}** | {len(other.leaks)} |",
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    start = time.perf_counter()
    own, other = run(), run(engine=peer)
    text = table(own, other)
    print(text, f"\n{time.perf_counter() - start:.0f} s", file=sys.stderr)
    if "--failures" in argv:
        for failure in own.failures[:40]:
            print(
                failure[0],
                failure[1],
                failure[2].kind,
                failure[2].path,
                str(failure[2].value)[:60],
                failure[3][:80],
            )
        for leak in own.leaks[:40]:
            print("leak", *leak, file=sys.stderr)
    before, _, rest = DOC.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n{text}\n{END}{after}"
    if "--write" in argv:
        DOC.write_text(wanted, "utf-8")
        return 0
    return int(wanted != DOC.read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
