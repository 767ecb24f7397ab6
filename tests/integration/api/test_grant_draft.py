"""A grant is drafted from what the broker knows; what only a person can decide stays blank, and is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hdrs_hpc.broker import sites
from hdrs_hpc.broker.store import capacity
from hdrs_hpc.cli.grant import grant
from hdrs_hpc.client import login
from hdrs_hpc.core import clock, ids, strict_yaml
from hdrs_hpc.core.capacity import Capacity, NodeKind
from hdrs_hpc.documents import unfilled
from hdrs_hpc.documents.models.grant import Grant
from tests.integration.api.conftest import CLUSTER, Open
from tests.support.party import REGISTRATION


@pytest.fixture
def custodian(opened: Open) -> Open:
    sites.add(opened.office.home, CLUSTER, replace=True)
    login.login(opened.url, opened.key("ada"), context="ada", root_digest=opened.office.root.digest)
    return opened


def draft(*words: str) -> Result:
    return CliRunner().invoke(grant, ["draft", *words])


def written(file: str) -> tuple[str, Grant]:
    text = Path(file).read_text()
    return text, Grant.from_value(strict_yaml.load(text.encode())[0])


def test_what_the_broker_knows_is_filled_in_and_what_is_left_is_named(custodian: Open) -> None:
    with custodian.office.db.write() as tx:
        capacity.note(tx, "isambard-ai", Capacity((NodeKind(2, 8, 16_384),), max_time_s=7200))
    result = draft("heart-fm.yaml")
    assert result.exit_code == 0, result.output
    text, found = written("heart-fm.yaml")
    assert (found.project, found.version) == ("heart-fm", 1)
    assert {name: item.version for name, item in found.data.items()} == {
        "north-chest-ct": REGISTRATION["version"]
    }
    assert f"radiology, {REGISTRATION['items']} items, real, of north" in text
    assert (found.limits.clusters, found.limits.isolation) == (("isambard-ai",), "sandboxed")
    assert (found.limits.time, found.limits.gpu_hours) == (7200, 0), "what its nodes have"
    assert "researchers here: " in text and "rae (" in text
    assert "# who could: " in text
    left = set(unfilled.places(strict_yaml.load(text.encode())[0]))
    assert {"title", "approval.body", "lay-summary", "contact"} <= left
    assert not [place for place in left if place.startswith(("data", "limits"))]
    assert all(place in result.output for place in left)


def test_where_there_is_a_choice_the_choices_are_told_and_none_is_made(custodian: Open) -> None:
    more = {**REGISTRATION, "name": "north-knee-mr", "version": "sha256:" + "5" * 64}
    custodian.office.accept("dataset-registration", more, "ada", "bob")
    text, found = (draft("heart-fm.yaml"), written("heart-fm.yaml"))[1]
    assert list(found.data) == [unfilled.DATASET]
    assert "north-chest-ct, north-knee-mr" in text
    assert draft("knee-fm.yaml", "--dataset", "north-knee-mr").exit_code == 0
    assert list(written("knee-fm.yaml")[1].data) == ["north-knee-mr"]
    refused = draft("other.yaml", "--dataset", "south-mr")
    assert getattr(refused.exception, "code", "") == "dataset-not-registered"


def test_a_new_version_of_a_dataset_is_the_one_drafted(custodian: Open) -> None:
    newer = {**REGISTRATION, "version": "sha256:" + "5" * 64}
    custodian.office.accept("dataset-registration", newer, "ada", "bob")
    draft("heart-fm.yaml")
    assert written("heart-fm.yaml")[1].data["north-chest-ct"].version == newer["version"]


def test_of_a_project_that_is_there_the_next_version_is_drafted(custodian: Open) -> None:
    assert draft("lung-fm.yaml").exit_code == 0
    _, found = written("lung-fm.yaml")
    assert (found.project, found.version) == ("lung-fm", 2)
    assert found.supersedes is not None


def test_of_a_project_that_is_closed_nothing_is_drafted(custodian: Open) -> None:
    value = {
        "schema": "hdrs-hpc/closure/2",
        "project": "lung-fm",
        "action": "close",
        "reason": "study finished",
        "nonce": ids.new_id(26),
        "at": clock.to_text(clock.now()),
    }
    custodian.office.accept("closure", value, "ada")
    refused = draft("lung-fm.yaml")
    assert getattr(refused.exception, "code", "") == "project-closed"
    assert not Path("lung-fm.yaml").exists()


def test_without_a_login_everything_is_blank_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    result = draft("lung-fm.yaml")
    assert result.exit_code == 0 and "not logged in" in result.stderr
    assert "data.your-dataset" in result.stdout
