"""Trust roots: exact reading of the one that was given, and the chain of them within a log."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from hdrs_hpc.core.errors import BadDocumentError, NotAllowedError
from hdrs_hpc.documents import sshsig, succession, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.trust import VerifiedRoot


class EnvelopeNotExactError(BadDocumentError):
    code = "envelope-not-exact"
    meaning = "A signed file is not byte for byte as the broker wrote it, though it may mean the same."
    remedy = "Fetch the file again; editors and converters must not touch it."


class ForeignRootError(NotAllowedError):
    code = "audit-foreign-root"
    meaning = "The trust root that was given is not one that this log came under."
    remedy = "Give the trust root of the broker that keeps this log."


def exact_envelope(raw: bytes, where: str) -> Envelope:
    """Parse an envelope that must be in the one form this project writes, so that no byte is left unjudged."""
    envelope = Envelope.parse(raw)
    if envelope.to_bytes() != raw:
        raise EnvelopeNotExactError("the envelope is written in an unusual way", where=where)
    return envelope


def load_exact_root(raw: bytes, pinned: str | None) -> VerifiedRoot:
    """A trust root from its exact bytes; every byte of the file counts."""
    exact_envelope(raw, "trust root")
    return trust.load_root(raw, pinned)


@dataclass(frozen=True, slots=True)
class RootChain:
    """The trust roots of a log, each from the entry that accepted it on."""

    starts: tuple[int, ...]
    roots: tuple[VerifiedRoot, ...]

    @classmethod
    def build(cls, accepted: list[tuple[int, bytes]], given: VerifiedRoot) -> RootChain:
        """Check each succession, and that ``given`` is one of the chain, with the same signatures.

        ``accepted`` holds (entry, envelope bytes) in order.  Earlier roots are pinned by the digests in later
        ones, later roots by the signatures of the people in earlier ones.
        """
        roots: list[VerifiedRoot] = []
        for seq, raw in accepted:
            root = load_exact_root(raw, None)
            if roots:
                succession.check(roots[-1], root, entries=seq)
            roots.append(root)
        same = [root for root in roots if root.digest == given.digest]
        if not same or same[0].envelope != given.envelope:
            raise ForeignRootError(f"{given.digest} is not among the {len(roots)} trust roots of this log")
        return cls(tuple(seq for seq, _ in accepted), tuple(roots))

    def in_force(self, seq: int) -> VerifiedRoot:
        """The root that judges what was accepted at entry ``seq``."""
        return self.roots[max(bisect_right(self.starts, seq) - 1, 0)]

    @property
    def latest(self) -> VerifiedRoot:
        return self.roots[-1]

    def compromised_signers(self, envelope: Envelope, seq: int) -> tuple[str, ...]:
        """People whose signature on a document accepted at ``seq`` the latest root no longer believes."""
        people = []
        for signature in envelope.signatures:
            owner = self.latest.owner(sshsig.fingerprint(sshsig.embedded_key(signature.sig)))
            if owner is not None and owner[1].refused_at(seq) == "compromised":
                people.append(owner[0])
        return tuple(people)
