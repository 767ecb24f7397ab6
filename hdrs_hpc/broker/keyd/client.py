"""How the broker's other processes ask keyd."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from hdrs_hpc.broker.keyd.channel import receive, send
from hdrs_hpc.broker.keyd.messages import Ask
from hdrs_hpc.core import wire
from hdrs_hpc.core.errors import KINDS, HdrsError, InternalError, SiteError
from hdrs_hpc.core.line import Line

ANSWER_TIMEOUT_S = 120.0


class KeydUnreachableError(SiteError):
    code = "keyd-unreachable"
    meaning = "keyd does not answer; without it no key is given, used or destroyed."
    remedy = "`hdrs-hpc broker status` tells which process is down; `broker serve` starts all three."


class KeydRefusedError(HdrsError):
    """keyd's refusal, with the reason code, kind and words that keyd gave."""

    code = "keyd-refused"
    kind, exit_code, http_status = "not-allowed", 4, 403
    meaning = "keyd refused."
    remedy = "See the reason in its message."

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told["message"], where=told["where"], remedy=told["remedy"])
        kind = next((cls for cls in KINDS if cls.kind == told["kind"]), InternalError)
        vars(self).update(code=told["code"], kind=kind.kind, exit_code=kind.exit_code, retry=told["retry"])
        vars(self).update(http_status=kind.http_status)

    def __reduce__(self) -> tuple[Any, ...]:
        return (KeydRefusedError, (self.as_dict(),))


def ask[R](path: Path, request: Ask[R], *, wait_s: float = 15.0, answer_s: float = ANSWER_TIMEOUT_S) -> R:
    """One request; raises keyd's own refusal as the error class it is, KeydUnreachableError if it is down."""
    said = {"ask": type(request).__name__, "args": wire.to_value(request)}
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
                channel.settimeout(answer_s)
                channel.connect(str(path))
                line = Line(channel)
                send(line, said)
                reply = receive(line, time.monotonic() + answer_s)
                break
        except (OSError, ConnectionError) as error:
            # Every request is idempotent, so a lost answer is simply asked for again.
            if time.monotonic() > deadline:
                raise KeydUnreachableError(type(error).__name__) from None
            time.sleep(0.1)
    if "error" in reply:
        raise KeydRefusedError(reply["error"])
    return wire.from_value(request.reply(), reply["ok"])
