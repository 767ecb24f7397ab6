"""Filing who opted out: the chain of signed changes, the list that it adds up to, and what is never told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.filing import accept, opt_out_change
from hdrs_hpc.broker.home import opt_out_lists
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import log, opt_outs
from hdrs_hpc.broker.store.opt_outs import Statement
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.opt_out_ids import OptOutIds
from imaging.staging.patient_list_file import PatientListError
from tests.support import proofs
from tests.support.desk import Desk
from tests.support.party import ONES

DATASET = "north-chest-ct"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path).begin()


def said(desk: Desk) -> list[Statement]:
    with desk.db.read() as tx:
        return opt_outs.of_dataset(tx, DATASET)


def listed(desk: Desk) -> set[str]:
    return set(opt_out_lists.in_force(desk.home, said(desk)).entries.values())


def change(desk: Desk, patients: list[str], action: str = "add", **changes: Any) -> None:
    desk.file("opt-out-change", desk.opt_out(patients, action, **changes), "ada")


def refused(act: Callable[[], object]) -> list[str]:
    return proofs.refusal(act)


def test_changes_add_up_to_the_list_and_each_gives_it_another_digest(desk: Desk) -> None:
    change(desk, ["B2", "943 476 5919"])
    change(desk, ["b-2"], "remove")
    assert listed(desk) == {"A1", "943 476 5919"}
    change(desk, ["B2"])
    lists = [item.list for item in said(desk)]
    assert len(set(lists)) == 4, "also where the same patients are on it again"
    assert desk.ask(m.HeldOptOut(DATASET)) == m.OptOutHeld(4, lists[-1])
    assert {item.about for item in said(desk)} == {10}


def test_log_and_documents_hold_no_id_and_no_key_of_a_digest(desk: Desk) -> None:
    patient = "9434765919"
    change(desk, [patient])
    with desk.db.read() as tx:
        everything = b"".join(log.entries(tx))
        entry = log.of_event(tx, "opt-out-changed")[-1]
    desk.db.close()
    everything += b"".join(path.read_bytes() for path in desk.home.root.glob("broker.db*"))
    key = OptOutIds.parse(desk.home.opt_out_ids_file(said(desk)[-1].ids).read_bytes()).key
    assert patient.encode() not in everything and key not in everything
    assert dict(entry.detail).keys() == {"envelope", "version", "action", "list", "about", "supersedes"}
    assert desk.home.opt_out_ids_file(said(desk)[-1].ids).stat().st_mode & 0o777 == 0o600


def test_of_two_changes_at_once_the_second_is_refused_and_nothing_of_it_stays(desk: Desk) -> None:
    first, second = desk.opt_out(["B2"]), desk.opt_out(["C3"])
    desk.file("opt-out-change", first, "ada")
    assert refused(lambda: desk.file("opt-out-change", second, "bob")) == ["opt-out-outdated"]
    assert listed(desk) == {"A1", "B2"}
    change(desk, ["C3"])
    assert listed(desk) == {"A1", "B2", "C3"}


def test_the_same_bytes_again_are_the_same_change(desk: Desk) -> None:
    raw = desk.sign("opt-out-change", desk.opt_out(["B2"]), "ada").to_bytes()
    assert [desk.take(raw).known, desk.take(raw).known] == [False, True]
    assert len(said(desk)) == 2


@pytest.mark.parametrize(
    ("patients", "action", "code"),
    [
        (["a 1".replace(" ", "")], "add", "opt-out-nothing-new"),
        (["C3"], "remove", "opt-out-not-listed"),
        (["A1", "C3"], "remove", "opt-out-not-listed"),
        (["A1"], "remove", "opt-out-would-be-empty"),
        ([], "add", "opt-out-change-empty"),
        (["A1"], "nobody", "opt-out-change-empty"),
        (["X|A1"], "remove", "opt-out-not-listed"),
    ],
)
def test_a_change_that_changes_nothing_or_too_much(
    desk: Desk, patients: list[str], action: str, code: str
) -> None:
    assert refused(lambda: change(desk, patients, action)) == [code]
    assert listed(desk) == {"A1"} and len(said(desk)) == 1


def test_that_nobody_opted_out_is_a_statement_of_its_own(desk: Desk) -> None:
    change(desk, [], "nobody")
    assert (listed(desk), said(desk)[-1].about) == (set(), 0)
    assert refused(lambda: change(desk, [], "nobody")) == ["opt-out-nothing-new"]
    change(desk, ["B2"])
    assert listed(desk) == {"B2"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"audience": "elsewhere"}, "wrong-audience"),
        ({"version": 3}, "opt-out-outdated"),
        ({"supersedes": ONES}, "opt-out-outdated"),
        ({"ids": ONES}, "opt-out-ids-missing"),
        ({"reason": "withdrawn"}, "opt-out-reason"),
    ],
)
def test_a_statement_that_does_not_fit(desk: Desk, changes: dict[str, Any], code: str) -> None:
    assert refused(lambda: change(desk, ["B2"], **changes)) == [code]
    assert len(said(desk)) == 1


@pytest.mark.parametrize(
    "reason", ["patient 943 476 5919 changed his mind", "see 9434765919", "MRN 12-34-56"]
)
def test_a_reason_that_may_name_a_patient_is_refused(desk: Desk, reason: str) -> None:
    change(desk, ["B2"])
    assert refused(lambda: change(desk, ["B2"], "remove", reason=reason)) == ["opt-out-reason"]


def test_only_custodians_of_a_registered_dataset_may(desk: Desk) -> None:
    value = desk.opt_out(["B2"])
    assert refused(lambda: desk.file("opt-out-change", value, "rae")) == ["signer-lacks-role"]
    other = desk.opt_out(["B2"], dataset="other")
    assert refused(lambda: desk.file("opt-out-change", other, "ada")) == ["dataset-not-registered"]


def test_lines_that_are_no_id_are_refused_where_they_come_in(desk: Desk) -> None:
    with pytest.raises(PatientListError) as error:
        desk.opt_out(["B2", "patient_id"])
    assert "line 2" in error.value.message and "patient" not in error.value.message


def damaged(raw: bytes) -> bytes:
    value = json.loads(raw)
    return json.dumps({**value, "ids": []}).encode()


@pytest.mark.parametrize("harm", ["lost", "edited"])
def test_an_edited_or_lost_file_of_ids_stops_everything_and_is_no_empty_list(desk: Desk, harm: str) -> None:
    path = desk.home.opt_out_ids_file(said(desk)[0].ids)
    if harm == "lost":
        path.unlink()
    else:
        path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(HdrsError) as error:
        opt_out_lists.in_force(desk.home, said(desk))
    assert error.value.code in ("opt-out-ids-missing", "opt-out-ids-malformed")


def test_files_that_nobody_signed_for_go_after_an_hour(desk: Desk) -> None:
    with desk.db.read() as tx:
        kept = [item.ids for item in opt_outs.of_dataset(tx, DATASET)]
    old = OptOutIds.new(["Z9"])
    opt_out_lists.keep(desk.home, old.to_bytes(), kept)
    os.utime(desk.home.opt_out_ids_file(old.digest), (0, 0))
    os.utime(desk.home.opt_out_ids_file(kept[0]), (0, 0))
    new = OptOutIds.new(["Y8"])
    opt_out_change.put_ids(desk.db, desk.home, new.to_bytes(), DATASET)
    names = {path.name for path in desk.home.opt_outs_dir.iterdir()}
    assert names == {desk.home.opt_out_ids_file(digest).name for digest in (kept[0], new.digest)}


def test_who_brings_ids_learns_which_of_them_are_on_the_list(desk: Desk) -> None:
    made, places = opt_out_change.put_ids(
        desk.db, desk.home, OptOutIds.new(["a-1", "B2"]).to_bytes(), DATASET
    )
    assert [made.ids[place] for place in places] == ["a-1"]


def test_keyd_learns_of_a_change_whose_acceptance_was_cut_off(desk: Desk) -> None:
    def dies[R](request: m.Ask[R]) -> R:
        if isinstance(request, m.AdmitOptOut):
            raise KeyboardInterrupt
        return desk.ask(request)

    raw = desk.sign("opt-out-change", desk.opt_out(["B2"]), "ada").to_bytes()
    with pytest.raises(KeyboardInterrupt):
        accept.accept(desk.db, dies, raw, home=desk.home)
    assert desk.ask(m.HeldOptOut(DATASET)).version == 1
    assert desk.take(raw).known, "the custodian sends it again, or the controller tells keyd at its next tick"
    assert desk.ask(m.HeldOptOut(DATASET)).list == said(desk)[-1].list
