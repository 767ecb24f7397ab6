"""Linked tables through the engine: only listed columns and rows go in, and they join on the images' pseudonyms."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.sources.folder import FolderSource
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging import standalone
from imaging.deid.keyed import DeidKey
from imaging.staging import index, inventory, patient_lists
from imaging.staging.engine import StagePlan, stage
from imaging.staging.tables.columns import ColumnsError
from imaging.standalone.staging import stage_folder
from tests.support.opt_outs import stated

DEID = b"d" * 32
COLUMNS: dict[str, Any] = {
    "nhs_number": {"rule": "patient-id", "issuer": "NHS"},
    "diagnosed": {"rule": "shifted-date", "within": "2019-01-01/2020-12-31"},
    "age": "age",
    "stage": {"rule": "category", "values": ["I", "II", "III"]},
    "site": {"rule": "category", "values": ["LEEDS", "YORK"], "only": True},
    "dose": "number",
    "visits": "integer",
    "alive": "boolean",
    "study": "uid",
    "accession": "keyed-id",
}
HEADER = [*COLUMNS, "surname", "comment"]
ROWS = [
    [
        "943 476 5919",
        "2019-03-31",
        "61",
        "II",
        "LEEDS",
        "12.5",
        "3",
        "yes",
        "1.2.3",
        "ACC1",
        "Featherstone",
        "x, y\nz",
    ],
    ["9434765870", "31/12/2020", "97", "IV", "YORK", "NaN", "4010232137", "no", "1.2.4", "ACC2", "Blunt", ""],
    ["9434765919", "20200101", "62", "III", "LEEDS", "", "5", "", "1.2.5", "ACC1", "Featherstone", ""],
    ["4010232137", "2019-05-05", "50", "I", "HULL", "1", "1", "1", "1.2.6", "ACC3", "Ash", ""],
    ["4010232137", "2021-01-01", "50", "I", "YORK", "1", "1", "1", "1.2.7", "ACC3", "Ash", ""],
    ["", "2019-05-05", "50", "I", "YORK", "1", "1", "1", "1.2.8", "ACC4", "Nobody", ""],
]


def as_csv(rows: list[list[str]], header: list[str] = HEADER) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([header, *rows])
    return out.getvalue().encode()


def as_parquet(rows: list[list[str]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({name: [row[at] for row in rows] for at, name in enumerate(HEADER)}), sink)
    return sink.getvalue()


class Staged:
    def __init__(
        self, tmp_path: Path, files: dict[str, bytes], columns: dict[str, Any] = COLUMNS, **plan: Any
    ) -> None:
        archive = tmp_path / "archive"
        archive.mkdir()
        for name, data in files.items():
            (archive / name).write_bytes(data)
        self.builder = CopyBuilder(
            DirectoryStore(tmp_path / "o"), b"k" * 32, "copy", "p", "c", tmp_path / "j"
        )
        source = FolderSource(archive)
        plan["opt_out"] = stated(plan.get("opt_out", ()))
        settings = StagePlan(
            kind="table", profile="table-basic@1", deid_key=DEID, columns=columns, max_failed=9, **plan
        )
        self.report = stage(source, inventory.scan(source), self.builder, settings)
        self.index = index.from_bytes(self.builder.read("index.parquet")).to_pylist()

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path in self.builder.paths("tables/"):
            if path.endswith(".parquet"):
                found += pq.read_table(io.BytesIO(self.builder.read(path))).to_pylist()
        return found

    def plaintext(self) -> bytes:
        return b"\0".join(self.builder.read(path) for path in self.builder.paths())


@pytest.mark.parametrize("encode", [as_csv, as_parquet])
def test_a_table_is_minimised_by_column_and_row_and_pseudonymised(tmp_path: Path, encode: Any) -> None:
    staged = Staged(tmp_path, {"Featherstone outcomes": encode(ROWS)})
    key = DeidKey(DEID)
    first, second, third = staged.rows()
    patient = key.patient("NHS", "9434765919")
    assert first["patient"] == third["patient"] == patient
    assert second["patient"] == key.patient("NHS", "9434765870")
    assert first["diagnosed"] == date(2019, 3, 31) + timedelta(days=key.shift_days(patient))
    assert [row["age"] for row in (first, second, third)] == [61, 90, 62]
    assert [row["stage"] for row in (first, second, third)] == ["II", None, "III"]
    assert [row["dose"] for row in (first, second, third)] == [12.5, None, None]
    assert [row["visits"] for row in (first, second, third)] == [3, None, 5], "ten digits are an NHS number"
    assert [row["alive"] for row in (first, second, third)] == [True, False, None]
    assert first["study"] == key.uid("1.2.3")
    assert first["accession"] == third["accession"] != second["accession"]
    assert set(first) == {"patient", *COLUMNS} - {"nhs_number"}
    described = json.loads(staged.builder.read(staged.index[0]["item"] + "/table.json"))
    assert (described["rows"], described["not-selected"]) == (3, 2)
    assert staged.report.notes == {"table-rows-without-patient": 1}


def test_nothing_that_is_not_listed_is_in_any_object_of_the_copy(tmp_path: Path) -> None:
    staged = Staged(tmp_path, {"Featherstone": as_csv(ROWS)})
    plain = staged.plaintext()
    for secret in (
        "Featherstone",
        "9434765919",
        "943 476",
        "4010232137",
        "ACC1",
        "1.2.3",
        "x, y",
        "surname",
        "HULL",
        "nhs_number",
    ):
        assert secret.encode() not in plain, secret
    assert b"stage" in plain


def test_patients_who_opted_out_lose_their_rows(tmp_path: Path) -> None:
    opted = frozenset({DeidKey(DEID).opt_out_hash("", "943-476 5919".replace("-", ""))})
    staged = Staged(tmp_path, {"a": as_csv(ROWS)}, opt_out=opted)
    assert [row["patient"] for row in staged.rows()] == [DeidKey(DEID).patient("NHS", "9434765870")]


def test_only_the_cohort_s_rows_are_staged(tmp_path: Path) -> None:
    wanted = patient_lists.cohort_hashes(DeidKey(DEID), ["NHS|943 476 5870"])
    staged = Staged(tmp_path, {"a": as_csv(ROWS)}, cohort=wanted)
    assert [row["patient"] for row in staged.rows()] == [DeidKey(DEID).patient("NHS", "9434765870")]


def test_many_rows_are_several_objects_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging.staging.tables.task.SHARD_ROWS", 1000)
    rows = [
        [f"{at:010d}", "2019-06-01", "40", "I", "YORK", str(at), "1", "1", "1.2", "A", "S", ""]
        for at in range(4321)
    ]
    staged = Staged(tmp_path, {"a": as_csv(rows)})
    assert [row["dose"] for row in staged.rows()] == [float(at) for at in range(4321)]
    assert len([path for path in staged.builder.paths("tables/") if path.endswith(".parquet")]) == 5


def test_a_table_without_its_patient_column_is_refused_by_code(tmp_path: Path) -> None:
    staged = Staged(tmp_path, {"a": as_csv([["1", "2"]], ["age", "dose"])})
    assert dict(staged.report.refused) == {"patient-column-missing": (1,)}


def test_a_table_without_the_column_that_selects_rows_stays_out(tmp_path: Path) -> None:
    staged = Staged(tmp_path, {"a": as_csv([["1", "2"]], ["nhs_number", "dose"])})
    assert dict(staged.report.refused) == {"not-selected": (1,)}


@pytest.mark.parametrize(
    "data",
    [
        as_parquet(ROWS)[:-20],
        as_parquet(ROWS)[:40] + b"\xff" * 60 + as_parquet(ROWS)[100:],
        b"nhs_number,age\n1\n2,3,4\n",
        b"nhs_number,age\n\xff\xfe,1\n",
        b"PAR1" + bytes(100),
    ],
)
def test_broken_tables_end_under_a_code(tmp_path: Path, data: bytes) -> None:
    staged = Staged(tmp_path, {"a": data})
    assert sum(map(len, staged.report.refused.values())) == 1
    assert set(staged.report.refused) <= {"malformed-table", "not-dicom"}
    assert staged.rows() == []


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"id": "patient-id", "id2": "patient-id"},
        {"age": "age"},
        {"id": "patient-id", "note": "text"},
        {"id": "patient-id", "patient": "keyed-id"},
        {"id": "patient-id", "sex": "category"},
        {"id": "patient-id", "sex": {"rule": "category", "values": [1]}},
        {"id": "patient-id", "day": {"rule": "shifted-date", "within": "2020-01-01/2019-01-01"}},
        {"id": "patient-id", "n": {"rule": "number", "only": True}},
        {"id": {"rule": "patient-id", "extra": 1}},
    ],
)
def test_columns_that_say_too_little_or_too_much_are_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    with pytest.raises(ColumnsError):
        Staged(tmp_path, {"a": as_csv(ROWS)}, columns=columns or {"x": {"rule": "nothing"}})


def test_a_staged_table_is_read_by_name_and_joins_on_the_patient(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.csv").write_bytes(as_csv(ROWS))
    (tmp_path / "src/b.csv").write_bytes(
        as_csv([["9434765919", "III", "LEEDS"]], ["nhs_number", "stage", "site"])
    )
    secret = tmp_path / "secret"
    standalone.new_secret(secret)
    key = standalone.read_secret(secret)
    columns = {name: rule for name, rule in COLUMNS.items() if name != "diagnosed"}
    plan = StagePlan(
        kind="table",
        profile="table-basic@1",
        deid_key=standalone.deid_key(key),
        columns=columns,
        opt_out=stated(),
    )
    stage_folder(FolderSource(tmp_path / "src"), tmp_path / "copy", key, plan)
    copy = standalone.open_staged(tmp_path / "copy", secret)
    assert len(copy.tables()) == 2
    rows = copy.table().to_pylist()
    patient = DeidKey(standalone.deid_key(key)).patient("NHS", "9434765919")
    assert sorted(row["stage"] for row in rows if row["patient"] == patient) == ["II", "III", "III"]
    assert {one["name"] for one in copy.columns(copy.tables()[0])} <= {"patient", *columns}
    assert copy.index()["kind"].to_pylist() == ["table", "table"]
