"""``hdrs-hpc opt-out`` as a custodian types it, against a broker that listens."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from hdrs_hpc.broker.store import opt_outs
from hdrs_hpc.cli.main import cli
from tests.integration.api.conftest import Open
from tests.support.party import REGISTRATION

DATASET = "south-ct"


def hdrs_hpc(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def done(*words: object) -> Result:
    result = hdrs_hpc(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def at_work(opened: Open) -> None:
    """A custodian who is logged in, and a dataset of which nobody said anything."""
    opened.office.accept("dataset-registration", REGISTRATION | {"name": DATASET}, "ada", "bob")
    done("login", opened.url, "--key", opened.key("ada"), "--root-digest", opened.office.root.digest)


def said(opened: Open) -> list[opt_outs.Statement]:
    with opened.office.db.read() as tx:
        return opt_outs.of_dataset(tx, DATASET)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_from_silence_to_a_list_and_back(opened: Open, tmp_path: Path) -> None:
    at_work(opened)
    assert "nothing of it is staged" in done("opt-out", "show", DATASET).output
    first = done("opt-out", "add", DATASET, write(tmp_path, "943 476 5919", "A-1"), "--yes")
    assert "2 patients added" in first.output
    second = done("opt-out", "add", DATASET, write(tmp_path, "B-2", "a1", "9434765919"), "--yes")
    assert "ids 2, 3: on the list already" in second.output and "1 patient added" in second.output
    again = done("opt-out", "add", DATASET, write(tmp_path, "B2"), "--yes")
    assert "nothing was signed" in again.output and len(said(opened)) == 2
    gone = done("opt-out", "remove", DATASET, write(tmp_path, "a1"), "--yes", "--reason", "Added in error.")
    assert "1 patient taken off" in gone.output
    shown = json.loads(done("opt-out", "show", DATASET, "--json").output)
    assert (shown["version"], shown["about"], shown["list"]) == (3, 10, said(opened)[-1].list)
    everything = "".join(item.output for item in (first, second, again, gone)) + str(shown)
    assert "9434765919" not in everything and "943 476 5919" not in everything
    done("opt-out", "nobody", DATASET, "--reason", "Every patient left the study.", "--yes")
    assert said(opened)[-1].about == 0
    left = [path for path in tmp_path.rglob("*") if path.is_file() and b"9434765919" in path.read_bytes()]
    assert all("opt-outs" in path.parts for path in left), "the laptop keeps no id"


def test_mistakes_are_told_by_number_and_change_nothing(opened: Open, tmp_path: Path) -> None:
    at_work(opened)
    done("opt-out", "add", DATASET, write(tmp_path, "A1"), "--yes")
    absent = hdrs_hpc(
        "opt-out", "remove", DATASET, write(tmp_path, "A1", "C3"), "--yes", "--reason", "Error."
    )
    assert "id 2: not on the list" in str(absent.exception) + absent.output
    odd = hdrs_hpc("opt-out", "add", DATASET, write(tmp_path, "B2", "Jane,Featherstone"), "--yes")
    assert "line 2" in str(odd.exception) + odd.output and "Featherstone" not in odd.output
    for words in (("remove", DATASET, tmp_path / "list.txt"), ("nobody", DATASET)):
        assert hdrs_hpc("opt-out", *words).exit_code == 2, "a reason is asked for"
    assert hdrs_hpc("opt-out", "add", DATASET, tmp_path / "absent.txt").exit_code != 0
    assert len(said(opened)) == 1
