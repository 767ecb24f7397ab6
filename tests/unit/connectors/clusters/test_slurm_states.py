"""Slurm's state words and host lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.clusters.port import JobPhase
from connectors.clusters.states import MAX_HOSTS, expand_hosts, phase_of, state_word


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("PENDING", "pending"),
        ("REQUEUE_HOLD", "pending"),
        ("RUNNING", "running"),
        ("SUSPENDED", "running"),
        ("COMPLETING", "completing"),
        ("CANCELLED by 1000", "ended"),
        ("CANCELLED+", "ended"),
        ("OUT_OF_MEMORY", "ended"),
        ("NODE_FAIL", "ended"),
        ("PREEMPTED", "ended"),
    ],
)
def test_a_state_is_understood(text: str, phase: str) -> None:
    assert phase_of(state_word(text)) == phase


@pytest.mark.parametrize("text", ["", "COMPLETELY_NEW", "COMPLETE", "?", "CD"])
def test_an_unknown_state_never_ends_a_job(text: str) -> None:
    assert phase_of(state_word(text)) is JobPhase.UNKNOWN


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ("n1",)),
        ("n[1-2]", ("n1", "n2")),
        ("n[1,3-4],m7", ("n1", "n3", "n4", "m7")),
        ("nid[0009-0011]", ("nid0009", "nid0010", "nid0011")),
        ("a[1-2]-ib,b", ("a1-ib", "a2-ib", "b")),
        ("", ()),
        ("None assigned", ()),
        ("(null)", ()),
        ("n[1-]", ()),
        ("n[1-99999999]", ()),
        ("n[1-1000]x[1-1000]", ()),
        ("x[0-1]c[1-2]b0,login", ("x0c1b0", "x0c2b0", "x1c1b0", "x1c2b0", "login")),
        ("n[1-2,2],n1", ("n1", "n2")),
        ("n[1-2", ()),
        ("n1,,n2", ()),
    ],
)
def test_host_lists_unfold_in_order(text: str, hosts: tuple[str, ...]) -> None:
    assert expand_hosts(text) == hosts


@pytest.mark.parametrize(
    "text", ["@all", "n[1-4]!n2", "n[1-4]&n2", "n[1-4]^n2", "n[1-10/2]", "n 1", "n1\nn2", "@g:a"]
)
def test_groups_and_operators_of_node_sets_are_not_understood(text: str) -> None:
    assert expand_hosts(text) == ()


@given(st.text(alphabet="n[]-,0123456789a ", max_size=40))
def test_no_host_list_breaks_the_parser(text: str) -> None:
    assert len(expand_hosts(text)) <= 200_000


def test_a_list_of_many_ranges_is_counted_before_it_is_unfolded() -> None:
    assert expand_hosts(",".join(f"a{number}[1-99999]" for number in range(1000))) == ()
    assert len(expand_hosts(f"n[1-{MAX_HOSTS}]")) == MAX_HOSTS
