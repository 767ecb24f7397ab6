"""The certificate's offline verification: complete ones pass, and nothing left out gets by."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audit_life as make
import pytest
from audit_life import Life, digest, root_payload, signed
from click.testing import CliRunner

from hdrs_hpc.audit.certificate import (
    CertificateIncompleteError,
    CertificateLogMismatchError,
    CertificateRootError,
    verify_certificate,
)
from hdrs_hpc.audit.places import NOT_PROVEN, PLACES, UNVERIFIED
from hdrs_hpc.audit.report import Mark
from hdrs_hpc.cli.audit import audit
from hdrs_hpc.cli.certificate import certificate
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.trust import SignerUnknownError
from tests.support.client_cpu import COMMAND_S, assert_cheap

Change = Callable[[dict[str, Any]], None]


def _resigned(raw: bytes, change: Change, signer: str = "broker certificate") -> bytes:
    payload = json.loads(Envelope.parse(raw).payload)
    payload.pop("schema")
    change(payload)
    return signed("certificate", payload, signer).to_bytes()


def test_a_complete_certificate_verifies_and_says_what_it_can_not_prove(closed: tuple[Life, bytes]) -> None:
    life, raw = closed
    report = verify_certificate(raw, life.root, Envelope.parse(life.root).digest)
    assert report.anchored
    not_proven = [line.text for line in report.lines if line.mark is Mark.NOT_PROVEN]
    assert set(NOT_PROVEN.values()) <= set(not_proven)
    assert any("--audit" in text for text in not_proven)
    assert any(line.mark is Mark.NOTE and line.text.startswith("DEMO") for line in report.lines)


def test_the_report_tells_of_each_place_what_was_done_or_that_nobody_looked(
    closed: tuple[Life, bytes],
) -> None:
    life, raw = closed
    report = verify_certificate(raw, life.root, None)
    told = {line.text.split(":")[0]: line for line in report.lines}
    for place in PLACES.values():
        line = told[place.name]
        assert line.text.endswith("; looked")
        assert (line.mark is Mark.PROVEN) == (place.verified_by not in UNVERIFIED)


def test_a_row_without_what_was_done_is_no_certificate(closed: tuple[Life, bytes]) -> None:
    life, raw = closed
    with pytest.raises(HdrsError):
        verify_certificate(_resigned(raw, lambda payload: payload["places"][0].pop("how")), life.root, None)


def test_with_the_log_nothing_can_have_been_left_out(closed: tuple[Life, bytes], tmp_path: Path) -> None:
    life, raw = closed
    report = verify_certificate(raw, life.root, None, audit=life.write(tmp_path / "audit"))
    assert any(
        "no copy, kept output, attempt or key that is not listed" in line.text for line in report.lines
    )


@pytest.mark.parametrize("seed", range(80))
def test_any_one_changed_bit_of_the_certificate_is_refused(seed: int, closed: tuple[Life, bytes]) -> None:
    life, raw = closed
    chance = random.Random(seed)
    changed = bytearray(raw)
    changed[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    with pytest.raises(HdrsError):
        verify_certificate(bytes(changed), life.root, None)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_truncated_or_extended_certificate_is_refused(cut: int, closed: tuple[Life, bytes]) -> None:
    life, raw = closed
    for changed in (raw[:cut], raw + b"\n"):
        with pytest.raises(HdrsError):
            verify_certificate(changed, life.root, None)


@pytest.mark.parametrize("seed", range(20))
def test_any_one_changed_bit_of_the_trust_root_is_refused(seed: int, closed: tuple[Life, bytes]) -> None:
    life, raw = closed
    chance = random.Random(seed)
    changed = bytearray(life.root)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    with pytest.raises(HdrsError):
        verify_certificate(raw, bytes(changed), None)


def _drop_place(payload: dict[str, Any]) -> None:
    payload["places"].pop()


def _unverified_place(payload: dict[str, Any]) -> None:
    next(row for row in payload["places"] if row["place"] == "sealed-copies")["verified"] = False


def _found_something(payload: dict[str, Any]) -> None:
    next(row for row in payload["places"] if row["place"] == "sealed-copies")["result"] = "found"


def _claims_without_looking(payload: dict[str, Any]) -> None:
    next(row for row in payload["places"] if row["place"] == "database")["verified"] = True


def _clean_without_looking(payload: dict[str, Any]) -> None:
    next(row for row in payload["places"] if row["place"] == "database")["result"] = "no-patient-data"


def _promise_as_evidence(payload: dict[str, Any]) -> None:
    next(row for row in payload["places"] if row["place"] == "sealed-copies")["result"] = "not-checked"


def _nothing_was_done(payload: dict[str, Any]) -> None:
    payload["places"][0]["how"] = " "


def _no_sample_was_tried(payload: dict[str, Any]) -> None:
    for item in payload["checks"]:
        item["result"] = "not-possible" if item["check"] == "samples-do-not-open" else item["result"]


def _no_listing(payload: dict[str, Any]) -> None:
    for item in payload["checks"]:
        item["result"] = "not-possible" if item["check"] == "listings-empty" else item["result"]


def _old_master(payload: dict[str, Any]) -> None:
    payload["keystore"]["master-rotated"] = False


def _place_twice(payload: dict[str, Any]) -> None:
    payload["places"].append(payload["places"][0])


def _weaker_method(payload: dict[str, Any]) -> None:
    row = next(row for row in payload["places"] if row["place"] == "sealed-copies")
    row["method"], row["result"] = "outside", "outside"


def _unknown_place(payload: dict[str, Any]) -> None:
    payload["places"].append({**payload["places"][0], "place": "somewhere"})


def _deid_key_lives(payload: dict[str, Any]) -> None:
    payload["deidentification-key-destroyed"] = False


def _no_look_for_keys(payload: dict[str, Any]) -> None:
    payload["checks"] = [item for item in payload["checks"] if item["check"] != "keys-gone"]


def _ends_later(payload: dict[str, Any]) -> None:
    payload["copies"][0]["key-destroyed-at"] = "2027-01-01T00:00:00Z"


def _copy_twice(payload: dict[str, Any]) -> None:
    payload["copies"] *= 2


def _key_twice(payload: dict[str, Any]) -> None:
    payload["attempts"][0]["keys"] *= 2


def _other_inventory(payload: dict[str, Any]) -> None:
    payload["inventory"] = "hdrs-hpc/places/0"


@pytest.mark.parametrize(
    "change",
    [
        _drop_place,
        _unverified_place,
        _found_something,
        _claims_without_looking,
        _clean_without_looking,
        _promise_as_evidence,
        _nothing_was_done,
        _no_sample_was_tried,
        _no_listing,
        _old_master,
        _place_twice,
        _weaker_method,
        _unknown_place,
        _deid_key_lives,
        _no_look_for_keys,
        _ends_later,
        _copy_twice,
        _key_twice,
        _other_inventory,
    ],
)
def test_an_incomplete_certificate_is_refused_even_when_signed(
    change: Change, closed: tuple[Life, bytes]
) -> None:
    life, raw = closed
    with pytest.raises(CertificateIncompleteError):
        verify_certificate(_resigned(raw, change), life.root, None)


def test_a_certificate_by_another_of_the_brokers_keys_is_refused(closed: tuple[Life, bytes]) -> None:
    life, raw = closed
    with pytest.raises(SignerUnknownError):
        verify_certificate(_resigned(raw, lambda payload: None, "broker checkpoint"), life.root, None)


def test_a_certificate_under_another_root_is_refused(closed: tuple[Life, bytes]) -> None:
    _, raw = closed
    other = root_payload()
    other["people"]["okafor"]["name"] = "Other"
    with pytest.raises(CertificateRootError):
        verify_certificate(raw, signed("trust-root", other, "adeyemi", "brandt").to_bytes(), None)


def test_a_demo_certificate_can_not_pass_as_a_real_one(closed: tuple[Life, bytes]) -> None:
    life, raw = closed
    changed = _resigned(raw, lambda payload: payload.update(assurance="file-keystore"))
    with pytest.raises(CertificateRootError):
        verify_certificate(changed, life.root, None)


ATTEMPT_ROW: dict[str, Any] = {
    "attempt": make.ATTEMPT,
    "job": "7K3QW2",
    "objects": 2,
    "bytes": 300,
    "keys": [{"key-id": "k-out", "destroyed-at": "2026-12-01T09:00:51Z"}],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"copies": []},
        {"attempts": []},
        {
            "attempts": [
                {"attempt": make.ATTEMPT, "job": "7K3QW2", "objects": 2, "bytes": 300, "keys": []},
            ]
        },
        {"attempts": [ATTEMPT_ROW | {"bytes": 0}]},
        {"attempts": [ATTEMPT_ROW | {"runtimes": []}]},
        {"attempts": [ATTEMPT_ROW | {"runtimes": [digest("another runtime")]}]},
        {"grant": digest("another grant")},
        {"log": {"size": 3, "root": "0" * 64}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_certificate_that_contradicts_the_log_is_refused(
    changes: dict[str, Any], life: Life, tmp_path: Path
) -> None:
    raw = make.close(life, **changes).to_bytes()
    verify_certificate(raw, life.root, None)
    with pytest.raises(CertificateLogMismatchError):
        verify_certificate(raw, life.root, None, audit=life.write(tmp_path / "audit"))


def test_a_certificate_that_the_log_does_not_know_is_refused(
    closed: tuple[Life, bytes], tmp_path: Path
) -> None:
    life, raw = closed
    changed = _resigned(raw, lambda payload: payload.update(reason="ended"))
    with pytest.raises(CertificateLogMismatchError):
        verify_certificate(changed, life.root, None, audit=life.write(tmp_path / "audit"))


class TestCommands:
    @pytest.fixture
    def site(self, closed: tuple[Life, bytes], tmp_path: Path) -> Path:
        life, raw = closed
        life.write(tmp_path / "audit")
        (tmp_path / "certificate.json").write_bytes(raw)
        (tmp_path / "trust-root.json").write_bytes(life.root)
        return tmp_path

    def test_both_verify_commands_succeed_and_speak_json(self, site: Path) -> None:
        trust = ["--trust", str(site / "trust-root.json")]
        text = CliRunner().invoke(certificate, ["verify", str(site / "certificate.json"), *trust])
        assert text.exit_code == 0 and "self-consistent only" in text.output
        told = CliRunner().invoke(audit, ["verify", str(site / "audit"), *trust, "--json"])
        assert json.loads(told.output)["facts"]["projects"]["lung-fm"]["certified"] is True

    def test_a_failure_is_an_error_with_an_exit_code(self, site: Path) -> None:
        (site / "audit" / "entries.jsonl").write_bytes(b"{}\n")
        trust = ["--trust", str(site / "trust-root.json")]
        done = CliRunner().invoke(audit, ["verify", str(site / "audit"), *trust])
        assert isinstance(done.exception, HdrsError) and done.exception.exit_code == 3

    def test_show_lists_entries_and_places(self, site: Path) -> None:
        shown = CliRunner().invoke(audit, ["show", str(site / "audit"), "--job", "7K3QW2", "--json"])
        assert {entry["subject"]["job"] for entry in json.loads(shown.output)} == {"7K3QW2"}
        text = CliRunner().invoke(certificate, ["show", str(site / "certificate.json")])
        assert text.exit_code == 0 and "sealed-copies" in text.output


@pytest.mark.parametrize("with_log", [False, True])
def test_verifying_is_cheap(closed: tuple[Life, bytes], tmp_path: Path, with_log: bool) -> None:
    life, raw = closed
    (tmp_path / "certificate.json").write_bytes(raw)
    (tmp_path / "root.json").write_bytes(life.root)
    log = ["--audit", life.write(tmp_path / "audit")] if with_log else []
    trust = ["--trust", tmp_path / "root.json"]
    assert_cheap(COMMAND_S, "certificate", "verify", tmp_path / "certificate.json", *trust, *log)
