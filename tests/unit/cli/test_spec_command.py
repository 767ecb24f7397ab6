"""``hdrs-hpc spec`` as a person types it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from hdrs_hpc.cli.spec import SpecExistsError, TrustRootNeededError, spec
from hdrs_hpc.client.session import Session, Settings
from hdrs_hpc.core import strict_yaml
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.trust import load_root
from hdrs_hpc.documents.unfilled import PURPOSE

JOBSPECS = Path(__file__).parents[3] / "jobspecs"


@pytest.fixture(autouse=True)
def nobody_logged_in(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HDRS_HPC_CONTEXT", raising=False)


@pytest.fixture
def key(tmp_path) -> Path:
    """A new key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return tmp_path / "key"


@pytest.fixture
def root(tmp_path, party, key) -> Path:
    """A trust root in which that key is a researcher's."""
    value = party.root_value()
    value["people"]["rae"]["keys"] = [key.with_name("key.pub").read_text().strip()]
    file = tmp_path / "root.json"
    file.write_bytes(party.sign("trust-root", value, "ada", "bob").to_bytes())
    return file


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of one's own below the examples' context."""
    shutil.copytree(JOBSPECS / "context", tmp_path / "context")
    shutil.copy(JOBSPECS / "hdrs-hpc.toml", tmp_path)
    return tmp_path


def _run(*arguments, **options):
    return CliRunner().invoke(spec, [str(item) for item in arguments], **options)


def test_new_then_check_then_sign(folder, key, root):
    file = folder / "first.yaml"
    assert _run("new", file).exit_code == 0
    written = file.read_text()
    file.write_text(re.sub(r"purpose: .*", f"purpose: {PURPOSE}", written))
    for words in (("check", file), ("sign", file, "--key", key, "--json")):
        unfilled = _run(*words)
        assert unfilled.exit_code == 3, "custodians read what it is for"
        assert "first.yaml:4 purpose  draft-unfilled" in unfilled.output
    file.write_text(written)
    assert _run("check", file).exit_code == 0
    result = _run("sign", file, "--key", key, "--trust", root, "--json", input="y\n")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    envelope = Envelope.parse((folder / "first.yaml.signed.json").read_bytes())
    assert told == {"file": str(folder / "first.yaml.signed.json"), "digest": envelope.digest}
    assert "You are about to sign" in result.stderr
    assert envelope.digest in result.stderr and "What it uses up at most" in result.stderr
    assert json.loads(envelope.payload)["nonce"] not in result.stderr, "people read a page, not JSON"


def test_the_exact_json_is_shown_to_who_asks_for_it(folder, key, root):
    file = folder / "s.yaml"
    shutil.copy(JOBSPECS / "cohort-summary.yaml", file)
    result = _run("sign", file, "--key", key, "--trust", root, "--yes", "--show-json")
    assert result.exit_code == 0, result.output
    shown = next(line for line in result.stderr.splitlines() if line.startswith("{"))
    envelope = Envelope.parse((folder / "s.yaml.signed.json").read_bytes())
    assert shown.encode() == envelope.payload


def test_a_page_says_whose_key_it_is(folder, tmp_path, key):
    told = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    )
    file = folder / "s.yaml"
    shutil.copy(JOBSPECS / "cohort-summary.yaml", file)
    said = _run("sign", file, "--key", tmp_path / "key", input="n\n").stderr
    assert told.stdout.split()[1] in said
    assert "nobody whom the trust root lists" in said
    assert "for broker    north-sde" in said


def test_sign_asks_first_and_writes_nothing_on_no(folder, tmp_path, key):
    shutil.copy(JOBSPECS / "cohort-summary.yaml", folder / "first.yaml")
    result = _run("sign", folder / "first.yaml", "--key", tmp_path / "key", input="n\n")
    assert result.exit_code == 1
    assert not (folder / "first.yaml.signed.json").exists()


def test_sign_refuses_what_the_check_refuses(folder, tmp_path):
    (tmp_path / "key").write_text("")
    file = folder / "bad.yaml"
    shutil.copy(JOBSPECS / "invalid/dataset-not-granted.yaml", file)
    result = _run("sign", file, "--key", tmp_path / "key", "--yes")
    assert result.exit_code == 4
    assert "dataset-not-granted" in result.stderr


def test_sign_needs_a_trust_root(tmp_path):
    shutil.copy(JOBSPECS / "cohort-summary.yaml", tmp_path / "s.yaml")
    (tmp_path / "key").write_text("")
    result = _run("sign", tmp_path / "s.yaml", "--key", tmp_path / "key", "--yes")
    assert isinstance(result.exception, TrustRootNeededError)


def test_sign_takes_a_trust_root_by_option_and_checks_its_digest(folder, tmp_path):
    root = folder / "context/trust-root.json"
    (tmp_path / "key").write_text("")
    shutil.copy(JOBSPECS / "cohort-summary.yaml", folder / "s.yaml")
    result = _run(
        "sign",
        folder / "s.yaml",
        "--key",
        tmp_path / "key",
        "--trust",
        root,
        "--root-digest",
        "sha256:0",
        "--yes",
    )
    assert getattr(result.exception, "code", None) == "trust-root-mismatch"


@pytest.mark.parametrize(("roles", "code"), [(None, "signer-unknown"), (["admin"], "signer-lacks-role")])
def test_sign_refuses_a_key_that_counts_for_nothing(folder, key, party, root, roles, code):
    value = party.root_value()
    if roles is not None:
        line = key.with_name("key.pub").read_text().strip()
        value["people"]["zoe"] = {"name": "Z", "organisation": "north", "roles": roles, "keys": [line]}
    root.write_bytes(party.sign("trust-root", value, "ada", "bob").to_bytes())
    shutil.copy(JOBSPECS / "cohort-summary.yaml", folder / "s.yaml")
    result = _run("sign", folder / "s.yaml", "--key", key, "--trust", root, "--yes")
    assert getattr(result.exception, "code", None) == code
    assert not (folder / "s.yaml.signed.json").exists(), "nothing is written"


def test_sign_with_a_trust_root_still_applies_the_rules_that_are_near(folder, key, root):
    file = folder / "bad.yaml"
    shutil.copy(JOBSPECS / "invalid/dataset-not-granted.yaml", file)
    result = _run("sign", file, "--key", key, "--trust", root, "--yes")
    assert result.exit_code == 4 and "dataset-not-granted" in result.stderr


def test_sign_takes_the_root_and_the_key_of_the_login(tmp_path, key, root):
    held = load_root(root.read_bytes(), None)
    session = Session("work", Settings("http://127.0.0.1:1", str(key), "rae", "north-sde", held.digest))
    session.save()
    session.keep_root(held)
    shutil.copy(JOBSPECS / "cohort-summary.yaml", tmp_path / "s.yaml")
    result = _run("sign", tmp_path / "s.yaml", "--yes")
    assert result.exit_code == 0, result.output
    assert "The broker was not asked" in result.stderr, "its token has run out; the root is kept here"
    assert json.loads(Envelope.parse((tmp_path / "s.yaml.signed.json").read_bytes()).payload)[
        "trust-root"
    ] == (held.digest)


def test_new_without_a_login_says_what_it_leaves(tmp_path):
    result = _run("new", tmp_path / "first.yaml")
    assert result.exit_code == 0 and "You are not logged in" in result.stderr
    assert "your-project" in (tmp_path / "first.yaml").read_text()


def test_a_new_spec_with_its_purpose_passes_the_check_as_it_is(folder):
    file = folder / "first.yaml"
    purpose = 'Compare "spacing": by scanner # and site, für alle'
    told = _run("new", file, "--purpose", purpose)
    assert told.output.endswith(
        f"Next: hdrs-hpc try {file} (here, on made-up data); hdrs-hpc spec check {file}\n"
    )
    value, _ = strict_yaml.load(file.read_bytes())
    assert value["purpose"] == purpose
    assert _run("check", file).exit_code == 0


def test_new_never_overwrites(folder):
    (folder / "mine.yaml").write_text("precious")
    result = _run("new", folder / "mine.yaml")
    assert isinstance(result.exception, SpecExistsError)
    assert (folder / "mine.yaml").read_text() == "precious"


def test_check_shows_line_code_and_remedy_to_a_person():
    result = _run("check", JOBSPECS / "invalid/bad-memory.yaml")
    assert result.exit_code == 3
    assert "bad-memory.yaml:13 resources.mem  bad-memory" in result.stdout
    assert "such as `64G`" in result.stdout
    assert "1 fault" in result.stdout


def test_check_without_context_says_that_no_rules_were_applied():
    result = _run("check", JOBSPECS / "invalid/project-unknown.yaml", "--no-context")
    assert result.exit_code == 0
    assert "no project's rules were applied" in " ".join(result.stdout.split())


def test_every_command_shows_an_example():
    for name, command in spec.commands.items():
        assert "Example: hdrs-hpc spec" in (command.help or ""), name
