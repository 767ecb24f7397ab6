"""What tests of staging say about who opted out."""

from __future__ import annotations

from collections.abc import Iterable

from imaging.staging.patient_lists import OptOut, rounded


def stated(hashes: Iterable[str] = ()) -> OptOut:
    """A statement whose entries are these hashes; without any, that nobody opted out."""
    listed = frozenset(hashes)
    return OptOut(listed, f"sha256:{'0' * 64}", rounded(len(listed)))


NOBODY = ("--no-opt-out", "images made by a test")


def with_opt_out(words: Iterable[object]) -> list[str]:
    """A command line; `stage` says that nobody opted out unless the test says something itself."""
    said = [str(word) for word in words]
    if said[:1] == ["stage"] and not {"--opt-out", "--no-opt-out", "--help"} & set(said):
        said += NOBODY
    return said
