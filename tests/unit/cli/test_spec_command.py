"""``hdrs-hpc spec`` as a person types it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from hdrs_hpc.cli.spec import SpecExistsError, TrustRootNeededError, spec
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.unfilled import PURPOSE

JOBSPECS = Path(__file__).parents[3] / "jobspecs"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of one's own below the examples' context."""
    shutil.copytree(JOBSPECS / "context", tmp_path / "context")
    shutil.copy(JOBSPECS / "hdrs-hpc.toml", tmp_path)
    return tmp_path


def _run(*arguments, **options):
    return CliRunner().invoke(spec, [str(item) for item in arguments], **options)


def test_new_then_check_then_sign(folder, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    file = folder / "first.yaml"
    assert _run("new", file).exit_code == 0
    for words in (("check", file), ("sign", file, "--key", tmp_path / "key", "--json")):
        unfilled = _run(*words)
        assert unfilled.exit_code == 3, "custodians read what it is for"
        assert "first.yaml:4 purpose  draft-unfilled" in unfilled.output
    file.write_text(file.read_text().replace(PURPOSE, "Describe the cohort before training"))
    assert _run("check", file).exit_code == 0
    result = _run("sign", file, "--key", tmp_path / "key", "--json", input="y\n")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    envelope = Envelope.parse((folder / "first.yaml.signed.json").read_bytes())
    assert told == {"file": str(folder / "first.yaml.signed.json"), "digest": envelope.digest}
    assert "You are about to sign" in result.stderr
    assert envelope.digest in result.stderr and "What it uses up at most" in result.stderr
    assert json.loads(envelope.payload)["nonce"] not in result.stderr, "people read a page, not JSON"


def test_the_exact_json_is_shown_to_who_asks_for_it(folder, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    file = folder / "s.yaml"
    shutil.copy(JOBSPECS / "cohort-summary.yaml", file)
    result = _run("sign", file, "--key", tmp_path / "key", "--yes", "--show-json")
    assert result.exit_code == 0, result.output
    shown = next(line for line in result.stderr.splitlines() if line.startswith("{"))
    envelope = Envelope.parse((folder / "s.yaml.signed.json").read_bytes())
    assert shown.encode() == envelope.payload


def test_a_page_says_whose_key_it_is(folder, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    told = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    )
    file = folder / "s.yaml"
    shutil.copy(JOBSPECS / "cohort-summary.yaml", file)
    said = _run("sign", file, "--key", tmp_path / "key", input="n\n").stderr
    assert told.stdout.split()[1] in said
    assert "nobody whom the trust root lists" in said
    assert "for broker    north-sde" in said


def test_sign_asks_first_and_writes_nothing_on_no(folder, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
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
