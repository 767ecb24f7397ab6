"""The one way a parser says no."""

from __future__ import annotations


class Unreadable(Exception):
    """The file can't be used; ``code`` is one of ``imaging.staging.refusals.REASONS``, ``details`` what that names
    (attributes by keyword, …).  The text of the exception is ``code:detail,detail``."""

    def __init__(self, code: str, *details: str) -> None:
        super().__init__(":".join(filter(None, (code, ",".join(details)))))
        self.code = code
