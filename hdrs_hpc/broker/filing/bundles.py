"""Bundles of researchers' code, uploaded before the spec that names them."""

from __future__ import annotations

from hdrs_hpc.broker.filing.case import sha256
from hdrs_hpc.broker.store import jobs
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.protocol import bundle


def put(db: Database, content: bytes, digest: str) -> None:
    """Keep an uploaded bundle; a spec will name it by digest.  Its content is checked when the spec comes."""
    if sha256(content) != digest:
        raise bundle.BundleDigestError()
    with db.write() as tx:
        jobs.put_bundle(tx, digest, content)
