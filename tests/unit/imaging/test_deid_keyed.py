from __future__ import annotations

import pickle
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.deid.keyed import DeidKey, DeidKeyError, normalise, parse_date

KEY = DeidKey(bytes(range(32)))
OTHER = DeidKey(bytes(range(1, 33)))
ids = st.text(min_size=1, max_size=40)


def test_values_are_those_of_the_first_release() -> None:
    # Written down so that a change of the engine, which would break joins with earlier copies, is noticed.
    assert KEY.patient("NHS", "9434765919") == PATIENT
    assert KEY.uid("1.2.3.4") == UID
    assert KEY.shift_days(PATIENT) == SHIFT
    assert KEY.shifted(PATIENT, "20190131") == SHIFTED


PATIENT = "PJMFZMTE173Z3PX05"
UID = "2.25.208683042983158122913849645299302813516"
SHIFT = -1167
SHIFTED = "20151121"


@given(ids, ids)
def test_equal_ids_of_two_issuers_are_two_people(issuer: str, patient: str) -> None:
    assert KEY.patient("a" + issuer, patient) != KEY.patient("b" + issuer, patient)


@given(ids)
def test_projects_can_not_be_linked_by_any_value(value: str) -> None:
    assert KEY.patient("", value) != OTHER.patient("", value)
    assert KEY.uid(value) != OTHER.uid(value)
    assert KEY.opt_out_hash("", value) != OTHER.opt_out_hash("", value)


def test_a_type_is_part_of_the_input_so_equal_texts_of_two_types_differ() -> None:
    assert KEY.opt_out_hash("", "X")[:10] != KEY.patient("", "X")[1:11]
    assert KEY.patient("", "1.2.3") != KEY.patient_of_study("1.2.3")
    assert KEY.item("volume", "a", "bc") != KEY.item("volume", "ab", "c")


def test_issuer_and_id_can_not_run_into_each_other() -> None:
    assert KEY.patient("AB", "C") != KEY.patient("A", "BC")


@pytest.mark.parametrize(
    "written", ["943 476 5919", " 9434765919 ", "943\u00a0476\u00a05919", "９４３４７６５９１９"]
)
def test_one_number_written_in_several_ways_is_one_person(written: str) -> None:
    assert KEY.patient("NHS", written) == KEY.patient("NHS", "9434765919")


def test_case_and_space_do_not_make_another_person() -> None:
    assert normalise(" ab 12\t") == "AB12"


@given(st.text(max_size=30))
def test_a_date_shift_is_never_zero_and_at_most_five_years(patient: str) -> None:
    days = KEY.shift_days(patient)
    assert days != 0
    assert -1826 <= days <= 1826


def test_date_shifts_reach_both_signs_and_both_ends() -> None:
    days = [KEY.shift_days(str(number)) for number in range(20000)]
    assert min(days) < -1800
    assert max(days) > 1800
    assert {-1, 1} <= set(days)


@given(
    st.dates(min_value=date(1880, 1, 1), max_value=date(2100, 1, 1)),
    st.dates(min_value=date(1880, 1, 1), max_value=date(2100, 1, 1)),
)
def test_intervals_between_a_patients_dates_survive_the_shift(first: date, second: date) -> None:
    moved = [KEY.shifted("P1", day.strftime("%Y%m%d")) for day in (first, second)]
    assert None not in moved
    before, after = (parse_date(str(text)) for text in moved)
    assert before is not None
    assert after is not None
    assert after - before == second - first
    assert before != first


@pytest.mark.parametrize(
    "text", ["", "2019", "20190231", "2019013", "201901311", "20190131.5", "２０１９０１３１", "00000000"]
)
def test_what_is_no_date_is_not_kept(text: str) -> None:
    assert KEY.shifted("P1", text) is None


@given(st.text(max_size=64))
def test_uids_are_valid_and_short_enough(value: str) -> None:
    made = KEY.uid(value)
    assert made.startswith("2.25.")
    assert len(made) <= 64
    assert made[5:].isdigit()
    assert not made[5:].startswith("0")
    number = int(made[5:])
    assert number >> 76 & 0xF == 8  # UUID version 8
    assert number >> 62 & 0b11 == 0b10  # RFC 9562 variant


def test_a_key_neither_prints_nor_travels() -> None:
    assert "0001" not in repr(KEY)
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(DeidKeyError):
        DeidKey(bytes(size))
