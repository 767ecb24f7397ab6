"""What items are selected by later: raw values of their source, each item judged by all of them."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imaging.staging import index, narrowing, selectable
from imaging.staging.selectable import Selectable
from imaging.staging.selection import Selection

CT = {"Modality": "CT", "PatientSex": "F", "StudyDate": "20200229", "Manufacturer": "SIEMENS"}
MANY = 100_000


def item(name: str, *values: dict[str, str], patient: str | None = "P1") -> Selectable:
    return Selectable(name, "volume", patient, len(values), list(values))


def chosen(items: list[Selectable], **words: Any) -> list[str]:
    return [one.item for one in selectable.chosen(items, Selection.parse(words))]


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        ({"StudyDate": "2020-02-29/2020-02-29"}, True),
        ({"StudyDate": "2020-03-01/2020-03-31"}, False),
        ({"StudyDate": "2020-01-01/2020-02-28"}, False),
        ({"PatientSex": ["F"], "Modality": ["CT", "MR"]}, True),
        ({"PatientSex": ["F"], "Modality": ["MR"]}, False),
        ({"Manufacturer": ["siemens"]}, True),
        ({"BodyPartExamined": ["CHEST"]}, False),
        ({}, True),
    ],
)
def test_an_item_is_chosen_by_its_true_values(words: dict[str, Any], holds: bool) -> None:
    assert chosen([item("series/a", CT)], **words) == ["series/a"] * holds


def test_a_body_part_is_known_by_the_code_of_its_region_too() -> None:
    coded = CT | {
        "AnatomicRegionSequence.CodeValue": "51185008",
        "AnatomicRegionSequence.CodingSchemeDesignator": "SCT",
    }
    assert chosen([item("series/a", coded)], BodyPartExamined=["CHEST"]) == ["series/a"]


def test_an_item_of_which_one_part_is_outside_stays_out() -> None:
    mixed = item("series/a", CT, CT | {"StudyDate": "20200301"})
    assert chosen([mixed], StudyDate="2020-02-29/2020-02-29") == []
    assert chosen([mixed], StudyDate="2020-02-29/2020-03-01") == ["series/a"]


def test_an_item_that_says_nothing_is_never_chosen() -> None:
    assert chosen([item("tables/t")], Modality=["CT"]) == []
    assert chosen([item("series/a", {})], Modality=["CT"]) == []


def test_only_what_jobs_may_select_by_is_noted_and_equal_parts_once() -> None:
    raw = CT | {"PatientName": "Doe^Jane", "PatientID": "1", "Rows": 512}
    assert selectable.raw_values([raw, raw, CT]) == [CT]


def test_the_table_comes_back_as_it_was() -> None:
    items = [item("series/b", CT, patient=None), item("series/a", CT, CT | {"PatientSex": "M"})]
    assert selectable.from_bytes(selectable.to_bytes(items)) == sorted(items, key=lambda one: one.item)


def rows(count: int) -> bytes:
    made = [
        {
            "item": f"series/{n:06d}",
            "kind": "volume",
            "patient": f"P{n // 4}",
            "aligned_to": f"series/{n + 1:06d}" if n % 2 == 0 else None,
            "same_grid": True if n % 2 == 0 else None,
            "shape": [1, 2, 3],
            "source_items": 3,
        }
        for n in range(count)
    ]
    return index.to_bytes(index.to_table(made))


def test_the_index_keeps_the_chosen_rows_and_names_no_other_item() -> None:
    items = {"series/000000", "series/000002", "series/000003"}
    told = index.from_bytes(narrowing.narrow_index(rows(8), items, {})).to_pylist()
    assert [row["item"] for row in told] == sorted(items)
    assert [row["aligned_to"] for row in told] == [None, "series/000003", None]
    assert [row["same_grid"] for row in told] == [None, True, None]
    assert "000001" not in str(told)


def test_a_table_keeps_the_rows_of_its_patients_and_its_types() -> None:
    table = pa.table({"patient": ["P1", "P2", None, "P1"], "age": pa.array([1, 2, 3, None], pa.int16())})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    raw, count = narrowing.narrow_rows(sink.getvalue(), frozenset({"P1", "P9"}))
    kept = pq.read_table(io.BytesIO(raw))
    assert (count, kept.schema.equals(table.schema)) == (2, True)
    assert kept.to_pylist() == [{"patient": "P1", "age": 1}, {"patient": "P1", "age": None}]
    assert b"P2" not in raw
    none, count = narrowing.narrow_rows(sink.getvalue(), frozenset())
    assert (count, pq.read_table(io.BytesIO(none)).num_rows) == (0, 0)


def test_a_tables_description_tells_the_rows_that_are_left_and_no_others() -> None:
    raw = json.dumps({"rows": 10, "not-selected": 3, "columns": [{"name": "age"}]}).encode()
    assert json.loads(narrowing.narrow_description(raw, 2)) == {"rows": 2, "columns": [{"name": "age"}]}


@pytest.mark.slow
def test_a_hundred_thousand_items_are_judged_in_seconds() -> None:
    items = [
        item(f"series/{n:06d}", CT | {"StudyDate": f"20{n % 20:02d}{1 + n % 12:02d}{1 + n % 28:02d}"})
        for n in range(MANY)
    ]
    raw, whole = selectable.to_bytes(items), rows(MANY)
    began = time.process_time()
    found = chosen(selectable.from_bytes(raw), StudyDate="2000-01-01/2009-12-31", PatientSex=["F"])
    told = narrowing.narrow_index(whole, set(found), {})
    took_s = time.process_time() - began
    assert len(found) == index.from_bytes(told).num_rows == MANY // 2
    assert took_s < 15, "seconds of processor time"
