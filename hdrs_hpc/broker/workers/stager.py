"""The stager's process: builds one staged copy from its source to the site's scratch, sealed on the way.

``python -m hdrs_hpc.broker.workers.stager --home HOME --copy ID``.  It asks keyd for the copy's key and the project's
de-identification key, holds them in memory only, and writes its result where the controller observes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from connectors.sources.opening import open_source
from hdrs_hpc.broker.home import BrokerHome, opt_out_lists
from hdrs_hpc.broker.home.opt_out_lists import PatientList
from hdrs_hpc.broker.home.progress import PROGRESS_NAME
from hdrs_hpc.broker.home.selectable import keep_selectable
from hdrs_hpc.broker.logged_keys import use_key
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import copies, datasets, opt_outs, projects
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.core import durable_files, strict_json
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.grant import PixelRules
from hdrs_hpc.policy.refusals import OptOutNotStatedError
from hdrs_hpc.protocol import layout
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from imaging.deid.keyed import DeidKey
from imaging.layout import REPORT
from imaging.staging import patient_list_file, patient_lists
from imaging.staging.engine import Progress, StagePlan, stage
from imaging.staging.inventory import read as read_inventory
from imaging.staging.items_map import ItemsMap
from imaging.staging.patient_lists import OptOut

PROGRESS_EVERY_S = 0.5


class InventoryMissingError(NotFoundError):
    code = "inventory-missing"
    meaning = "The inventory of the registered dataset version is not in the broker's home."
    remedy = "Scan the source again with `hdrs-hpc dataset scan`; the version must come out the same."


class CohortMissingError(NotFoundError):
    code = "cohort-missing"
    meaning = "The list of patients that the grant names is not in the broker's home."
    remedy = "Put it there as cohorts/<the digest's 64 digits>.txt; `sha256sum` tells the digest."


def build(home: BrokerHome, copy_id: str) -> dict[str, Any]:
    """Stage and seal one copy; gives what the controller notes of it."""
    broker = OpenBroker.open(home)
    try:
        with broker.db.read() as tx:
            copy = copies.get(tx, copy_id)
            registration = datasets.registration(tx, copy.dataset, copy.version)
            said = opt_outs.of_dataset(tx, copy.dataset)
            grant_version = projects.get(tx, copy.project).version
        listed = _opt_out(home, said, copy.opt_out)
        inventory = home.inventory(copy.version)
        if not inventory.is_file():
            raise InventoryMissingError()
        given = use_key(broker, "stage", copy.project, copy.id)
        folder = home.staging_dir(copy.id)
        cluster = broker.cluster(copy.cluster, copy.project)
        key, deid = given.key, given.deid
        assert deid is not None
        builder = CopyBuilder(
            cluster.objects(*layout.copy_parts(copy.project, copy.id)),
            key,
            "copy",
            copy.project,
            copy.id,
            folder / "journals",
        )
        recipe = json.loads(copy.recipe)
        pixels = PixelRules.model_validate(recipe.get("pixels", {}))
        plan = StagePlan(
            kind=registration.kind,
            profile=recipe["profile"],
            deid_key=deid,
            select=recipe["select"],
            columns=recipe.get("columns", {}),
            opt_out=OptOut(
                patient_lists.opt_out_hashes(DeidKey(deid), listed.entries.values()),
                listed.digest,
                listed.about,
            ),
            cohort=_cohort(home, deid, recipe.get("cohort")),
            max_failed=recipe["max-failed"],
            issuer=registration.issuer or copy.dataset,
            made_for={
                "project": copy.project,
                "dataset": copy.dataset,
                "grant": f"version {grant_version}",
                "date": f"{broker.now():%Y-%m-%d}",
            },
            burned_in=pixels.burned_in,
            find_text=pixels.find_text,
            deface=pixels.deface,
        )
        if builder.sealed:  # we died between sealing and saying so
            told = json.loads(builder.read(REPORT))
        else:
            with contextlib.closing(open_source(registration.source)) as source:
                origins = ItemsMap()
                report = stage(
                    source,
                    inventory,
                    builder,
                    plan,
                    _Meter(folder).note,
                    origins=origins,
                    selectable=lambda raw: keep_selectable(home, key, copy.project, copy.id, raw),
                )
                origins.note_inventory(read_inventory(inventory))
                origins.write(home.items_map(copy.id))
            durable_files.replace_file(folder / "report.html", report.as_html().encode())
            told = report.as_dict()
        sealed = builder.seal()
    finally:
        broker.close()
    return {
        "manifest_name": sealed.manifest_name,
        "manifest_digest": sealed.manifest_digest,
        "objects": sealed.objects,
        "plaintext_bytes": sealed.plaintext_bytes,
        "sealed_bytes": sealed.sealed_bytes,
        "items": told["staged"]["items"],
        "refused": told["failed"],
        "opted_out": told["refused"].get("opted-out", {}).get("count", 0),
        "report": told,
        "report_digest": f"sha256:{hashlib.sha256(strict_json.dumps(told)).hexdigest()}",
    }


def _opt_out(home: BrokerHome, said: list[opt_outs.Statement], wanted: str | None) -> PatientList:
    """The list that the copy is made under, from the files that custodians signed for.

    Raises :class:`OptOutNotStatedError`, and what :func:`opt_out_lists.in_force` raises.
    """
    until = next((place for place, item in enumerate(said, start=1) if item.list == wanted), None)
    if until is None:
        raise OptOutNotStatedError()
    return opt_out_lists.in_force(home, said[:until])


def _cohort(home: BrokerHome, deid: bytes, digest: str | None) -> frozenset[str] | None:
    """Keyed hashes of the cohort that the grant names; raises :class:`CohortMissingError`."""
    if digest is None:
        return None
    try:
        raw = home.cohort_file(digest).read_bytes()
    except OSError:
        raise CohortMissingError() from None
    if f"sha256:{hashlib.sha256(raw).hexdigest()}" != digest:
        raise CohortMissingError("the list in the broker's home is another one")
    return patient_lists.cohort_hashes(DeidKey(deid), patient_list_file.parse(raw))


class _Meter:
    """Writes progress now and then: counts and bytes, nothing of what was read."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS_NAME
        self._next = 0.0

    def note(self, progress: Progress) -> None:
        if time.monotonic() >= self._next or progress.items_done == progress.items_total:
            self._next = time.monotonic() + PROGRESS_EVERY_S
            durable_files.write_json(
                self._path,
                {
                    "phase": progress.phase,
                    "items_done": progress.items_done,
                    "items_total": progress.items_total,
                    "bytes_done": progress.bytes_done,
                    "bytes_total": progress.bytes_total,
                },
            )


if __name__ == "__main__":
    workers.main("copy", BrokerHome.staging_dir, build)
