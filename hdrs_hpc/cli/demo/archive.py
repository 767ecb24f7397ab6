"""Makes a hospital's archive for the demo: real pixels, made-up patients, planted canaries.

``python -m hdrs_hpc.cli.demo.archive FOLDER --seed 7 --canaries canaries.json --opt-out opt-out.txt``
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from hdrs_hpc.cli.demo.canaries import write_list
from hdrs_hpc.cli.demo.identities import Canaries, Identities, Patient
from hdrs_hpc.cli.demo.series import SeriesWriter
from hdrs_hpc.cli.demo.slide import write_slide

OPT_OUTS = 3
MODALITIES = (("CT", "MR"), ("CT", "MR"), ("CT", "CT"), ("MR", "MR"))


@dataclass(frozen=True)
class Archive:
    """What was made.  ``radiology`` and ``pathology`` are two sources, each a folder."""

    radiology: str
    pathology: str
    patients: int
    series: int
    images: int
    slides: int
    odd_files: int
    """One that ends too early, one that is no DICOM, one without geometry: not counted in ``series``."""
    opted_out: int
    opted_out_series: int
    canaries: int


def make_archive(
    folder: Path, seed: int, canary_list: Path, opt_out_list: Path, *, patients: int = 60
) -> Archive:
    """Write an archive below ``folder`` (which must not exist), and beside it the two lists.

    The same seed gives the same bytes.  The opt-out list holds one patient id (0010,0020) a line.
    """
    folder.mkdir(parents=True)
    canaries = Canaries()
    known = Identities(seed, canaries)
    people = [known.patient() for _ in range(patients)]
    radiology, pathology = folder / "radiology", folder / "pathology"
    writer = SeriesWriter(seed + 1, known, canaries)
    series = images = 0
    for index, patient in enumerate(people):
        study = writer.study_uid()
        for number, modality in enumerate(MODALITIES[index % len(MODALITIES)]):
            images += writer.write(
                _home(radiology, patient) / f"{modality}{number}", patient, modality, study
            )
            series += 1
    odd = _write_odd_files(radiology, people, writer, known)
    write_slide(pathology / f"{known.code('BLK', 'file-name')}.svs", people[0], seed + 2, known, canaries)
    opted_out = people[-OPT_OUTS:]
    opt_out_list.parent.mkdir(parents=True, exist_ok=True)
    opt_out_list.write_text("".join(f"{patient.patient_id}\n" for patient in opted_out), "utf-8")
    write_list(canary_list, canaries.strings, canaries.windows)
    return Archive(
        radiology=str(radiology),
        pathology=str(pathology),
        patients=patients,
        series=series,
        images=images,
        slides=1,
        odd_files=odd,
        opted_out=len(opted_out),
        opted_out_series=2 * len(opted_out),
        canaries=len(canaries.strings) + len(canaries.windows),
    )


def _home(radiology: Path, patient: Patient) -> Path:
    """Hospitals name folders after patients; so does this one."""
    return radiology / f"{patient.patient_id} {patient.name.replace('^', ' ')}"


def _write_odd_files(radiology: Path, people: list[Patient], writer: SeriesWriter, known: Identities) -> int:
    broken, without, letter = people[1], people[2], people[3]
    writer.write_truncated(_home(radiology, broken) / "OLD" / "IM0001.dcm", broken, writer.study_uid())
    writer.write_without_geometry(
        _home(radiology, without) / "OLD" / "IM0001.dcm", without, writer.study_uid()
    )
    path = _home(radiology, letter) / "OLD" / "IM0001.dcm"
    path.parent.mkdir(parents=True)
    path.write_text(f"{known.text('letter', 'Dear')},\nabout {letter.name}, {letter.nhs_number}\n", "utf-8")
    return 3


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the demo's hospital archive.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--canaries", type=Path, required=True, help="JSON list to write, outside the archive"
    )
    parser.add_argument("--opt-out", type=Path, required=True, help="text list to write, outside the archive")
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    made = make_archive(asked.folder, asked.seed, asked.canaries, asked.opt_out, patients=asked.patients)
    if asked.json:
        print(json.dumps(asdict(made)))
        return 0
    for name, value in asdict(made).items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
