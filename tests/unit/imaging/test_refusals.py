from __future__ import annotations

import re
from pathlib import Path

import pytest

from imaging.staging.refusals import REASONS, Refused, as_markdown

REPO = Path(__file__).resolve().parents[3]


def test_the_page_of_reasons_is_up_to_date() -> None:
    assert (REPO / "docs" / "staging-reasons.md").read_text("utf-8") == as_markdown()


def test_every_code_that_the_code_names_is_in_the_table() -> None:
    raised = set()
    for path in (REPO / "imaging" / "staging").rglob("*.py"):
        raised |= set(re.findall(r'(?:Refused|Unreadable)\("([a-z-]+)"\)', path.read_text("utf-8")))
    assert raised
    assert raised <= set(REASONS)


@pytest.mark.parametrize("code", sorted(REASONS))
def test_a_reason_is_kebab_case_and_says_what_to_do(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert REASONS[code].meaning.endswith(".")
    assert REASONS[code].remedy.endswith(".")


def test_a_code_that_a_parser_made_up_is_not_believed() -> None:
    assert Refused("<script>").code == "parser-crashed"
