"""The attacker's side: from a released CSV, with its margins, win the suppressed small counts back.

He is given the rows that were removed too, as rows of stars: he may know from elsewhere which groups there are.
"""

from __future__ import annotations

import csv
import io
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdrs_hpc.broker.workers.airlock.check import check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.outputs.checking.totals import is_total_label
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
SALT = bytes(range(16))


def release(
    text: str, counts: tuple[str, ...] = ("n",), *, floor: int = 10, step: int = 5
) -> list[list[str]]:
    """The released cells below the header; fails when the table is refused."""
    (checked,) = release_all({"t": (text, counts)}, floor=floor, step=step).values()
    return checked


def release_all(
    tables: dict[str, tuple[str, tuple[str, ...]]], *, floor: int = 10, step: int = 5
) -> dict[str, list[list[str]]]:
    rules = OutputRules.from_dict({"table": {"min-count": floor, "round": step}})
    artefacts = [
        (declaring.table(text.encode(), counts, name=name), text.encode())
        for name, (text, counts) in tables.items()
    ]
    made = {}
    for checked in check_set(artefacts, rules, SALT, AMPLE):
        assert checked.refused in (None, "nothing-left-to-release"), checked.report["sentences"]
        text, counts = tables[checked.name]
        shown = list(csv.reader(io.StringIO((checked.rebuilt or b"").decode())))[1:]
        made[checked.name] = with_removed_rows(shown, text, counts)
    return made


def with_removed_rows(shown: list[list[str]], text: str, counts: tuple[str, ...]) -> list[list[str]]:
    """``shown`` and, at the place where their labels would have stood, the rows that were removed."""
    header, *rows = csv.reader(io.StringIO(text))
    labels = [at for at, name in enumerate(header) if name not in counts and not is_number(rows[0][at])]
    known = {tuple(row[at] for at in labels) for row in shown}
    removed = [
        [cell if at in labels else "*" for at, cell in enumerate(row)]
        for row in rows
        if tuple(row[at] for at in labels) not in known
    ]
    assert len(shown) + len(removed) == len(rows)

    def place(row: list[str]) -> list[tuple[bool, list[tuple[int, str]]]]:
        parts = [re.findall(r"[0-9]+|[^0-9]+", row[at]) for at in labels]
        return [
            (is_total_label(row[at]), [(int(part) if part.isdigit() else -1, part) for part in own])
            for at, own in zip(labels, parts, strict=True)
        ]

    return sorted([*shown, *removed], key=place) if removed else shown


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def crosstab(interior: list[list[int]]) -> str:
    """Site by group in long form, with every margin."""
    lines = ["site,group,n"]
    for i, row in enumerate(interior):
        lines += [f"s{i},g{j},{count}" for j, count in enumerate(row)]
        lines.append(f"s{i},Total,{sum(row)}")
    columns = list(zip(*interior, strict=True))
    lines += [f"Total,g{j},{sum(column)}" for j, column in enumerate(columns)]
    lines.append(f"Total,Total,{sum(map(sum, interior))}")
    return "\n".join(lines) + "\n"


class Attacker:
    """Decides exactly whether a whole-number table agrees with what was released, one cell being given.

    A table with margins is a flow: all → site → group → all, each count a pipe with the interval that was
    released for it.  By Hoffman's theorem a whole-number flow exists if and only if a maximum flow can carry
    all lower bounds, so this attacker misses no possible table.  He knows the grant's rule and sees rounded
    counts; ``exact`` gives him the true value of every count that is shown as well.
    """

    def __init__(
        self,
        cells: list[list[str]],
        floor: int,
        step: int,
        exact: dict[tuple[str, str], int] | None = None,
    ) -> None:
        self.floor, self.step = floor, step
        shown = {(site, group): text for site, group, text in cells}
        self.range = {key: self._interval(text) for key, text in shown.items()}
        for key, count in (exact or {}).items():
            if shown[key] != "*":
                self.range[key] = (count, count)

    def _interval(self, text: str) -> tuple[int, int]:
        if text == "*":
            return (0, 10**6)
        low = int(text) - self.step // 2
        return (max(low, self.floor), low + self.step - 1)

    def can_be(self, wanted: tuple[str, str], value: int) -> bool:
        pipes = []
        for (site, group), (low, high) in {**self.range, wanted: (value, value)}.items():
            begin = "in" if site == "Total" and group == "Total" else f"row {site}"
            if group == "Total" and site != "Total":
                pipes.append(("all", f"row {site}", low, high))
            elif site == "Total" and group != "Total":
                pipes.append((f"column {group}", "in", low, high))
            elif site == "Total":
                pipes.append((begin, "all", low, high))
            else:
                pipes.append((begin, f"column {group}", low, high))
        return circulates(pipes)


def circulates(pipes: list[tuple[str, str, int, int]]) -> bool:
    """Whether whole numbers between the bounds exist for which each node passes on what it gets."""
    room: dict[str, dict[str, int]] = {}
    demand: dict[str, int] = {}

    def lay(begin: str, end: str, size: int) -> None:
        room.setdefault(begin, {})[end] = room.get(begin, {}).get(end, 0) + size
        room.setdefault(end, {}).setdefault(begin, 0)

    for begin, end, low, high in pipes:
        if low > high:
            return False
        lay(begin, end, high - low)
        demand[end] = demand.get(end, 0) + low
        demand[begin] = demand.get(begin, 0) - low
    for node, surplus in demand.items():
        lay(*(("source", node) if surplus > 0 else (node, "sink")), abs(surplus))
    missing = sum(surplus for surplus in demand.values() if surplus > 0)
    while missing:
        came: dict[str, str] = {"source": "source"}
        queue = ["source"]
        for node in queue:
            for following, size in room.get(node, {}).items():
                if size and following not in came:
                    came[following] = node
                    queue.append(following)
        if "sink" not in came:
            return False
        path = ["sink"]
        while path[-1] != "source":
            path.append(came[path[-1]])
        legs = list(itertools.pairwise(reversed(path)))
        size = min(room[begin][end] for begin, end in legs)
        for begin, end in legs:
            room[begin][end] -= size
            room[end][begin] += size
        missing -= size
    return True


@st.composite
def interiors(draw: st.DrawFn) -> list[list[int]]:
    rows, columns = draw(st.integers(2, 5)), draw(st.integers(2, 5))
    count = st.one_of(st.integers(0, 6), st.integers(0, 25))
    return [[draw(count) for _ in range(columns)] for _ in range(rows)]


@settings(max_examples=200, deadline=None)
@given(
    interior=interiors(),
    floor=st.sampled_from([3, 5, 10]),
    step=st.sampled_from([1, 2, 5, 10]),
    knows=st.booleans(),
)
def test_attacker_finds_no_small_count_in_any_table_with_margins(
    interior: list[list[int]], floor: int, step: int, knows: bool
) -> None:
    """Each hidden small count could be 0 and could be floor - 1 (or more), margins among them."""
    cells = release(crosstab(interior), floor=floor, step=step)
    shown = {(site, group): text for site, group, text in cells}
    truth = {
        (site, group): int(text)
        for site, group, text in (line.split(",") for line in crosstab(interior).split()[1:])
    }
    attacker = Attacker(cells, floor, step, truth if knows else None)
    for key, count in truth.items():
        assert attacker.can_be(key, count), "the truth must agree with what was released"
        if count < floor:
            assert shown[key] == "*"
            assert attacker.can_be(key, 0)
            assert any(attacker.can_be(key, value) for value in range(floor - 1, 2 * floor))


def test_the_attacker_wins_against_primary_suppression_alone() -> None:
    """The positive control: the same attacker breaks a table whose margins were left unprotected."""
    cells = [line.split(",") for line in crosstab([[3, 40], [50, 60]]).split()[1:]]
    naive = [[site, group, "*" if int(text) < 10 else text] for site, group, text in cells]
    attacker = Attacker(naive, 10, 1)
    assert [value for value in range(20) if attacker.can_be(("s0", "g0"), value)] == [3]


def test_rounding_alone_does_not_protect_a_single_hidden_count() -> None:
    """Rounded margins leave a narrow interval: the second hidden count is what protects."""
    text = crosstab([[1, 40], [50, 60]])
    cells = [line.split(",") for line in text.split()[1:]]
    naive = [
        [site, group, "*" if int(count) < 10 else str((int(count) + 2) // 5 * 5)]
        for site, group, count in cells
    ]
    attacker = Attacker(naive, 10, 5)
    assert [value for value in range(20) if attacker.can_be(("s0", "g0"), value)] == [0, 1, 2, 3, 4]
    protected = Attacker(release(text), 10, 5)
    assert all(protected.can_be(("s0", "g0"), value) for value in range(10))


def test_a_zero_is_a_small_count() -> None:
    cells = release("site,n\na,0\nb,40\nc,50\nd,60\n")
    assert cells[0] == ["a", "*"]


def test_a_lone_small_count_is_hidden_in_company_even_without_a_total() -> None:
    """The cohort's size is known from elsewhere: it is in the grant, on posters, in the metrics."""
    cells = release("site,n\na,4\nb,40\nc,51\nd,62\n")
    assert sum(cell[1] == "*" for cell in cells) == 2


def test_two_small_counts_that_sum_to_little_get_a_third() -> None:
    """3 + 2 under a total leaves each at most 5: too narrow."""
    cells = release("site,n\na,3\nb,2\nc,51\nd,62\nTotal,118\n")
    assert sum(cell[1] == "*" for cell in cells) == 3
    assert cells[4] == ["Total", "120"]


def test_counts_come_rounded_to_the_nearest_five() -> None:
    cells = release("site,n\na,12\nb,13\nc,10\nd,98\n")
    assert [cell[1] for cell in cells] == ["10", "15", "10", "100"]


def test_unlabelled_total_row_is_recognised_by_its_sum() -> None:
    cells = release("site,n\na,4\nb,40\nc,51\nd,62\nwhole cohort,157\n")
    hidden = {cell[0] for cell in cells if cell[1] == "*"}
    assert "a" in hidden and len(hidden) >= 2


def test_subtotals_are_no_way_back() -> None:
    text = "region,site,n\nnorth,a,4\nnorth,b,40\nnorth,All,44\nsouth,c,30\nsouth,d,31\nsouth,All,61\nAll,All,105\n"
    cells = release(text)
    north = [cell[2] for cell in cells if cell[0] == "north"]
    assert north.count("*") >= 2


def test_columns_that_add_up_are_no_way_back() -> None:
    cells = release(
        "site,n_male,n_female,n_all\na,3,40,43\nb,30,41,71\nc,33,39,72\nd,36,12,48\n",
        ("n_male", "n_female", "n_all"),
    )
    assert cells[0][1] == "*"
    assert "*" in cells[0][2:], "female and all would give male"
    assert sum(row[1] == "*" for row in cells) >= 2, "the other men and a known total would give them"


def test_equal_column_is_no_way_back() -> None:
    cells = release("site,n,n_again\na,3,3\nb,30,30\nc,33,33\nd,36,36\n", ("n", "n_again"))
    for row in cells:
        assert (row[1] == "*") == (row[2] == "*")


def test_proportional_column_is_no_way_back() -> None:
    """Always four series a patient: the series tell the patients, in the small row and in the one that guards it."""
    cells = release("site,n,n_series\na,3,12\nb,30,120\nc,33,132\nd,36,144\n", ("n", "n_series"))
    for row in cells:
        assert (row[1] == "*") == (row[2] == "*")


def test_statistics_of_a_hidden_group_are_hidden_and_others_rounded() -> None:
    cells = release("site,n,mean_age\na,3,61.23456\nb,12,60.98765\nc,40,55.55555\nd,60,58.12345\n")
    assert cells[0] == ["a", "*", "*"]
    assert cells[3] == ["d", "60", "58.12"]
    for row in cells:
        assert (row[1] == "*") == (row[2] == "*")


def test_order_of_rows_does_not_tell_the_hidden_counts() -> None:
    """Sorted by size, a hidden count lies between its neighbours: the rows are put in the order of their labels."""
    cells = release("site,n\nz,90\ny,60\nb,41\nm,4\na,2\n")
    assert [cell[0] for cell in cells] == ["a", "b", "m", "y", "z"]


def test_order_by_label_is_natural_and_totals_stay_last() -> None:
    cells = release("band,n\n10-19,4\n100+,40\n20-29,50\n0-9,3\nTotal,97\n", floor=5)
    assert [cell[0] for cell in cells][-1] == "Total"
    monotone = release("band,n\n100+,50\n20-29,40\n10-19,4\n0-9,3\nTotal,97\n", floor=5)
    assert [cell[0] for cell in monotone] == ["0-9", "10-19", "20-29", "100+", "Total"]


def test_what_one_table_hides_another_does_not_show() -> None:
    """The same counts under another arrangement: the hidden cells are the same in both."""
    first = "site,n\na,4\nb,40\nc,51\nd,62\n"
    second = "site,n\nd,62\nb,40\na,4\nc,51\n"
    made = release_all({"one": (first, ("n",)), "two": (second, ("n",))})
    hidden = [{cell[0] for cell in cells if cell[1] == "*"} for cells in made.values()]
    assert hidden[0] == hidden[1] and "a" in hidden[0]


def test_margin_of_a_finer_table_is_no_way_back() -> None:
    fine = "site,sex,n\na,m,4\na,f,40\nb,m,51\nb,f,62\nc,m,40\nc,f,33\n"
    coarse = "site,n\na,44\nb,113\nc,73\n"
    made = release_all({"fine": (fine, ("n",)), "coarse": (coarse, ("n",))})
    shown = {(cell[0], cell[1]): cell[2] for cell in made["fine"]}
    site_a = next(cell[1] for cell in made["coarse"] if cell[0] == "a")
    assert shown["a", "m"] == "*"
    assert shown["a", "f"] == "*" or site_a == "*"


def test_two_tables_that_differ_by_one_small_group_cannot_be_subtracted() -> None:
    """All sites, and all but a: the difference is a."""
    everyone = "group,n\nadults,100\nchildren,60\nTotal,160\n"
    sites = "site,n\na,4\nb,70\nc,86\nTotal,160\n"
    made = release_all({"everyone": (everyone, ("n",)), "sites": (sites, ("n",))})
    hidden = {cell[0] for cell in made["sites"] if cell[1] == "*"}
    assert "a" in hidden and len(hidden) >= 2


def test_metrics_cannot_undo_a_table() -> None:
    rules = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "metrics": {}})
    text = b"site,n\na,4\nb,40\nc,51\n"
    table = (declaring.table(text), text)
    sums = (Declared("m", "metrics", "m.json", counts=("n",)), b'{"n": 95}')
    checked = check_set([table, sums], rules, SALT, AMPLE)
    assert checked[0].rebuilt == b"site,n\nc,50\n"


@pytest.mark.parametrize("cells", [["0", "0", "0"], ["3", "4", "2"], ["9", "0", "1"]])
def test_table_of_small_counts_alone_releases_none(cells: list[str]) -> None:
    text = "site,n\n" + "".join(f"s{i},{count}\n" for i, count in enumerate(cells))
    checked = check_set(
        [(declaring.table(text.encode()), text.encode())],
        OutputRules.from_dict({"table": {}}),
        SALT,
        AMPLE,
    )[0]
    assert (checked.refused, checked.rebuilt) == ("nothing-left-to-release", None)


def test_empty_column_beside_a_copy_of_its_total_is_no_way_back() -> None:
    """No women anywhere: men = all would say so, unless a hidden count stands between them."""
    cells = release("site,n_m,n_f,n\na,30,0,30\nb,40,0,40\nc,51,0,51\n", ("n_m", "n_f", "n"))
    for row in cells:
        assert row[2] == "*"
        assert row[1] == "*" or row[3] == "*"


def test_table_in_which_everything_follows_from_everything_is_refused() -> None:
    """A subtotal and a total without labels: the total is twice the subtotal, whatever is hidden."""
    rules = OutputRules.from_dict({"table": {}})
    text = b"site,n,m\na,1,3\nb,2,3\nc,3,6\nd,6,12\n"
    checked = check_set([(declaring.table(text, ("n", "m")), text)], rules, SALT, AMPLE)[0]
    assert checked.refused == "table-cannot-be-protected"


def test_one_unprotectable_table_does_not_take_the_others_with_it() -> None:
    rules = OutputRules.from_dict({"table": {}})
    bad = b"site,n,m\na,1,3\nb,2,3\nc,3,6\nd,6,12\n"
    good = b"colour,k\nred,40\nblue,50\n"
    checked = check_set(
        [
            (declaring.table(bad, ("n", "m"), name="bad"), bad),
            (declaring.table(good, ("k",), name="good"), good),
        ],
        rules,
        SALT,
        AMPLE,
    )
    assert [one.refused for one in checked] == ["table-cannot-be-protected", None]


def test_records_posing_as_a_table_are_refused() -> None:
    """One row a patient, each counting one: nothing of that is a summary."""
    lines = ["site,arm,n_people,n_visits,n_all"]
    lines += [f"s{i % 150},a{i // 150},{1 + i % 3},{2 + i % 5},{3 + i % 3 + i % 5}" for i in range(4000)]
    rules = OutputRules.from_dict({"table": {}})
    text = "\n".join(lines).encode()
    declared = declaring.table(text, ("n_people", "n_visits", "n_all"))
    checked = check_set([(declared, text)], rules, SALT, AMPLE)[0]
    assert checked.refused == "table-too-large-to-protect"
    assert checked.rebuilt is None


def test_report_says_how_many_but_not_which() -> None:
    rules = OutputRules.from_dict({"table": {}})
    text = b"site,n\nlittle,4\nb,40\nc,51\n"
    report = check_set([(declaring.table(text), text)], rules, SALT, AMPLE)[0].report
    assert report["repaired"]["counts-suppressed-as-small"] == 1
    assert report["repaired"]["counts-suppressed-to-protect-them"] == 1
    assert "little" not in str(report)
