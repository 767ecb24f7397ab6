from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from archive import SHARED, instance, real
from hypothesis import given
from hypothesis import strategies as st

from imaging.deid.pixels.boxes import Box
from imaging.deid.pixels.facts import Facts, Region
from imaging.deid.pixels.suspicion import Verdict, decide, parse_rules, suspect
from imaging.staging.parsing.dicom.header import read_header
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.radiology import burned_in
from imaging.staging.radiology.headers import InstanceHeader

CT, MR, SC = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"
US = "1.2.840.10008.5.1.4.1.1.6.1"
DX, ENDOSCOPE = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.77.1.1"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def facts(**given: Any) -> Facts:
    return Facts(**{"sop_class": CT, "modality": "CT", "rows": 512, "columns": 512, "placed": True, **given})


def ultrasound(*regions: tuple[int, int, int, int], fmt: int = 1, **given: Any) -> Facts:
    shown = tuple(Region(Box(b, a, d + 1, c + 1), fmt) for a, b, c, d in regions)
    defaults = {"sop_class": US, "modality": "US", "rows": 480, "columns": 640, "samples": 3, "placed": False}
    return facts(**{**defaults, "regions": shown, **given})


@pytest.mark.parametrize(
    ("given", "finding"),
    [
        ({}, "clean"),
        ({"image_type": ("DERIVED", "SECONDARY", "MPR", "CSA MPR")}, "clean"),
        ({"image_type": ("DERIVED", "SECONDARY", "PROTON DENSITY")}, "clean"),
        ({"burned_in": "no"}, "clean"),
        ({"burned_in": "yes"}, "somewhere"),
        ({"image_type": ("DERIVED", "SECONDARY", "SCREEN SAVE")}, "throughout"),
        ({"image_type": ("DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT")}, "throughout"),
        ({"image_type": ("DERIVED", "SECONDARY"), "placed": False}, "throughout"),
        ({"image_type": ("DERIVED", "SECONDARY"), "manufacturer": "TOSHIBA"}, "captured"),
        ({"modality": "PT", "samples": 3}, "throughout"),
        ({"photometric": "PALETTE COLOR"}, "throughout"),
        ({"sop_class": SC, "modality": "OT"}, "throughout"),
        ({"sop_class": SC, "modality": "OT", "burned_in": "no"}, "captured"),
        ({"sop_class": SC, "modality": "OT", "burned_in": "no", "samples": 3}, "throughout"),
        ({"sop_class": SC, "modality": "US", "samples": 3}, "throughout"),
        ({"sop_class": SC, "modality": "CT", "burned_in": "yes"}, "throughout"),
        ({"sop_class": ENDOSCOPE, "modality": "ES", "samples": 3}, "captured"),
        ({"sop_class": ENDOSCOPE, "modality": "ES", "samples": 3, "burned_in": "yes"}, "throughout"),
        ({"modality": "DX", "samples": 3, "burned_in": "no"}, "throughout"),
        ({"modality": "OT", "samples": 3}, "throughout"),
        ({"modality": "US", "samples": 3}, "throughout"),
        ({"sop_class": SC, "modality": "OT", "conversion_type": "SD"}, "throughout"),
        ({"sop_class": PDF, "modality": "OT"}, "throughout"),
        ({"modality": "CR"}, "unsure"),
        ({"sop_class": DX, "modality": "DX", "burned_in": "no"}, "clean"),
        ({"modality": "DX", "burned_in": "no"}, "unsure"),
        ({"modality": "MG", "burned_in": "yes"}, "somewhere"),
        ({"modality": "XA"}, "unsure"),
        ({"modality": "NM", "image_type": ("DERIVED", "SECONDARY")}, "throughout"),
        ({"modality": "XC"}, "throughout"),
        ({"modality": ""}, "unsure"),
    ],
)
def test_the_header_tells_how_suspect_an_image_is(given: dict[str, Any], finding: str) -> None:
    assert suspect(facts(**given)).finding == finding


@pytest.mark.parametrize(
    ("sop_class", "modality", "placed", "finding"),
    [
        (CT, "CT", True, "clean"),
        (CT, "CT", False, "unsure"),
        (MR, "MR", True, "clean"),
        (MR, "CT", True, "unsure"),
        ("1.2.840.10008.5.1.4.1.1.128", "PT", True, "clean"),
        ("1.2.840.10008.5.1.4.1.1.20", "NM", False, "clean"),
        ("1.2.840.10008.5.1.4.1.1.12.1", "CT", True, "unsure"),  # angiographic
        (DX, "SEG", False, "unsure"),
        (DX, "RTDOSE", False, "unsure"),
        (DX, "SM", False, "unsure"),
        (ENDOSCOPE, "MR", True, "captured"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", False, "clean"),
        ("1.2.840.10008.5.1.4.1.1.66.7", "SEG", False, "clean"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE", True, "clean"),
    ],
)
def test_a_modality_clears_an_image_only_together_with_its_class(
    sop_class: str, modality: str, placed: bool, finding: str
) -> None:
    assert suspect(facts(sop_class=sop_class, modality=modality, placed=placed)).finding == finding


def test_ultrasound_is_blanked_outside_its_regions_whatever_it_says_of_itself() -> None:
    verdict = suspect(ultrasound((100, 60, 539, 419), burned_in="no"))
    assert verdict.finding == "areas"
    assert set(verdict.boxes) == {
        Box(0, 0, 60, 640),
        Box(60, 0, 420, 100),
        Box(60, 540, 420, 640),
        Box(420, 0, 480, 640),
    }


def test_two_regions_keep_what_either_holds() -> None:
    verdict = suspect(ultrasound((0, 60, 639, 239), (0, 240, 639, 459)))
    assert verdict.boxes == (Box(0, 0, 60, 640), Box(460, 0, 480, 640))


@pytest.mark.parametrize(
    "shown",
    [
        ultrasound(),
        ultrasound((0, 0, 639, 479)),  # drawn around the whole screen
        ultrasound((600, 400, 100, 100)),  # corners the wrong way round
        ultrasound((5000, 5000, 6000, 6000)),
        ultrasound((100, 60, 539, 419), fmt=5),  # graphics
    ],
    ids=["none", "whole screen", "reversed", "outside", "graphics"],
)
def test_regions_that_cannot_be_believed_leave_the_place_unknown(shown: Facts) -> None:
    assert suspect(shown).finding == "somewhere"


def test_a_vendors_banner_is_added_to_what_lies_outside_the_regions() -> None:
    shown = ultrasound((0, 0, 639, 400), manufacturer="Philips Medical Systems", model="iU22")
    verdict = suspect(shown)
    assert Box(0, 0, 47, 640) in verdict.boxes
    assert Box(401, 0, 480, 640) in verdict.boxes


def test_a_banner_is_known_by_its_frame_as_well() -> None:
    banner = {"manufacturer": "ACUSON", "model": "SEQUOIA"}
    assert suspect(ultrasound(**banner)).boxes == (Box(0, 0, 30, 640),)
    assert suspect(ultrasound(**banner, rows=481)).finding == "somewhere"


@given(st.builds(Facts, rows=st.integers(0, 3000), columns=st.integers(0, 3000), modality=st.text(max_size=4),
                 image_type=st.lists(st.text(max_size=9), max_size=4).map(tuple),
                 regions=st.lists(st.builds(Region, st.builds(Box, *[st.integers(0, 4000)] * 4),
                                            st.integers(0, 6)), max_size=4).map(tuple)))  # fmt: skip
def test_any_header_gets_a_verdict_whose_boxes_lie_in_the_frame(any_facts: Facts) -> None:
    for box in suspect(any_facts).boxes:
        assert 0 <= box.y0 < box.y1 <= any_facts.rows
        assert 0 <= box.x0 < box.x1 <= any_facts.columns


AREA, TEXT = Box(0, 0, 10, 100), Box(50, 50, 60, 90)
SIZE = (100, 100)


@pytest.mark.parametrize(
    ("finding", "found", "blank", "hold", "refuse"),
    [
        ("clean", None, "take", "take", "take"),
        ("clean", [], "take", "take", "take"),
        ("clean", [TEXT], "blank", "hold", "refuse"),
        ("unsure", None, "hold", "hold", "refuse"),
        ("unsure", [], "take", "take", "take"),
        ("unsure", [TEXT], "blank", "hold", "refuse"),
        ("captured", None, "hold", "hold", "refuse"),
        ("captured", [], "take", "take", "take"),
        ("captured", [TEXT], "hold", "hold", "refuse"),
        ("areas", None, "blank", "hold", "refuse"),
        ("areas", [], "blank", "hold", "refuse"),
        ("somewhere", None, "hold", "hold", "refuse"),
        ("somewhere", [], "hold", "hold", "refuse"),
        ("somewhere", [TEXT], "blank", "hold", "refuse"),
        ("throughout", None, "hold", "hold", "refuse"),
        ("throughout", [TEXT], "hold", "hold", "refuse"),
    ],
)
def test_the_grants_policy_decides(finding: Any, found: Any, blank: str, hold: str, refuse: str) -> None:
    verdict = Verdict(finding, "any", (AREA,) if finding == "areas" else ())
    steps = {policy: decide(verdict, policy, SIZE, found) for policy in ("blank", "hold", "refuse")}  # type: ignore[arg-type]
    assert [steps[p].step for p in ("blank", "hold", "refuse")] == [blank, hold, refuse]
    for action in steps.values():
        assert bool(action.boxes) is (action.step == "blank")
        codes = {"hold": "held-for-person", "refuse": "burned-in-annotation"}
        assert action.code == codes.get(action.step, "")


def test_blanking_takes_the_known_areas_and_what_was_found() -> None:
    action = decide(Verdict("areas", "any", (AREA,)), "blank", SIZE, [TEXT])
    assert set(action.boxes) == {AREA, TEXT}


@pytest.mark.parametrize(
    ("areas", "found", "step"),
    [
        ((), [Box(0, 0, 50, 100)], "blank"),
        ((), [Box(0, 0, 51, 100)], "hold"),  # found all over
        ((Box(0, 0, 94, 100),), [], "blank"),
        ((Box(0, 0, 95, 100),), [], "hold"),
        ((Box(0, 0, 94, 100),), [Box(80, 0, 90, 100)], "blank"),  # what is found there is gone anyway
        ((Box(0, 0, 60, 100),), [Box(60, 0, 96, 100)], "hold"),
    ],
)
def test_an_image_of_which_blanking_leaves_little_is_held(
    areas: tuple[Box, ...], found: list[Box], step: str
) -> None:
    verdict = Verdict("areas" if areas else "clean", "any", areas)
    action = decide(verdict, "blank", SIZE, found)
    assert (action.step, action.code) == (step, "held-for-person" if step == "hold" else "")


def test_the_rules_are_sound_and_versioned() -> None:
    raw = tomllib.loads((resources.files("imaging.deid.pixels") / "rules.toml").read_text("utf-8"))
    assert parse_rules(raw).version == 2
    for broken in (
        {"name": "x", "finding": "areas"},
        {"name": "x", "finding": "clean", "boxes": [[0, 0, 1, 1]]},
        {"name": "x", "finding": "dirty"},
        {"name": "x", "finding": "clean", "modalty": ["CT"]},
        {"name": "anything-else", "finding": "clean"},
    ):
        with pytest.raises(ValueError, match=r"sound|repeat"):
            parse_rules({**raw, "rule": [broken, *raw["rule"]]})


def read_facts(path: Path) -> Facts | None:
    """By way of the parser and its message; None for what the parser does not take."""
    try:
        with path.open("rb") as file:
            header = read_header(file, burned_in.KEYWORDS)
    except Unreadable:
        return None
    assert isinstance(header, InstanceHeader)
    return burned_in.facts_of(header)


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("CT_small.dcm", "clean"),
        ("MR_small.dcm", "clean"),
        ("examples_overlay.dcm", "clean"),
        ("examples_rgb_color.dcm", "somewhere"),
        ("examples_palette.dcm", "areas"),
        ("SC_rgb_rle.dcm", "throughout"),
    ],
)
def test_real_headers_are_judged(name: str, finding: str) -> None:
    found = read_facts(real(name))
    assert found is not None
    assert suspect(found).finding == finding


def test_broken_regions_are_left_out(tmp_path: Path) -> None:
    dataset = instance("examples_palette.dcm")
    del dataset.SequenceOfUltrasoundRegions[0].RegionLocationMinX0
    dataset.save_as(tmp_path / "broken.dcm")
    whole, broken = read_facts(real("examples_palette.dcm")), read_facts(tmp_path / "broken.dcm")
    assert whole is not None and broken is not None
    assert (len(whole.regions), len(broken.regions)) == (2, 1)


def test_every_real_ultrasound_is_suspect() -> None:
    folder = SHARED / "radiology" / "pydicom-data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data: real ultrasound is not judged")
    judged = 0
    for path in sorted(folder.glob("*.dcm")):
        found = read_facts(path)
        if found is not None and found.modality == "US":
            assert suspect(found).finding in ("areas", "somewhere")
            judged += 1
    assert judged > 10
