"""What a person's release covers, which frames a person is shown, and what a copy says of the rules."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import dicom_files
import numpy as np
import pytest

from imaging.deid.pixels.boxes import Box
from imaging.staging import contact_sheet, engine
from imaging.staging.admission import PixelPolicy
from imaging.staging.engine import StagePlan
from imaging.staging.parsing.dicom.header import read_header
from imaging.staging.radiology import burned_in
from imaging.staging.radiology.burned_in import TextPart, TextRules
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.refusals import ItemRefused

CAPTURE, ULTRASOUND = "1.2.840.10008.5.1.4.1.1.7.2", "1.2.840.10008.5.1.4.1.1.3.1"


def cine(frames: int, sop_class: str = CAPTURE, modality: str = "OT") -> InstanceHeader:
    made = dicom_files.dataset(
        sop_class,
        Modality=modality,
        NumberOfFrames=frames,
        PixelData=np.zeros((frames, 2, 3), "<u2").tobytes(),
    )
    header = read_header(io.BytesIO(dicom_files.encoded(made)), burned_in.KEYWORDS)
    assert isinstance(header, InstanceHeader)
    return header


def policy(find_text: bool) -> PixelPolicy:
    return PixelPolicy("blank", find_text, released=frozenset({1}))


@pytest.mark.parametrize(
    ("frames", "find_text", "step"),
    [(64, False, "take"), (64, True, "take"), (65, False, "hold"), (65, True, "take")],
)
def test_a_release_lets_no_frame_in_that_was_neither_shown_nor_is_searched(
    frames: int, find_text: bool, step: str
) -> None:
    verdict, action = burned_in.judged(1, cine(frames), policy(find_text))
    assert action.step == step
    assert (verdict is None) is (frames == 64)  # no verdict: nothing is asked any more


@pytest.mark.parametrize(
    ("header", "code"),
    [(cine(65), "held-for-person"), (cine(65, ULTRASOUND, "US"), "")],
    ids=["capture", "ultrasound"],
)
def test_text_on_the_unseen_frames_of_a_released_cine_is_still_text(
    header: InstanceHeader, code: str
) -> None:
    verdict, _ = burned_in.judged(1, header, policy(find_text=True))
    assert verdict is not None
    rules = TextRules(policy(find_text=True), ((1, verdict),), (2, 3))
    assert rules.boxes({}) == {}
    text = {1: [Box(0, 0, 1, 3)]}
    if code:
        with pytest.raises(ItemRefused) as refused:
            rules.boxes(text)
        assert refused.value.code == code
    else:
        assert rules.boxes(text) == {1: (Box(0, 0, 1, 3),)}


class Parser:
    """Answers as a parser: one header, bright frames, and ``lines`` of text on each frame asked for."""

    def __init__(self, header: InstanceHeader | None = None, lines: int = 0) -> None:
        self.asked: list[int] = []
        self._header, self._lines = header, lines

    def headers(self, numbers: Sequence[int], keywords: frozenset[str]) -> list[InstanceHeader | None]:
        return [self._header for _ in numbers]

    def ask(self, number: int, operation: str, frames: list[int]) -> Iterator[tuple[bytes, bytearray]]:
        self.asked += frames
        if operation == "text":
            boxes = [[[4 * line, 0, 4 * line + 2, 9] for line in range(self._lines)] for _ in frames]
            yield json.dumps({"boxes": boxes}).encode(), bytearray()
        else:
            for _ in frames:
                yield json.dumps({"dtype": "|u1", "shape": [2, 3]}).encode(), bytearray(6)


def bench(parser: Parser) -> Any:
    return SimpleNamespace(reader=parser)


@pytest.mark.parametrize(("frames", "shown"), [(1, 1), (30, 30), (64, 64), (500, 64)])
def test_a_person_is_shown_every_frame_or_64_of_them(frames: int, shown: int) -> None:
    parser = Parser(cine(frames))
    assert len(contact_sheet.held_frames(bench(parser), 1)) == shown
    assert (min(parser.asked), max(parser.asked), len(set(parser.asked))) == (0, frames - 1, shown)


@pytest.mark.parametrize("lines", [25, 26])
def test_a_page_of_text_is_held_and_not_blanked_line_by_line(lines: int) -> None:
    told = TextPart(1, (0, 1), (1000, 1000)).make(bench(Parser(lines=lines)), {}).told
    verdict, _ = burned_in.judged(2, cine(2, ULTRASOUND, "US"), policy(find_text=True))
    assert verdict is not None
    rules = TextRules(policy(find_text=True), ((1, verdict),), (1000, 1000))
    found = burned_in.found_text([told])
    if lines == 25:
        assert len(rules.boxes(found)[1]) == 25
    else:
        with pytest.raises(ItemRefused) as refused:
            rules.boxes(found)
        assert refused.value.code == "held-for-person"


def test_a_plan_under_other_rules_is_another_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = StagePlan("radiology", "radiology-basic@1", b"d" * 32)
    before = plan.policy()
    assert json.loads(before)["text-rules"] == 2
    monkeypatch.setattr(engine, "rules_version", lambda: 3)
    assert plan.policy() != before
