from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import click
import pytest

from hdrs_hpc.cli import main
from hdrs_hpc.client import grantdraft
from hdrs_hpc.client.pages import grant as pages
from hdrs_hpc.client.pages import layout
from hdrs_hpc.client.session import Session
from hdrs_hpc.core import strict_json, strict_yaml
from hdrs_hpc.documents import kinds
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant
from tests.support.party import GRANT, changed


def grant(**changes: object) -> Grant:
    value = GRANT
    for path, new in changes.items():
        value = changed(value, path, new)
    return Grant.from_value(value)


def read(shown: Grant) -> str:
    """The page's text, with its lines joined."""
    lines = [line for line, _ in layout.lines(pages.page(shown).sections, 80)]
    assert len(lines) < 60
    assert max(map(len, lines)) <= 80
    return " ".join(" ".join(lines).split())


def test_a_grant_is_one_page_that_says_what_a_custodian_must_know() -> None:
    page = read(grant(**{"outputs/weights": {"keep": "project"}}))
    for text in (
        "Self-supervised pretraining",
        "DAC-2026-0142",
        "From 2026-12-01 00:00 UTC until the end of 2027-06-30 (UTC)",
        "for 14 days",
        "8 nodes for 24:00:00",
        "BodyPartExamined CHEST; StudyDate 2019-01-01/2023-12-31",
        "counts below 10 suppressed, others rounded to 5",
        "weights: stay in the project and die with it",
        "2 reviewers",
        "at least sandboxed",
        "help to find disease earlier",
        "6(1)(e) and 9(2)(j)",
        "disease specific research (DUO:0000007)",
        "dac@north.example",
        "bundles up to 16MiB",
        "no network between nodes",
        "nothing for later jobs",
    ):
        assert text in page, text


def test_custodians_read_about_the_page_that_they_will_see() -> None:
    shown = "\n".join(line for line, _ in layout.lines(pages.page(grant()).sections, 80)).strip()
    guide = Path(__file__).parents[3] / "docs" / "custodian.md"
    assert f"```text\n{shown}\n```" in guide.read_text("utf-8"), "paste it again"


def test_the_difference_names_exactly_the_places_that_changed() -> None:
    old = grant()
    new = grant(
        **{"limits/nodes": 16, "people/researchers": ["rae", "sam"], "data/north-chest-ct/select": ...}
    )
    found = {change.where: (change.before, change.after) for change in pages.changes(old, new)}
    assert found.pop("limits.nodes") == (8, 16)
    assert found.pop("people.researchers") == (["rae"], ["rae", "sam"])
    assert found.pop("data.north-chest-ct.select.BodyPartExamined") == (["CHEST"], None)
    assert found.pop("data.north-chest-ct.select.StudyDate") == ("2019-01-01/2023-12-31", None)
    assert found.pop("data.north-chest-ct.select") == (None, {})
    assert found == {}


def test_equal_grants_do_not_differ() -> None:
    assert pages.changes(grant(), grant()) == []


def test_the_example_that_draft_writes_is_a_valid_grant(tmp_path: Path) -> None:
    target = tmp_path / "lung-fm.yaml"
    assert main.run(["grant", "draft", str(target)]) == 0
    value, _ = strict_yaml.load(target.read_bytes())
    assert Grant.from_value(value).project == "lung-fm"
    assert main.run(["grant", "draft", str(target)]) == 6, "a draft that is there is not overwritten"


def test_yaml_of_a_grant_reads_back_as_the_same_value() -> None:
    """`24:00:00` and dates must stay text, or the next version would differ where nobody changed it."""
    value, _ = strict_yaml.load(grantdraft.to_yaml(GRANT).encode())
    assert value == GRANT


def test_the_next_version_is_written_in_the_order_in_which_people_read_grants() -> None:
    """Signing sorts keys; a draft that kept that would begin with the approval and end with its title."""
    payload = strict_json.dumps(GRANT)
    kind = kinds.GRANT
    raw = Envelope(kind.payload_type, payload).to_bytes()
    session = SimpleNamespace(api=SimpleNamespace(get_bytes=lambda path: raw))
    text = grantdraft.next_version(cast(Session, session), "lung-fm")
    top = [line.partition(":")[0] for line in text.splitlines() if not line.startswith((" ", "-"))]
    assert top == [
        "schema", "project", "version", "supersedes", "title", "approval", "valid", "people", "lay-summary",
        "legal-basis", "use", "contact", "data", "workloads", "limits", "outputs",
    ]  # fmt: skip
    assert text.index("from:") < text.index("run-until:") < text.index("destroy-by:")
    value, _ = strict_yaml.load(text.encode())
    assert value == GRANT | {"version": 2, "supersedes": Envelope(kind.payload_type, payload).digest}


def test_a_fault_in_a_draft_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "g.yaml"
    lines = grantdraft.to_yaml(GRANT).replace("nodes: 8", "nodes: many").splitlines()
    target.write_text("\n".join(lines))
    assert main.run(["grant", "sign", str(target), "--key", str(target), "--yes"]) == 3
    line = next(number for number, text in enumerate(lines, 1) if "nodes: many" in text)
    assert f"limits.nodes: wrong-type, line {line}" in capsys.readouterr().err


SITES = ["LEEDS", "YORK", "HULL", "BATH", "BURY", "DEAL", "RYE", "WARE"]


def test_the_page_names_a_tables_columns_the_cohort_and_what_happens_to_pixels() -> None:
    columns = {
        "nhs_number": {"rule": "patient-id", "issuer": "NHS"},
        "seen": {"rule": "shifted-date", "within": "2019-01-01/2020-12-31"},
        "site": {"rule": "category", "values": SITES, "only": True},
    }
    table = {"version": "sha256:" + "1" * 64, "profile": "table-basic@1", "columns": columns}
    cohort = "sha256:" + "c" * 64
    images = GRANT["data"]["north-chest-ct"] | {"cohort": cohort, "pixels": {"find-text": True}}
    page = read(grant(data={"north-chest-ct": images, "outcomes": table}))
    for text in (
        "column nhs_number: patient-id of NHS",
        "column seen: shifted-date; only rows of 2019-01-01/2020-12-31",
        "column site: category; LEEDS, YORK, HULL, BATH, BURY, DEAL, RYE, WARE; only rows of these values",
        "only patients of the list sha256:cccc",
        "every image is searched for text",
    ):
        assert text in page, text


def test_the_page_says_what_is_not_done_to_pixels_and_that_what_is_held_stays_held() -> None:
    page = read(grant())
    for text in ("burned-in text are refused", "no image is searched", "faces in head scans stay"):
        assert text in page, text
    page = read(grant(**{"data/north-chest-ct/pixels": {"burned-in": "hold"}}))
    assert "held for a person; this version can not release them through a broker" in page


def test_the_page_says_how_many_digits_stay_and_for_which_broker_it_is() -> None:
    metrics = {"min-count": 7, "round": 3, "significant-digits": 1}
    page = read(
        grant(
            **{
                "outputs/table": {"min-count": 10, "round": 5, "significant-digits": 4},
                "outputs/metrics": metrics,
            }
        )
    )
    for text in (
        "rounded to 5; other numbers keep 4 significant digits",
        "but counts below 7 suppressed; but counts rounded to 3; other numbers keep 1 significant digit",
        "broker any broker under this trust root",
    ):
        assert text in page, text
    assert "broker north-sde" in read(grant(audience="north-sde"))


def test_changes_are_told_as_written_and_in_the_order_of_the_document() -> None:
    pixels = "data/north-chest-ct/pixels"
    old = grant(**{pixels: {"deface": False}})
    value = {
        "valid/run-until": "2027-05-29",
        pixels: {"deface": True},
        "audience": "north-sde",
        "outputs/bits": 9,
    }
    new = grant(**value, **{"data/north-chest-ct/max-failed": 7, "limits/bundle-size": "8MiB"})
    assert [(change.where, *change.texts()) for change in pages.changes(old, new)] == [
        ("audience", "", "north-sde"),
        ("valid.run-until", "2027-06-30", "2027-05-29"),
        ("data.north-chest-ct.max-failed", "50", "7"),
        ("data.north-chest-ct.pixels.deface", "false", "true"),
        ("limits.bundle-size", "16MiB", "8MiB"),
        ("outputs.bits", "", "9"),
    ]
    assert [change.where for change in pages.changes(new, old)] == [
        change.where for change in pages.changes(old, new)
    ]


def sign(file: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    key = folder / "custodian"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    code = main.run(["grant", "sign", str(file), "--key", str(key), "--yes"])
    return code, capsys.readouterr().err


def test_an_unfilled_draft_is_not_signed_and_each_place_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = tmp_path / "lung-fm.yaml"
    assert main.run(["grant", "draft", str(draft)]) == 0
    assert "Written as usual, for you to confirm: legal-basis, use, valid" in capsys.readouterr().out
    code, said = sign(draft, tmp_path, capsys)
    assert code == 3 and "draft-unfilled" in said
    for place in ("title", "approval.body", "people.lead", "lay-summary", "contact", "data.your-dataset"):
        assert place in said, place
    assert not draft.with_suffix(".signed.json").exists()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("limits/isolation", "fenced"),
        ("limits/network", "job"),
        ("outputs/bits", 50000),
        ("outputs/weights", {"keep": "release"}),
    ],
)
def test_a_grant_that_leads_nowhere_is_not_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, value: object
) -> None:
    file = tmp_path / "lung-fm.yaml"
    file.write_text(grantdraft.to_yaml(changed(GRANT, where, value)))
    code, said = sign(file, tmp_path, capsys)
    assert code == 4 and "not-built" in said and where.replace("/", ".") in said
    assert not (tmp_path / "lung-fm.signed.json").exists()


def test_what_is_filled_in_and_built_is_signed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lung-fm.yaml"
    file.write_text(grantdraft.to_yaml(GRANT))
    code, said = sign(file, tmp_path, capsys)
    assert code == 0, said
    assert (tmp_path / "lung-fm.signed.json").exists()


def test_nothing_is_signed_if_the_person_says_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: object, **__: object) -> None:
        raise click.Abort

    def never(*_: object) -> None:
        raise AssertionError("signed")

    monkeypatch.setattr("click.confirm", no)
    monkeypatch.setattr("hdrs_hpc.documents.signing.sign", never)
    file = tmp_path / "lung-fm.yaml"
    file.write_text(grantdraft.to_yaml(GRANT))
    assert main.run(["grant", "sign", str(file), "--key", str(file)]) == 130
    assert "You are about to sign: grant for project lung-fm, version 1" in capsys.readouterr().err
    assert not (tmp_path / "lung-fm.signed.json").exists()
