"""Lists of patients are read strictly: what is no id is refused by the number of its line, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.deid.keyed import DeidKey
from imaging.staging import patient_list_file as lists
from imaging.staging.patient_lists import OptOut, OptOutMissingError, opt_out_hashes, opted_out, rounded

KEY = DeidKey(b"k" * 32)


@pytest.mark.parametrize(
    "raw",
    [
        b"9434765919\n",
        b"9434765919",
        b"\xef\xbb\xbf9434765919\r\n",
        b"\r\n\r\n  9434765919\t\r\n",
        b"943 476 5919\n",
        b"943-476-5919\n",
        "943\xa0476\xa05919\n".replace("\xa0", " ").encode(),
        "９４３４７６５９１９\n".encode(),
        b"|9434765919\n",
    ],
    ids=["lf", "no-end", "bom-crlf", "white-space", "nhs", "nhs-hyphens", "groups", "full-width", "bar"],
)
def test_one_patient_however_the_file_was_saved(raw: bytes) -> None:
    entries = lists.parse(raw)
    assert len(entries) == 1
    assert opted_out(KEY, opt_out_hashes(KEY, entries), "9434765919", [])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("patient_id", "heading"),
        ("NHS Number", "heading"),
        ("|NHS number", "heading"),
        ("9434765919,Jane", "columns"),
        ("9434765919;1", "columns"),
        ("9434765919\tJane", "can't be seen"),
        ('"9434765919"', "quotes"),
        ("'9434765919'", "quotes"),
        ("# withdrawn", "comment"),
        ("9434765919 9434765870", "space"),
        ("943 476 5918", "check digit"),
        ("9.43477E+09", "columns"),
        ("9.43477E09", "spreadsheet"),
        ("9434765919.0", "decimal"),
        ("01/02/1950", "date"),
        ("1950-02-01", "date"),
        ("A|B|1", "bar"),
        ("|", "neither"),
        ("A|", "neither"),
        ("--", "neither"),
        ("943\u200b4765919", "can't be seen"),
        ("943\r4765919", "can't be seen"),
        ("SMITH", "no digit"),
        ("7" * 65, "64"),
        ("9434765919\ufffd", "can't be seen"),
    ],
)
def test_what_is_no_id_is_refused_by_its_line_and_never_shown(line: str, said: str) -> None:
    with pytest.raises(lists.PatientListError) as refused:
        lists.parse(f"12345\n\n{line}\n678901\n".encode())
    told = str(refused.value.as_dict())
    assert "line 3: " in refused.value.message and said in refused.value.message
    assert refused.value.message.count("line ") == 1, "the other lines are ids"
    assert len(line) < 4 or line not in told


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_encodings_are_refused_and_not_guessed(encoding: str) -> None:
    with pytest.raises(lists.PatientListEncodingError):
        lists.parse("AÉ9434765919\n".encode(encoding))


@pytest.mark.parametrize("raw", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_an_empty_list_is_no_statement(raw: bytes) -> None:
    with pytest.raises(lists.PatientListEmptyError):
        lists.parse(raw)


def test_a_missing_or_unreadable_list_is_no_empty_one(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(lists.PatientListUnreadableError):
            lists.read(path)


def test_many_refused_lines_are_told_short() -> None:
    with pytest.raises(lists.PatientListError) as refused:
        lists.parse(b"no id\n" * 1000)
    assert "line 1: " in refused.value.message and "and 980 more lines" in refused.value.message


def test_an_id_of_letters_is_taken_where_a_bar_says_that_it_is_one() -> None:
    assert lists.parse(b"|SMITHJ\nTRUST-A|DOE^JOHN\n|1.5\n") == ["|SMITHJ", "TRUST-A|DOE^JOHN", "|1.5"]


@pytest.mark.parametrize(
    "pair", [("943 476 5919", "9434765919"), ("000123", "123"), ("ab-12", "AB12"), ("|AB12", "ab12")]
)
def test_two_spellings_of_one_id_are_one_entry(pair: tuple[str, str]) -> None:
    assert len({lists.same_patient(entry) for entry in pair}) == 1


@given(st.binary(max_size=200))
def test_any_bytes_give_ids_or_a_refusal_and_no_line_is_lost(raw: bytes) -> None:
    try:
        entries = lists.parse(raw)
    except (lists.PatientListError, lists.PatientListEncodingError, lists.PatientListEmptyError):
        return
    filled = [line for line in raw.decode("utf-8-sig").split("\n") if line.strip(" \t\r\xa0")]
    assert len(entries) == len(filled)
    hashes = opt_out_hashes(KEY, entries)
    assert all(opted_out(KEY, hashes, lists.split(one)[1], [lists.split(one)[0]]) for one in entries)


@given(st.text(min_size=1, max_size=30))
def test_whatever_is_accepted_can_be_matched(line: str) -> None:
    if "\n" in line or lists.fault_of(line.strip()) is not None:
        return
    issuer, patient_id = lists.split(line.strip())
    assert opted_out(KEY, opt_out_hashes(KEY, [line.strip()]), patient_id, [issuer])


@pytest.mark.parametrize(
    ("count", "told"), [(0, 0), (1, 10), (9, 10), (10, 10), (11, 100), (5000, 10_000), (10_001, 100_000)]
)
def test_the_length_is_told_as_a_power_of_ten(count: int, told: int) -> None:
    assert rounded(count) == told


def test_the_digest_of_a_list_changes_with_every_patient_and_with_the_key() -> None:
    one, two = OptOut.of(KEY, ["A1", "B2"]), OptOut.of(KEY, ["A1", "B2", "C3"])
    assert one.digest != two.digest and one.about == two.about == 10
    assert one.digest == OptOut.of(KEY, ["b-2", "A1", "A1"]).digest, "the same patients, in another order"
    assert one.digest != OptOut.of(DeidKey(b"o" * 32), ["A1", "B2"]).digest
    assert OptOut.of(KEY, ["A|1"]).digest != OptOut.of(KEY, ["1"]).digest
    assert OptOut.nobody(KEY, "phantoms").as_dict()["nobody"] == "phantoms"
    with pytest.raises(OptOutMissingError):
        OptOut.nobody(KEY, " 1 ")
