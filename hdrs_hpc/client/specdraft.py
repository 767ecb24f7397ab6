"""From the YAML that a researcher wrote to the exact bytes that are signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from hdrs_hpc.catalogue import outputs, workloads
from hdrs_hpc.catalogue.flavour_packages import HELD
from hdrs_hpc.client import signatures
from hdrs_hpc.core import clock, ids, strict_json, strict_yaml
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents import kinds, unfilled
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.job_spec import JobSpec, JobSpecDraft
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.documents.models.workload import runs_on
from hdrs_hpc.documents.trust import VerifiedRoot
from hdrs_hpc.protocol import bundle as bundles
from hdrs_hpc.protocol import wheel_lock, wheels
from hdrs_hpc.protocol.wheel_lock import Wheel

VALIDITY = timedelta(days=7)
WHEELS_FOLDER = "wheels"
"""In a bundle's folder, where its wheels lie; they are no part of the code."""


class EntryNotInBundleError(BadDocumentError):
    code = "entry-not-in-bundle"
    meaning = "The bundle has no module of the entry's name."
    remedy = "The bundle is the folder's content: `pkg.main:run` needs pkg/main.py inside the folder."


class WheelMissingError(BadDocumentError):
    code = "wheel-missing"
    meaning = "A wheel of the bundle's lock is not in the folder `wheels` beside it."
    remedy = "Run `hdrs-hpc bundle lock` on the folder; it fetches them."


class ProgramNotInBundleError(BadDocumentError):
    code = "program-not-in-bundle"
    meaning = "The bundle has no file of the program's path."
    remedy = "Paths are those below the bundle's folder: `bin/mine` is BUNDLE/bin/mine."


class ProgramNotRunnableError(BadDocumentError):
    code = "program-not-runnable"
    meaning = "The program of a command is a file that no node can run."
    remedy = "Give a script that begins with #! or a Linux program of the node's processor, with `chmod +x`."


BUNDLE_FAULTS = {fault.code: fault for fault in (ProgramNotInBundleError, ProgramNotRunnableError)}


class InputFileMissingError(BadDocumentError):
    code = "input-file-missing"
    meaning = "A file that the spec names under `inputs` or `outputs` is not there, or can't be read."
    remedy = "Give its path relative to the spec."


@dataclass(frozen=True)
class WrittenSpec:
    """A spec as written: its value, and the line of every path in it."""

    path: Path
    value: dict[str, Any]
    lines: dict[strict_yaml.Path, int]
    draft: JobSpecDraft


@dataclass(frozen=True)
class DraftedSpec:
    """What is about to be signed.  ``bundle`` is the tar to send along, None for a built-in workload.

    ``wheels`` are sent along with it: where each lies.
    """

    payload: bytes
    spec: JobSpec
    bundle: bytes | None
    wheels: tuple[tuple[Path, Wheel], ...] = ()

    def sign(self, key_path: Path, root: TrustRoot) -> Envelope:
        """The envelope, signed with a person's key; asks for passphrase or touch on the terminal.

        Raises what the broker would raise of a signature that counts for nothing under ``root``.
        """
        kind = kinds.JOB_SPEC
        return signatures.add(Envelope(kind.payload_type, self.payload), kind, key_path, root)


def read(path: Path) -> tuple[Any, dict[strict_yaml.Path, int]]:
    """Strict YAML from a file: value and lines.  Raises BadDocumentError."""
    with path.open("rb") as handle:
        raw = handle.read(strict_json.MAX_BYTES + 1)
    return strict_yaml.load(raw)


def build(
    path: Path,
    root: VerifiedRoot,
    *,
    now: datetime | None = None,
    nonce: str | None = None,
    validity: timedelta = VALIDITY,
) -> DraftedSpec:
    """Read, check and pack a spec, and add what makes it binding: audience, nonce, validity and digests.

    Raises BadDocumentError: the spec's or the bundle's faults, and what is left of a new draft.
    """
    value, lines = read(path)
    draft = JobSpecDraft.from_value(value)
    unfilled.require_filled(value)
    return bind(WrittenSpec(path, value, lines, draft), root, now=now, nonce=nonce, validity=validity)


def bind(
    written: WrittenSpec,
    root: VerifiedRoot,
    *,
    now: datetime | None = None,
    nonce: str | None = None,
    validity: timedelta = VALIDITY,
) -> DraftedSpec:
    """As :func:`build`, for a spec that has been read."""
    start = (now or clock.now()).replace(microsecond=0)
    packed = pack(written)
    workload = dict(written.value["workload"])
    if packed is not None:
        lock = wheel_lock.found_in(bundles.read(packed).files)
        named = {"wheels": {"lock": lock.digest(), "size": lock.size}} if lock else {}
        workload["bundle"] = {"digest": bundles.digest(packed), "size": len(packed), **named}
    payload = strict_json.dumps(
        {
            **written.value,
            **_pinned_inputs(written),
            "outputs": _pinned_outputs(written),
            "workload": workload,
            "audience": root.document.audience,
            "nonce": nonce or ids.new_id(26),
            "not-before": clock.to_text(start),
            "expires": clock.to_text(start + validity),
            "trust-root": root.digest,
        },
        in_order=True,
    )
    return DraftedSpec(payload, JobSpec.from_payload(payload), packed, wheels_of(written, packed))


def _pinned_inputs(written: WrittenSpec) -> dict[str, Any]:
    """``inputs`` with files named by their digests; nothing where there are none."""
    if "inputs" not in written.value:
        return {}
    pinned = {}
    for name, item in written.value["inputs"].items():
        file = _digest_of(written, ("inputs", name, "file")) if "file" in item else None
        pinned[name] = {**item, "file": file} if file else item
    return {"inputs": pinned}


def _pinned_outputs(written: WrittenSpec) -> dict[str, Any]:
    """``outputs`` with the files of declarations named by their digests."""
    pinned = {}
    for name, item in written.value["outputs"].items():
        fields = [field for field in outputs.BY_NAME[item["class"]].declaration.FILES if field in item]
        files = {field: _digest_of(written, ("outputs", name, field)) for field in fields}
        pinned[name] = {**item, **files}
    return pinned


def _digest_of(written: WrittenSpec, place: tuple[str, str, str]) -> dict[str, Any]:
    section, item, field = place
    name = written.value[section][item][field]
    try:
        with (written.path.parent / name).open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
            return {"digest": f"sha256:{digest}", "size": handle.tell()}
    except OSError:
        raise InputFileMissingError(f"{name} can't be read", where=".".join(place)) from None


def wheels_of(written: WrittenSpec, packed: bytes | None) -> tuple[tuple[Path, Wheel], ...]:
    """The wheels of a bundle and where they lie, judged as the broker will; none for a bundle without a lock."""
    draft = written.draft
    lock = None if packed is None else wheel_lock.found_in(bundles.read(packed).files)
    if lock is None:
        return ()
    folder = written.path.parent / str(draft.workload.bundle) / WHEELS_FOLDER

    def opened(wheel: Wheel) -> BinaryIO:
        try:
            return (folder / wheel.file).open("rb")
        except OSError:
            raise WheelMissingError(f"{wheel.file} is not in {WHEELS_FOLDER}/", where=wheel.name) from None

    held = wheel_lock.held_by(lock, runs_on(draft.workload), HELD)
    wheels.check(lock, opened, held, draft.resources.mem)
    return tuple((folder / wheel.file, wheel) for wheel in lock.wheels)


def pack(written: WrittenSpec) -> bytes | None:
    """The bundle's tar, read back as the broker will; None for a built-in workload."""
    workload = written.draft.workload
    if workload.bundle is None:
        return None
    packed = bundles.pack(written.path.parent / workload.bundle)
    read = bundles.read(packed)
    kind = workloads.KINDS[workload.kind]
    fields = kind.fields(**{name: getattr(workload, name) for name in kind.own_fields()})
    for found in kind.check_bundle(fields, read.files, read.executable):
        raise BUNDLE_FAULTS[found.code](found.sentence, where=f"workload.{found.field}")
    if workload.entry is None:
        return packed
    module = workload.entry.partition(":")[0].replace(".", "/")
    if not {f"{module}.py", f"{module}/__init__.py"} & set(read.files):
        raise EntryNotInBundleError(f"there is no {module}.py in {workload.bundle}")
    return packed
