"""What is understood of sinfo: the partition's nodes, their generic resources, the limits of one job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectors.clusters.commands import Completed
from connectors.clusters.port import SiteCommandError
from connectors.clusters.slurm_commands import SlurmSite
from connectors.clusters.slurm_nodes import SinfoCommand
from hdrs_hpc.core.capacity import Capacity, NodeKind

SITE = SlurmSite("/usr/bin", None, "gpu", None, "lung", "hdrs-p1", 30)


def told(*lines: str, site: SlurmSite = SITE, code: int = 0, stderr: bytes = b"") -> Capacity:
    return SinfoCommand(site).parse(Completed(code, "".join(f"{line}\n" for line in lines).encode(), stderr))


def test_sinfo_is_asked_for_the_projects_partition_and_unlike_nodes_apart() -> None:
    argv = SinfoCommand(SITE).argv()
    assert argv[:2] == ("/usr/bin/env", "-i")
    for word in (
        "/usr/bin/sinfo",
        "--noheader",
        "--exact",
        "--partition=gpu",
        "--format=%P|%D|%c|%m|%G|%l|%s",
    ):
        assert word in argv
    assert "--all" not in argv, "sinfo refuses it beside a partition"
    anywhere = SinfoCommand(replace(SITE, partition=None)).argv()
    assert not [word for word in anywhere if word.startswith("--partition")]
    assert "--all" in anywhere


def test_nodes_that_differ_are_told_apart_and_limits_are_read() -> None:
    assert told(
        "gpu|12|288|880640|gpu:gh200:4(S:0,1)|1-00:00:00|1-8",
        "gpu|4|128|1572864|(null)|1-00:00:00|1-8",
    ) == Capacity(
        (NodeKind(12, 288, 880_640, ("gpu:gh200:4",)), NodeKind(4, 128, 1_572_864)),
        8,
        86_400,
        whole_nodes=True,
    )


@pytest.mark.parametrize(
    ("longest", "seconds"),
    [("infinite", None), ("30:00", 1800), ("2:00:00", 7200), ("2-12:00:00", 216_000), ("n/a", None)],
)
def test_the_longest_time_is_read_as_slurm_writes_it(longest: str, seconds: int | None) -> None:
    assert told(f"gpu|1|4|4096|gpu:1|{longest}|1-infinite").max_time_s == seconds


@pytest.mark.parametrize(("size", "most"), [("1-infinite", None), ("1-4", 4), ("1", 1), ("infinite", None)])
def test_the_most_nodes_of_a_job_are_read_as_slurm_writes_them(size: str, most: int | None) -> None:
    assert told(f"gpu|1|4|4096|gpu:1|infinite|{size}").max_nodes == most


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("(null)", ()),
        ("gpu:2", ("gpu:2",)),
        ("gpu:a100:2(S:0),gpu:h100:4(S:0,1)", ("gpu:a100:2", "gpu:h100:4")),
        ("nic:no_consume:2,gpu:0", ("nic:2",)),
        ("bandwidth:lustre:no_consume:4G", ("bandwidth:lustre:4294967296",)),
        ("gpu", ()),
    ],
)
def test_generic_resources_are_read_without_sockets_and_flags(written: str, read: tuple[str, ...]) -> None:
    assert told(f"gpu|1|4|4096|{written}|infinite|1").kinds[0].gres == read


def test_without_a_partition_the_default_one_counts() -> None:
    site = replace(SITE, partition=None)
    has = told("cpu*|9|64|1000|(null)|infinite|1-9", "gpu|1|8|2000|gpu:1|infinite|1", site=site)
    assert has == Capacity((NodeKind(9, 64, 1000),), 9, whole_nodes=True)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("gpu|1|4|4096|gpu:1|infinite",),
        ("gpu|1|4+|4096|gpu:1|infinite|1",),
        ("gpu|1|4|4096|gpu:1|soon|1",),
    ],
)
def test_an_answer_that_is_not_understood_is_none(lines: tuple[str, ...]) -> None:
    with pytest.raises(SiteCommandError):
        told(*lines)


def test_a_failing_sinfo_says_why() -> None:
    with pytest.raises(SiteCommandError, match="Unable to contact"):
        told(code=1, stderr=b"slurm_load_partitions: Unable to contact slurm controller\n")


@pytest.mark.parametrize(
    "gres", ["gpu:\x1b[2J:4", "gpu:a b:4", "\u202egpu:4", "gpu:" + "a" * 65 + ":4", "gpu:" + "9" * 5000]
)
def test_words_of_a_site_that_are_no_plain_words_are_left_out(gres: str) -> None:
    assert told(f"gpu|1|4|4096|{gres}|infinite|1-infinite").kinds == (NodeKind(1, 4, 4096),)


@pytest.mark.parametrize("number", ["\u00b2", "9" * 5000, "-1", ""])
def test_a_number_that_is_none_is_the_sites_trouble(number: str) -> None:
    with pytest.raises(SiteCommandError, match="where a number was due"):
        told(f"gpu|1|{number}|4096|(null)|infinite|1-infinite")


def test_a_site_cannot_fill_the_broker_with_kinds_of_nodes() -> None:
    with pytest.raises(SiteCommandError, match="201 kinds of nodes"):
        told(*(f"gpu|1|{cpus}|4096|(null)|infinite|1-infinite" for cpus in range(1, 202)))
