"""The registration of one version of a dataset."""

from __future__ import annotations

from hdrs_hpc.broker.filing.case import Became, Case, hold
from hdrs_hpc.broker.store import datasets as dataset_rows
from hdrs_hpc.broker.store import documents
from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.policy import registration as registration_policy


class DatasetRegisteredError(ConflictError):
    code = "dataset-registered"
    meaning = "That version of the dataset is registered already, by another document."
    remedy = "Nothing needs to be done; `hdrs-hpc dataset show` shows the registration in force."


def file(case: Case) -> Became:
    found = trust.verify(case.envelope, kinds.DATASET_REGISTRATION, case.root)
    registration = found.document
    if dataset_rows.is_registered(case.tx, registration.name, registration.version):
        raise DatasetRegisteredError(where=registration.name)
    facts = registration_policy.RegistrationFacts(
        signers=found.people,
        trust_root=case.root.document,
        registered=tuple(
            DatasetRegistration.from_payload(item.envelope.payload)
            for item in documents.of_kind(case.tx, "dataset-registration")
        ),
    )
    hold(registration_policy.decide(registration, facts))
    case.file("dataset-registration", found.people)
    dataset_rows.put(case.tx, found.digest, registration)
    case.log(
        "dataset-registered",
        found.people[0],
        {"dataset": registration.name},
        {
            "version": registration.version,
            "items": registration.items,
            "sensitivity": registration.sensitivity,
            "owner": registration.owner,
            "kind": registration.kind,
        },
    )
    return Became()
