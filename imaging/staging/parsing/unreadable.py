"""The one way a parser says no."""

from __future__ import annotations


class Unreadable(Exception):
    """The file can't be used; ``code`` is one of ``imaging.staging.refusals.REASONS``."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
