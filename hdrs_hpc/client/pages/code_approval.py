"""A code approval as one page: which files, for which project, and what may run then."""

from __future__ import annotations

from collections.abc import Sequence

from hdrs_hpc.client.pages.layout import NamedValues, Page, Section, count
from hdrs_hpc.documents.models.approval import CodeApproval
from hdrs_hpc.protocol.wheel_lock import Wheel

_MOST_FILES = 30
"""More are counted, not listed."""


def _wheels(approval: CodeApproval, brought: Sequence[Wheel]) -> list[tuple[str, object]]:
    if approval.wheels is None:
        return []
    return [
        ("packages", ", ".join(f"{wheel.name} {wheel.version}" for wheel in brought) or "listed in its lock"),
        ("verified", f"by hash, fetched from {approval.wheels.index}"),
        ("lock", approval.wheels.lock),
    ]


def page(
    approval: CodeApproval, files: Sequence[str], size_bytes: int, brought: Sequence[Wheel] = ()
) -> Page:
    """``files``: what the bundle holds, whose digest is signed.  ``brought``: its verified wheels."""
    more = len(files) - _MOST_FILES
    return Page(
        f"code approval for project {approval.project}",
        (
            Section(
                "What you approve",
                [
                    NamedValues(
                        [
                            ("reviewer", approval.reviewer),
                            ("you state", approval.statement),
                            ("bundle", f"{count(len(files), 'file')}, {size_bytes:,} bytes"),
                            ("digest", approval.bundle),
                            *_wheels(approval, brought),
                        ]
                    ),
                    *(f"- {name}" for name in files[:_MOST_FILES]),
                    *([f"- and {more} more"] if more > 0 else []),
                ],
            ),
            Section(
                "What it leads to",
                [
                    f"- Every researcher of {approval.project} may run exactly this code on the project's data, as "
                    "often as its grant allows. What the code writes is still checked before it leaves.",
                    "- One changed byte makes another digest, which nobody has approved.",
                    f"- {approval.reviewer} answers for it: the statement is kept for as long as the log, and can not "
                    "be taken back.",
                ],
            ),
        ),
    )
