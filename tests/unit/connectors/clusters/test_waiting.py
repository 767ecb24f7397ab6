"""Slurm's reasons for waiting, as people are told them."""

from __future__ import annotations

import pytest

from connectors.clusters.endings import SiteEnd, site_end
from connectors.clusters.waiting import WAITING, why_waits


@pytest.mark.parametrize("reason", WAITING)
def test_known_reasons_are_sentences_without_slurms_code(reason: str) -> None:
    told = why_waits(reason)
    assert " " in told and reason not in told


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("ReqNodeNotAvail, UnavailableNodes:n[1-4]", WAITING["ReqNodeNotAvail"]),
        ("(Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions)",
         WAITING["NodeDown"]),
        ("AssocGrpCPUMinutesLimit", "the project's account is at a limit of the site (AssocGrpCPUMinutesLimit)"),
        ("QOSGrpGRES", "its quality of service is at a limit of the site (QOSGrpGRES)"),
        ("SomethingNew", "Slurm says SomethingNew"),
        ("x\x1b[2J; rm", "Slurm says why, in words unknown here"),
        ("a" * 100, "Slurm says why, in words unknown here"),
    ],
)  # fmt: skip
def test_a_reason_is_told_however_slurm_prints_it(printed: str, told: str) -> None:
    assert why_waits(printed) == told


def test_states_that_the_cluster_did_not_cause_are_no_ends_of_the_site() -> None:
    assert site_end("CANCELLED by 1000") is SiteEnd.CANCELLED
    assert site_end("CANCELLED+") is SiteEnd.CANCELLED
    for state in ("", "COMPLETED", "FAILED", "RUNNING", "FORGOTTEN"):
        assert site_end(state) is None
