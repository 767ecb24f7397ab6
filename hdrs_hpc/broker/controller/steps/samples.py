"""Before anything is unlinked: what lies there is measured, and its manifest tried with every key that is left.

The order is: keys die, samples are tried, objects are unlinked, listings are looked at.  What was found is in the log
before the first object goes, so a crash in between loses no number and no trial.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from connectors.clusters import Cluster
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import log
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.kept import KeptOutput
from hdrs_hpc.core.errors import BadDocumentError, HdrsError, SiteError
from hdrs_hpc.protocol import layout, outputs
from hdrs_hpc.sealing.cipher import HEADER_BYTES, SEGMENT_BYTES, TAG_BYTES, SealBrokenError
from hdrs_hpc.sealing.objects import ObjectMissingError, ObjectStore

COPY_TRIED = "copy-tried"
ATTEMPT_TRIED = "attempt-tried"
KEPT_TRIED = "kept-tried"
MAX_BUNDLE_MANIFESTS = 8
"""A bundle, or a kept output, has two: its root and that of its one item; which is which only its key would tell."""


class SampleOpensError(SiteError):
    code = "sample-opens"
    meaning = "A sealed object whose key was destroyed still opens with a key that keyd holds; nothing was unlinked."
    remedy = "Look at keyd's log for a key that came back; the broker tries again at every tick."


@dataclass(frozen=True)
class Tried:
    """What lay there before it was unlinked (files, bytes), how many manifests were tried, with how many keys."""

    objects: int
    bytes: int
    samples: int
    keys: int

    def as_detail(self) -> dict[str, int]:
        return {"objects": self.objects, "bytes": self.bytes, "samples": self.samples, "keys": self.keys}


def of_copies(tx: Connection, project: str) -> dict[str, Tried]:
    """What the log tells of each copy of the project that was looked at before it was unlinked."""
    return _logged(tx, COPY_TRIED, "copy", project)


def of_attempts(tx: Connection, project: str) -> dict[str, Tried]:
    """The same of attempts."""
    return _logged(tx, ATTEMPT_TRIED, "attempt", project)


def of_kept(tx: Connection, project: str) -> dict[str, Tried]:
    """The same of outputs that stayed in the project, by attempt and output."""
    return {
        f"{entry.subject['attempt']}/{entry.subject['artefact']}": _as_logged(entry)
        for entry in log.of_event(tx, KEPT_TRIED)
        if entry.subject["project"] == project
    }


def try_kept(broker: OpenBroker, cluster: Cluster, row: KeptOutput) -> Tried:
    """The same for an output that stayed, or was to stay, in the project."""
    with broker.db.read() as tx:
        known = of_kept(tx, row.project).get(f"{row.attempt}/{row.output}")
    if known is not None:
        return known
    parts = layout.kept_parts(row.project, row.id)
    store = cluster.objects(*parts)
    manifests = [name for name in store.list() if name.startswith("m-")][:MAX_BUNDLE_MANIFESTS]
    found = _Trial(broker, "copy", row.project, row.id).run(cluster, parts, [(store, manifests)])
    with broker.db.write() as tx:
        log.append_once(tx, KEPT_TRIED, row.subject, detail=found.as_detail())
    return found


def try_copy(broker: OpenBroker, cluster: Cluster, copy: Copy) -> Tried:
    """Measure and try a copy whose key is dead, once; raises :class:`SampleOpensError`."""
    with broker.db.read() as tx:
        known = of_copies(tx, copy.project).get(copy.id)
    if known is not None:
        return known
    parts = layout.copy_parts(copy.project, copy.id)
    names = [copy.manifest_name] if copy.manifest_name else []
    found = _Trial(broker, "copy", copy.project, copy.id).run(
        cluster, parts, [(cluster.objects(*parts), names)]
    )
    with broker.db.write() as tx:
        log.append_once(tx, COPY_TRIED, copy.subject, detail=found.as_detail())
    return found


def try_attempt(broker: OpenBroker, cluster: Cluster, job: Job, attempt: Attempt) -> Tried:
    """The same for an attempt: the manifests of its outputs and of its bundle."""
    with broker.db.read() as tx:
        known = of_attempts(tx, job.project).get(attempt.name)
    if known is not None:
        return known
    project, name = job.project, attempt.name
    away = cluster.objects(*layout.outputs_parts(project, name))
    code = cluster.objects(*layout.bundle_parts(project, name))
    manifests = [name for name in code.list() if name.startswith("m-")][:MAX_BUNDLE_MANIFESTS]
    parts = layout.attempt_parts(project, name)
    # A bundle is sealed like a copy, under its own key, for the attempt.
    outputs_tried = _Trial(broker, "output", project, name).run(
        cluster, parts, [(away, _pointed(cluster, project, name))]
    )
    bundle_tried = _Trial(broker, "copy", project, name).run(None, parts, [(code, manifests)])
    found = Tried(
        outputs_tried.objects,
        outputs_tried.bytes,
        outputs_tried.samples + bundle_tried.samples,
        max(outputs_tried.keys, bundle_tried.keys),
    )
    with broker.db.write() as tx:
        log.append_once(tx, ATTEMPT_TRIED, {**job.subject, "attempt": name}, detail=found.as_detail())
    return found


@dataclass(frozen=True)
class _Trial:
    broker: OpenBroker
    role: Literal["copy", "output"]
    project: str
    holder: str

    def run(
        self, cluster: Cluster | None, parts: layout.Parts, manifests: Iterable[tuple[ObjectStore, list[str]]]
    ) -> Tried:
        objects, size = cluster.measure_tree(*parts) if cluster is not None else (0, 0)
        samples = keys = 0
        for store, names in manifests:
            for name in names:
                tried = self._try(store, name)
                if tried is None:
                    continue
                samples, keys = samples + 1, max(keys, tried)
        return Tried(objects, size, samples, keys)

    def _try(self, store: ObjectStore, name: str) -> int | None:
        """How many keys did not open it; None where there is no such object, or it is too short to be one."""
        try:
            size = store.size(name)
            head = store.get(name, 0, SEGMENT_BYTES)
        except ObjectMissingError:
            return None
        if size < HEADER_BYTES + TAG_BYTES or len(head) != min(size, SEGMENT_BYTES):
            return None
        try:
            answer = self.broker.ask(m.TrySample(self.role, self.project, self.holder, head, size))
        except HdrsError as error:
            if error.code == SealBrokenError.code:
                return None  # somebody's file under a manifest's name: no key would open it
            raise
        if answer.opened:
            raise SampleOpensError(where=self.holder)
        return answer.tried


def _pointed(cluster: Cluster, project: str, attempt: str) -> list[str]:
    """The name of the outputs' manifest, where the attempt came as far as sealing one."""
    raw = cluster.read_file(*layout.closing_parts(project, attempt), max_bytes=outputs.MAX_POINTER_BYTES)
    if raw is None:
        return []
    try:
        return ["m-" + outputs.parse_pointer(raw).manifest_digest.removeprefix("sha256:")]
    except BadDocumentError:
        return []


def _logged(tx: Connection, event: str, holder: str, project: str) -> dict[str, Tried]:
    return {
        entry.subject[holder]: _as_logged(entry)
        for entry in log.of_event(tx, event)
        if entry.subject["project"] == project
    }


def _as_logged(entry: Entry) -> Tried:
    return Tried(*(entry.detail[name] for name in ("objects", "bytes", "samples", "keys")))
