"""Attacks on a suppressed count through what stands beside it: other spellings, blanks, totals, shares."""

from __future__ import annotations

import json
from typing import Any

from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
EXACT = OutputRules.from_dict({"table": {"min-count": 10, "round": 1}, "metrics": {}})
COUNT = {"count": "patients"}
SEX = {"key": ["M", "F"]}
SITE = {"key": ["A", "B"]}


def check(*tables: tuple[dict[str, Any], str]) -> list[Checked]:
    """Each table by its columns and its rows, apart by `` ; ``."""
    given = [
        (
            declaring.declared(f"t{at}", columns),
            (",".join(columns) + "\n" + rows.replace(" ; ", "\n") + "\n").encode(),
        )
        for at, (columns, rows) in enumerate(tables)
    ]
    return check_set(given, EXACT, bytes(16), AMPLE)


def shown(checked: Checked) -> list[str]:
    """The rows as released; none of a table that is refused."""
    return (checked.rebuilt or b"").decode().splitlines()[1:]


DEVIATION = {"measure": "sd", "from": 0, "to": 50, "step": 0.01, "n": "n"}


def test_a_missing_measure_beside_a_suppressed_count_is_hidden_too() -> None:
    """Attack: one person has no deviation, so a blank beside a star is a count of one."""
    site = {"key": ["A", "B", "C", "D"]}
    columns = {"site": site, "men": COUNT, "women": COUNT, "n": COUNT, "sd": {**DEVIATION, "n": "men"}}
    rows = "A,{},{},80,{} ; B,40,50,90,3 ; C,30,60,90,4 ; D,50,35,85,"
    made = [shown(check((columns, rows.format(*own)))[0]) for own in ((1, 79, ""), (7, 73, "2.5"))]
    assert made[0] == made[1]
    assert made[0][0] == "A,*,*,80,*"


def test_a_missing_metric_that_rests_on_a_suppressed_count_is_null_too() -> None:
    columns = {"n": COUNT, "n_all": COUNT, "sd": DEVIATION}
    made = set()
    for entries in ({"n": 1, "n_all": 80}, {"n": 7, "n_all": 80, "sd": 2.5}):
        declared = declaring.declared("t", columns, cls="metrics")
        made.add(check_set([(declared, json.dumps(entries).encode())], EXACT, bytes(16), AMPLE)[0].rebuilt)
    assert [json.loads(one or b"") for one in made] == [{"n": None, "n_all": 80, "sd": None}]
