"""The documentation points to what is there, and every command that it quotes is one that can be typed."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hdrs_hpc.cli.main import cli

ROOT = Path(__file__).resolve().parents[3]
FENCE = re.compile(r"^(```+)([a-z]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!\\)\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)")
INLINE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)
OUR_PATH = re.compile(
    r"(hdrs_hpc|connectors|imaging|tests|deploy|jobspecs|docs)/[A-Za-z0-9_./@-]*[A-Za-z0-9_]"
)
TEST_FILE = re.compile(r"(unit|integration|contract|site|faults)/[a-z0-9_/]+\.py")
SHELL = ("", "sh", "bash", "console")
GENERATED = ("docs/reference/cli.md",)


def pages() -> list[Path]:
    """Every page that is, or is about to be, part of the repository."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [ROOT / line for line in done.stdout.splitlines()] or [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
    ]
    return sorted(path for path in found if path.is_file())


def without_code(text: str) -> str:
    return INLINE.sub("", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """As a forge makes them of headings."""
    words = (
        re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", found)
        for found in HEADING.findall(FENCE.sub("", page.read_text()))
    )
    return {re.sub(r"[^\w\- ]", "", word.lower()).replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(without_code(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        lost = not file.exists() or not file.is_relative_to(ROOT)
        if lost or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    missing = []
    for text in INLINE.findall(FENCE.sub("", page.read_text("utf-8"))):
        if OUR_PATH.fullmatch(text) and not (ROOT / text).exists():
            missing.append(text)
        if TEST_FILE.fullmatch(text) and not (ROOT / "tests" / text).is_file():
            missing.append(text)
    assert missing == []


def quoted(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Words behind ``hdrs-hpc`` wherever a page quotes it, and whether it stands there to be copied."""
    text = page.read_text("utf-8")
    for _, language, body in FENCE.findall(text):
        if language in SHELL:
            for line in body.replace("\\\n", " ").splitlines():
                for words in commands(line):
                    yield words, True
    for code in INLINE.findall(FENCE.sub("", text)):
        for words in commands(code):
            yield words, False


def commands(line: str) -> Iterator[list[str]]:
    """Each ``hdrs-hpc`` of a shell line, without its pipes, comments and what precedes it."""
    if "hdrs-hpc" not in line:
        return
    lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        raise AssertionError(f"no shell reads this: {line}") from None
    current: list[str] = []
    for word in [*words, ";"]:
        if word and set(word) <= set("|&;>"):
            if current and Path(current[0]).name == "hdrs-hpc" and len(current) > 1:
                yield current[1:]
            current = []
        else:
            current.append(word)


def fault(words: list[str], whole: bool) -> str | None:
    """Why click would not take the command; ``whole``: required arguments and options must be there too."""
    command: click.Command = cli
    context = click.Context(cli, info_name="hdrs-hpc")
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if rest[0] == "…":  # several are meant
            return None
        found = command.get_command(context, rest[0])
        if found is None:
            return f"there is no {rest[0]}"
        command, context = found, click.Context(found, parent=context, info_name=rest.pop(0))
    try:
        given, extra, _ = command.make_parser(context).parse_args(list(rest))
        nothing, _, _ = command.make_parser(context).parse_args([])
    except click.UsageError as error:
        return error.format_message()
    if extra:
        return f"nothing takes {extra[0]}"
    for parameter in command.params:
        value = given.get(parameter.name or "")
        if whole and parameter.required and value == nothing.get(parameter.name or ""):
            return f"{parameter.name} is missing"
        one_of = parameter.type.choices if isinstance(parameter.type, click.Choice) else ()
        if one_of and isinstance(value, str) and value != "…" and value not in one_of:
            return f"{value} is none of {', '.join(map(str, one_of))}"
    return None


@pytest.mark.parametrize(
    "page",
    [page for page in pages() if str(page.relative_to(ROOT)) not in GENERATED],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_quoted_command_can_be_typed(page: Path) -> None:
    faults = [(" ".join(words), found) for words, whole in quoted(page) if (found := fault(words, whole))]
    assert faults == []


def test_the_check_of_commands_can_fail() -> None:
    assert fault(["job", "shew", "7K3"], True) == "there is no shew"
    assert "--resaon" in (fault(["project", "freeze", "lung-fm", "--resaon", "x"], True) or "")
    assert fault(["project", "freeze", "lung-fm"], True) == "reason is missing"
    assert fault(["project", "freeze", "lung-fm"], False) is None
    assert fault(["job", "show", "7K3", "more"], False) == "nothing takes more"
    assert "none of" in (fault(["demo", "--cluster", "moon"], False) or "")
    assert list(commands("x | hdrs-hpc job list; hdrs-hpc version  # why")) == [["job", "list"], ["version"]]


def test_pages_of_every_reader_are_there_and_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text("utf-8")
    listed = {target.partition("#")[0] for target in LINK.findall(index)}
    here = {str(page.relative_to(ROOT / "docs")) for page in pages() if page.is_relative_to(ROOT / "docs")}
    assert here - listed - {"index.md"} == set()
