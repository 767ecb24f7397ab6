"""Numbers in a table's cells: measurements stay, what is as long as an identifier does not."""

from __future__ import annotations

import pytest

from imaging.staging.tables.columns import Column


@pytest.mark.parametrize("rule", ["number", "integer"])
@pytest.mark.parametrize(
    "text",
    ["943476591", "9434765919", "000123456", "000000001.0", "-000123456", "+943476591", "943_476_591", "9.43476591e8",
     "943476591e0", "943476591E-3", "\u0660\u0660\u0660\u0661\u0662\u0663\u0664\u0665\u0666", "inf"],
)  # fmt: skip
def test_nine_digits_before_the_point_are_no_number(rule: str, text: str) -> None:
    assert Column("x", rule).value(text, 0, {}) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("94347659", 94347659),
        ("0.25", 0.25),
        ("00012", 12),
        ("1e7", 1e7),
        ("-3.14159265358979", -3.14159265358979),
    ],
)
def test_shorter_ones_are(text: str, number: float) -> None:
    assert Column("x", "number").value(text, 0, {}) == number


def test_a_whole_number_stays_whole() -> None:
    assert Column("x", "integer").value("00012", 0, {}) == 12
