"""What a grant says of text and faces in pixels, and what hangs on it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hdrs_hpc.broker.controller.steps.stage import recipe
from hdrs_hpc.client.pages.grant import _pixels
from hdrs_hpc.documents.models.grant import GrantedDataset


def granted(**pixels: object) -> GrantedDataset:
    value = {"version": "sha256:" + "0" * 64, "profile": "radiology-basic@1", "pixels": pixels}
    return GrantedDataset.model_validate(value)


def test_nothing_said_refuses_burned_in_text_and_leaves_faces() -> None:
    said = granted().pixels
    assert (said.burned_in, said.find_text, said.deface) == ("refuse", False, False)
    (line,) = _pixels(granted())
    for told in ("burned-in text are refused", "no image is searched", "faces in head scans stay"):
        assert told in line


@pytest.mark.parametrize(
    "pixels", [{"burned-in": "hold"}, {"burned-in": "blank"}, {"find-text": True}, {"deface": True}]
)
def test_copies_differ_by_what_is_done_to_pixels_and_the_page_says_it(pixels: dict[str, object]) -> None:
    assert recipe(granted(**pixels), {}) != recipe(granted(), {})
    assert _pixels(granted(**pixels)) != _pixels(granted())


@pytest.mark.parametrize("pixels", [{"burned-in": "ignore"}, {"find-text": "yes"}, {"faces": True}])
def test_anything_else_is_no_rule(pixels: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        granted(**pixels)
