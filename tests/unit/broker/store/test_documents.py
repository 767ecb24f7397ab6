"""Documents are parsed and checked once for the same bytes."""

from __future__ import annotations

import pytest

from hdrs_hpc.broker.logged_keys import require_living
from hdrs_hpc.broker.store import documents, jobs, log
from hdrs_hpc.broker.store.transition import StateMovedError
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec
from tests.support.office import Office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory):
    made = Office(tmp_path_factory.mktemp("office"))
    yield made
    made.db.close()


def test_a_spec_is_parsed_once_however_often_it_is_asked_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = office.job()
    parsed = 0
    whole = JobSpec.from_payload.__func__

    def counted(cls: type[JobSpec], payload: bytes) -> JobSpec:
        nonlocal parsed
        parsed += 1
        return whole(cls, payload)

    monkeypatch.setattr(JobSpec, "from_payload", classmethod(counted))
    for _ in range(5):
        with office.db.read() as tx:
            spec = jobs.spec_of(tx, jobs.get(tx, job))
    assert parsed <= 1
    assert spec.project == "lung-fm"


def test_other_bytes_are_never_taken_for_those_that_were_checked(office: Office) -> None:
    with office.db.read() as tx:
        accepted = documents.of_kind(tx, "grant")[0]
    good = accepted.read(Grant)
    assert accepted.read(Grant) is good
    changed = documents.Accepted(accepted.digest, "grant", accepted.raw[:-2], accepted.people, "")
    with pytest.raises(HdrsError):
        changed.read(Grant)
    with pytest.raises(HdrsError):
        accepted.read(JobSpec)


def test_large_documents_are_not_kept(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "KEPT_BYTES", 16)
    with office.db.read() as tx:
        accepted = documents.of_kind(tx, "grant")[0]
    assert accepted.read(Grant) is not accepted.read(Grant)


def test_a_key_that_was_destroyed_meanwhile_is_not_said_to_be_given(office: Office) -> None:
    """Loops work side by side: keyd's answer may be older than the key's end in the log."""
    subject = {"project": "lung-fm", "key": "K-one"}
    with office.db.write() as tx:
        require_living(tx, "lung-fm", ["K-one", "K-two"])
        log.append(tx, "key-destroyed", subject, actor=log.KEYD, detail={"role": "copy", "keystore": "file"})
        with pytest.raises(StateMovedError):
            require_living(tx, "lung-fm", ["K-two", "K-one"])
        require_living(tx, "skin-fm", ["K-one"])
