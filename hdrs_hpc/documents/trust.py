"""Who signed, and is that enough: documents judged by a trust root, thresholds counted in people.

Whether one trust root may follow another is in ``succession.py``; whose data a document is about, in ``owners.py``.

Three rules stop known attacks.  Whose signature it is follows from the key that verifies it; the ``keyid``
beside it may not contradict, and is otherwise not used.  Signatures are counted as people, so one person with
two keys is one.  Every signature in an envelope must verify: an altered one is never passed over in silence.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Any

from hdrs_hpc.core.errors import BadDocumentError, NotAllowedError
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import ANYONE, BROKER, TRUST_ROOT, DocumentKind
from hdrs_hpc.documents.models.trust_root import KeyRecord, TrustRoot
from hdrs_hpc.forms.document import Document


class WrongPayloadTypeError(BadDocumentError):
    code = "wrong-payload-type"
    meaning = "The file is a signed document of another kind than the one expected here."
    remedy = "Check that this is the right file."


class UnsignedError(NotAllowedError):
    code = "unsigned"
    meaning = "The document bears no signature."
    remedy = "Sign it first, with the `sign` command for its kind."


class KeyidMismatchError(BadDocumentError):
    code = "keyid-mismatch"
    meaning = "The key id beside a signature is not that of the key that made it."
    remedy = "Get the file again from the person who signed it."


class SignerUnknownError(NotAllowedError):
    code = "signer-unknown"
    meaning = "A signature was made with a key that the trust root does not list."
    remedy = "Sign with a listed key, or have a custodian add yours: `hdrs-hpc trust show` lists them."


class SignerRoleError(NotAllowedError):
    code = "signer-lacks-role"
    meaning = "A person who signed does not hold the role that this kind of document needs."
    remedy = "Have someone sign who holds the role; `hdrs-hpc trust show` lists them."


class ThresholdNotMetError(NotAllowedError):
    code = "threshold-not-met"
    meaning = "Too few different people have signed; one person with two keys counts once."
    remedy = "Pass the file on to the next person to sign."


class TooManySignersError(NotAllowedError):
    code = "too-many-signers"
    meaning = "This kind of document has exactly one signer, so that it is clear who answers for it."
    remedy = "Have each person sign a document of their own."


class KeyRetiredError(NotAllowedError):
    code = "key-retired"
    meaning = "The key that signed is retired."
    remedy = "Sign with your present key."


class KeyCompromisedError(NotAllowedError):
    code = "key-compromised"
    meaning = "The key that signed is known to be compromised; nothing that it signed is believed."
    remedy = "Sign again with a new key, and tell the custodian if you had not known."


class TrustRootMismatchError(NotAllowedError):
    code = "trust-root-mismatch"
    meaning = "The trust root is not the one whose digest was given."
    remedy = "Compare the digest with the one you got by another way; do not go on until they agree."


class SuccessionError(NotAllowedError):
    code = "trust-root-succession"
    meaning = "The new trust root does not properly follow the old one."
    remedy = (
        "It must name the old one's digest, count its version up by one, and keep audience and demo mark."
    )


@dataclass(frozen=True)
class VerifiedRoot:
    """A trust root whose signatures were checked, with the bytes that were."""

    document: TrustRoot
    digest: str
    people: tuple[str, ...]
    """Custodians that signed it."""
    envelope: Envelope
    _owners: dict[str, tuple[str, KeyRecord]] = field(default_factory=dict, compare=False, repr=False)

    def owner(self, fingerprint: str) -> tuple[str, KeyRecord] | None:
        """The person id and record of a key, by its fingerprint."""
        return self._owners.get(fingerprint)


@dataclass(frozen=True)
class Verified[D: Document]:
    """A document that enough of the right people (or the broker) signed."""

    document: D
    digest: str
    """``sha256:…`` of the payload."""
    people: tuple[str, ...]
    """Distinct ids of the people who signed, sorted; empty for the broker's own documents."""
    payload: bytes


def load_root(raw: bytes, pinned: str | None) -> VerifiedRoot:
    """Read and check a trust root's envelope.

    ``pinned`` is its digest, learnt by another way; without it the root is only known to be self-consistent.
    Raises a BadDocumentError, or a NotAllowedError: trust-root-mismatch, threshold-not-met, unsigned.
    """
    envelope = Envelope.parse(raw)
    _check_type(envelope, TRUST_ROOT)
    if pinned is not None and not hmac.compare_digest(envelope.digest.encode(), pinned.encode()):
        raise TrustRootMismatchError(f"this trust root is {envelope.digest}")
    root = TrustRoot.from_payload(envelope.payload)
    owners = _owners(root)
    found = VerifiedRoot(root, envelope.digest, (), envelope, owners)
    # Custodians of the version before may be unknown here: their signatures must hold, but do not count.
    people = _custodians(envelope, found)
    _check_threshold(people, root.thresholds.trust_root, "custodians")
    return VerifiedRoot(root, envelope.digest, people, envelope, owners)


def verify[M: Document](
    envelope: Envelope, kind: DocumentKind[M], root: VerifiedRoot, *, accepted_at: int | None = None
) -> Verified[M]:
    """Check type, signatures, roles and threshold, then parse the exact payload bytes.

    ``accepted_at`` is the log entry at which the document was accepted earlier; None judges it as new now.
    Raises a BadDocumentError (altered, malformed) or a NotAllowedError (not by enough of the right people).
    """
    people = check_signatures(envelope, kind, root, accepted_at=accepted_at)
    return Verified(kind.model.from_payload(envelope.payload), envelope.digest, people, envelope.payload)


def check_signatures(
    envelope: Envelope, kind: DocumentKind[Any], root: VerifiedRoot, *, accepted_at: int | None = None
) -> tuple[str, ...]:
    """As :func:`verify`, without parsing the payload; gives the people who signed."""
    _check_type(envelope, kind)
    if not envelope.signatures:
        raise UnsignedError(f"the {kind.name} is not signed")
    if kind.role == BROKER:
        known = {sshsig.fingerprint(line) for line in root.document.broker_keys.of(kind.name)}
        if not known.issuperset(fingerprints(envelope, kind)):
            raise SignerUnknownError(f"not signed with the broker's {kind.name} key")
        return ()
    people = {_person(fingerprint, kind, root, accepted_at) for fingerprint in fingerprints(envelope, kind)}
    if kind.single_signer and len(people) > 1:
        raise TooManySignersError(f"{len(people)} people signed one {kind.name}")
    _check_threshold(
        tuple(sorted(people)), root.document.threshold(kind.name), f"people with the role {kind.role}"
    )
    return tuple(sorted(people))


def _person(fingerprint: str, kind: DocumentKind[Any], root: VerifiedRoot, accepted_at: int | None) -> str:
    owner = root.owner(fingerprint)
    if owner is None:
        raise SignerUnknownError(f"the key {fingerprint} is not in the trust root")
    person, record = owner
    refused = record.refused_at(accepted_at)
    if refused == "compromised":
        raise KeyCompromisedError(f"{fingerprint} of {person} is compromised")
    if refused == "retired":
        raise KeyRetiredError(f"{fingerprint} of {person} is retired")
    if kind.role != ANYONE and kind.role not in root.document.people[person].roles:
        raise SignerRoleError(f"{person} is not a {kind.role}")
    return person


def _custodians(envelope: Envelope, root: VerifiedRoot) -> tuple[str, ...]:
    """Custodians of ``root``, with good keys, among the signers of a trust root's envelope."""
    if not envelope.signatures:
        raise UnsignedError("the trust root is not signed")
    people = set()
    for fingerprint in fingerprints(envelope, TRUST_ROOT):
        owner = root.owner(fingerprint)
        if owner is None:
            continue
        person, record = owner
        if record.refused_at(None) is None and "custodian" in root.document.people[person].roles:
            people.add(person)
    return tuple(sorted(people))


def fingerprints(envelope: Envelope, kind: DocumentKind[Any]) -> list[str]:
    """Fingerprints of the keys that signed, each signature verified; raises on any that does not hold."""
    message = envelope.pae()
    found = []
    for index, signature in enumerate(envelope.signatures):
        line = sshsig.embedded_key(signature.sig)
        sshsig.verify(line, signature.sig, kind.namespace, message)
        fingerprint = sshsig.fingerprint(line)
        if signature.keyid != fingerprint:
            raise KeyidMismatchError("a key id contradicts its signature", where=f"signatures[{index}]")
        found.append(fingerprint)
    return found


def _check_type(envelope: Envelope, kind: DocumentKind[Any]) -> None:
    if envelope.payload_type != kind.payload_type:
        raise WrongPayloadTypeError(f"this is not a {kind.name}")


def _check_threshold(people: tuple[str, ...], needed: int, who: str) -> None:
    if len(people) < needed:
        raise ThresholdNotMetError(f"{len(people)} of {needed} {who} have signed")


def _owners(root: TrustRoot) -> dict[str, tuple[str, KeyRecord]]:
    return {
        record.fingerprint: (name, record) for name, person in root.people.items() for record in person.keys
    }
