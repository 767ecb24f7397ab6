from __future__ import annotations

import pytest

from imaging.deid.keyed import DeidKey
from imaging.staging.patient_lists import cohort_hashes, in_cohort, opt_out_hashes, opted_out, opted_out_slide

KEY = DeidKey(b"k" * 32)


@pytest.mark.parametrize("listed", ["9434765919", "943 476 5919", "943-476-5919", " 943.476.5919 "])
@pytest.mark.parametrize(
    "written", ["9434765919", "943 476 5919", "943-476-5919", "943/476/5919", "０9434765919"]
)
def test_one_id_written_in_many_ways_is_one_patient_who_opted_out(listed: str, written: str) -> None:
    assert opted_out(KEY, opt_out_hashes(KEY, [listed]), written, [])


@pytest.mark.parametrize(
    ("listed", "written"), [("000123", "123"), ("123", "000123"), ("ab-12", "AB12"), ("AB12", "ab 12")]
)
def test_zeros_in_front_and_case_do_not_bring_a_patient_back(listed: str, written: str) -> None:
    assert opted_out(KEY, opt_out_hashes(KEY, [listed]), written, ["TRUST-A"])


def test_an_entry_with_an_issuer_means_that_issuers_patient_only() -> None:
    hashes = opt_out_hashes(KEY, ["TRUST-A|12345"])
    assert opted_out(KEY, hashes, "12345", ["TRUST-A"])
    assert not opted_out(KEY, hashes, "12345", ["TRUST-B"])
    assert not opted_out(KEY, hashes, "12345", [])


def test_empty_lines_name_nobody() -> None:
    hashes = opt_out_hashes(KEY, ["", "  ", "|", "\n", "A|"])
    assert hashes == frozenset()
    assert not opted_out(KEY, hashes, "", [])


def test_another_patient_stays() -> None:
    assert not opted_out(KEY, opt_out_hashes(KEY, ["12345"]), "123456", [])


@pytest.mark.parametrize(
    "stem", ["S12-3456", "S12-3456_HE", "scan S12-3456 A1 HE", "HE_S12_3456", "2020-S12.3456-x", "s123456"]
)
def test_a_slide_is_known_by_the_specimen_in_its_file_name(stem: str) -> None:
    assert opted_out_slide(KEY, opt_out_hashes(KEY, ["S12-3456"]), stem, [], [])


def test_a_slide_is_known_by_the_ids_in_its_header() -> None:
    hashes = opt_out_hashes(KEY, ["943 476 5919"])
    assert opted_out_slide(KEY, hashes, "slide1", ["", "9434765919"], [])
    assert not opted_out_slide(KEY, hashes, "slide1", ["", "9434765918"], [])


def test_a_very_long_file_name_costs_a_bounded_time() -> None:
    assert not opted_out_slide(KEY, opt_out_hashes(KEY, ["X1"]), "a_" * 5000, [], [])


def test_a_cohort_takes_only_the_id_that_it_names() -> None:
    hashes = cohort_hashes(KEY, ["943 476 5919", "TRUST-A|77"])
    assert in_cohort(KEY, hashes, "9434765919", [])
    assert in_cohort(KEY, hashes, "77", ["TRUST-A"])
    assert not in_cohort(KEY, hashes, "77", ["TRUST-B"])
    assert not in_cohort(KEY, hashes, "09434765919", [])
    assert not in_cohort(KEY, hashes, "943-476-5919", [])
    assert not in_cohort(KEY, hashes, " ", [])


def test_a_list_under_another_key_has_nothing_in_common() -> None:
    assert not opt_out_hashes(KEY, ["1"]) & opt_out_hashes(DeidKey(b"o" * 32), ["1"])
