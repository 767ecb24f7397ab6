from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from hdrs_hpc.cli import main
from tests.support.party import DUTIES, Party


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two custodians' real SSH keys and a broker's public keys; an own home without a login."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("ada", "bob"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name], check=True)
    party = Party()
    (tmp_path / "keys.json").write_text(json.dumps({duty: party.line(duty) for duty in DUTIES}))
    return tmp_path


ROOT = (
    "trust", "init", "root.json", "--audience", "north-sde", "--broker-keys", "keys.json",
    "--person", "ada:Ada A:custodian:ada.pub", "--person", "bob:Bob B:custodian,admin:bob.pub",
)  # fmt: skip


def run_json(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert main.run([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_two_custodians_make_a_trust_root(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = run_json(capsys, *ROOT)["digest"]
    first = run_json(capsys, "trust", "sign", "root.json", "--key", "ada", "--yes")
    assert (first["signed"], first["needed"], first["complete"]) == (["ada"], 2, False)
    assert main.run(["trust", "verify", "root.json"]) == 4, "one of two is not enough"
    capsys.readouterr()
    second = run_json(capsys, "trust", "sign", "root.json", "--key", "bob", "--yes")
    assert (second["signed"], second["complete"]) == (["ada", "bob"], True)
    verified = run_json(capsys, "trust", "verify", "root.json", "--root-digest", digest)
    assert verified == {"digest": digest, "people": ["ada", "bob"], "anchored": True}
    assert run_json(capsys, "trust", "verify", "root.json")["anchored"] is False
    assert main.run(["trust", "verify", "root.json", "--root-digest", "sha256:" + "0" * 64]) == 4


def test_the_whole_is_shown_before_it_is_signed_and_no_means_no(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.run(list(ROOT)) == 0
    before = (desk / "root.json").read_bytes()
    monkeypatch.setattr("click.confirm", _refuse)
    assert main.run(["trust", "sign", "root.json", "--key", "ada"]) == 130
    shown = capsys.readouterr().err
    assert "north-sde" in shown
    assert "Bob B" in shown
    assert (desk / "root.json").read_bytes() == before


def _refuse(*_: object, **__: object) -> None:
    import click

    raise click.Abort


def test_one_person_can_not_sign_twice(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(list(ROOT)) == 0
    assert main.run(["trust", "sign", "root.json", "--key", "ada", "--yes"]) == 0
    assert main.run(["trust", "sign", "root.json", "--key", "ada", "--yes"]) == 6
    assert "already-signed" in capsys.readouterr().err


def test_the_next_root_takes_over_what_is_not_changed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = run_json(capsys, *ROOT)["digest"]
    for name in ("ada", "bob"):
        assert main.run(["trust", "sign", "root.json", "--key", name, "--yes"]) == 0
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "rae"], check=True)
    capsys.readouterr()
    made = run_json(
        capsys,
        "trust",
        "init",
        "two.json",
        "--succeeds",
        "root.json",
        "--person",
        "rae:Rae R:researcher:rae.pub",
    )
    assert made["version"] == 2
    for name in ("ada", "bob"):
        assert main.run(["trust", "sign", "two.json", "--key", name, "--yes"]) == 0
    capsys.readouterr()
    shown = run_json(capsys, "trust", "show", "two.json")
    assert shown["root"]["supersedes"] == digest
    assert sorted(shown["root"]["people"]) == ["ada", "bob", "rae"]
    assert run_json(capsys, "trust", "verify", "two.json", "--succeeds", "root.json")["anchored"] is True


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ada", "person-option"),
        ("ada:Ada:custodian", "person-option"),
        ("ada:Ada:custodian:no-such.pub", "person-option"),
        ("ada:Ada:custodian:ada", "person-option"),
        ("ada:Ada:king:ada.pub", "bad-value"),
        ("Ada A:Ada:custodian:ada.pub", "bad-name"),
    ],
)
def test_a_person_written_wrongly_is_named(
    desk: Path, capsys: pytest.CaptureFixture[str], text: str, code: str
) -> None:
    code_found = main.run([*ROOT[:7], "--person", text, "--json"])
    assert code_found in (2, 3)
    error = json.loads(capsys.readouterr().out)["error"]
    assert code in [error["code"], *(item["code"] for item in error.get("findings", ()))]
    assert not (desk / "root.json").exists()


def test_a_private_key_given_for_a_public_one_is_never_written_anywhere(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*ROOT[:7], "--person", "ada:Ada:custodian:ada"]) == 2
    shown = capsys.readouterr()
    assert "PRIVATE" not in shown.out + shown.err
    assert not (desk / "root.json").exists()


def test_a_demo_mark_and_the_audience_never_change(desk: Path) -> None:
    assert main.run(list(ROOT)) == 0
    assert main.run(["trust", "init", "two.json", "--succeeds", "root.json", "--demo"]) == 2
    assert main.run(["trust", "init", "two.json", "--succeeds", "root.json", "--audience", "south"]) == 2
