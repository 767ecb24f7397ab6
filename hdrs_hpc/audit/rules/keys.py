"""Keys: made once, used only while they live, handed only to the first public key of a node."""

from __future__ import annotations

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.history import CLOCK_TOLERANCE, History, Key, Rule, require
from hdrs_hpc.core import clock


def _key_created(history: History, entry: Entry) -> None:
    history.granted(entry)
    name = entry.subject["key"]
    require(name not in history.keys, "the key existed already")
    holder = entry.subject.get("copy") or entry.subject.get("attempt")
    not_after = entry.detail.get("not-after")
    key = Key(entry.subject["project"], holder, entry.detail["role"])
    key.not_after = clock.from_text(not_after) if not_after else None
    history.keys[name] = key
    if "copy" in entry.subject:
        copy = history.copy(entry)
        require(copy.key is None, "the copy had a key already")
        copy.key = name
    elif "artefact" in entry.subject:
        kept = history.kept_output(entry)
        require(kept.key is None, "the output had a key already")
        require(not history.attempt(entry).bound, "a key for an output of an attempt whose nodes were bound")
        kept.key = name
        key.holder = f"{entry.subject['attempt']}/{entry.subject['artefact']}"
    elif "attempt" in entry.subject:
        history.attempt(entry).keys.add(name)


def _key_used(history: History, entry: Entry) -> None:
    history.usable_key(entry, entry.subject["key"])


def _key_destroyed(history: History, entry: Entry) -> None:
    name = entry.subject["key"]
    key = history.key(entry, name)
    key.destroyed = entry.moment
    destroy_by = history.granted(entry).destroy_by
    if destroy_by is not None and entry.moment > destroy_by + CLOCK_TOLERANCE:
        history.late.append(name)


def _bound(history: History, entry: Entry) -> None:
    history.giving(entry)
    attempt, node = history.attempt(entry), entry.subject["node"]
    require(attempt.submitted and not attempt.ended, "the attempt does not run")
    require(not attempt.closed, "hand-over was closed")
    require(node not in attempt.bound, "the node was bound already")
    attempt.bound[node] = entry.detail["public-key"]
    runtime = entry.detail.get("runtime")
    if runtime is not None:  # logs of version 0.2 do not tell of it
        require((attempt.cluster, runtime) in history.runtimes, "a runtime that is not registered there")
        attempt.runtimes.add(runtime)


def _answered(history: History, entry: Entry) -> None:
    project = history.giving(entry)
    attempt, node = history.attempt(entry), entry.subject["node"]
    require(not attempt.ended, "the attempt has ended")
    require(not attempt.closed, "hand-over was closed")
    require(attempt.bound.get(node) == entry.detail["public-key"], "answered to a key that was not bound")
    before = attempt.answers.setdefault(node, entry.detail["answer"])
    require(before == entry.detail["answer"], "one node got two different answers")
    if project.run_until is not None:
        limit = project.run_until + CLOCK_TOLERANCE
        require(clock.from_text(entry.detail["not-after"]) <= limit, "keys outlive the grant's run-until")
    for name in entry.detail["keys"]:
        key = history.usable_key(entry, name)
        kept = history.kept.get(key.holder) if key.holder else None
        own = kept is not None and kept.attempt == entry.subject["attempt"]
        require(
            kept is None or own or kept.manifest is not None, "the key of an output that was not kept yet"
        )
        copy = history.copies.get(key.holder) if key.holder else None
        require(copy is None or copy.sealed, "the key of a copy that was not sealed")
        if copy is not None:
            listed = history.opt_outs.get(copy.dataset or "")
            current = listed is not None and copy.opt_out == listed[-1]
            require(current, "the key of a copy that holds a patient who opted out, or may")


def _runtime_installed(history: History, entry: Entry) -> None:
    held = history.runtimes if "flavour" not in entry.detail else history.flavours
    held.add((entry.subject["cluster"], entry.detail["digest"]))


def _runtime_withdrawn(history: History, entry: Entry) -> None:
    runtime = (entry.subject["cluster"], entry.detail["digest"])
    require(runtime in history.runtimes | history.flavours, "a runtime was withdrawn that was not registered")
    history.runtimes.discard(runtime)
    history.flavours.discard(runtime)


def _handover_closed(history: History, entry: Entry) -> None:
    history.attempt(entry).closed = True


RULES: dict[str, Rule] = {
    "copy-key-created": _key_created,
    "output-key-created": _key_created,
    "kept-key-created": _key_created,
    "project-key-created": _key_created,
    "key-used": _key_used,
    "key-destroyed": _key_destroyed,
    "handover-bound": _bound,
    "handover-answered": _answered,
    "handover-closed": _handover_closed,
    "runtime-installed": _runtime_installed,
    "runtime-withdrawn": _runtime_withdrawn,
}
