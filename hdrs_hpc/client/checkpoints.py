"""Holding a broker to its log: every checkpoint received is kept, and the next one must fit it."""

from __future__ import annotations

from hdrs_hpc.audit import merkle
from hdrs_hpc.client.http import BrokerRefusedError
from hdrs_hpc.client.session import Session
from hdrs_hpc.core.errors import BadDocumentError, NotAllowedError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.checkpoint import Checkpoint

MAX_KEPT_BYTES = 16 << 20


class LogForkedError(NotAllowedError):
    code = "log-forked"
    meaning = "ALARM: the broker's log does not fit the checkpoint that it gave you earlier."
    remedy = "The log was changed. Keep the files named, send nothing more, and tell the custodian."


def keep(session: Session, raw: bytes) -> Checkpoint:
    """Verify a checkpoint against the last one kept and keep it; raises LogForkedError."""
    new = _verified(session, raw)
    old = last(session)
    if old is not None:
        _check(session, old, new)
    path = session.state_dir / "checkpoints.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write(raw.strip() + b"\n")
    return new


def last(session: Session) -> Checkpoint | None:
    """The largest checkpoint kept."""
    found = None
    path = session.state_dir / "checkpoints.jsonl"
    if path.is_file():
        for line in path.read_bytes()[-MAX_KEPT_BYTES:].splitlines():
            seen = Checkpoint.from_payload(Envelope.parse(line).payload)
            if found is None or seen.size > found.size:
                found = seen
    return found


def _verified(session: Session, raw: bytes) -> Checkpoint:
    checkpoint = trust.verify(Envelope.parse(raw), kinds.CHECKPOINT, session.root).document
    if checkpoint.audience != session.settings.audience:
        raise LogForkedError("a checkpoint of another broker")
    return checkpoint


def _check(session: Session, one: Checkpoint, other: Checkpoint) -> None:
    """The smaller of the two must be a prefix of the larger: answers may overtake each other."""
    small, large = sorted((one, other), key=lambda item: item.size)
    proof: list[bytes] = []
    if small.size not in (0, large.size):
        try:
            told = session.open_api.get("/v1/audit/consistency", old=small.size, new=large.size)
            proof = [bytes.fromhex(step) for step in told["proof"]]
        except (BrokerRefusedError, KeyError, TypeError, ValueError):
            raise LogForkedError("the broker gives no proof that its log only grew") from None
    try:
        merkle.verify_consistency(
            small.size, bytes.fromhex(small.root), large.size, bytes.fromhex(large.root), proof
        )
    except BadDocumentError as error:
        where = str(session.state_dir / "checkpoints.jsonl")
        raise LogForkedError(f"sizes {small.size} and {large.size}: {error.message}", where=where) from None
