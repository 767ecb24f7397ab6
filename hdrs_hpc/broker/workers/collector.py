"""The collector's process: fetch one attempt's sealed outputs, open them, have a keyless process check them.

``python -m hdrs_hpc.broker.workers.collector --home HOME --attempt NAME``.  What came off the cluster is opened under
the attempt's own key, so only that attempt can have sealed it; it is parsed by the airlock's checker, never here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.logged_keys import use_key
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import copies, datasets, jobs, projects, served
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.broker.workers.airlock.check import Checked
from hdrs_hpc.broker.workers.airlock.declaring import declare
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.broker.workers.airlock.run import CheckRequest, Sent, run_checker
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.core import durable_files, wire
from hdrs_hpc.core.errors import BadDocumentError, NotFoundError
from hdrs_hpc.documents.models.job_spec import JobSpec, written
from hdrs_hpc.protocol import layout, outputs
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy

CHECK_TIMEOUT_S = 300.0
MAX_OBJECTS = 10_000
MAX_SEALED_BYTES = 4 << 30
_PIECE_BYTES = 4 << 20


class NoOutputsError(NotFoundError):
    code = "no-outputs"
    meaning = "The attempt ended without sealing any outputs."
    remedy = "`hdrs-hpc job show` names how it ended; submit again if the node or site was at fault."


class OutputsTooLargeError(BadDocumentError):
    code = "outputs-too-large"
    meaning = "The attempt left more behind than its declared outputs can need."
    remedy = "Nothing of it is taken; look at what the workload writes."


def collect(home: BrokerHome, attempt_name: str) -> dict[str, Any]:
    """Fetch, open, check; gives the closing list and a row for every declared output."""
    broker = OpenBroker.open(home)
    try:
        with broker.db.read() as tx:
            attempt = jobs.attempt(tx, attempt_name)
            job = jobs.get(tx, attempt.job)
            spec = jobs.spec_of(tx, job)
            grant = projects.grant_of(tx, projects.get(tx, job.project))
            inputs = _input_facts(tx, attempt, copies.of_job(tx, job.id).values())
        pointer, fetched = _fetch(broker, job, attempt)
        key = use_key(broker, "collect", job.project, attempt.name).key
    finally:
        broker.close()
    store = DirectoryStore(home.quarantine_dir(attempt.name) / "sealed")
    copy = SealedCopy.open(store, key, "output", job.project, attempt.name, pointer.manifest_digest)
    listed = outputs.parse_list(copy.read(layout.CLOSING_LIST_PATH))
    if (listed.attempt, listed.project) != (attempt.name, job.project):
        raise BadDocumentError("the closing list is another attempt's")
    artefacts: list[dict[str, Any]] = []
    if _ended_well(listed.workload):
        rules = OutputRules.from_dict(grant.outputs.model_dump(mode="json", by_alias=True, exclude_none=True))
        found = _open_outputs(copy, spec, listed)
        # Secret, the same if the check runs again, and gone with the key: a commitment then says nothing more.
        salt = hashlib.sha256(b"hdrs-hpc/commitment-salt/1\0" + key).digest()
        checked = _check(home.artefacts_dir(job.id), CheckRequest(tuple(found), rules, salt, inputs))
        artefacts = _rows(spec, listed, checked)
    copy.close()
    return {
        "closing": wire.to_value(listed),
        "manifest_digest": pointer.manifest_digest,
        "artefacts": artefacts,
        "sealed_objects": fetched[0],
        "sealed_bytes": fetched[1],
    }


def _fetch(broker: OpenBroker, job: Job, attempt: Attempt) -> tuple[outputs.ClosingPointer, tuple[int, int]]:
    """Copy the sealed objects as they are into the quarantine."""
    assert job.cluster is not None
    cluster = broker.cluster(job.cluster, job.project)
    raw = cluster.read_file(
        *layout.closing_parts(job.project, attempt.name), max_bytes=outputs.MAX_POINTER_BYTES
    )
    if raw is None:
        raise NoOutputsError()
    pointer = outputs.parse_pointer(raw)
    away = cluster.objects(*layout.outputs_parts(job.project, attempt.name))
    folder = broker.home.quarantine_dir(attempt.name) / "sealed"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    here = DirectoryStore(folder)
    known = set(here.list())
    count = total = 0
    for name, size in away.sizes():
        count, total = count + 1, total + size
        if count > MAX_OBJECTS or total > MAX_SEALED_BYTES:
            raise OutputsTooLargeError()
        if name not in known:
            here.put(name, _ranges(functools.partial(away.get, name), size))
    return pointer, (count, total)


def _ranges(get: Callable[[int, int], bytes], size: int) -> Iterator[bytes]:
    """``size`` bytes by ranges, since an output may be larger than memory."""
    for start in range(0, size, _PIECE_BYTES):
        yield get(start, min(_PIECE_BYTES, size - start))


def _pieces(copy: SealedCopy, item: outputs.CollectedOutput) -> Iterator[bytes]:
    """One output, opened piece by piece; raises at its end unless it is the one that the closing list names."""
    assert item.path is not None
    digest = hashlib.sha256()
    for piece in _ranges(functools.partial(copy.read, item.path), item.size_bytes):
        digest.update(piece)
        yield piece
    if f"sha256:{digest.hexdigest()}" != item.digest:
        raise BadDocumentError("an output is not the one that the closing list names", where=item.name)


def _check(folder: Path, request: CheckRequest) -> list[Checked]:
    """Have the set checked; what is rebuilt goes to the reviewers' folder as it comes, and stays if it passed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = [folder / declared.name for declared, _ in request.artefacts]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(durable_files.create(durable_files.partial_of(path))) for path in paths]
        for path in paths:
            stack.callback(durable_files.partial_of(path).unlink, missing_ok=True)
        checked = run_checker(request, files.__getitem__, CHECK_TIMEOUT_S)
        for path, file, found in zip(paths, files, checked, strict=True):
            if found.refused is None:
                file.flush()
                os.fsync(file.fileno())
                durable_files.give_name(durable_files.partial_of(path), path)
    return checked


def _open_outputs(
    copy: SealedCopy, spec: JobSpec, listed: outputs.ClosingList
) -> list[tuple[Declared, Sent]]:
    found, declared = [], written(spec.outputs)
    if len({item.name for item in listed.outputs}) != len(listed.outputs):
        raise BadDocumentError("the closing list names an output twice")
    for item in listed.outputs:
        output = declared.get(item.name)
        if output is None or item.path is None or item.size_bytes > output.max_size:
            continue
        if (item.kept is not None) != (output.keep == "project"):
            raise BadDocumentError("an output lies where it was not to be sealed", where=item.name)
        if item.kept is not None:
            continue  # it stays where it is
        if copy.size(item.path) != item.size_bytes:
            raise BadDocumentError("an output is not the one that the closing list names", where=item.name)
        sent = Sent(item.size_bytes, functools.partial(_pieces, copy, item))
        found.append((declare(item.name, output, spec.workload.builtin), sent))
    return found


def _input_facts(tx: Connection, attempt: Attempt, read: Iterable[Copy]) -> InputFacts:
    """From what was chosen for the attempt and the signed registrations; an attempt without a choice counts nothing."""
    chosen = served.of_attempt(attempt)
    sensitivities = {datasets.registration(tx, copy.dataset, copy.version).sensitivity for copy in read}
    real = "real" in sensitivities
    if chosen is None:
        return InputFacts(0, 0, 0, real)
    return InputFacts(chosen.people, chosen.items, max(chosen.instances, chosen.items), real)


def _rows(spec: JobSpec, listed: outputs.ClosingList, checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """One row for every declared output but those that stay in the project, as it was asked for."""
    by_name = {item.name: item for item in checked}
    problems = {item.name: item.problem for item in listed.outputs}
    rows = []
    kept = {item.name for item in listed.outputs if item.kept is not None}
    for name, output in written(spec.outputs).items():
        item = by_name.get(name)
        if name in kept and output.keep == "project":
            continue
        if item is None:
            problem = str(problems.get(name) or outputs.OutputProblem.MISSING)
            report: dict[str, Any] = {"artefact": name, "refused": problem}
            row: dict[str, Any] = {
                "refused": problem,
                "report": report,
                "rebuilt": None,
                "size": None,
                "media_type": None,
            }
        else:
            row = {
                "refused": item.refused,
                "report": dict(item.report),
                "rebuilt": item.rebuilt_digest,
                "size": item.rebuilt_bytes,
                "media_type": item.media_type,
            }
        rows.append({"name": name, "cls": output.class_, "file": Path(output.path).name, **row})
    return rows


def _ended_well(workload: outputs.WorkloadExit) -> bool:
    return workload.ending is outputs.Ending.EXITED and workload.exit_code == 0


if __name__ == "__main__":
    workers.main("attempt", BrokerHome.quarantine_dir, collect)
