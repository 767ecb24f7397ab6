"""What keyd knows of the log: the last checkpoint that it signed, kept where no backup of the database is.

A broker whose database was put back from a backup has a log that is shorter than that checkpoint, or another one.
Therefore keyd gives nothing (no key, no release, no certificate) from its start until a log that extends the
checkpoint was signed again, and nothing any more once one was shown that does not.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime

from hdrs_hpc.audit import merkle
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.broker.keyd.roots import RootHolder
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError, NotAllowedError, SiteError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.checkpoint import Checkpoint


class LogRolledBackError(ConflictError):
    code = "log-rolled-back"
    retry = True
    meaning = "The log does not extend the last checkpoint that keyd signed: an older database was put back."
    remedy = "The broker stays frozen; put the newest database back.  Without it the projects are closed."


class LogNotProvenError(SiteError):
    code = "log-not-proven"
    meaning = "keyd gives nothing until the log is shown to extend the last checkpoint that it signed."
    remedy = "The controller shows it at every tick; if this stays, see the alert `log-rolled-back`."


class CheckpointOvertakenError(ConflictError):
    code = "checkpoint-overtaken"
    retry = True
    meaning = "Another process had a longer log signed in the meantime."
    remedy = "Ask again with a proof against the newest checkpoint."


class NotLoggedError(NotAllowedError):
    code = "not-logged"
    meaning = "keyd gives only what it can prove to be in the signed log already."
    remedy = "The broker logs first and asks again; if this stays, its database was tampered with."


class LogWatch:
    def __init__(
        self,
        keystore: FileKeystore,
        roots: RootHolder,
        sign: Callable[[str, bytes], Envelope],
        now: Callable[[], datetime],
    ) -> None:
        self._keys, self._roots, self._sign, self._now = keystore, roots, sign, now
        self.proven = keystore.fact("log-size") is None
        """Whether this process was shown a log that extends what was signed before."""

    @property
    def checkpoint(self) -> tuple[int, bytes]:
        """Size and root of the log that was signed last."""
        root = self._keys.fact("log-root")
        return int(self._keys.fact("log-size") or 0), bytes.fromhex(root) if root else merkle.EMPTY_ROOT

    def require_proven(self) -> None:
        if not self.proven:
            raise LogNotProvenError()

    def sign(self, ask: m.SignCheckpoint) -> bytes:
        """The envelope of a checkpoint over the log shown; the one signed before if nothing was added."""
        size, head = self.checkpoint
        if ask.known != size:
            raise CheckpointOvertakenError()
        # The log was read after its asker learnt ``known``, so no race explains a shorter or another one.
        try:
            merkle.verify_consistency(size, head, ask.size, ask.root, ask.consistency)
        except merkle.ProofInvalidError:
            self.proven = False
            raise LogRolledBackError(f"keyd signed {size} entries, this log has {ask.size}") from None
        known = self._keys.fact("log-envelope")
        if ask.size == size and known is not None:
            self.proven = True
            return base64.b64decode(known)
        root = self._roots.current()
        payload = Checkpoint.from_value(
            {
                "schema": Checkpoint.SCHEMA,
                "audience": root.document.audience,
                "size": ask.size,
                "root": ask.root.hex(),
                "at": clock.to_text(self._now()),
            }
        ).to_payload()
        envelope = self._sign("checkpoint", payload).to_bytes()
        with self._keys.transaction():
            self._keys.remember("log-size", str(ask.size))
            self._keys.remember("log-root", ask.root.hex())
            self._keys.remember("log-envelope", base64.b64encode(envelope).decode())
        self.proven = True
        return envelope

    def entries(self, proof: m.LogProof) -> list[tuple[int, Entry]]:
        """Index and content of entries that are in the signed log; raises NotLoggedError."""
        size, root = self.checkpoint
        if proof.size != size:
            raise CheckpointOvertakenError()
        found = []
        for item in proof.entries:
            try:
                merkle.verify_inclusion(merkle.leaf_hash(item.entry), item.index, size, item.path, root)
            except merkle.ProofInvalidError:
                raise NotLoggedError("an entry is not in the signed log") from None
            found.append((item.index, Entry.from_bytes(item.entry)))
        return found
