"""The end of staged copies: superseded by a new version of the grant, by an opt-out, or with their project."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection

from hdrs_hpc.broker.controller.steps import samples
from hdrs_hpc.broker.controller.steps.purge import ListingNotEmptyError, remove_folder, unlink_kept
from hdrs_hpc.broker.logged_keys import destroy_keys
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import copies, log, opt_outs, projects, transition
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.kept import KeptOutput
from hdrs_hpc.documents.models.grant import Grant, GrantedDataset
from hdrs_hpc.policy import selection
from hdrs_hpc.policy.refusals import OptOutChangedError
from hdrs_hpc.protocol import layout


def superseded(tx: Connection, grant: Grant) -> list[Copy]:
    """Sealed copies that hold other data, or more, than the grant in force gives: a patient withdrew, say."""
    staged = copies.of_project(tx, grant.project)
    return [copy for copy in staged if copy.state == "READY" and not still_granted(grant, copy)]


def outdated(tx: Connection, project: str) -> list[Copy]:
    """Sealed copies made under an opt-out list that is no longer in force."""
    staged = copies.of_project(tx, project)
    return [
        copy for copy in staged if copy.state == "READY" and opt_outs.outdated_since(tx, copy) is not None
    ]


def replace(tx: Connection, copy: Copy) -> None:
    """Begin the copy that takes an outdated one's place, where its project may still have it."""
    project, said = projects.get(tx, copy.project), opt_outs.current(tx, copy.dataset)
    if said is not None and project.open and still_granted(projects.grant_of(tx, project), copy):
        copies.want(tx, copy.project, copy.dataset, copy.version, copy.cluster, copy.recipe, said.list)


def still_granted(grant: Grant, copy: Copy) -> bool:
    """Whether the grant in force gives all that the copy holds, made as it is made."""
    granted = grant.data.get(copy.dataset)
    if granted is None or granted.version != copy.version:
        return False
    made = GrantedDataset.model_validate({**json.loads(copy.recipe), "version": copy.version})
    # Every other field makes other data: profile, pixels, a table's columns, the cohort.
    same = made.model_copy(update={"select": {}}) == granted.model_copy(update={"select": {}})
    # Selecting by less than the grant does is holding more than it gives.
    narrower = set(granted.select) <= set(made.select) and not selection.outside(made.select, granted.select)
    return same and narrower


@dataclass(frozen=True)
class RetireCopy:
    """Its key dies at once; its objects stay as long as a running attempt, which was given the key, reads them."""

    copy: Copy
    reason: str = "copy-superseded"

    def act(self, broker: OpenBroker) -> None:
        copy = self.copy
        destroy_keys(broker, copy.project, "copies", copy.id)
        with broker.db.write() as tx:
            transition.move(tx, "copy", copy.subject, "READY", "DESTROYED", reason=self.reason)
            if self.reason == OptOutChangedError.code:
                replace(tx, copy)


@dataclass(frozen=True)
class UnlinkCopy:
    """The key is dead; measure and try what lies there, unlink it, list, and only then say so."""

    copy: Copy

    @property
    def waits_for(self) -> str:
        return self.copy.cluster

    def act(self, broker: OpenBroker) -> None:
        copy = self.copy
        destroy_keys(broker, copy.project, "copies", copy.id)
        cluster = broker.cluster(copy.cluster, copy.project)
        parts = layout.copy_parts(copy.project, copy.id)
        tried = samples.try_copy(broker, cluster, copy)
        cluster.remove_tree(*parts)
        if cluster.list_tree(*parts):
            raise ListingNotEmptyError(where=copy.id)
        remove_folder(broker.home.staging_dir(copy.id))
        with broker.db.write() as tx:
            # After a crash in between, the second unlink finds less: what was there is in the log before the first.
            log.append(
                tx, "copy-removed", copy.subject, detail={"objects": tried.objects, "bytes": tried.bytes}
            )
            copies.note_unlinked(tx, copy.id, tried.objects)
            if copy.state != "DESTROYED":
                transition.move(tx, "copy", copy.subject, copy.state, "DESTROYED", reason="project-closing")


@dataclass(frozen=True)
class UnlinkKept:
    """The same of an output that stayed in the project until its end."""

    row: KeptOutput

    @property
    def waits_for(self) -> str:
        return self.row.cluster

    def act(self, broker: OpenBroker) -> None:
        row = self.row
        destroy_keys(broker, row.project, "copies", row.id)
        unlink_kept(broker, row)
