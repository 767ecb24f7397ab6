"""Entries: one canonical form, a closed table, no room for anything that could be patient data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.events import EVENTS
from hdrs_hpc.audit.rules import RULES
from hdrs_hpc.audit.vocabulary import SUBJECTS, EntryMalformedError, Value
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.kinds import KINDS

GOOD: dict[str, Any] = {
    "seq": 7,
    "at": "2026-12-01T09:00:00Z",
    "event": "attempt-ended",
    "subject": {"project": "lung-fm", "job": "7K3QW2", "attempt": "hdrs-0123"},
    "actor": "broker/controller",
    "detail": {"result": "completed", "exit-code": 0},
}


def test_the_canonical_bytes_are_these() -> None:
    assert Entry(**GOOD).to_bytes() == (
        b'{"actor":"broker/controller","at":"2026-12-01T09:00:00Z",'
        b'"detail":{"exit-code":0,"result":"completed"},"event":"attempt-ended","seq":7,'
        b'"subject":{"attempt":"hdrs-0123","job":"7K3QW2","project":"lung-fm"}}'
    )


def test_an_entry_survives_its_bytes() -> None:
    assert Entry.from_bytes(Entry(**GOOD).to_bytes()) == Entry(**GOOD)


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(GOOD).encode(),
        json.dumps(GOOD, sort_keys=True, separators=(",", ":")).replace("lung", "\\u006cung").encode(),
        Entry(**GOOD).to_bytes() + b" ",
        Entry(**GOOD).to_bytes().replace(b'"seq":7', b'"seq":7,"seq":7'),
        Entry(**GOOD).to_bytes().replace(b'"seq":7', b'"seq":7.0'),
    ],
)
def test_the_same_entry_written_another_way_is_refused(raw: bytes) -> None:
    with pytest.raises(BadDocumentError):
        Entry.from_bytes(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"event": "party"},
        {"event": ["attempt-ended"]},
        {"seq": -1},
        {"seq": True},
        {"seq": 2**60},
        {"at": "2026-12-01T09:00:00+00:00"},
        {"at": "2026-13-01T09:00:00Z"},
        {"actor": "Dr Jones"},
        {"actor": "broker/keyd\n"},
        {"subject": {"project": "lung-fm", "job": "7K3QW2"}},
        {"subject": {**GOOD["subject"], "person": "okafor"}},
        {"subject": {**GOOD["subject"], "project": "Lung FM"}},
        {"detail": {}},
        {"detail": {"result": "completed", "note": "patient Smith was odd"}},
        {"detail": {"result": "Completed for patient Smith"}},
        {"detail": {"result": "completed", "exit-code": "0"}},
        {"detail": {"result": "completed", "exit-code": True}},
        {"detail": {"result": "completed", "exit-code": 0.5}},
    ],
    ids=str,
)
def test_what_the_table_does_not_allow_can_not_be_written(change: dict[str, Any]) -> None:
    with pytest.raises(EntryMalformedError):
        Entry(**{**GOOD, **change})


def test_the_table_is_consistent_with_subjects_kinds_and_rules() -> None:
    for event in EVENTS.values():
        assert event.subject <= SUBJECTS.keys(), event.name
        assert not event.detail.keys() & event.optional.keys(), event.name
        assert event.document_kind is None or event.document_kind in KINDS
        assert (event.document_kind is not None) == ("envelope" in event.detail)
        assert event.meaning.endswith(".")
    assert RULES.keys() <= EVENTS.keys()


NO_WORDS = (Value.COUNT, Value.NUMBER, Value.FLAG, Value.DIGEST, Value.TIME)


@given(st.text(min_size=1, max_size=60).filter(lambda text: not text.isascii() or " " in text or "^" in text))
def test_no_value_takes_prose_or_names_of_people_as_dicom_writes_them(text: str) -> None:
    assert not any(kind.fits(text) for kind in Value)


@given(st.text(max_size=30))
def test_numbers_digests_times_and_flags_take_no_text_of_chance(text: str) -> None:
    assert not any(kind.fits(text) for kind in NO_WORDS)
