"""The client against a real API over HTTP: what it believes, what it refuses to, what it keeps."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import click
import pytest

from hdrs_hpc.broker import sites
from hdrs_hpc.broker.filing import accept
from hdrs_hpc.broker.store import artefacts as store
from hdrs_hpc.broker.store import log
from hdrs_hpc.cli import main
from hdrs_hpc.client import checkpoints, filing, jobs, login, reviews
from hdrs_hpc.client.http import Api, BrokerAnswerError, BrokerRefusedError, BrokerUnreachableError
from hdrs_hpc.client.login import RootNotConfirmedError
from hdrs_hpc.client.session import NotLoggedInError, Session
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.signing import sign_in_process
from hdrs_hpc.documents.unfilled import PURPOSE
from tests.integration.api.conftest import CLUSTER, Open
from tests.support.client_cpu import COMMAND_S, assert_cheap
from tests.support.office import TABLE, digest
from tests.support.party import Party, changed


def logged_in(opened: Open, person: str) -> Session:
    done = login.login(opened.url, opened.key(person), context=person, root_digest=opened.office.root.digest)
    return done.session


# --- whom it believes


def test_the_first_login_shows_the_trust_root_and_no_means_no(opened: Open) -> None:
    seen = []
    with pytest.raises(RootNotConfirmedError):
        login.login(opened.url, opened.key("rae"), confirm=lambda root: bool(seen.append(root.digest)))
    assert seen == [opened.office.root.digest]
    with pytest.raises(NotLoggedInError):
        Session.current()
    assert "login-accepted" not in opened.office.events()


def test_a_broker_with_another_trust_root_than_the_one_told_is_refused(opened: Open) -> None:
    with pytest.raises(trust.TrustRootMismatchError):
        login.login(opened.url, opened.key("rae"), root_digest="sha256:" + "0" * 64)


def test_a_later_trust_root_is_followed_only_by_succession(opened: Open) -> None:
    office, session = opened.office, logged_in(opened, "rae")
    value = {**office.root_value, "version": 2, "supersedes": office.root.digest}
    second = office.party.sign("trust-root", value, "ada", "bob")
    accept.accept(office.db, office.ask, second.to_bytes(), home=office.home)
    assert session.refresh_root().digest == second.digest
    assert Session.current("rae").root.digest == second.digest, "it is kept"


def test_a_broker_that_replaces_its_trust_root_without_succession_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker (or who took its place) signs a new root with keys of its own."""
    session = logged_in(opened, "rae")
    thief = Party()
    value = thief.root_value(version=2, supersedes=opened.office.root.digest)
    forged = thief.sign("trust-root", value, "ada", "bob").to_bytes()
    real = Api.get_bytes

    def get_bytes(api: Api, path: str, **query: object) -> bytes:
        if path == "/v1/broker":
            return strict_json.dumps({"trust-root-version": 2})
        return forged if path == "/v1/trust-root/2" else real(api, path)

    monkeypatch.setattr(Api, "get_bytes", get_bytes)
    with pytest.raises(trust.ThresholdNotMetError):
        session.refresh_root()
    assert session.root.digest == opened.office.root.digest


def test_an_older_trust_root_than_the_one_seen_is_an_alarm(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = logged_in(opened, "rae")
    monkeypatch.setattr(Api, "get", lambda api, path, **query: {"trust-root-version": 0})
    with pytest.raises(trust.NotAllowedError) as caught:
        session.refresh_root()
    assert caught.value.code == "trust-root-rolled-back"


# --- what it keeps


def test_tokens_and_settings_are_for_their_owner_only(opened: Open) -> None:
    session = logged_in(opened, "rae")
    for path in (session.state_dir / "login.json", session.state_dir / "trust-root.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert session.state_dir.stat().st_mode & 0o777 == 0o700
    written = json.loads((opened.folder / "home/.config/hdrs-hpc/contexts.json").read_text())
    assert written["contexts"]["rae"]["person"] == "rae"
    token = json.loads((session.state_dir / "login.json").read_text())["token"]
    assert token not in json.dumps(written)


def test_each_checkpoint_is_kept_and_must_extend_the_last(opened: Open) -> None:
    session = logged_in(opened, "rae")
    for _ in range(3):
        envelope = opened.office.party.sign("job-spec", opened.office.spec(), "rae")
        receipt = filing.file(session, envelope)
    kept = checkpoints.last(session)
    assert kept is not None
    assert kept.size == receipt.log_size
    assert len((session.state_dir / "checkpoints.jsonl").read_bytes().splitlines()) == 3


def test_a_log_that_was_rewritten_is_an_alarm_and_its_checkpoint_is_not_kept(opened: Open) -> None:
    """The broker's own key signs another history: only who kept a checkpoint can tell."""
    office, session = opened.office, logged_in(opened, "rae")
    filing.file(session, office.party.sign("job-spec", office.spec(), "rae"))
    before = checkpoints.last(session)
    assert before is not None
    payload = strict_json.dumps(
        {
            "schema": "hdrs-hpc/checkpoint/1",
            "audience": "north-sde",
            "size": before.size,
            "root": "00" * 32,
            "at": clock.to_text(clock.now()),
        }
    )
    private = office.keyd._private("checkpoint")
    for size in (before.size, before.size - 1, before.size + 1, before.size + 1000):
        value = {**strict_json.loads(payload), "size": size}
        forged = sign_in_process(kinds.CHECKPOINT, strict_json.dumps(value), private).to_bytes()
        with office.db.write() as tx:
            log.append(tx, "login-refused", {}, detail={"code": "login-code-wrong"})
        with pytest.raises(checkpoints.LogForkedError):
            checkpoints.keep(session, forged)
    assert checkpoints.last(session) == before


def test_a_login_that_ran_out_says_so_before_it_asks(opened: Open) -> None:
    session = logged_in(opened, "rae")
    session.keep_login("x.y", clock.to_text(clock.now() - timedelta(seconds=1)))
    with pytest.raises(NotLoggedInError):
        _ = Session.current("rae").api


# --- errors


def test_the_brokers_refusal_arrives_as_the_error_it_was(opened: Open) -> None:
    session = logged_in(opened, "rae")
    with pytest.raises(BrokerRefusedError) as caught:
        session.api.get("/v1/projects/skin-fm")
    assert (caught.value.code, caught.value.kind, caught.value.exit_code) == ("not-found", "not-found", 5)


def test_a_broken_rule_arrives_with_every_rule(opened: Open) -> None:
    session = logged_in(opened, "cy")
    job = opened.office.job_in_review()
    for person in ("cy", "cy"):
        envelope = opened.office.party.sign("output-decision", opened.office.decision(job), person)
        try:
            filing.file(session, envelope)
        except BrokerRefusedError as error:
            assert {"rule", "ok", "code"} <= set(error.as_dict()["rules"][0])


def test_words_of_a_broker_can_not_steer_the_terminal() -> None:
    error = BrokerRefusedError(
        {"kind": "conflict", "code": "x\x1b[2J", "message": "a\x1b]0;b\x07c\n", "remedy": "d"}
    )
    assert "\x1b" not in json.dumps(error.as_dict(), ensure_ascii=False)
    assert error.exit_code == 6


def test_what_is_no_broker_is_told_apart_from_one_that_is_away(opened: Open) -> None:
    with pytest.raises(BrokerUnreachableError):
        Api("http://127.0.0.1:1").get("/v1/broker")
    with pytest.raises(BrokerAnswerError):
        Api(opened.url).get("/healthz")


# --- fetching and reviewing


def release(opened: Open, **changes: object) -> str:
    """A job whose table is out, its record signed with the broker's own key."""
    office = opened.office
    job = office.job_in_review()
    value = {
        "schema": "hdrs-hpc/release-record/1",
        "audience": "north-sde",
        "project": "lung-fm",
        "job": job,
        "attempt": "hdrs-x",
        "artefact": "cohort",
        "class": "table",
        "file": "cohort.csv",
        "media-type": "text/csv",
        "content": digest(TABLE),
        "bytes": len(TABLE),
        "report": digest(b"r"),
        "grant": digest(b"g"),
        "spec": digest(b"s"),
        "decisions": [digest(b"d")],
        "reviewers": ["cy", "di"],
        "released-at": "2026-11-22T12:00:00Z",
    }
    for path, new in changes.items():
        value = changed(value, path, new)
    record = sign_in_process(
        kinds.RELEASE_RECORD, strict_json.dumps(value), office.keyd._private("release-record")
    )
    folder = office.home.released_dir(job)
    folder.mkdir(parents=True)
    (folder / "cohort").write_bytes(TABLE)
    (folder / "cohort.record.json").write_bytes(record.to_bytes())
    with office.db.write() as tx:
        store.note(tx, job, "cohort", release_record=record.digest, verdict="release")
    return job


def test_a_released_artefact_is_fetched_with_its_record_and_logged(opened: Open) -> None:
    session, job = logged_in(opened, "rae"), release(opened)
    (fetched,) = jobs.fetch(session, job, opened.folder / "out")
    assert fetched.path.read_bytes() == TABLE
    assert fetched.reviewers == ("cy", "di")
    assert (opened.folder / "out" / "cohort.csv.release.json").is_file()
    assert opened.office.events()[-1] == "artefact-fetched"
    assert len(list(jobs.fetch(session, job, opened.folder / "out"))) == 1, "fetching again changes nothing"


@pytest.mark.parametrize(
    "change",
    [
        {"content": "sha256:" + "0" * 64},
        {"bytes": 3},
        {"artefact": "other"},
        {"job": "ZZZZZZ"},
        {"project": "skin-fm"},
        {"audience": "south-sde"},
        {"file": "../evil.sh"},
        {"file": ".bashrc"},
    ],
)
def test_what_does_not_match_its_record_is_never_written(opened: Open, change: dict[str, object]) -> None:
    session, job = logged_in(opened, "rae"), release(opened, **change)
    with pytest.raises(jobs.ReleaseMismatchError):
        list(jobs.fetch(session, job, opened.folder / "out"))
    assert not list(opened.folder.glob("out/*"))
    assert not (opened.folder / "evil.sh").exists()


def test_bytes_altered_on_the_way_are_never_written(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    session, job = logged_in(opened, "rae"), release(opened)
    real = Api.get_bytes

    def altered(api: Api, path: str, **query: object) -> bytes:
        raw = real(api, path, **query)
        return raw.replace(b"120", b"999") if path.endswith("/artefacts/cohort") else raw

    monkeypatch.setattr(Api, "get_bytes", altered)
    with pytest.raises(jobs.ReleaseMismatchError):
        list(jobs.fetch(session, job, opened.folder / "out"))


def test_a_record_that_the_broker_did_not_sign_is_refused(opened: Open) -> None:
    session, job = logged_in(opened, "rae"), release(opened)
    path = opened.office.home.released_dir(job) / "cohort.record.json"
    envelope = strict_json.loads(path.read_bytes())
    forged = Party().sign(
        "release-record", __import__("base64").b64decode(envelope["payload"]), "release-record"
    )
    path.write_bytes(forged.to_bytes())
    with pytest.raises(trust.SignerUnknownError):
        list(jobs.fetch(session, job, opened.folder / "out"))


def test_an_existing_other_file_is_not_overwritten(opened: Open) -> None:
    session, job = logged_in(opened, "rae"), release(opened)
    (opened.folder / "out").mkdir()
    (opened.folder / "out" / "cohort.csv").write_text("mine")
    with pytest.raises(jobs.FileThereError):
        list(jobs.fetch(session, job, opened.folder / "out"))
    assert (opened.folder / "out" / "cohort.csv").read_text() == "mine"


def test_a_checker_signs_only_what_was_seen(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that shows other bytes than the digest it asks to be signed gets no signature."""
    session, job = logged_in(opened, "cy"), opened.office.job_in_review()
    review = reviews.one(session, job)
    document, shown = reviews.decision(session, review, {"cohort": "approve"}, "fine")
    assert [item.name for item in shown.artefacts] == ["cohort"]
    assert document.decisions[0].rebuilt == digest(TABLE)
    for change in ({"rebuilt": digest(b"other")}, {"report": {"artefact": "cohort", "verdict": "nicer"}}):
        output = {**review["outputs"][0], **change}
        with pytest.raises(reviews.ReviewMismatchError):
            reviews.decision(session, {**review, "outputs": [output]}, {"cohort": "approve"}, "fine")


@pytest.mark.parametrize("verdicts", [{}, {"spacing": "approve", "cohort": "approve"}, {"other": "approve"}])
def test_every_artefact_under_review_needs_exactly_one_verdict(
    opened: Open, verdicts: dict[str, str]
) -> None:
    session, job = logged_in(opened, "cy"), opened.office.job_in_review()
    with pytest.raises(reviews.DecisionUnclearError):
        reviews.decision(session, reviews.one(session, job), verdicts, "fine")


# --- the commands


def test_no_page_is_signed_if_the_person_says_no(
    opened: Open, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr("click.confirm", no)
    job = opened.office.job_in_review()
    (opened.folder / "code").mkdir()
    (opened.folder / "code/main.py").write_text("def run(context): pass\n")
    reason = ("--reason", "no patient in it")
    for person, words, said in (
        (
            "cy",
            ("review", "decide", job, "--approve", "cohort", *reason),
            ("cohort: APPROVE", "has to decide"),
        ),
        ("ada", ("project", "close", "lung-fm", *reason), ("What it destroys", "can not be undone")),
        ("ada", ("project", "freeze", "lung-fm", *reason), ("It can be undone",)),
        ("ada", ("grant", "revoke", "lung-fm", *reason), ("revocation of the grant", "can not be undone")),
        ("ada", ("opt-out", "nobody", "north-chest-ct", *reason), ("nobody opted out of north-chest-ct",)),
        ("di", ("approval", "give", "code", "--project", "lung-fm", "--statement", "read"), ("- main.py",)),
    ):
        logged_in(opened, person)
        before = opened.office.events()
        assert main.run(list(words)) == 130
        shown = capsys.readouterr().err
        assert f"you sign as   {person} ({person.title()}, " in shown
        for text in (*said, "for broker    north-sde", "sha256:"):
            assert text in " ".join(shown.split()) or text in shown, (words, text)
        assert max(map(len, shown.splitlines())) <= 80
        assert opened.office.events() == before


def test_two_checkers_decide_by_command(opened: Open, capsys: pytest.CaptureFixture[str]) -> None:
    job = opened.office.job_in_review()
    for person in ("cy", "di"):
        logged_in(opened, person)
        assert main.run(["review", "open", f"{job}/cohort", "--to", f"seen-{person}"]) == 0
        shown = capsys.readouterr().out
        assert "all,120" in shown
        words = ["review", "decide", job[:5], "--approve", "cohort", "--reason", "fine", "--yes"]
        assert main.run(words) == 0
        assert main.run(words) == 4
        capsys.readouterr()
    assert main.run(["review", "show", job, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {item["person"] for item in told["decisions"]} == {"cy", "di"}


def test_naming_an_artefact_twice_decides_nothing(opened: Open) -> None:
    job = opened.office.job_in_review()
    logged_in(opened, "cy")
    words = ["review", "decide", job, "--approve", "cohort", "--refuse", "cohort", "--reason", "x", "--yes"]
    assert main.run(words) == 2
    assert "decision-filed" not in opened.office.events()


def test_a_person_with_two_logins_chooses_by_context(
    opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in(opened, "rae")
    logged_in(opened, "sam")
    for arguments, expected in ((["--context", "rae"], "lung-fm"), ([], "skin-fm")):
        assert main.run(["project", "list", "--json", *arguments]) == 0
        assert [item["name"] for item in json.loads(capsys.readouterr().out)] == [expected]
    assert main.run(["project", "list", "--context", "nobody"]) == 5


def test_whoami_tells_person_broker_and_trust_root(opened: Open, capsys: pytest.CaptureFixture[str]) -> None:
    session = logged_in(opened, "rae")
    assert main.run(["whoami", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["person"], told["roles"]) == ("rae", ["researcher"])
    assert told["trust-root"] == session.root.digest
    assert told["login-until"] is not None
    assert main.run(["whoami"]) == 0
    shown = capsys.readouterr().out
    assert session.root.digest in shown and session.settings.url in shown
    (session.state_dir / "login.json").unlink()
    assert main.run(["whoami"]) == 0
    assert "none, or it has run out" in capsys.readouterr().out


def test_freeze_by_command_and_what_closing_would_destroy(
    opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in(opened, "ada")
    job = opened.office.job()
    assert main.run(["project", "close", "lung-fm", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert job in plan
    assert "closure-accepted" not in opened.office.events(), "a dry run changes nothing"
    assert main.run(["project", "close", "lung-fm"]) == 2, "closing needs a reason"
    assert main.run(["project", "freeze", "lung-fm", "--reason", "a question", "--yes"]) == 0
    capsys.readouterr()
    assert main.run(["project", "show", "lung-fm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frozen"] is True


def test_a_freeze_is_lifted_by_two_commands_and_one_says_what_is_missing(
    opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in(opened, "bob")
    logged_in(opened, "ada")
    assert main.run(["project", "freeze", "lung-fm", "--reason", "a question", "--yes"]) == 0
    capsys.readouterr()
    assert main.run(["project", "unfreeze", "lung-fm", "--reason", "answered", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == "lung-fm.unfreeze.signed.json"
    assert told["missing"] == [
        "1 of 2 custodians have signed (ada)", "1 of 2 custodians of north (ada); still missing: bob",
    ]  # fmt: skip
    assert main.run(["project", "show", "lung-fm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frozen"] is True
    assert main.run(["project", "sign", told["file"], "--yes", "--context", "bob"]) == 0
    capsys.readouterr()
    assert main.run(["project", "show", "lung-fm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frozen"] is False
    assert main.run(["project", "unfreeze", "lung-fm", "--reason", "again", "--yes"]) == 6


def test_a_signature_that_counts_for_nothing_is_refused_before_it_spoils_the_file(
    opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in(opened, "ada")
    draft = opened.folder / "next.json"
    value = opened.office.grants["lung-fm"] | {"project": "next"}
    draft.write_bytes(opened.office.party.sign("grant", value, "ada").to_bytes())
    before = draft.read_bytes()
    logged_in(opened, "rae")
    assert main.run(["grant", "sign", str(draft), "--yes", "--out", str(draft), "--context", "rae"]) == 4
    assert "signer-lacks-role: rae is not a custodian" in capsys.readouterr().err
    assert draft.read_bytes() == before
    assert main.run(["project", "freeze", "lung-fm", "--reason", "mine", "--yes", "--context", "rae"]) == 4
    assert not Path("lung-fm.freeze.signed.json").exists()
    logged_in(opened, "eli")
    registration = opened.folder / "registration.json"
    registration.write_bytes(opened.office.party.signed("dataset-registration").to_bytes())
    before = registration.read_bytes()
    assert main.run(["dataset", "sign", str(registration), "--yes", "--context", "eli"]) == 4
    assert "eli is no custodian of north" in capsys.readouterr().err
    assert registration.read_bytes() == before


def test_grant_sign_says_which_owner_has_not_agreed(opened: Open, capsys: pytest.CaptureFixture[str]) -> None:
    logged_in(opened, "eli")
    draft = opened.folder / "theft.json"
    value = opened.office.grants["lung-fm"] | {"project": "theft"}
    draft.write_bytes(opened.office.party.sign("grant", value).to_bytes())
    assert main.run(["grant", "sign", str(draft), "--yes", "--json", "--out", str(draft)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["signed"], told["complete"]) == (["eli"], False)
    assert told["missing"] == ["0 of 2 custodians of north; still missing: 2 of ada, bob"]
    assert main.run(["grant", "submit", str(draft)]) == 4, "and it is refused"


def test_submit_signs_what_it_shows_and_prints_the_job_last(
    opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in(opened, "rae")
    sites.add(opened.office.home, CLUSTER, replace=False)
    spec = Path("first.yaml")
    assert main.run(["spec", "new", str(spec), "--project", "lung-fm"]) == 0
    spec.write_text(spec.read_text().replace(PURPOSE, "Describe the cohort before training"))
    capsys.readouterr()
    assert main.run(["submit", str(spec), "--yes"]) == 0
    shown = capsys.readouterr()
    job = shown.out.splitlines()[-1]
    assert opened.office.get(f"/v1/jobs/{job}", "rae").json()["name"] == "first"
    assert "for broker    north-sde" in shown.err and "What may leave, and nothing else" in shown.err


def test_a_signed_spec_sent_twice_is_one_job(opened: Open, capsys: pytest.CaptureFixture[str]) -> None:
    logged_in(opened, "rae")
    signed = opened.folder / "s.signed.json"
    signed.write_bytes(opened.office.party.sign("job-spec", opened.office.spec(), "rae").to_bytes())
    found = []
    for _ in range(2):
        assert main.run(["submit", str(signed), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["job"] == found[1]["job"]
    assert [item["known"] for item in found] == [False, True]


def test_logging_in_by_command_asks_about_the_trust_root_once(
    opened: Open, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def confirm(text: str, **_: object) -> bool:
        asked.append(text)
        return True

    monkeypatch.setattr("click.confirm", confirm)
    assert main.run(["login", opened.url, "--key", str(opened.key("rae"))]) == 0
    assert opened.office.root.digest in capsys.readouterr().err
    assert main.run(["login", "--json"]) == 0, "without an address: once more to the same"
    told = json.loads(capsys.readouterr().out)
    assert (told["context"], told["person"], told["trust-root"]) == (
        "north-sde",
        "rae",
        opened.office.root.digest,
    )
    assert len(asked) == 1


def test_installing_on_a_cluster_without_projects_builds_nothing_and_names_the_next_command(
    opened: Open, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hdrs_hpc.node.runtime import build

    def built(*_: object) -> None:
        raise AssertionError("half a gigabyte for nothing")

    monkeypatch.setattr(build, "build", built)
    home = opened.office.home
    sites.add(home, sites.local_settings("elsewhere", tmp_path, "cooperative"), replace=False)
    assert main.run(["cluster", "install", "elsewhere", "--home", str(home.root)]) == 5
    told = capsys.readouterr().err
    assert "no-project-on-cluster" in told
    assert "`limits.clusters` names elsewhere" in told
    assert "hdrs-hpc cluster install elsewhere" in told


def test_showing_a_job_is_cheap(opened: Open) -> None:
    logged_in(opened, "rae")
    job = opened.office.job_in_review()
    assert_cheap(COMMAND_S, "job", "show", job)
