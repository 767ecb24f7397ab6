"""Messages on keyd's socket: one request and one reply a connection, each bounded before it is read."""

from __future__ import annotations

from typing import Any

from hdrs_hpc.broker.keyd.messages import VERSION
from hdrs_hpc.core import strict_json, wire
from hdrs_hpc.core.errors import SiteError
from hdrs_hpc.core.line import Line, MessageTooLongError

MAX_MESSAGE_BYTES = 64 << 20
"""The answers of 64 nodes, each as large as it may be."""
MAX_DEPTH = 8


class KeydVersionError(SiteError):
    code = "keyd-version"
    meaning = "keyd and who asks it are of different versions of this program."
    remedy = (
        "Stop the broker and start it again, so that all its processes run the version that is installed."
    )


def send(line: Line, said: dict[str, Any]) -> None:
    """Queue one message; see :class:`Line`."""
    line.say_message(strict_json.dumps({"version": VERSION, **said}))


def receive(line: Line, until: float) -> dict[str, Any]:
    """What the next message says beside its version.

    Raises KeydVersionError for one of another version, other BadDocumentErrors for what is no message,
    ConnectionError when the other side is gone, TimeoutError at ``until``.
    """
    try:
        raw = line.receive_message(MAX_MESSAGE_BYTES, until)
    except MessageTooLongError:
        raise wire.MessageError("larger than a message may be") from None
    said = strict_json.loads(raw, max_bytes=MAX_MESSAGE_BYTES, max_depth=MAX_DEPTH)
    if not isinstance(said, dict) or not isinstance(version := said.pop("version", None), str):
        raise wire.MessageError("not a message of keyd or to it")
    if version != VERSION:
        raise KeydVersionError(f"the other side speaks {version[:60]!r} where this one speaks {VERSION}")
    return said
