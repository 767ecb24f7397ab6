"""Cohort queries: the index in pyarrow and DuckDB, and joined with a table on the pseudonymous patient."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from imaging import standalone
from imaging.deid.keyed import DeidKey
from imaging.reading import StagedCopy


@pytest.fixture(scope="module")
def copy(small_copy: tuple[Path, Path]) -> StagedCopy:
    return standalone.open_staged(*small_copy)


@pytest.fixture
def outcomes(small_copy: tuple[Path, Path], tmp_path: Path) -> Path:
    """A table as staging leaves one: patients under the pseudonyms that the same key gives the images."""
    key = DeidKey(standalone.deid_key(standalone.read_secret(small_copy[1])))
    people = {"P-1": 1, "P-2": 0, "P-4": 1}
    table = pa.table(
        {"patient": [key.patient("", person) for person in people], "relapse": list(people.values())}
    )
    pq.write_table(table, tmp_path / "outcomes.parquet")
    return tmp_path / "outcomes.parquet"


def test_pyarrow_filters_by_column(copy: StagedCopy) -> None:
    index = copy.index()
    thin = index.filter((pc.field("modality") == "CT") & (pc.list_element(pc.field("spacing_mm"), 0) < 2))
    assert thin["shape"].to_pylist() == [[3, 128, 128]]


def test_duckdb_counts_series_and_slices_by_patient(copy: StagedCopy) -> None:
    index = copy.index()
    counted = duckdb.sql(
        "select patient, count(*) as series, sum(n_slices) as slices from index where kind = 'volume' "
        "group by patient order by slices desc"
    ).fetchall()
    assert [(series, slices) for _, series, slices in counted] == [(2, 8), (1, 4), (1, 3)]
    assert index.num_rows == 6


def test_duckdb_reads_the_first_spacing_of_a_list_and_dates_as_dates(copy: StagedCopy) -> None:
    index = copy.index()
    found = duckdb.sql(
        "select spacing_mm[1], typeof(study_date), typeof(shape[1]) from index "
        "where modality = 'CT' order by 1"
    ).fetchall()
    assert found == [(1.25, "DATE", "BIGINT"), (2.5, "DATE", "BIGINT"), (2.5, "DATE", "BIGINT")]
    assert index.num_rows == 6


def test_images_join_outcomes_on_the_pseudonym(copy: StagedCopy, outcomes: Path) -> None:
    index = copy.index()
    joined = duckdb.sql(
        f"select item, n_slices, relapse from index join '{outcomes}' using (patient) order by n_slices"
    ).fetchall()
    assert [(slices, relapse) for _, slices, relapse in joined] == [(3, 1), (4, 0), (5, 1)]
    # Arrow joins no columns of lists.
    table = index.select(["item", "patient"]).join(pq.read_table(outcomes), keys="patient", join_type="inner")
    assert sorted(table["item"].to_pylist()) == sorted(item for item, _, _ in joined)
