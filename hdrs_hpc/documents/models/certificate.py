"""The certificate: what of a project was destroyed, how that was verified, and what it can not prove.

It is the inventory of every place that can hold patient data, verified row by row, with the copies and
attempts whose keys died.  An offline reader checks it against the audit log by ``log`` and by the ids in it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hdrs_hpc.forms.document import BadValueError, Document, Items, Part, fault
from hdrs_hpc.forms.words import Digest, Hash, Line, Moment, Name, Prose

Count = Annotated[int, Field(ge=0)]


class DestroyedCopy(Part):
    """One staged copy: sealed on scratch, now without a key."""

    copy_: Annotated[Line, Field(alias="copy")]
    """The copy's id, as in the log."""
    dataset: Name
    version: Digest
    """The dataset version that it was made of."""
    manifest_digest: Digest | None = None
    """Absent for a copy that was never finished."""
    opt_out_list: Digest | None = None
    """Keyed digest of the list of patients who had opted out when it was made; absent as the one above."""
    opt_out_about: Count | None = None
    """That list's length, rounded up to a power of ten; 0: nobody."""
    objects: Count
    """Sealed objects unlinked from scratch."""
    bytes: Count
    """Their sealed bytes."""
    key_id: Line
    key_destroyed_at: Moment


class DestroyedKept(Part):
    """One output that a job sealed for later jobs of the project, or was to; now without a key."""

    job: Line
    attempt: Line
    output: Name
    class_: Name
    manifest_digest: Digest | None = None
    """Absent for one whose job did not end well."""
    objects: Count
    bytes: Count
    key_id: Line
    key_destroyed_at: Moment


class DestroyedKey(Part):
    key_id: Line
    destroyed_at: Moment


class DestroyedAttempt(Part):
    """One attempt of a job: the keys of its outputs and bundle, and what of it lay on scratch."""

    attempt: Line
    """The attempt's name, which is its Slurm job's name."""
    job: Line
    objects: Count
    bytes: Count
    keys: Items[DestroyedKey] = ()
    """Empty where no key was ever made."""
    runtimes: Items[Digest] = ()
    """Digests of the node runtimes whose nodes were bound for its keys; empty where none was."""


class Keystore(Part):
    """Where the keys lived, and what that kind of store can claim about their end."""

    class_: Literal["file", "pkcs11", "kms"]
    claim: Literal["unlinked", "destroyed"]
    """``unlinked``: gone from the store, not provably erased on its medium."""
    master_rotated: bool
    """Whether the master key was replaced after the end of the project's last key, as the store remembers."""
    statement: Prose


class PlaceResult(Part):
    """One row of the inventory of places that can hold patient data."""

    place: Name
    owner: Line
    purger: Line
    verified: bool
    """Whether somebody looked afterwards; false where a rule or a promise is all there is."""
    method: Name
    """How it can be verified, in the words of the inventory: ``listing``, ``key-and-listing`` …"""
    result: Name
    """What was found, in the words of the inventory: ``empty``, ``key-gone-and-empty``, ``not-checked`` …"""
    how: Prose
    """What was done to know it, or why nothing could be done."""
    count: Count | None = None
    """Things that were there and were removed, as counted before; absent where nobody counted."""
    bytes: Count | None = None
    """Their bytes; absent where nobody measured."""


class Check(Part):
    """One check made after the purge, such as: keyd has no key, samples do not open, listings are empty."""

    check: Name
    result: Literal["passed", "failed", "not-possible"]
    detail: Prose


class LogPosition(Part):
    """The log up to and with the last destruction that is certified here."""

    size: Annotated[int, Field(ge=1)]
    root: Hash


class Certificate(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/certificate/1"

    audience: Name
    project: Name
    grant: Digest
    trust_root: Digest
    """The trust root in force at closing."""
    reason: Literal["ended", "closed", "revoked"]
    closed_at: Moment
    """When the keys of the staged copies were destroyed."""
    issued_at: Moment
    assurance: Literal["DEMO", "file-keystore", "hardware-keystore"]
    """DEMO under a demo root, whatever the keystore: nothing real may rest on it."""
    copies: Items[DestroyedCopy]
    kept: Items[DestroyedKept] = ()
    attempts: Items[DestroyedAttempt]
    deidentification_key_destroyed: bool
    keystore: Keystore
    inventory: Line
    """Version of the table of places, such as ``hdrs-hpc/places/3``; a later one may have more rows."""
    places: Annotated[Items[PlaceResult], Field(min_length=1)]
    checks: Annotated[Items[Check], Field(min_length=1)]
    cannot_prove: Annotated[Items[Prose], Field(min_length=1)]
    """Never empty: snapshots, swap and memory are out of anyone's reach."""
    log: LogPosition

    @model_validator(mode="after")
    def _honest(self) -> Certificate:
        failed = [item.check for item in self.checks if item.result == "failed"]
        if failed:
            fault(BadValueError, f"no certificate is issued while checks fail: {', '.join(failed)}")
        if self.assurance == "hardware-keystore" and self.keystore.claim != "destroyed":
            fault(BadValueError, "this assurance needs a keystore that destroys keys")
        return self

    def in_log(self, people: tuple[str, ...]) -> dict[str, Any]:
        return {**super().in_log(people), "size": self.log.size, "root": f"sha256:{self.log.root}"}
