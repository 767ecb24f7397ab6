"""A file brought to a broker without its web: begun, sent in pieces, complete."""

from __future__ import annotations

import hashlib

from hdrs_hpc.broker.filing import uploads
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.store.database import Database


def bring(db: Database, home: BrokerHome, project: str, person: str, content: bytes) -> str:
    """The digest under which the project holds it now."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    come = uploads.begin(db, home, person, project, digest, len(content))
    while come.upload is not None:
        piece = content[come.offset : come.offset + uploads.PIECE_BYTES]
        come = uploads.add(db, home, person, come.upload, come.offset, piece)
    return digest
