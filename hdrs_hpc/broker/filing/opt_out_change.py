"""A change of a dataset's opt-out list, and the file of ids that it names, which comes first."""

from __future__ import annotations

from hdrs_hpc.broker.filing.case import Became, Case, hold
from hdrs_hpc.broker.home import BrokerHome, opt_out_lists
from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store import checkpoint, opt_outs
from hdrs_hpc.broker.store import datasets as dataset_rows
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core import clock
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.opt_out import OptOutChange
from hdrs_hpc.documents.opt_out_ids import OptOutIds
from hdrs_hpc.policy import opt_out as opt_out_policy


def put_ids(db: Database, home: BrokerHome, raw: bytes, dataset: str) -> tuple[OptOutIds, list[int]]:
    """Keep an uploaded file of ids in the data zone; which of them, by place, are on the dataset's list already.

    A signed change will name it by its digest.
    """
    with db.read() as tx:
        named = [item.ids for statements in opt_outs.every(tx).values() for item in statements]
        said = opt_outs.of_dataset(tx, dataset)
    found = opt_out_lists.keep(home, raw, named)
    return found, opt_out_lists.listed_places(opt_out_lists.in_force(home, said), found)


def file(case: Case) -> Became:
    found = trust.verify(case.envelope, kinds.OPT_OUT_CHANGE, case.root)
    change = found.document
    said = opt_outs.of_dataset(case.tx, change.dataset)
    facts = opt_out_policy.OptOutFacts(
        signers=found.people,
        trust_root=case.root.document,
        registrations=dataset_rows.registrations_of(case.tx, change.dataset),
        version=len(said),
        document=said[-1].document if said else None,
    )
    hold(opt_out_policy.decide(change, facts))
    listed = opt_out_lists.after(case.home, said, change.action, opt_out_lists.read(case.home, change.ids))
    case.file("opt-out-change", found.people)
    statement = opt_outs.Statement(
        dataset=change.dataset,
        version=change.version,
        document=found.digest,
        action=change.action,
        ids=change.ids,
        list=listed.digest,
        about=listed.about,
        accepted_at=clock.to_text(clock.now()),
    )
    opt_outs.put(case.tx, statement)
    detail: dict[str, object] = {
        "version": change.version,
        "action": change.action,
        "list": listed.digest,
        "about": listed.about,
    }
    if change.supersedes is not None:
        detail["supersedes"] = change.supersedes
    case.log("opt-out-changed", found.people[0], {"dataset": change.dataset}, detail)
    return Became()


def tell_keyd(db: Database, ask: AskKeyd, envelope: Envelope, became: Became) -> None:
    checkpoint.tell_opt_outs(db, ask, OptOutChange.from_payload(envelope.payload).dataset)
