"""The end of an attempt that seals nothing."""

from __future__ import annotations

from hdrs_hpc.protocol.progress import Stop


class StoppedEarly(Exception):
    """The attempt ends without sealed outputs."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop
