"""The chooser's process: what of its inputs one attempt is served, by the selection that its researcher signed.

``python -m hdrs_hpc.broker.workers.chooser --home HOME --attempt NAME``.  It judges raw values, which never leave
the data zone, and seals for each narrower input a manifest with the chosen items, the index's rows of these, and
the linked tables' rows of their patients.  What that manifest does not name does not exist for the job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.home.selectable import read_selectable
from hdrs_hpc.broker.logged_keys import use_key
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import copies, jobs
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.documents.models.grant import GrantedDataset
from hdrs_hpc.documents.models.job_spec import DataUse
from hdrs_hpc.policy import selection as policy
from hdrs_hpc.protocol import layout
from hdrs_hpc.sealing.narrowed import NarrowedCopy
from hdrs_hpc.sealing.reader import SealedCopy
from imaging.layout import GROUPS, INDEX
from imaging.staging import index, narrowing, selectable
from imaging.staging.selection import Selection

_EMPTY_GROUP = b'{"attributes":{},"node_type":"group","zarr_format":3}'


@dataclass
class _Input:
    """One input while it is chosen."""

    name: str
    copy: Copy
    use: DataUse
    key: bytes
    whole: SealedCopy
    rows: list[dict[str, Any]]
    """Of the copy's index."""

    @property
    def narrower(self) -> bool:
        """Whether the spec's selection may leave out some of what the copy holds."""
        held = GrantedDataset.model_validate({**json.loads(self.copy.recipe), "version": self.copy.version})
        return policy.narrower(self.use.select, held.select)

    @property
    def tables(self) -> dict[str, int]:
        """Linked tables → rows."""
        return {row["item"]: row["shape"][0] for row in self.rows if row["kind"] == "table"}

    @property
    def images(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["kind"] != "table"]


def choose(home: BrokerHome, attempt_name: str) -> dict[str, Any]:
    """What the controller notes: input → copy, manifest, whether narrowed, items; and the totals."""
    with closing(OpenBroker.open(home)) as broker:
        with broker.db.read() as tx:
            attempt = jobs.attempt(tx, attempt_name)
            job = jobs.get(tx, attempt.job)
            spec = jobs.spec_of(tx, job)
            uses = copies.of_job(tx, job.id)
        assert job.cluster is not None
        # What an earlier try left: nobody was told of it.
        broker.cluster(job.cluster, job.project).remove_tree(*layout.served_parts(job.project, attempt_name))
        inputs = [_open(broker, name, copy, spec.data[name]) for name, copy in uses.items()]
        chosen = {one.name: _images(broker, one) for one in inputs}
        people = {row["patient"] for rows in chosen.values() for row in rows if row["patient"] is not None}
        unknown = sum(row["patient"] is None for rows in chosen.values() for row in rows)
        narrowed = any(one.narrower for one in inputs)
        found: dict[str, dict[str, Any]] = {}
        table_rows = 0
        for one in inputs:
            manifest, rows = str(one.copy.manifest_digest), sum(one.tables.values())
            if one.narrower or (narrowed and one.tables):
                # No row has the attributes that a selection names, so a table's own selection chooses none.
                whose = frozenset() if one.narrower else frozenset(people)
                manifest, rows = _narrow(broker, attempt_name, one, chosen[one.name], whose)
            else:
                unknown += rows  # of a whole table: whose its rows are was not looked at
            table_rows += rows
            found[one.name] = {
                "copy": one.copy.id,
                "manifest": manifest,
                "narrowed": manifest != one.copy.manifest_digest,
                "items": len(chosen[one.name]) + rows,
            }
            one.whole.close()
    images = [row for rows in chosen.values() for row in rows]
    return {
        "attempt": attempt_name,
        "inputs": found,
        "people": len(people) + unknown,
        "items": len(images) + table_rows,
        "instances": sum(max(1, row["source_items"]) for row in images) + table_rows,
    }


def _open(broker: OpenBroker, name: str, copy: Copy, use: DataUse) -> _Input:
    assert copy.manifest_digest is not None
    key = use_key(broker, "select", copy.project, copy.id).key
    objects = broker.cluster(copy.cluster, copy.project).objects(*layout.copy_parts(copy.project, copy.id))
    whole = SealedCopy.open(objects, key, "copy", copy.project, copy.id, copy.manifest_digest)
    told = index.from_bytes(whole.read(INDEX))
    columns = ["item", "kind", "patient", "shape", "source_items"]
    return _Input(name, copy, use, key, whole, told.select(columns).to_pylist())


def _images(broker: OpenBroker, one: _Input) -> list[dict[str, Any]]:
    """Rows of the index of the images that the input's selection chooses."""
    if not one.narrower:
        return one.images
    items = selectable.from_bytes(read_selectable(broker.home, one.key, one.copy.project, one.copy.id))
    asked = Selection.parse(one.use.model_dump(mode="json")["select"])
    chosen = {item.item for item in selectable.chosen(items, asked)}
    return [row for row in one.images if row["item"] in chosen]


def _narrow(
    broker: OpenBroker, attempt: str, one: _Input, images: list[dict[str, Any]], patients: frozenset[str]
) -> tuple[str, int]:
    """Digest of the narrower manifest, and the rows that its tables have; writes nothing where nothing was chosen."""
    copy = one.copy
    tables = {item: _narrow_table(one, item, patients) for item in one.tables}
    rows = {item: count for item, (_, count) in tables.items()}
    if not images and not sum(rows.values()):
        return str(copy.manifest_digest), 0
    cluster = broker.cluster(copy.cluster, copy.project)
    narrowed = NarrowedCopy(
        cluster.objects(*layout.copy_parts(copy.project, copy.id)),
        cluster.objects(*layout.served_parts(copy.project, attempt, one.name)),
        one.key,
        "copy",
        copy.project,
        copy.id,
        str(copy.manifest_digest),
    )
    narrowed.keep(row["item"] for row in images)
    for path in GROUPS:
        if one.whole.find(path) is not None:
            narrowed.put(path, _EMPTY_GROUP)
    for objects, _ in tables.values():
        for path, data in objects.items():
            narrowed.put(path, data)
    items = frozenset(row["item"] for row in images) | rows.keys()
    narrowed.put(INDEX, narrowing.narrow_index(one.whole.read(INDEX), items, rows))
    return narrowed.seal().digest, sum(rows.values())


def _narrow_table(one: _Input, item: str, patients: frozenset[str]) -> tuple[Mapping[str, bytes], int]:
    """A linked table's objects with the rows of ``patients`` only, and how many these are."""
    objects: dict[str, bytes] = {}
    rows = 0
    for path in one.whole.paths(f"{item}/"):
        if path.endswith(".parquet"):
            objects[path], count = narrowing.narrow_rows(one.whole.read(path), patients)
            rows += count
    described = f"{item}/table.json"
    objects[described] = narrowing.narrow_description(one.whole.read(described), rows)
    return objects, rows


if __name__ == "__main__":
    workers.main("attempt", BrokerHome.served_dir, choose)
