"""Jobs, their attempts, and what leaves through the airlock."""

from __future__ import annotations

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.history import Attempt, History, Job, Rule, moved, require, require_tried


def _job_received(history: History, entry: Entry) -> None:
    require(entry.subject["job"] not in history.jobs, "the job existed already")
    history.jobs[entry.subject["job"]] = Job(entry.subject["project"])


def _job_moved(history: History, entry: Entry) -> None:
    job = history.job(entry)
    job.state = moved(job.state, entry)
    job.outcome = entry.detail.get("outcome", job.outcome)
    if job.state != "PURGED":
        return
    for attempt in history.attempts.values():
        if attempt.job == entry.subject["job"]:
            gone = all(history.keys[name].destroyed for name in attempt.keys)
            require(gone, "purged while the key of its outputs lives")
    for kept in history.kept.values():
        if kept.job == entry.subject["job"]:
            stays = kept.manifest is not None and job.outcome == "SUCCEEDED"
            require(stays or _is_dead(history, kept.key), "purged while a key lives of what did not end well")


def _attempt_created(history: History, entry: Entry) -> None:
    history.giving(entry)
    history.job(entry)
    name = entry.subject["attempt"]
    require(name not in history.attempts, "the attempt existed already")
    history.attempts[name] = Attempt(
        entry.subject["project"], entry.subject["job"], cluster=entry.detail["cluster"]
    )


def _served_chosen(history: History, entry: Entry) -> None:
    history.giving(entry)
    attempt, name = history.attempt(entry), entry.detail["input"]
    require(not attempt.bound, "what an attempt is served was chosen after its nodes were bound")
    before = attempt.chosen.get(name)
    # A copy may be replaced while a job waits; of one copy there is one choice.
    require(before != entry.detail["copy"], "what is served of one copy was chosen twice")
    copy = history.copies.get(entry.detail["copy"])
    require(
        copy is not None and copy.project == entry.subject["project"], "chosen from another project's copy"
    )
    require(copy is not None and copy.sealed, "chosen from a copy that was not sealed")
    whole = copy is not None and copy.manifest == entry.detail["manifest"]
    require(whole != entry.detail["narrowed"], "narrowed, and yet the copy's own manifest, or the reverse")
    attempt.chosen[name] = entry.detail["copy"]


def _attempt_submitted(history: History, entry: Entry) -> None:
    attempt = history.attempt(entry)
    require(not attempt.submitted, "the attempt was submitted twice")
    attempt.submitted = True


def _attempt_started(history: History, entry: Entry) -> None:
    require(history.attempt(entry).submitted, "it started before it was submitted")


def _attempt_ended(history: History, entry: Entry) -> None:
    attempt = history.attempt(entry)
    require(not attempt.ended, "the attempt ended twice")
    attempt.ended = True


def _attempt_removed(history: History, entry: Entry) -> None:
    attempt = history.attempt(entry)
    alive = [name for name in attempt.keys if history.keys[name].destroyed is None]
    require(not alive, "objects go after their key, never before")
    require_tried(attempt.tried, entry)
    attempt.removed = True


def _attempt_tried(history: History, entry: Entry) -> None:
    attempt = history.attempt(entry)
    alive = [name for name in attempt.keys if history.keys[name].destroyed is None]
    require(not alive, "samples are tried after the keys' end, never before")
    require(not attempt.removed and attempt.tried is None, "an attempt is tried once, before it goes")
    attempt.tried = (entry.detail["objects"], entry.detail["bytes"], entry.detail["samples"])


def _is_dead(history: History, key: str | None) -> bool:
    return key is None or history.keys[key].destroyed is not None


def _kept(history: History, entry: Entry) -> None:
    kept = history.kept_output(entry)
    require(history.attempt(entry).ended, "kept while the attempt still ran")
    require(kept.manifest is None, "an output was kept twice")
    history.usable_key(entry, kept.key or "")
    kept.manifest = entry.detail["manifest"]


def _kept_tried(history: History, entry: Entry) -> None:
    kept = history.kept_output(entry)
    require(_is_dead(history, kept.key), "samples are tried after the key's end, never before")
    require(not kept.removed and kept.tried is None, "a kept output is tried once, before it goes")
    kept.tried = (entry.detail["objects"], entry.detail["bytes"], entry.detail["samples"])


def _kept_removed(history: History, entry: Entry) -> None:
    kept = history.kept_output(entry)
    require(_is_dead(history, kept.key), "objects go after their key, never before")
    require_tried(kept.tried, entry)
    kept.removed = True


def _collected(history: History, entry: Entry) -> None:
    require(history.attempt(entry).ended, "collected while the attempt still ran")


def _checked(history: History, entry: Entry) -> None:
    job = history.job(entry)
    passed = entry.detail["verdict"] == "passed"
    job.checked[entry.subject["artefact"]] = entry.detail.get("content") if passed else None


def _filed(history: History, entry: Entry) -> None:
    job = history.job(entry)
    require(not job.opened, "a decision after all decisions were opened")
    require(entry.subject["document"] not in job.filed, "the same decision twice")
    job.filed.append(entry.subject["document"])


def _opened(history: History, entry: Entry) -> None:
    job, project = history.job(entry), history.granted(entry)
    documents, checkers = entry.detail["documents"], entry.detail["checkers"]
    require(len(set(documents)) == len(documents), "one decision counted twice")
    require(set(documents) <= set(job.filed), "decisions that were never filed")
    require(len(set(checkers)) == len(documents), "one checker, several decisions")
    require(len(documents) >= project.reviewers, "fewer decisions than the grant asks for")
    job.opened, job.checkers = tuple(documents), frozenset(checkers)


def _released(history: History, entry: Entry) -> None:
    job, project = history.job(entry), history.granted(entry)
    artefact = entry.subject["artefact"]
    require(project.state != "CLOSED", "the project is closed")
    require(job.checked.get(artefact) is not None, "released without having passed the airlock's check")
    require(artefact not in job.released, "released twice")
    require(artefact not in job.withheld, "released after it was withheld")
    decisions = entry.detail["decisions"]
    require(len(set(decisions)) == len(decisions), "one decision counted twice")
    require(set(decisions) <= set(job.opened), "released on decisions that were not open")
    require(len(decisions) >= max(project.reviewers, 1), "fewer decisions than the grant asks for")
    job.released[artefact] = entry.detail["content"]


def _withheld(history: History, entry: Entry) -> None:
    job = history.job(entry)
    require(entry.subject["artefact"] not in job.released, "withheld after it was released")
    job.withheld.add(entry.subject["artefact"])


def _fetched(history: History, entry: Entry) -> None:
    require(entry.subject["artefact"] in history.job(entry).released, "fetched before it was released")


RULES: dict[str, Rule] = {
    "job-received": _job_received,
    "job-moved": _job_moved,
    "attempt-created": _attempt_created,
    "served-chosen": _served_chosen,
    "attempt-submitted": _attempt_submitted,
    "attempt-started": _attempt_started,
    "attempt-ended": _attempt_ended,
    "attempt-tried": _attempt_tried,
    "attempt-removed": _attempt_removed,
    "outputs-collected": _collected,
    "artefact-checked": _checked,
    "decision-filed": _filed,
    "decisions-opened": _opened,
    "artefact-kept": _kept,
    "kept-tried": _kept_tried,
    "kept-removed": _kept_removed,
    "artefact-released": _released,
    "artefact-withheld": _withheld,
    "artefact-fetched": _fetched,
}
