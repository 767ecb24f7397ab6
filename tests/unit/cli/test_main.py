"""The front of the program: light, lazy, and every failure told with its code, exit code and remedy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hdrs_hpc.cli import main, reference
from hdrs_hpc.core.errors import KINDS, ConflictError

HEAVY = {
    "asyncio", "cryptography", "dask", "fastapi", "httpx", "numpy", "paramiko", "pyarrow", "pydantic", "rich",
    "ruamel", "sqlalchemy", "uvicorn", "zarr",
}  # fmt: skip
EXIT_CODES = {
    "usage": 2,
    "bad-document": 3,
    "not-allowed": 4,
    "not-found": 5,
    "conflict": 6,
    "site": 7,
    "bug": 70,
    "interrupted": 130,
}


def walk(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += walk(child, (*path, name))
    return found


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom hdrs_hpc.cli.main import run\n"
        "code = run(['--help'])\nprint(sorted(sys.modules), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ast.literal_eval(done.stderr)}
    ours = [name for name in ast.literal_eval(done.stderr) if name.startswith("hdrs_hpc.")]
    assert not loaded & HEAVY
    assert ours == ["hdrs_hpc.cli", "hdrs_hpc.cli.main"]
    assert "certificate" in done.stdout


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_short_help_shown_without_importing_agrees_with_the_command(name: str) -> None:
    command = main.load(main.COMMANDS[name][0])
    assert command.name == name
    assert command.help


@pytest.mark.parametrize(
    ("path", "command"),
    walk(main.cli)[1:],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_help_ends_with_an_example(path: tuple[str, ...], command: click.Command) -> None:
    text = command.help or ""
    assert "Example" in text, f"hdrs-hpc {' '.join(path)} has no example"
    example = text[text.rindex("Example") :]
    assert f"hdrs-hpc {path[0]}" in example


def test_the_commands_of_the_contract_are_there() -> None:
    there = {" ".join(path) for path, _ in walk(main.cli)}
    wanted = """demo; login; submit; explain; version
    certificate verify; audit verify; audit show; project list; project show; project freeze; project close
    project report
    spec new; spec check; spec sign; job list; job show; job watch; job cancel; job fetch
    dataset scan; dataset register; dataset list; dataset show
    grant draft; grant diff; grant sign; grant submit; grant show; grant revoke
    trust init; trust sign; trust submit; trust show; trust verify
    review list; review show; review open; review decide; broker init; broker serve; broker status
    cluster add; cluster install; cluster doctor; cluster list; cluster drain
    imaging secret new; imaging stage; imaging verify; imaging inspect; imaging index"""
    assert {item.strip() for line in wanted.splitlines() for item in line.split(";")} <= there


def test_exit_codes_are_stable() -> None:
    assert {kind.kind: kind.exit_code for kind in KINDS} == EXIT_CODES


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_an_error_is_told_with_code_place_and_remedy(
    kind: type, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def failing(as_json: bool) -> None:
        raise kind("what is wrong", where="line 7", remedy="mend line 7")

    monkeypatch.setattr(main, "load", lambda place: failing)
    assert main.run(["version", "--json"]) == EXIT_CODES[kind.kind]
    shown = capsys.readouterr()
    for text in (kind.code, "what is wrong", "line 7", "mend line 7"):
        assert text in shown.err
    assert json.loads(shown.out)["error"] == {
        "kind": kind.kind,
        "code": kind.code,
        "message": "what is wrong",
        "where": "line 7",
        "remedy": "mend line 7",
        "retry": kind.retry,
    }


def test_our_own_bug_is_called_one_and_asks_to_be_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.delenv("HDRS_HPC_DEBUG", raising=False)
    monkeypatch.setattr(main, "load", lambda place: failing)
    assert main.run(["version"]) == 70
    shown = capsys.readouterr().err
    assert "internal-bug" in shown
    assert "Traceback" not in shown


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "load", lambda place: stopped)
    assert main.run(["version"]) == 130


def test_a_part_that_is_not_installed_is_named_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    error = main.missing_part(ModuleNotFoundError("no", name="sqlalchemy.orm"), "broker")
    assert "sqlalchemy" in str(error)
    assert "'hdrs-hpc[broker]'" in vars(error)["remedy"]
    demo = main.missing_part(ModuleNotFoundError("no", name="wsidicom_data"), "demo")
    assert "pip install 'hdrs-hpc[demo]'" in vars(demo)["remedy"]
    bench = main.missing_part(ModuleNotFoundError("no", name="benchmarks"), "bench")
    assert "clone" in str(bench)
    own = ModuleNotFoundError("no", name="hdrs_hpc.no_such")
    assert main.missing_part(own, "broker") is own


def test_a_mistyped_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["no-such-noun"]) == 2
    assert main.run(["job", "no-such-verb", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "usage"


def test_generated_pages_are_up_to_date() -> None:
    # In a process of its own: help texts depend on the terminal's width and on what other tests set up.
    tool = reference.ROOT / "tests/tools/docs_up_to_date.py"
    done = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_code_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    from hdrs_hpc.cli import reasons

    for item in reasons.known():
        assert item.meaning.endswith((".", "…)")), item.code
        assert item.remedy, item.code
    assert main.run(["explain", "isolation-insufficient", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told[0]["exit_code"] == 4
    assert main.run(["explain", "isolation-insuficient"]) == 5
    assert "isolation-insufficient" in capsys.readouterr().err


def test_reasons_of_jobs_are_in_the_table_of_codes() -> None:
    """Reason codes that steps write as plain text, found in their source, are explained too."""
    import re

    from hdrs_hpc.cli import reasons

    known = {item.code for item in reasons.known()}
    steps = Path(reference.ROOT / "hdrs_hpc/broker/controller/steps")
    written = set()
    for path in steps.glob("*.py"):
        text = path.read_text("utf-8")
        written |= set(re.findall(r'(?:EndJob|Stop|Fail|Wait)\((?:[\w.]+, )*"([a-z]+(?:-[a-z]+)*)"', text))
        written |= set(re.findall(r'Outcome\.[A-Z]+, "([a-z]+(?:-[a-z]+)*)"', text))
    assert written, "the pattern no longer fits the steps"
    assert written <= known


def test_no_error_uses_a_code_twice() -> None:
    from hdrs_hpc.core.errors import all_errors

    assert all_errors()["conflict"] is ConflictError
