"""Sending files to a broker in pieces, so that a broken line or a stopped command costs one piece at most."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from hdrs_hpc.client.http import BrokerAnswerError, BrokerRefusedError, BrokerUnreachableError
from hdrs_hpc.client.session import Session
from hdrs_hpc.core.errors import HdrsError

PIECE_BYTES = 8 << 20
TRIES = 8
"""How often one piece is tried before the command gives up."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0

Told = Callable[[int], None]
"""Is told how many bytes have arrived."""


def send(
    session: Session,
    project: str,
    source: BinaryIO,
    digest: str,
    size: int,
    told: Told = lambda _bytes: None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Bring a file to the broker, from where an earlier try stopped; raises what the broker says last."""
    failed = 0
    arrived = -1
    while True:
        try:
            answer = session.api.post(
                "/v1/uploads", query={"project": project, "digest": digest}, length=size
            )
            while not answer["complete"]:
                offset = _offset(answer, size)
                if offset > arrived:
                    failed, arrived = 0, offset
                told(offset)
                source.seek(offset)
                piece = source.read(min(PIECE_BYTES, int(answer["piece"])))
                if not piece and offset < size:
                    raise BrokerAnswerError("the file became shorter while it was sent")
                answer = session.api.patch(f"/v1/uploads/{answer['id']}", piece, offset=offset)
        except (BrokerUnreachableError, BrokerRefusedError) as error:
            failed += 1
            if failed >= TRIES or not _may_pass(error):
                raise
            wait(random.uniform(0.5, 1.0) * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**failed))  # noqa: S311  no secret
        else:
            told(size)
            return


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file, read piece by piece."""
    with path.open("rb") as handle:
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}", handle.tell()


def _offset(answer: Any, size: int) -> int:
    offset = int(answer["offset"])
    if not 0 <= offset <= size:
        raise BrokerAnswerError("an upload can't have come so far")
    return offset


def _may_pass(error: HdrsError) -> bool:
    return isinstance(error, BrokerUnreachableError) or error.retry
