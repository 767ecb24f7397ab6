"""The staging report's page: what it is told is text, never markup, and its template is part of what is installed."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from imaging.staging.report import Group, StageReport

REPOSITORY = Path(__file__).resolve().parents[3]
HOSTILE = (
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    "\"><svg onload='alert(1)'>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}{# gone #}",
    "&lt;b&gt;&amp;&#60;b&#62;",
    "javascript:alert(1)//http://elsewhere.example/",
)


class _Elements(HTMLParser):
    """What a browser would make of a page: names of elements and attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def a_report(planted: str = "") -> StageReport:
    return StageReport(
        inventory="sha256:ab" + planted,
        profile="pixels-and-few" + planted,
        policy={"burned-in": "hold", "find-text": True, "text-rules": "3" + planted, "deface": False},
        opt_out={"about": 0, "nobody": "phantoms" + planted, "list": "none" + planted},
        items_in=100,
        bytes_in=123_456,
        groups=(Group("volume", "CT" + planted, 3, 50, 10_000), Group("slide", "", 1, 2, 0)),
        patients=1,
        table_rows=0,
        failed=2,
        refused={"not-dicom": (1, 2), "opted-out": tuple(range(10, 70)), "not-imaging": (4,)},
        notes={"odd" + planted: 3},
        isolation="bwrap" + planted,
        details={1: ("some words" + planted,)},
        seconds=3.0,
        reading_s=1.0,
        workers="2 threads" + planted,
        made_for={"project": "lung-fm" + planted} if planted else {"project": "lung-fm"},
    )


@pytest.mark.parametrize("planted", HOSTILE)
def test_hostile_words_in_a_report_are_shown_and_do_nothing(planted: str) -> None:
    honest, attacked = _Elements(a_report().as_html()), _Elements(a_report(planted).as_html())
    assert attacked.names == honest.names
    assert attacked.attributes == honest.attributes
    assert attacked.text.count(planted) == 14
    assert attacked.text.replace(planted, "") == honest.text


def test_a_report_of_nothing_is_a_page() -> None:
    nothing = StageReport(
        **{
            **{name: getattr(a_report(), name) for name in ("inventory", "profile", "policy", "isolation")},
            "opt_out": {"about": 120, "list": "k"},
            "items_in": 0,
            "bytes_in": 0,
            "groups": (),
            "patients": 0,
            "table_rows": 0,
            "failed": 0,
            "refused": {},
            "notes": {},
        }
    )
    text = " ".join(_Elements(nothing.as_html()).text.split())
    assert "of nothing" not in text
    assert "Nothing was staged." in text
    assert "Nothing was refused." in text
    assert "up to 120 patients, k" in text
    assert "Worth a look" not in text


def test_a_report_says_for_which_project_data_and_grant_and_when_it_was_made() -> None:
    made_for = {"project": "lung-fm", "dataset": "north-ct", "grant": "version 2", "date": "2026-11-30"}
    report = replace(a_report(), made_for=made_for)
    assert report.as_dict()["made-for"] == made_for
    text = " ".join(_Elements(report.as_html()).text.split())
    assert text.count("Staging report: lung-fm, north-ct, version 2, 2026-11-30") == 2, "title and heading"
    assert "Project lung-fm Dataset north-ct Grant version 2 Date 2026-11-30".replace(
        " ", ""
    ) in text.replace(" ", "")


def test_whose_items_they_are_is_said_only_where_it_is_known() -> None:
    slide = replace(a_report(), groups=(Group("slide", "", 1, 1, 0),), patients=0)
    assert "1 slide of" not in _Elements(slide.as_html()).text
    assert "1 slide of 1 patient" in _Elements(replace(slide, patients=1).as_html()).text


def test_templates_are_in_the_wheel() -> None:
    templates = {path.relative_to(REPOSITORY) for path in REPOSITORY.glob("imaging/**/pages/*")}
    assert Path("imaging/staging/pages/staging-report.html") in templates
    packed = {Path(file.distribution_path) for file in WheelBuilder(str(REPOSITORY)).recurse_included_files()}
    assert templates <= packed


def test_no_page_is_built_of_pieces_of_html_in_code() -> None:
    tag = re.compile(
        r"<(?:!doctype|html|head|body|table|tr|td|div|p|svg|script|style|h[1-6])\b[^<>\n]*>", re.IGNORECASE
    )
    sources = [
        path for top in ("hdrs_hpc", "imaging", "connectors") for path in REPOSITORY.glob(f"{top}/**/*.py")
    ]
    assert len(sources) > 100
    found = [str(path.relative_to(REPOSITORY)) for path in sources if tag.search(path.read_text("utf-8"))]
    assert found == []
