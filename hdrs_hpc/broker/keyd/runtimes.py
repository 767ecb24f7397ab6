"""Which node runtimes and flavours keyd holds to: what the log says last of each, cluster by cluster.

An admin registers a runtime by ``cluster install`` and withdraws it by ``cluster withdraw``; both are entries of the
log, and keyd believes them only with proof.  The entry with the higher number counts, so a registration that was
withdrawn does not come back by being shown again.

A flavour is what a sandbox runs on.  Which file of it a job gets is the one that was registered last for the cluster:
keyd says so in the order, and nobody can propose another.

The digest that a node tells is a consistency check: an honest node with another runtime than the registered one gets
nothing.  It is no proof, since whoever has root on a node can have it say what they like.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.broker.keyd.logwatch import NotLoggedError
from hdrs_hpc.broker.keyd.messages import RuntimeHeld
from hdrs_hpc.core.errors import NotAllowedError

REGISTERED, WITHDRAWN = "runtime-installed", "runtime-withdrawn"
ADMIN = "broker/admin"
"""The only actor whose word on runtimes counts: whoever can write the broker's home."""


class RuntimeNotRegisteredError(NotAllowedError):
    code = "runtime-not-registered"
    meaning = "A node runs a runtime that no admin registered for this cluster, so it gets no key."
    remedy = (
        "Register the one that this version builds with `hdrs-hpc cluster install NAME`, then file a new job."
    )


class RuntimeWithdrawnError(NotAllowedError):
    code = "runtime-withdrawn"
    meaning = "A node runs a runtime that an admin withdrew, so it gets no key."
    remedy = "Put the present one on the cluster with `hdrs-hpc cluster install NAME`, then file a new job."


class FlavourNotRegisteredError(NotAllowedError):
    code = "flavour-not-registered"
    meaning = "The job runs on a flavour that no admin registered for this cluster, so it gets no key."
    remedy = "Put it there with `hdrs-hpc cluster install NAME --flavour FLAVOUR`, then file a new job."


class RuntimeHolder:
    """keyd's memory of registrations and withdrawals, kept in the keystore's file."""

    def __init__(self, keystore: FileKeystore) -> None:
        self._keys = keystore

    def admit(self, logged: Iterable[tuple[int, Entry]]) -> None:
        """Note proven registrations and withdrawals.  Idempotent; older ones than what is held change nothing.

        Raises NotLoggedError for an entry that is neither, or that no admin wrote.
        """
        with self._keys.transaction():
            for seq, entry in logged:
                if entry.event not in (REGISTERED, WITHDRAWN) or entry.actor != ADMIN:
                    raise NotLoggedError("the entry is not an admin's word on a runtime")
                cluster, digest = entry.subject["cluster"], entry.detail["digest"]
                held = self.held(cluster)
                if digest not in held or held[digest].entry < seq:
                    flavour, size = entry.detail.get("flavour"), entry.detail.get("size", 0)
                    held[digest] = RuntimeHeld(seq, entry.event == REGISTERED, flavour, size)
                    noted = {name: list(vars(said).values()) for name, said in held.items()}
                    self._keys.remember(_fact(cluster), json.dumps(noted, sort_keys=True))

    def require(self, cluster: str, digests: Iterable[str]) -> None:
        """Raise unless each digest is registered for the cluster and was not withdrawn."""
        held = self.held(cluster)
        for digest in digests:
            if digest not in held or held[digest].flavour is not None:
                raise RuntimeNotRegisteredError(f"{digest} on {cluster}")
            if not held[digest].registered:
                raise RuntimeWithdrawnError(f"{digest} on {cluster}")

    def flavour(self, cluster: str, name: str) -> tuple[str, int]:
        """Digest and size of the file that jobs of the flavour get there; raises FlavourNotRegisteredError."""
        held = self.held(cluster)
        found = [said for said in held.items() if said[1].flavour == name and said[1].registered]
        if not found:
            raise FlavourNotRegisteredError(f"{name} on {cluster}")
        digest, said = max(found, key=lambda item: item[1].entry)
        return digest, said.size_bytes

    def held(self, cluster: str) -> dict[str, RuntimeHeld]:
        """Digest → what the log says last of it."""
        found = json.loads(self._keys.fact(_fact(cluster)) or "{}")
        return {digest: RuntimeHeld(*said) for digest, said in found.items()}


def _fact(cluster: str) -> str:
    return f"runtimes/{cluster}"
