"""What `cluster doctor` says of the sandboxes that it finds on a login node."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.clusters import slurm_doctor
from connectors.clusters.commands import Completed
from connectors.clusters.slurm_commands import SlurmSite


def site(isolation: str, *there: str) -> Any:
    """A login node on which only these programs succeed."""

    def run(argv: Sequence[str], *, timeout_s: float) -> Completed:
        assert argv[:2] == ("/usr/bin/env", "-i")
        return Completed(0 if argv[2] in there else 127, b"", b"no such file")

    return SimpleNamespace(settings=SimpleNamespace(isolation=isolation), runner=SimpleNamespace(run=run))


@pytest.mark.parametrize(
    ("there", "ok", "words"),
    [
        (("/usr/bin/bwrap",), True, "bubblewrap works here"),
        (("/usr/local/bin/bwrap", "/usr/bin/apptainer"), True, "bubblewrap works here"),
        (("/usr/bin/apptainer",), True, "apptainer is here, which this version never ran: untried"),
        ((), False, "no such file"),
    ],
)
def test_the_sandbox_that_agents_would_take_is_named(there: tuple[str, ...], ok: bool, words: str) -> None:
    found = slurm_doctor._sandbox(site("sandboxed", *there))
    assert found.ok is ok
    assert words in found.message
    assert ok or "bubblewrap" in found.remedy


def test_none_is_needed_where_none_is_promised() -> None:
    assert slurm_doctor._sandbox(site("cooperative")).ok


@pytest.mark.parametrize(("code", "ok"), [(0, True), (2, False)])
def test_a_node_that_keeps_fuse_shut_is_named_with_what_opens_it(code: int, ok: bool) -> None:
    asked: list[tuple[str, ...]] = []

    def run(argv: Sequence[str], *, timeout_s: float) -> Completed:
        asked.append(tuple(argv))
        return Completed(code, b"", b"cannot open /dev/fuse: Permission denied")

    given = SlurmSite("/usr/bin", None, "main", None, "acct", "user", 2)
    found = slurm_doctor._fuse(SimpleNamespace(site=given, runner=SimpleNamespace(run=run)))  # type: ignore[arg-type]
    assert found.ok is ok
    assert asked[0][-1] == ": <> /dev/fuse"
    assert ok or ("0666" in found.remedy and "unpacked" in found.message)
