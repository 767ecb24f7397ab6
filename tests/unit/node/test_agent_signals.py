"""A signal may come while another one is being handled, on the same thread."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from hdrs_hpc.node.agent import Agent


def test_the_signal_handler_calls_nothing_that_could_be_entered_twice() -> None:
    """An Event's lock, held by the first handler, would make the second wait for ever, keys in memory."""
    agent = Agent.__new__(Agent)
    called: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call") and argument is not sys.setprofile:
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        agent._on_signal(signal.SIGTERM, None)
    finally:
        sys.setprofile(None)
    assert called == ["_on_signal"]
