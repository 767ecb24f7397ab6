"""The inventory of places: every path has a row, and what has none is found out."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from hdrs_hpc.audit.places import ACCEPTED, PLACES, Holds, Method, UnregisteredPlaceError, place_of

ROOTS = {
    "home": PurePosixPath("/srv/broker"),
    "scratch": PurePosixPath("/scratch/acct"),
    "node_tmp": PurePosixPath("/tmp"),
    "shm": PurePosixPath("/dev/shm"),
    "archive": PurePosixPath("/archive"),
}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/archive/a/b.dcm", "source-archive"),
        ("/srv/broker/broker.db", "database"),
        ("/srv/broker/broker.db-wal", "database"),
        ("/srv/broker/staging/C0PY42/journals/w1", "copy-journals"),
        ("/srv/broker/staging/C0PY42/items.parquet", "items-map"),
        ("/srv/broker/staging/C0PY42/items.parquet.new", "items-map"),
        ("/srv/broker/staging/C0PY42/report.html", "staging-report"),
        ("/srv/broker/quarantine/hdrs-x/sealed/0a", "quarantine"),
        ("/srv/broker/artefacts/7K3QW2/cohort.csv", "checked-artefacts"),
        ("/srv/broker/released/7K3QW2/cohort.csv", "released-artefacts"),
        ("/scratch/acct/hdrs-hpc/lung-fm/copies/C0PY42/ab12", "sealed-copies"),
        ("/scratch/acct/hdrs-hpc/lung-fm/attempts/hdrs-x/outputs/ab12", "attempt-outputs"),
        ("/scratch/acct/hdrs-hpc/lung-fm/attempts/hdrs-x/closing.json", "attempt-outputs"),
        ("/scratch/acct/hdrs-hpc/lung-fm/attempts/hdrs-x/progress.json", "attempt-progress"),
        ("/scratch/acct/hdrs-hpc/runtime/00ff.tar", "runtime"),
        ("/tmp/hdrs-x-n1/agent.sock", "node-private-folder"),
        ("/dev/shm/hdrs-ring", "shared-memory"),
    ],
)
def test_each_known_path_has_its_row(path: str, name: str) -> None:
    assert place_of(PurePosixPath(path), ROOTS).name == name


@pytest.mark.parametrize(
    "path",
    [
        "/srv/broker/thumbnails/1.png",
        "/srv/broker/staging",
        "/scratch/acct/slurm-42.out",
        "/scratch/acct/hdrs-hpc/lung-fm/attempts/hdrs-x/core.123",
        "/scratch/acct/hdrs-hpc/lung-fm/copies/../../../x",
        "/dev/shm/sem.other",
        "/var/tmp/x",
    ],
)
def test_an_unregistered_path_is_found_out(path: str) -> None:
    with pytest.raises(UnregisteredPlaceError):
        place_of(PurePosixPath(path), ROOTS)


def test_every_row_names_owner_purger_and_reason() -> None:
    for place in PLACES.values():
        assert place.owner and place.purger and place.note.endswith("."), place.name
        assert ACCEPTED[place.verified_by]


def test_nothing_that_the_broker_holds_in_plaintext_goes_without_proof_of_its_end() -> None:
    unproven = {
        place.name
        for place in PLACES.values()
        if place.holds in (Holds.PLAINTEXT, Holds.SEALED)
        and place.verified_by in (Method.OUTSIDE, Method.NOT_PROVABLE, Method.CLOSED_SCHEMA)
    }
    assert unproven == {"source-archive", "inventory", "opt-out-list", "cohort-lists", "gpu-memory"}
