"""Which sandbox is taken, and that no other list of them stands anywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hdrs_hpc
from hdrs_hpc.confined import apptainer, bubblewrap, table
from hdrs_hpc.confined.port import Confined
from hdrs_hpc.confined.running import SandboxFailedError

ROOT = Path(hdrs_hpc.__file__).parents[1]
NAMED = re.compile(r"""["'][^"'\s]*(bwrap|bubblewrap|apptainer|process-limits)["']""")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Where the programs of the sandboxes would lie; none is there at first."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    places = {}
    for module, name in ((bubblewrap, "bwrap"), (apptainer, "apptainer")):
        places[name] = tmp_path / name
        monkeypatch.setattr(module, "PROGRAMS", (str(places[name]),))
    return places


def test_a_node_takes_bubblewrap_and_apptainer_where_there_is_none(there: dict[str, Path]) -> None:
    there["apptainer"].touch()
    assert table.choose("node", "sandboxed").name == "apptainer"
    there["bwrap"].touch()
    assert table.choose("node", "sandboxed").name == "bubblewrap"
    assert table.choose("node", "cooperative").name == "process-limits"


def test_a_node_with_neither_says_what_is_missing(there: dict[str, Path]) -> None:
    chosen = table.choose("node", "sandboxed")
    with pytest.raises(SandboxFailedError, match="bubblewrap-missing"):
        chosen.prepare(Confined(("/usr/bin/true",), {}, Path("/")), None)


def test_checker_and_parsers_never_take_what_is_untried(there: dict[str, Path]) -> None:
    there["apptainer"].touch()
    assert {table.strongest("checker").name, table.strongest("parsers").name} == {"process-limits"}


def test_no_user_is_left_without(there: dict[str, Path]) -> None:
    for user in table.USERS:
        assert table.giving(user, "cooperative") and table.giving(user, "sandboxed")


def test_the_weakest_of_several_is_told() -> None:
    assert table.weakest_of(["bubblewrap", "process-limits", "bubblewrap"]) == "process-limits"
    assert table.weakest_of(["bubblewrap"]) == "bubblewrap"


def test_sandboxes_are_named_in_their_own_files_and_nowhere_else() -> None:
    """Each name once, in its provider; programs beside it."""
    folders = ("hdrs_hpc", "imaging", "connectors", "benchmarks")
    naming = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if NAMED.search(path.read_text("utf-8"))
    }
    own = {f"hdrs_hpc/confined/{name}.py" for name in ("apptainer", "bubblewrap", "process_limits")}
    assert naming == own
