"""Histories that an honest broker can't have had, each refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import audit_life as make
import pytest
from audit_life import ATTEMPT, COPY, JOB, PROJECT, RUN, Life, digest

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.history import HistoryImpossibleError, TimeBackwardsError
from hdrs_hpc.audit.rules import replay
from hdrs_hpc.core import clock

ARTEFACT = {**JOB, "artefact": "cohort"}
KEPT = {**RUN, "artefact": "encoder"}


def _answer(life: Life, **changes: object) -> None:
    detail = {
        "public_key": digest("public"),
        "answer": digest("answer"),
        "keys": ["k-copy"],
        "not_after": "2026-12-01T11:00:00Z",
    } | changes
    life.add("handover-answered", {**RUN, "node": "n1"}, **detail)


def _drop(event: str) -> Callable[[Life], None]:
    """The whole life, but this never happened."""

    def change(life: Life) -> None:
        make.close(life)
        kept = [entry for entry in life.entries if entry.event != event]
        life.entries = [
            Entry(seq, item.at, item.event, item.subject, item.actor, item.detail)
            for seq, item in enumerate(kept)
        ]

    return change


def _registered(life: Life, subject: dict[str, str]) -> None:
    """The runtime was registered, but for this cluster."""
    life.entries = [
        dataclasses.replace(entry, subject=subject) if entry.event == "runtime-installed" else entry
        for entry in life.entries
    ]


def _withdrawn(life: Life) -> None:
    """The runtime was withdrawn right after it was registered."""
    place = 1 + next(i for i, entry in enumerate(life.entries) if entry.event == "runtime-installed")
    gone = dataclasses.replace(life.entries[place - 1], event="runtime-withdrawn")
    whole = [*life.entries[:place], gone, *life.entries[place:]]
    life.entries = [dataclasses.replace(entry, seq=seq) for seq, entry in enumerate(whole)]


IMPOSSIBLE: dict[str, Callable[[Life], object]] = {
    "released twice": lambda life: life.add(
        "artefact-released",
        ARTEFACT,
        content=digest("x"),
        size=1,
        class_="table",
        decisions=[entry.subject["document"] for entry in life.entries if entry.event == "decision-filed"],
    ),
    "released unchecked": lambda life: life.add(
        "artefact-released",
        {**JOB, "artefact": "other"},
        content=digest("x"),
        size=1,
        class_="table",
        decisions=[],
    ),
    "kept without a key of its own": lambda life: life.add(
        "artefact-kept", KEPT, class_="weights", manifest=digest("m"), size=1
    ),
    "a key for what is kept, made after the nodes were bound": lambda life: life.add(
        "kept-key-created", {**KEPT, "key": "k-kept"}, role="kept"
    ),
    "a kept output removed before anybody tried it": lambda life: life.add(
        "kept-removed", KEPT, objects=1, bytes=1
    ),
    "fetched unreleased": lambda life: life.add(
        "artefact-fetched", {**JOB, "artefact": "other", "person": "okafor"}
    ),
    "withheld after release": lambda life: life.add("artefact-withheld", ARTEFACT, code="refused"),
    "key used after its end": lambda life: (
        life.add("key-destroyed", {**PROJECT, "key": "k-copy"}, role="copy", keystore="file"),
        life.add("key-used", {**PROJECT, "key": "k-copy"}, purpose="staging"),
    ),
    "key destroyed twice": lambda life: [
        life.add("key-destroyed", {**PROJECT, "key": "k-copy"}, role="copy", keystore="file")
        for _ in range(2)
    ],
    "key made twice": lambda life: life.add("copy-key-created", {**COPY, "key": "k-copy"}, role="copy"),
    "unknown key destroyed": lambda life: life.add(
        "key-destroyed", {**PROJECT, "key": "k-other"}, role="copy", keystore="file"
    ),
    "objects before their key": lambda life: life.add("copy-removed", COPY, objects=1, bytes=1),
    "samples before the key's end": lambda life: life.add(
        "copy-tried", COPY, objects=1, bytes=1, samples=1, keys=1
    ),
    "samples of outputs before the keys' end": lambda life: life.add(
        "attempt-tried", RUN, objects=1, bytes=1, samples=1, keys=1
    ),
    "other objects than were measured": lambda life: (
        life.add("key-destroyed", {**PROJECT, "key": "k-copy"}, role="copy", keystore="file"),
        life.add("copy-tried", COPY, objects=2, bytes=9, samples=1, keys=1),
        life.add("copy-removed", COPY, objects=1, bytes=9),
    ),
    "outputs before their key": lambda life: life.add("attempt-removed", RUN, objects=1, bytes=1),
    "hand-over after it was closed": _answer,
    "second key for a bound node": lambda life: life.add(
        "handover-bound", {**RUN, "node": "n1"}, public_key=digest("second")
    ),
    "a runtime that nobody registered": _drop("runtime-installed"),
    "a runtime registered for another cluster": lambda life: _registered(life, {"cluster": "there"}),
    "a runtime bound after it was withdrawn": lambda life: _withdrawn(life),
    "a runtime withdrawn that was never registered": lambda life: life.add(
        "runtime-withdrawn", {"cluster": "there"}, digest=digest("runtime")
    ),
    "attempt created twice": lambda life: life.add("attempt-created", RUN, number=2, cluster="here"),
    "attempt submitted twice": lambda life: life.add("attempt-submitted", RUN, cluster_job="4712"),
    "attempt of a frozen project": lambda life: (
        life.add("project-frozen", PROJECT, reason="freeze"),
        life.add("attempt-created", {**JOB, "attempt": "hdrs-second"}, number=2, cluster="here"),
    ),
    "job of an unknown project": lambda life: life.add(
        "attempt-created", {**JOB, "project": "other", "attempt": "hdrs-second"}, number=2, cluster="here"
    ),
    "copy sealed twice": lambda life: life.add(
        "copy-sealed",
        {**COPY, "dataset": "ct"},
        manifest=digest("m"),
        version=digest("v"),
        objects=1,
        plaintext_bytes=1,
        sealed_bytes=1,
        items=1,
        refused=0,
        opted_out=0,
        opt_out_list=digest("opt-out list"),
        opt_out_about=10,
        report=digest("r"),
    ),
    "opt-out list that follows another": lambda life: make.state_opt_outs(
        life, "a longer list", 2, digest("x")
    ),
    "opt-out list that skips one": lambda life: make.state_opt_outs(
        life, "a longer list", 3, life.entries[2].subject["document"]
    ),
    "opt-out list of before once more, which would let old copies pass": lambda life: make.state_opt_outs(
        life, "opt-out list", 2, life.entries[2].subject["document"]
    ),
    "copy sealed before anybody said who opted out": _drop("opt-out-changed"),
    "state from nowhere": lambda life: life.add("job-moved", JOB, from_="QUEUED", to="RUNNING"),
    "decisions opened that nobody filed": lambda life: life.add(
        "decisions-opened", JOB, documents=[digest("a"), digest("b")], checkers=["chen", "duarte"]
    ),
    "certificate before any place was looked at": lambda life: life.add(
        "certificate-issued",
        {**PROJECT, "document": digest("c")},
        envelope=digest("e"),
        size=1,
        root=digest("r"),
    ),
    "purged while its key lives": lambda life: life.add("job-moved", JOB, from_="ADMITTED", to="PURGED"),
    "closed with living keys": lambda life: life.add("project-moved", PROJECT, from_="ACTIVE", to="CLOSED"),
    "closed without a certificate": _drop("certificate-issued"),
    "closed without removing a copy": _drop("copy-removed"),
    "closed without removing an attempt": _drop("attempt-removed"),
    "removed before anybody tried a copy": _drop("copy-tried"),
    "removed before anybody tried an attempt": _drop("attempt-tried"),
    "certificate without places": _drop("place-verified"),
    "hand-over without binding": _drop("handover-bound"),
    "hand-over without submission": _drop("attempt-submitted"),
    "copy handed over unsealed": _drop("copy-sealed"),
    "release without open decisions": _drop("decisions-opened"),
    "release without a check": _drop("artefact-checked"),
    "everything without a grant": _drop("grant-accepted"),
    "a log without its root": _drop("trust-root-accepted"),
    "after the end": lambda life: (
        make.close(life),
        life.add("project-moved", PROJECT, from_="CLOSED", to="ACTIVE"),
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_history_is_refused(name: str, life: Life) -> None:
    replay(life.entries)
    IMPOSSIBLE[name](life)
    with pytest.raises(HistoryImpossibleError) as caught:
        replay(life.entries)
    assert caught.value.where is not None and caught.value.where.startswith("entry ")


def test_the_whole_life_is_possible(life: Life) -> None:
    make.close(life)
    history = replay(life.entries)
    assert history.projects["lung-fm"].state == "CLOSED"
    assert history.attempts[ATTEMPT].removed
    assert history.late == []


def test_the_same_answer_may_be_given_again_to_the_same_key() -> None:
    life = Life()
    make.begin(life)
    make.stage(life)
    make.run(life)
    upto = next(index for index, entry in enumerate(life.entries) if entry.event == "handover-closed")
    life.entries = life.entries[:upto]
    _answer(life)
    assert replay(life.entries).attempts[ATTEMPT].answers == {"n1": digest("answer")}


def test_another_answer_to_the_same_node_is_refused() -> None:
    life = Life()
    make.begin(life)
    make.stage(life)
    make.run(life)
    upto = next(index for index, entry in enumerate(life.entries) if entry.event == "handover-closed")
    life.entries = life.entries[:upto]
    _answer(life)
    replay(life.entries)
    _answer(life, answer=digest("another answer"))
    with pytest.raises(HistoryImpossibleError, match="two different answers"):
        replay(life.entries)


def test_keys_that_outlive_the_grant_are_refused() -> None:
    life = Life()
    make.begin(life)
    make.stage(life)
    make.run(life)
    upto = next(index for index, entry in enumerate(life.entries) if entry.event == "handover-answered")
    life.entries = life.entries[:upto]
    _answer(life, not_after="2027-03-01T00:00:00Z")
    with pytest.raises(HistoryImpossibleError, match="outlive"):
        replay(life.entries)


def test_a_key_destroyed_late_is_told_not_refused(life: Life) -> None:
    last = life.entries[-1]
    life.entries.append(
        Entry(
            last.seq + 1,
            "2027-03-01T00:00:00Z",
            "key-destroyed",
            {**PROJECT, "key": "k-copy"},
            "broker/keyd",
            {"role": "copy", "keystore": "file"},
        )
    )
    assert replay(life.entries).late == ["k-copy"]


def test_time_may_seem_to_step_back_a_little_and_no_more(life: Life) -> None:
    last = life.entries[-1]

    def at(seconds: int) -> Entry:
        text = clock.to_text(last.moment - timedelta(seconds=seconds))
        return Entry(last.seq + 1, text, "login-refused", {}, "broker/web", {"code": "x"})

    replay([*life.entries, at(5)])
    much = at(6)
    with pytest.raises(TimeBackwardsError):
        replay([*life.entries, much])


def test_a_gap_in_the_numbers_is_refused(life: Life) -> None:
    with pytest.raises(HistoryImpossibleError, match="missing"):
        replay([*life.entries[:3], *life.entries[4:]])


def test_an_empty_log_is_refused() -> None:
    with pytest.raises(HistoryImpossibleError):
        replay([])


def test_a_copy_made_before_somebody_opted_out_is_handed_to_nobody() -> None:
    life = Life()
    make.begin(life)
    make.stage(life)
    make.run(life)
    upto = next(index for index, entry in enumerate(life.entries) if entry.event == "handover-answered")
    life.entries = life.entries[:upto]
    first = next(entry for entry in life.entries if entry.event == "opt-out-changed")
    make.state_opt_outs(life, "a longer list", 2, first.subject["document"])
    replay(life.entries)
    _answer(life)
    with pytest.raises(HistoryImpossibleError, match="opted out"):
        replay(life.entries)


def test_a_copy_is_sealed_under_the_list_in_force_only() -> None:
    life = Life()
    make.begin(life)
    first = next(entry for entry in life.entries if entry.event == "opt-out-changed")
    make.state_opt_outs(life, "a longer list", 2, first.subject["document"])
    make.stage(life)
    with pytest.raises(HistoryImpossibleError, match="not in force"):
        replay(life.entries)
