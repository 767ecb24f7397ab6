"""The rules on the laptop, by what a real API shows of a project: nothing is signed that would be refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hdrs_hpc.broker import sites
from hdrs_hpc.broker.store import capacity
from hdrs_hpc.cli.project import project
from hdrs_hpc.cli.spec import spec
from hdrs_hpc.cli.submit import submit
from hdrs_hpc.cli.trying import known
from hdrs_hpc.client import login
from hdrs_hpc.core import clock, ids
from hdrs_hpc.core.capacity import Capacity, NodeKind
from hdrs_hpc.documents.unfilled import PURPOSE
from tests.integration.api.conftest import CLUSTER, Open
from tests.support.party import REGISTRATION

OWN_CODE = """\
workload:
  kind: dask
  bundle: ./code
  entry: main:run
"""


def run(command: object, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])  # type: ignore[arg-type]


def at_work(opened: Open, person: str = "rae") -> Path:
    """Logged in, the cluster of the grants there; gives where the spec goes."""
    sites.add(opened.office.home, CLUSTER, replace=True)
    login.login(opened.url, opened.key(person), context=person, root_digest=opened.office.root.digest)
    return opened.folder / "first.yaml"


def begun(file: Path, *words: str) -> None:
    """A new spec."""
    assert run(spec, "new", file, *words).exit_code == 0


def codes(result: Result) -> list[str]:
    return [item["code"] for item in json.loads(result.stdout)["findings"]]


def closure(opened: Open, action: str) -> None:
    value = {
        "schema": "hdrs-hpc/closure/2",
        "project": "lung-fm",
        "action": action,
        "reason": "a query of the ethics committee",
        "nonce": ids.new_id(26),
        "at": clock.to_text(clock.now()),
    }
    opened.office.accept("closure", value, "ada")


def test_a_new_spec_names_the_persons_project_and_data_and_passes_the_check(opened: Open) -> None:
    file = at_work(opened)
    begun(file)
    text = file.read_text()
    assert "project: lung-fm" in text and "{dataset: north-chest-ct}" in text
    checked = run(spec, "check", file, "--json")
    assert checked.exit_code == 0, checked.output
    report = json.loads(checked.stdout)
    assert report["decision"]["allowed"] is True
    assert (report["broker"], report["context"], report["not-applied"]) == ("north-sde", None, [])


def test_what_the_grant_does_not_give_is_refused_before_it_is_sent(opened: Open) -> None:
    file = at_work(opened)
    begun(file)
    file.write_text(file.read_text().replace("nodes: 1 ", "nodes: 9 "))
    result = run(spec, "check", file, "--json")
    assert result.exit_code == 4
    assert codes(result) == ["isolation-insufficient", "nodes-over-limit"]


def told(opened: Open, *kinds: NodeKind) -> None:
    """What the controller keeps when the cluster told of its nodes."""
    with opened.office.db.write() as tx:
        capacity.note(tx, "isambard-ai", Capacity(kinds, max_time_s=7200))


def test_what_the_nodes_do_not_have_is_refused_before_it_is_sent_and_shown(opened: Open) -> None:
    file = at_work(opened)
    assert "isambard-ai: not known yet" in run(project, "show", "lung-fm").stdout
    begun(file)
    file.write_text(file.read_text().replace("  # gres: gpu:1", "  gres: gpu:1"))
    assert run(spec, "check", file).exit_code == 0, "nothing is refused for what is not known"
    told(opened, NodeKind(2, 8, 16_384))
    result = run(spec, "check", file, "--json")
    assert (result.exit_code, codes(result)) == (4, ["gpus-not-there"])
    assert "no GPU" in json.loads(result.stdout)["findings"][0]["message"]
    shown = run(project, "show", "lung-fm").stdout
    assert "isambard-ai: 2 nodes of 8 CPUs, 16G, no GPU; a job up to 02:00:00 (told 20" in shown


def test_a_new_spec_asks_for_no_more_than_the_nodes_have(opened: Open) -> None:
    file = at_work(opened)
    told(opened, NodeKind(1, 2, 4096))
    begun(file)
    text = file.read_text()
    assert "cpus-per-task: 2\n" in text and "mem: 4G\n" in text and "gres" not in text
    assert run(spec, "check", file).exit_code == 0


def test_new_settings_of_a_cluster_make_what_it_told_unknown(opened: Open) -> None:
    at_work(opened)
    told(opened, NodeKind(1, 2, 4096))
    sites.add(opened.office.home, CLUSTER, replace=True)
    assert "isambard-ai: not known yet" in run(project, "show", "lung-fm").stdout


def test_a_cluster_that_the_broker_does_not_have_is_named_once(opened: Open) -> None:
    file = at_work(opened)
    begun(file)
    (opened.office.home.clusters_dir / "isambard-ai.toml").unlink()
    assert codes(run(spec, "check", file, "--json")) == ["cluster-not-granted"]


def test_submit_signs_nothing_that_the_rules_refuse(opened: Open) -> None:
    file = at_work(opened)
    begun(file)
    file.write_text(file.read_text().replace("{dataset: north-chest-ct}", "{dataset: south-knee-mr}"))
    before = opened.office.events()
    result = run(submit, file, "--yes")
    assert result.exit_code == 4
    assert "dataset-not-granted" in result.stderr and "about to sign" not in result.stderr
    assert opened.office.events() == before


@pytest.mark.parametrize("action", ["freeze", "close"])
def test_submit_to_a_project_that_was_stopped_is_refused_before_signing(opened: Open, action: str) -> None:
    file = at_work(opened)
    begun(file)
    closure(opened, action)
    before = opened.office.events()
    result = run(submit, file, "--yes")
    assert result.exit_code == 4
    assert "project-not-active" in result.stderr and "about to sign" not in result.stderr
    assert opened.office.events() == before


def test_a_good_spec_is_signed_and_becomes_a_job(opened: Open) -> None:
    file = at_work(opened)
    run(spec, "new", file)
    written = file.read_text()
    assert 'purpose: "A first run of the example' in written
    file.write_text(re.sub(r"purpose: .*", f"purpose: {PURPOSE}", written))
    draft = run(submit, file, "--yes")
    assert draft.exit_code == 3 and "draft-unfilled" in draft.stderr, "custodians read what it is for"
    file.write_text(written)
    result = run(submit, file, "--yes")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() and "about to sign" in result.stderr


def test_sign_shows_what_the_broker_shows_of_the_project(opened: Open) -> None:
    file = at_work(opened)
    begun(file)
    result = run(spec, "sign", file, "--yes")
    assert result.exit_code == 0, result.output
    assert "not applied here" not in result.stderr and "you sign as   rae" in result.stderr
    file.write_text(file.read_text().replace("{dataset: north-chest-ct}", "{dataset: south-knee-mr}"))
    refused = run(spec, "sign", file, "--yes")
    assert refused.exit_code == 4 and "dataset-not-granted" in refused.stderr


def test_whether_code_was_reviewed_is_said_to_be_unknown_here(opened: Open) -> None:
    file = at_work(opened)
    begun(file, "--own-code")
    text = file.read_text()
    begin, end = text.index("workload:"), text.index("resources:")
    file.write_text(text[:begin] + OWN_CODE + text[end:])
    (opened.folder / "code/main.py").write_text("def run(context): pass\n")
    result = run(spec, "check", file, "--json")
    assert result.exit_code == 0, result.output
    (untold,) = json.loads(result.stdout)["not-applied"]
    assert untold.startswith("workload-granted: whether a code reviewer")
    assert "not applied here" in run(spec, "check", file).stdout


def test_another_persons_project_is_unknown_and_says_no_more(opened: Open) -> None:
    file = at_work(opened)
    begun(file)
    file.write_text(file.read_text().replace("project: lung-fm", "project: skin-fm"))
    result = run(spec, "check", file, "--json")
    assert (result.exit_code, codes(result)) == (4, ["project-unknown"])
    assert (
        getattr(run(spec, "new", "b.yaml", "--project", "skin-fm").exception, "code", "") == "project-unknown"
    )


def test_a_new_version_of_the_data_is_seen_on_the_laptop(opened: Open) -> None:
    file = at_work(opened)
    begun(file)
    opened.office.accept(
        "dataset-registration", {**REGISTRATION, "version": "sha256:" + "5" * 64}, "ada", "bob"
    )
    # The version that the grant names stays registered, so the project goes on with it.
    assert run(spec, "check", file, "--json").exit_code == 0


def test_a_login_that_ran_out_leaves_the_form_and_says_so(opened: Open) -> None:
    file = at_work(opened)
    begun(file)
    (opened.folder / "home/.local/state/hdrs-hpc/rae/login.json").unlink()
    result = run(spec, "check", file, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["decision"] is None
    assert "The broker was not asked" in result.stderr
    assert run(spec, "new", "later.yaml").exit_code == 0
    assert "your-project" in Path("later.yaml").read_text()


def test_what_was_shown_of_a_project_is_known_without_asking_again(opened: Open) -> None:
    file = at_work(opened)
    assert known.of_project(file, "lung-fm", None).grant is None
    run(project, "show", "lung-fm")
    (opened.folder / "home/.local/state/hdrs-hpc/rae/login.json").unlink()
    found = known.of_project(file, "lung-fm", None)
    assert found.grant is not None and found.grant.project == "lung-fm"
    assert found.kinds["north-chest-ct"] == "radiology"
    assert known.of_project(file, "skin-fm", None).grant is None
