"""Trust roots, grants, projects, copies: what may become of them, and when a project may close."""

from __future__ import annotations

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.history import History, Project, Rule, moved, require, require_tried
from hdrs_hpc.core import clock


def _root(history: History, entry: Entry) -> None:
    version, digest = entry.detail["version"], entry.subject["document"]
    if history.roots:
        require(version == history.roots[-1][0] + 1, "a trust root must follow the version before it")
        require(
            entry.detail.get("supersedes") == history.roots[-1][1], "it does not supersede the root in force"
        )
    else:
        require(entry.seq == 0, "the first trust root is the first entry")
    history.roots.append((version, digest))


def _grant(history: History, entry: Entry) -> None:
    project = history.projects.setdefault(entry.subject["project"], Project())
    require(entry.detail["version"] > project.grant_version, "a grant's version must grow")
    require(entry.detail.get("supersedes") == project.grant, "it does not supersede the grant in force")
    require(project.state not in ("CLOSING", "CLOSED"), "the project is being closed")
    project.grant_version, project.grant = entry.detail["version"], entry.subject["document"]
    project.reviewers = entry.detail["reviewers"]
    project.run_until = clock.from_text(entry.detail["run-until"])
    project.destroy_by = clock.from_text(entry.detail["destroy-by"])


def _opt_out(history: History, entry: Entry) -> None:
    before = history.opt_outs.get(entry.subject["dataset"])
    version, _, _ = before or (0, "", "")
    require(entry.detail["version"] == version + 1, "an opt-out list must follow the version before it")
    require(entry.detail.get("supersedes") == (before[1] if before else None), "it follows another statement")
    lists = history.opt_out_lists.setdefault(entry.subject["dataset"], set())
    # Each list is digested under a key of its own; the same digest again would let old copies pass for current.
    require(entry.detail["list"] not in lists, "an opt-out list of before is in force again")
    lists.add(entry.detail["list"])
    history.opt_outs[entry.subject["dataset"]] = (
        entry.detail["version"],
        entry.subject["document"],
        entry.detail["list"],
    )


def _frozen(history: History, entry: Entry) -> None:
    history.granted(entry).frozen = True


def _unfrozen(history: History, entry: Entry) -> None:
    project = history.granted(entry)
    require(project.frozen, "it was not frozen")
    require(project.state not in ("CLOSING", "CLOSED"), "nothing lifts the end of a project")
    project.frozen = False


def _project_moved(history: History, entry: Entry) -> None:
    project = history.granted(entry)
    project.state = moved(project.state, entry)
    project.frozen = project.frozen or project.state in ("CLOSING", "CLOSED")
    if project.state == "CLOSED":
        _all_ended(history, project, entry.subject["project"])


def _all_ended(history: History, project: Project, name: str) -> None:
    require(project.certified, "a project closed without a certificate")
    require(
        all(key.destroyed for key in history.of_project(history.keys, name).values()), "a key still lives"
    )
    for copy in history.of_project(history.copies, name).values():
        require(copy.removed, "a staged copy was never removed")
    for kept in history.of_project(history.kept, name).values():
        require(kept.removed, "a kept output was never removed")
    for attempt in history.of_project(history.attempts, name).values():
        require(attempt.removed, "the outputs of an attempt were never removed")
    for job in history.of_project(history.jobs, name).values():
        require(job.state in (None, "PURGED"), "a job was never purged")


def _place(history: History, entry: Entry) -> None:
    history.granted(entry).places[entry.detail["place"]] = entry.detail["result"]


def _certificate(history: History, entry: Entry) -> None:
    project = history.granted(entry)
    name = entry.subject["project"]
    require(bool(project.places), "a certificate before any place was verified")
    require(entry.detail["size"] <= entry.seq, "the certificate names a log longer than this one")
    require(
        all(key.destroyed for key in history.of_project(history.keys, name).values()), "a key still lives"
    )
    project.certified = True


def _copy_sealed(history: History, entry: Entry) -> None:
    copy = history.copy(entry)
    history.usable_key(entry, copy.key or "")
    require(not copy.sealed and not copy.failed and not copy.removed, "a copy is sealed once")
    listed = history.opt_outs.get(entry.subject["dataset"])
    require(listed is not None, "sealed before anybody said who opted out of the dataset")
    require(
        entry.detail["opt-out-list"] == (listed or ("",))[-1],
        "sealed under an opt-out list that is not in force",
    )
    copy.dataset, copy.opt_out = entry.subject["dataset"], entry.detail["opt-out-list"]
    copy.sealed, copy.manifest, copy.objects = True, entry.detail["manifest"], entry.detail["objects"]


def _copy_failed(history: History, entry: Entry) -> None:
    copy = history.copy(entry)
    require(not copy.sealed, "a sealed copy can't fail any more")
    copy.failed = True


def _copy_removed(history: History, entry: Entry) -> None:
    copy = history.copy(entry)
    key = history.keys.get(copy.key) if copy.key else None
    require(key is None or key.destroyed is not None, "objects go after their key, never before")
    require_tried(copy.tried, entry)
    copy.removed = True


def _copy_tried(history: History, entry: Entry) -> None:
    copy = history.copy(entry)
    key = history.keys.get(copy.key) if copy.key else None
    require(key is None or key.destroyed is not None, "samples are tried after the key's end, never before")
    require(not copy.removed and copy.tried is None, "a copy is tried once, before it goes")
    copy.tried = (entry.detail["objects"], entry.detail["bytes"], entry.detail["samples"])


def _copy_moved(history: History, entry: Entry) -> None:
    copy = history.copy(entry)
    copy.state = moved(copy.state, entry)
    require(copy.state != "READY" or copy.sealed, "ready before it was sealed")


RULES: dict[str, Rule] = {
    "trust-root-accepted": _root,
    "grant-accepted": _grant,
    "opt-out-changed": _opt_out,
    "project-frozen": _frozen,
    "project-unfrozen": _unfrozen,
    "project-moved": _project_moved,
    "place-verified": _place,
    "certificate-issued": _certificate,
    "copy-sealed": _copy_sealed,
    "copy-failed": _copy_failed,
    "copy-tried": _copy_tried,
    "copy-removed": _copy_removed,
    "copy-moved": _copy_moved,
}
