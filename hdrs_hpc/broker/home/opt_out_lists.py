"""Lists of opted-out patients in the data zone: what a dataset's chain of statements adds up to.

The files of ids lie in the broker's home, each under the digest that a custodian signed; nothing else is believed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.store.opt_outs import Statement
from hdrs_hpc.core.durable_files import replace_file
from hdrs_hpc.core.errors import BadDocumentError, ConflictError, NotFoundError
from hdrs_hpc.documents.models.opt_out import OptOutAction
from hdrs_hpc.documents.opt_out_ids import OptOutIds, chain_key, keyed_digest
from imaging.staging import patient_list_file
from imaging.staging.patient_lists import rounded

UNSIGNED_KEPT_S = 3600.0
"""How long an uploaded file of ids waits for the signature that names it."""


class OptOutIdsMissingError(NotFoundError):
    code = "opt-out-ids-missing"
    meaning = "The file of ids that an opt-out statement names is not in the data zone."
    remedy = (
        "`hdrs-hpc opt-out` brings it before it sends the statement; one that was there once comes back from a backup "
        "of opt-outs/ in the broker's home.  Until then nothing of the dataset is staged."
    )


class OptOutNotListedError(ConflictError):
    code = "opt-out-not-listed"
    meaning = "An id that is to be removed is not on the opt-out list."
    remedy = "Check how it was written when it was added, issuer included; nothing was changed."


class OptOutNothingNewError(ConflictError):
    code = "opt-out-nothing-new"
    meaning = "Every id that is to be added is on the opt-out list already."
    remedy = "Nothing needs to be done."


class OptOutWouldBeEmptyError(ConflictError):
    code = "opt-out-would-be-empty"
    meaning = "Without these ids the list would be empty, and an empty list is a statement of its own."
    remedy = "If nobody opts out any more, sign that with its reason: `hdrs-hpc opt-out nobody`."


@dataclass(frozen=True)
class PatientList:
    """A whole list.  ``entries``: as they were written, by what two spellings of one share."""

    entries: dict[tuple[str, str], str]
    digest: str

    @property
    def about(self) -> int:
        return rounded(len(self.entries))

    def __repr__(self) -> str:
        return f"PatientList(about {self.about})"


def keep(home: BrokerHome, raw: bytes, named: Iterable[str]) -> OptOutIds:
    """Check and keep an uploaded file of ids; files that no signature in ``named`` ever named go after an hour.

    Raises OptOutIdsError, PatientListError.
    """
    found = OptOutIds.parse(raw)
    patient_list_file.check(list(found.ids))
    folder = home.opt_outs_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = {home.opt_out_ids_file(digest).name for digest in (*named, found.digest)}
    for path in folder.iterdir():
        if path.name not in wanted and time.time() - path.stat().st_mtime > UNSIGNED_KEPT_S:
            path.unlink(missing_ok=True)
    replace_file(home.opt_out_ids_file(found.digest), found.to_bytes())
    return found


def read(home: BrokerHome, digest: str) -> OptOutIds:
    """The ids under a signed digest.  Raises :class:`OptOutIdsMissingError`, OptOutIdsError."""
    try:
        raw = home.opt_out_ids_file(digest).read_bytes()
    except OSError:
        raise OptOutIdsMissingError() from None
    return OptOutIds.parse(raw, digest)


def in_force(home: BrokerHome, said: Sequence[Statement]) -> PatientList:
    """The list after a whole chain of statements; it must be the one that the log names."""
    found = combine([(item.action, read(home, item.ids)) for item in said])
    if said and found.digest != said[-1].list:
        raise OptOutIdsMissingError("the files in the data zone add up to another list than the log names")
    return found


def combine(changes: Sequence[tuple[str, OptOutIds]]) -> PatientList:
    """What changes add up to, whatever they say twice."""
    entries: dict[tuple[str, str], str] = {}
    for action, ids in changes:
        named = {patient_list_file.same_patient(one): one for one in ids.ids}
        if action == "add":
            entries = named | entries
        elif action == "remove":
            entries = {same: one for same, one in entries.items() if same not in named}
        else:
            entries = {}
    listed = [f"{issuer}|{patient_id}" for issuer, patient_id in sorted(entries)]
    return PatientList(entries, keyed_digest(chain_key(ids.key for _, ids in changes), listed))


def after(home: BrokerHome, said: Sequence[Statement], action: OptOutAction, ids: OptOutIds) -> PatientList:
    """The list once one more change is accepted, judged against the one in force.

    Raises :class:`OptOutNotListedError`, :class:`OptOutNothingNewError`, :class:`OptOutWouldBeEmptyError`,
    BadDocumentError.
    """
    patient_list_file.check(list(ids.ids))
    before = in_force(home, said)
    named = {patient_list_file.same_patient(one) for one in ids.ids}
    if bool(named) == (action == "nobody"):
        raise EmptyChangeError()
    if action == "remove" and named - before.entries.keys():
        raise OptOutNotListedError(f"{len(named - before.entries.keys())} of {len(named)}")
    if action == "add" and not named - before.entries.keys():
        raise OptOutNothingNewError()
    if action == "nobody" and said and not before.entries:
        raise OptOutNothingNewError("that nobody opted out is in force already")
    changes = [(item.action, read(home, item.ids)) for item in said]
    found = combine([*changes, (action, ids)])
    if action == "remove" and not found.entries:
        raise OptOutWouldBeEmptyError()
    return found


class EmptyChangeError(BadDocumentError):
    code = "opt-out-change-empty"
    meaning = (
        "A change of the opt-out list names nobody, or a statement that nobody opted out names somebody."
    )
    remedy = "Make it with `hdrs-hpc opt-out`."


def listed_places(listed: PatientList, ids: OptOutIds) -> list[int]:
    """Which of the ids, by place from 0, are on the list."""
    return [
        place for place, one in enumerate(ids.ids) if patient_list_file.same_patient(one) in listed.entries
    ]
