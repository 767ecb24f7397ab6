"""What an attempt is served is chosen before it is submitted, anew where its copies changed, and never as nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hdrs_hpc.broker.controller.steps.choose import Choice, NoteServed
from hdrs_hpc.broker.controller.steps.ending import EndJob
from hdrs_hpc.broker.controller.steps.start_workers import Retry, StartChooser
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.served import Served, ServedInput
from hdrs_hpc.broker.workers.process import Work

JOB = Job(
    "7K3QW2", "lung-fm", "rae", "sha256:" + "1" * 64, "N", "spacing", "QUEUED", *[None] * 5, False, "", ""
)
ATTEMPT = Attempt("hdrs-0", JOB.id, 1, *[None] * 8, "none", None, None, None, 0, None)
COPY = Copy("C1", "lung-fm", "ct", "v", "local", "{}", None, "READY", *[None] * 8)
IDLE = Work(running=False, result=None, error=None, rested=True)


def result(items: int = 3, copy: str = "C1") -> dict[str, Any]:
    one = {"copy": copy, "manifest": "sha256:" + "2" * 64, "narrowed": True, "items": items}
    return {"attempt": ATTEMPT.name, "inputs": {"ct": one}, "people": 2, "items": items, "instances": 9}


def choice(work: Work, copy: Copy = COPY) -> Choice:
    return Choice(JOB, ATTEMPT, {"ct": copy}, None, work)


def test_it_is_begun_waited_for_and_noted() -> None:
    assert isinstance(choice(IDLE).next(), StartChooser)
    assert choice(replace(IDLE, running=True)).next() is None
    assert choice(replace(IDLE, result=result())).next() == NoteServed(JOB, ATTEMPT, result())


def test_nothing_chosen_of_an_input_is_a_refusal() -> None:
    ended = choice(replace(IDLE, result=result(items=0))).next()
    assert isinstance(ended, EndJob)
    assert (ended.outcome, ended.reason) == (Outcome.REFUSED, "selection-empty")


def test_a_choice_of_a_copy_that_was_replaced_is_made_anew() -> None:
    assert isinstance(choice(replace(IDLE, result=result(copy="C0"))).next(), StartChooser)
    inputs = {"ct": ServedInput("C0", "sha256:" + "2" * 64, True, 3)}
    assert not Served(inputs, 2, 3, 9, (1,)).fits({"ct": COPY})
    assert Served(inputs, 2, 3, 9, (1,)).fits({"ct": replace(COPY, id="C0")})


def test_it_waits_for_a_copy_that_is_being_made() -> None:
    assert choice(IDLE, replace(COPY, state="STAGING")).next() is None


def test_a_copy_that_is_gone_ends_the_job_for_its_reason() -> None:
    ended = choice(IDLE, replace(COPY, state="DESTROYED", reason="copy-superseded")).next()
    assert ended == EndJob(JOB, Outcome.FAILED, "copy-superseded")


@pytest.mark.parametrize(("retry", "rested"), [(True, True), (True, False), (False, True)])
def test_trouble_is_tried_again_and_a_refusal_ends_the_job(retry: bool, rested: bool) -> None:
    error = {"code": "selectable-missing", "message": "m", "retry": retry}
    told = choice(replace(IDLE, error=error, rested=rested)).next()
    if not retry:
        assert told == EndJob(JOB, Outcome.FAILED, "selectable-missing", {"message": "m"})
    else:
        assert told == (Retry(f"job/{JOB.id}", StartChooser(ATTEMPT), error) if rested else None)


def test_what_is_noted_comes_back_as_it_was() -> None:
    served = Served({"ct": ServedInput("C1", "sha256:" + "2" * 64, True, 3)}, 2, 3, 9, (4, 5))
    assert Served.from_dict(served.as_dict()) == served
