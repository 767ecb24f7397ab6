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
    for name in ("ada", "bob", "new", "gil", "hue"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name], check=True)
    party = Party()
    (tmp_path / "keys.json").write_text(json.dumps({duty: party.line(duty) for duty in DUTIES}))
    return tmp_path


ROOT = (
    "trust", "init", "root.json", "--audience", "north-sde", "--broker-keys", "keys.json",
    "--organisation", "north:North Hospital",
    "--person", "ada:Ada A:north:custodian:ada.pub", "--person", "bob:Bob B:north:custodian,admin:bob.pub",
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
        "rae:Rae R:north:researcher:rae.pub",
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
        ("ada:Ada:north:custodian", "person-option"),
        ("ada:Ada:custodian:ada.pub", "person-option"),
        ("ada:Ada:north:custodian:no-such.pub", "person-option"),
        ("ada:Ada:north:custodian:ada", "person-option"),
        ("ada:Ada:north:king:ada.pub", "bad-value"),
        ("Ada A:Ada:north:custodian:ada.pub", "bad-name"),
        ("ada:Ada:nowhere:researcher:ada.pub", "organisation-unknown"),
        ("ada:Ada:north:-:ada.pub", "bad-value"),
    ],
)
def test_a_person_written_wrongly_is_named(
    desk: Path, capsys: pytest.CaptureFixture[str], text: str, code: str
) -> None:
    code_found = main.run(
        [
            *ROOT[:9],
            "--threshold",
            "grant=1",
            "--threshold",
            "trust-root=1",
            "--threshold",
            "dataset-registration=1",
            "--person",
            text,
            "--person",
            "bob:Bob B:north:custodian:bob.pub",
            "--organisation",
            "north:North:1",
            "--json",
        ]
    )
    assert code_found in (2, 3)
    error = json.loads(capsys.readouterr().out)["error"]
    assert code in [error["code"], *(item["code"] for item in error.get("findings", ()))]
    assert not (desk / "root.json").exists()


def test_a_private_key_given_for_a_public_one_is_never_written_anywhere(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*ROOT[:9], "--person", "ada:Ada:north:custodian:ada"]) == 2
    shown = capsys.readouterr()
    assert "PRIVATE" not in shown.out + shown.err
    assert not (desk / "root.json").exists()


def test_a_demo_mark_and_the_audience_never_change(desk: Path) -> None:
    assert main.run(list(ROOT)) == 0
    assert main.run(["trust", "init", "two.json", "--succeeds", "root.json", "--demo"]) == 2
    assert main.run(["trust", "init", "two.json", "--succeeds", "root.json", "--audience", "south"]) == 2


# --- replaced and lost keys, by the very commands of docs/custodian.md

RECOVERY = (
    "--organisation", "uni:A University", "--recovery", "gil,hue",
    "--person", "gil:Gil G:uni:-:gil.pub", "--person", "hue:Hue H:uni:-:hue.pub",
)  # fmt: skip


def _signed_root(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*ROOT, *RECOVERY]) == 0
    for name in ("ada", "bob"):
        assert main.run(["trust", "sign", "root.json", "--key", name, "--yes"]) == 0
    capsys.readouterr()


def _sign(capsys: pytest.CaptureFixture[str], key: str) -> dict:
    return run_json(capsys, "trust", "sign", "two.json", "--succeeds", "root.json", "--key", key, "--yes")


def test_a_key_is_replaced_by_old_new_and_another(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _signed_root(capsys)
    made = (
        "trust",
        "init",
        "two.json",
        "--succeeds",
        "root.json",
        "--replace-key",
        "bob:new.pub",
        "--from-entry",
        "7",
    )
    assert run_json(capsys, *made)["version"] == 2
    first = _sign(capsys, "bob")
    assert not first["complete"] and any("new key of bob" in text for text in first["missing"])
    second = _sign(capsys, "new")
    assert not second["complete"] and not any("new key of bob" in text for text in second["missing"])
    assert any("still missing: ada" in text for text in second["missing"])
    assert main.run(["trust", "verify", "two.json", "--succeeds", "root.json"]) == 4
    capsys.readouterr()
    third = _sign(capsys, "ada")
    assert (third["complete"], third["missing"]) == (True, [])
    assert main.run(["trust", "verify", "two.json", "--succeeds", "root.json"]) == 0
    shown = json.loads((desk / "two.json").read_text())
    assert len(shown["signatures"]) == 3


def test_a_lost_key_is_replaced_with_the_recovery_people(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _signed_root(capsys)
    run_json(
        capsys, "trust", "init", "two.json", "--succeeds", "root.json", "--replace-key", "bob:new.pub",
        "--compromised", "--from-entry", "7",
    )  # fmt: skip
    told = [_sign(capsys, key) for key in ("gil", "hue", "new", "ada")]
    assert [item["complete"] for item in told] == [False, False, False, True]
    assert any("recovery people (gil); still missing: hue" in text for text in told[0]["missing"])
    assert main.run(["trust", "verify", "two.json", "--succeeds", "root.json"]) == 0
    capsys.readouterr()
    shown = run_json(capsys, "trust", "show", "two.json", "--succeeds", "root.json")
    assert shown["root"]["people"]["bob"]["keys"][0]["compromised-from"] == 7


def test_sign_shows_the_digest_and_what_is_missing(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = run_json(capsys, *ROOT)["digest"]
    assert main.run(["trust", "sign", "root.json", "--key", "ada", "--yes"]) == 0
    shown = capsys.readouterr()
    assert digest in shown.err
    assert "1 of 2 custodians of this trust root (ada); still missing: bob" in shown.out
    assert main.run(["trust", "sign", "root.json", "--key", "bob", "--yes"]) == 0
    following = f"next: on the broker's machine, hdrs-hpc broker trust --root-digest {digest} root.json"
    assert following in capsys.readouterr().out


@pytest.mark.parametrize(("key", "code"), [("gil", "signer-unknown"), ("new", "signer-lacks-role")])
def test_a_signature_that_would_count_for_nothing_is_refused(
    desk: Path, capsys: pytest.CaptureFixture[str], key: str, code: str
) -> None:
    assert main.run([*ROOT, "--person", "rae:Rae R:north:researcher:new.pub"]) == 0
    before = (desk / "root.json").read_bytes()
    capsys.readouterr()
    assert main.run(["trust", "sign", "root.json", "--key", key, "--yes"]) != 0
    assert code in capsys.readouterr().err
    assert (desk / "root.json").read_bytes() == before, "nothing is written"


def test_without_the_root_before_sign_says_that_it_can_not_tell(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _signed_root(capsys)
    made = (
        "trust",
        "init",
        "two.json",
        "--succeeds",
        "root.json",
        "--replace-key",
        "bob:new.pub",
        "--from-entry",
        "7",
    )
    run_json(capsys, *made)
    told = run_json(capsys, "trust", "sign", "two.json", "--key", "ada", "--yes")
    assert not told["complete"] and any("--succeeds" in text for text in told["missing"])


@pytest.mark.parametrize("option", ["bob", "bob:", "bob:new.pub"])
def test_a_key_to_replace_that_is_written_wrongly_or_from_no_entry(
    desk: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    _signed_root(capsys)
    assert main.run(["trust", "init", "two.json", "--succeeds", "root.json", "--replace-key", option]) == 2
    assert "replace-key-option" in capsys.readouterr().err
    assert not (desk / "two.json").exists()
