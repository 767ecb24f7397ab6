"""What data `hdrs-hpc try` makes up: by the selections of spec and grant, and what is known of the dataset."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from hdrs_hpc.catalogue.data_kinds import DATA_KINDS
from hdrs_hpc.cli.trying import archive
from hdrs_hpc.cli.trying.recipe import ANY_KIND, Recipe, recipe
from hdrs_hpc.documents.models.job_spec import DataUse


def made(**select: Any) -> Recipe:
    return recipe(DataUse.model_validate({"dataset": "north-ct", "select": select}), None, None, 7)[0]


def test_every_kind_of_data_can_be_made_up() -> None:
    assert archive.DRAWN.keys() == DATA_KINDS.keys()


def test_of_a_dataset_that_nothing_is_known_of_there_is_some_of_each_kind() -> None:
    assert made().kind == ANY_KIND


@pytest.mark.parametrize(
    ("modality", "kind"), [("SM", "pathology"), ("CT", "radiology"), ("PT", "radiology")]
)
def test_a_selection_gives_the_kind_away(modality: str, kind: str) -> None:
    assert made(Modality=[modality]).kind == kind


def test_what_the_spec_selects_is_what_is_made() -> None:
    found = made(Modality=["MR"], PatientSex=["M"], StudyDate="2020-02-01/2020-02-29")
    assert (found.modalities, found.sexes) == (("MR",), ("M",))
    assert (found.first, found.last) == (date(2020, 2, 1), date(2020, 2, 29))


def test_a_keyword_that_made_up_data_do_not_know_is_named() -> None:
    use = DataUse.model_validate({"dataset": "north-ct", "select": {"KVP": ["120"], "Modality": ["CT"]}})
    assert recipe(use, None, None, 7)[1] == ("KVP",)
