from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
from pydicom.datadict import tag_for_keyword

from imaging.staging.notes import NOTES
from imaging.staging.refusals import ATTRIBUTES, REASONS, ItemRefused, Refused, as_markdown

REPO = Path(__file__).resolve().parents[3]


def test_the_page_of_reasons_is_up_to_date() -> None:
    assert (REPO / "docs" / "staging-reasons.md").read_text("utf-8") == as_markdown()


def test_every_code_that_the_code_names_is_in_the_table() -> None:
    raised = set()
    for path in (REPO / "imaging" / "staging").rglob("*.py"):
        raised |= set(re.findall(r'(?:Refused|Unreadable)\("([a-z-]+)"\)', path.read_text("utf-8")))
    assert raised
    assert raised <= set(REASONS)


def test_every_note_that_the_code_makes_has_a_meaning_and_the_reverse() -> None:
    sources = [
        path.read_text("utf-8")
        for path in (REPO / "imaging" / "staging").rglob("*.py")
        if path.name != "notes.py"
    ]
    made = re.compile(r'(?:notes\[|(?:notes|noted|found)\.append\(|return \[)"([a-z-]+)"[\])]')
    noted = {note for source in sources for note in made.findall(source)} - {"derived", "lossless"}
    assert len(noted) > 20
    assert noted <= set(NOTES)
    assert [note for note in NOTES if not any(f'"{note}"' in source for source in sources)] == []


@pytest.mark.parametrize("code", sorted(REASONS))
def test_a_reason_is_kebab_case_and_says_what_to_do(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert REASONS[code].meaning.endswith(".")
    assert REASONS[code].remedy.endswith(".")


def test_a_code_that_a_parser_made_up_is_not_believed() -> None:
    assert Refused("<script>").code == "parser-crashed"


def test_details_are_believed_only_if_they_are_in_the_list() -> None:
    told = Refused("required-attribute-missing:Rows,<script>,Columns,Rows")
    assert (told.code, told.details) == ("required-attribute-missing", ("Rows", "Columns"))
    assert str(told) == "required-attribute-missing:Rows,Columns"
    assert Refused("opted-out:DOE^JANE").details == ()
    assert str(Refused("made-up:Rows")) == "parser-crashed"
    again = pickle.loads(pickle.dumps(ItemRefused(3, str(told))))
    assert (again.number, again.code, again.details) == (3, told.code, told.details)


def test_every_attribute_that_the_code_names_is_listed_with_its_tag() -> None:
    for keyword, tag in ATTRIBUTES.items():
        number = tag_for_keyword(keyword)
        assert number is not None
        assert tag == f"({number >> 16:04X},{number & 0xFFFF:04X})"
    named = set()
    for path in (REPO / "imaging" / "staging" / "parsing").rglob("*.py"):
        text = path.read_text("utf-8")
        named |= set(re.findall(r'Unreadable\("required-attribute-missing", "(\w+)"\)', text))
        named |= set(re.findall(r'required\(dataset, "(\w+)"\)', text))
    assert len(named) > 4
    assert named <= set(ATTRIBUTES)
