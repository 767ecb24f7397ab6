"""Documents that pass from hand to hand until enough people have signed: drafts, envelopes, who signed so far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hdrs_hpc.core import strict_json, strict_yaml
from hdrs_hpc.core.errors import ConflictError, HdrsError
from hdrs_hpc.documents import owners, signing, sshsig
from hdrs_hpc.documents.envelope import MAX_ENVELOPE_BYTES, Envelope
from hdrs_hpc.documents.kinds import ANYONE, DocumentKind
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.documents.trust import (
    KeyCompromisedError,
    KeyRetiredError,
    SignerRoleError,
    SignerUnknownError,
    WrongPayloadTypeError,
)
from hdrs_hpc.forms.document import Document, Finding, InvalidDocumentError


class AlreadySignedError(ConflictError):
    code = "already-signed"
    meaning = "This person has signed the document already; one person with two keys counts once."
    remedy = "Pass the file on to the next person."


@dataclass(frozen=True)
class Signer:
    """One signature that holds.  ``counts``: made by a person with the role that the document needs."""

    fingerprint: str
    person: str | None
    counts: bool


class Count(Protocol):
    """A further count of signatures that must be met, such as those of a dataset's owner."""

    @property
    def met(self) -> bool: ...

    def sentence(self) -> str: ...


@dataclass(frozen=True)
class Progress:
    """How far a document is: ``people`` count, ``needed`` is the threshold (None without a trust root)."""

    signers: tuple[Signer, ...]
    needed: int | None
    further: tuple[Count, ...] = ()

    @property
    def people(self) -> tuple[str, ...]:
        return tuple(sorted({item.person for item in self.signers if item.counts and item.person}))

    @property
    def complete(self) -> bool:
        enough = self.needed is not None and len(self.people) >= self.needed
        return enough and all(count.met for count in self.further)

    def sentence(self, role: str) -> str:
        """``1 of 2 custodians have signed (adeyemi)``."""
        if self.needed is None:
            return f"{len(self.signers)} signed; without a trust root nobody can tell who"
        plural = role if self.needed == 1 else f"{role}s"
        verb = "has" if self.needed == 1 else "have"
        named = f" ({', '.join(self.people)})" if self.people else ""
        return f"{len(self.people)} of {self.needed} {plural} {verb} signed{named}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "signed": list(self.people),
            "needed": self.needed,
            "complete": self.complete,
            "missing": [count.sentence() for count in self.further if not count.met],
        }


def read[M: Document](path: Path, kind: DocumentKind[M]) -> tuple[Envelope, M]:
    """A file of this kind: an envelope, or a draft in strict YAML that becomes one without signatures.

    Raises BadDocumentError; for a draft's schema faults all of them, with their lines.
    """
    with path.open("rb") as handle:
        raw = handle.read(MAX_ENVELOPE_BYTES + 1)
    if raw.lstrip()[:1] == b"{":
        envelope = Envelope.parse(raw)
        if envelope.payload_type != kind.payload_type:
            raise WrongPayloadTypeError(f"this is not a {kind.name}", where=path.name)
        return envelope, kind.model.from_payload(envelope.payload)
    value, lines = strict_yaml.load(raw)
    try:
        document = kind.model.from_value(value)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(tuple(_with_line(item, lines) for item in error.findings)) from None
    # What the person wrote is what is signed; the model only judged it.
    return Envelope(kind.payload_type, strict_json.dumps(value)), document


def add(envelope: Envelope, kind: DocumentKind[Any], key: Path, root: TrustRoot | None) -> Envelope:
    """The envelope with one signature more.

    Raises AlreadySignedError, and what the broker would raise of a signature that counts for nothing: one such
    spoils the document for everybody who signs after it.
    """
    signature = signing.sign(kind, envelope.payload, key)
    before = signers(envelope, kind, root)
    new = envelope.with_signature(signature)
    mine = signers(new, kind, root)[-1]
    # On a trust root a person signs with an old key and with the new one that replaces it.
    one_key = kind.name == "trust-root"
    if any(
        item.fingerprint == mine.fingerprint or (item.person and item.person == mine.person and not one_key)
        for item in before
    ):
        raise AlreadySignedError(mine.person or mine.fingerprint)
    # A trust root is signed by people of several roles, and one signature too many does it no harm.
    if root is not None and not mine.counts and not one_key:
        raise refusal(mine, kind, root)
    if root is not None and mine.person is not None and kind.name == "dataset-registration":
        registration = DatasetRegistration.from_payload(envelope.payload)
        owners.require_own(root, (mine.person,), registration.owner, registration.name)
    return new


def refusal(mine: Signer, kind: DocumentKind[Any], root: TrustRoot) -> HdrsError:
    """Why a signature counts for nothing under ``root``, in the words of the broker."""
    if mine.person is None:
        return SignerUnknownError(f"the key {mine.fingerprint} is not in the trust root")
    state = {record.fingerprint: record.refused_at(None) for record in root.people[mine.person].keys}
    refused = state[mine.fingerprint]
    if refused == "compromised":
        return KeyCompromisedError(f"{mine.fingerprint} of {mine.person} is compromised")
    if refused == "retired":
        return KeyRetiredError(f"{mine.fingerprint} of {mine.person} is retired")
    return SignerRoleError(f"{mine.person} is not a {kind.role}")


def progress(
    envelope: Envelope, kind: DocumentKind[Any], root: TrustRoot | None, further: tuple[Count, ...] = ()
) -> Progress:
    """Who signed, and how many are needed; every signature is verified, an altered one raises."""
    return Progress(signers(envelope, kind, root), root.threshold(kind.name) if root else None, further)


def about_signer(
    kind: DocumentKind[Any], envelope: Envelope, key: Path, root: TrustRoot | None
) -> list[tuple[str, object]]:
    """Who will sign, as whom, for which broker, each with its name."""
    fingerprint = signing.fingerprint_of(key)
    person = next(
        (
            f"{name} ({who.name}, {who.organisation}), {', '.join(who.roles) or 'without a role'}"
            for name, who in (root.people.items() if root else ())
            if any(record.fingerprint == fingerprint for record in who.keys)
        ),
        "nobody whom the trust root lists" if root else "not known, since no trust root is at hand",
    )
    audience = getattr(kind.model.from_payload(envelope.payload), "audience", None)
    return [
        ("you sign as", person),
        ("with the key", fingerprint or f"{key}, whose fingerprint is not known before it signs"),
        ("for broker", audience or (root.audience if root else "any that believes this key")),
    ]


def signers(envelope: Envelope, kind: DocumentKind[Any], root: TrustRoot | None) -> tuple[Signer, ...]:
    message = envelope.pae()
    holders = (
        {record.fingerprint: (name, record) for name, who in root.people.items() for record in who.keys}
        if root
        else {}
    )
    found = []
    for signature in envelope.signatures:
        line = sshsig.embedded_key(signature.sig)
        sshsig.verify(line, signature.sig, kind.namespace, message)
        fingerprint = sshsig.fingerprint(line)
        person, record = holders.get(fingerprint, (None, None))
        counts = (
            root is not None
            and person is not None
            and record is not None
            and record.refused_at(None) is None
            and (kind.role == ANYONE or kind.role in root.people[person].roles)
        )
        found.append(Signer(fingerprint, person, counts))
    return tuple(found)


def _with_line(item: Finding, lines: dict[strict_yaml.Path, int]) -> Finding:
    path = item.path
    while path and path not in lines:
        path = path[:-1]  # a missing field has no line; what should hold it has
    line = lines.get(path)
    text = f"line {line}: {item.message}" if line else item.message
    return Finding(item.code, item.path, text, item.remedy)


def unsigned[M: Document](kind: DocumentKind[M], value: dict[str, Any]) -> tuple[Envelope, M]:
    """A draft made here, checked as the broker will check it."""
    document = kind.model.from_value(value)
    return Envelope(kind.payload_type, strict_json.dumps(value)), document
