from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hdrs_hpc.broker.web.tokens import (
    Challenges,
    TokenExpiredError,
    TokenInvalidError,
    Tokens,
)
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError
from tests.support.office import Office
from tests.support.party import Party

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class FakeClock:
    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at


def challenge(office: Office) -> str:
    return str(office.post("/v1/login/challenge").json()["challenge"])


def test_a_person_who_signs_the_challenge_gets_a_token_that_reads(office: Office) -> None:
    answer = office.post("/v1/login", office.login_envelope("rae", challenge(office))).json()
    assert (answer["person"], answer["roles"]) == ("rae", ["researcher"])
    shown = office.http.get("/v1/projects", headers={"Authorization": f"Bearer {answer['token']}"})
    assert shown.status_code == 200
    assert "login-accepted" in office.events()


def test_replaying_a_login_is_refused_and_logged(office: Office) -> None:
    raw = office.login_envelope("rae", challenge(office))
    assert office.post("/v1/login", raw).status_code == 200
    again = office.post("/v1/login", raw)
    assert (again.status_code, again.json()["error"]["code"]) == (403, "login-challenge")
    assert office.events()[-1] == "login-refused"


def test_a_challenge_that_the_broker_never_gave_is_refused(office: Office) -> None:
    answer = office.post("/v1/login", office.login_envelope("rae", "a" * 43))
    assert answer.json()["error"]["code"] == "login-challenge"


def test_a_login_for_another_broker_is_refused(office: Office) -> None:
    raw = office.login_envelope("rae", challenge(office), audience="south-sde")
    assert office.post("/v1/login", raw).json()["error"]["code"] == "login-challenge"


def test_a_strangers_key_does_not_log_in(office: Office) -> None:
    raw = Office.login_envelope(_with(office, Party()), "rae", challenge(office))
    answer = office.post("/v1/login", raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "signer-unknown")


def _with(office: Office, party: Party) -> Office:
    other = object.__new__(Office)
    other.party = party
    return other


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic cmFlOng=",
        "Bearer a.b",
        "Bearer .",
        "Bearer ä.ö",
        "Bearer " + "a" * 5000,
    ],
)
def test_what_is_no_token_is_refused_without_a_crash(office: Office, header: str) -> None:
    answer = office.http.get("/v1/projects", headers={"Authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "login-invalid")


def test_a_token_for_another_person_can_not_be_made_from_ones_own(office: Office) -> None:
    body, _, mac = office.web.tokens.issue("cy").text.partition(".")
    claims = strict_json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = base64.urlsafe_b64encode(strict_json.dumps({**claims, "person": "ada"})).decode().rstrip("=")
    answer = office.http.get("/v1/audit/entries", headers={"Authorization": f"Bearer {forged}.{mac}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "login-invalid")


def test_every_flipped_bit_of_a_token_is_refused() -> None:
    tokens = Tokens(b"k" * 32)
    text = tokens.issue("rae").text
    for index in range(len(text)):
        for bit in range(6):
            changed = text[:index] + chr(ord(text[index]) ^ (1 << bit)) + text[index + 1 :]
            with pytest.raises(TokenInvalidError):
                assert tokens.person(changed) is None, "a changed token named a person"


def test_a_token_expires_after_an_hour() -> None:
    time = FakeClock()
    tokens = Tokens(b"k" * 32, time)
    text = tokens.issue("rae").text
    time.at = NOON + timedelta(minutes=59)
    assert tokens.person(text) == "rae"
    time.at = NOON + timedelta(hours=1)
    with pytest.raises(TokenExpiredError):
        tokens.person(text)


def test_a_token_of_another_brokers_secret_is_refused() -> None:
    with pytest.raises(TokenInvalidError):
        Tokens(b"k" * 32).person(Tokens(b"l" * 32).issue("rae").text)


def test_a_restart_keeps_everybody_logged_in(tmp_path: Path) -> None:
    path = tmp_path / "web" / "token-secret"
    text = Tokens.open(path).issue("rae").text
    assert Tokens.open(path).person(text) == "rae"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_start_replaces_a_secret_older_than_a_day_and_logs_nobody_out(tmp_path: Path) -> None:
    path, time = tmp_path / "web" / "token-secret", FakeClock()
    time.at = datetime.now(UTC)
    old = Tokens.open(path, time)
    first = path.read_bytes()
    time.at += timedelta(hours=23)
    assert Tokens.open(path, time).person(old.issue("rae").text) == "rae"
    assert path.read_bytes() == first
    time.at += timedelta(hours=2)
    issued = old.issue("rae").text
    web = Tokens.open(path, time)
    assert path.read_bytes()[:32] != first
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["token-secret"]
    assert web.person(issued) == "rae"
    time.at += timedelta(minutes=30)
    again = Tokens.open(path, time)  # a second restart within the hour
    assert (again.person(issued), again.person(web.issue("cy").text)) == ("rae", "cy")
    with pytest.raises(TokenInvalidError):
        old.person(web.issue("cy").text)


def test_a_secret_that_was_replaced_believes_nobody_after_an_hour(tmp_path: Path) -> None:
    """Attack: who has an old backup of the broker makes tokens with the secret in it."""
    path, time = tmp_path / "token-secret", FakeClock()
    time.at = datetime.now(UTC)
    stolen = Tokens.open(path, time)
    time.at += timedelta(days=2)
    web = Tokens.open(path, time)
    time.at += timedelta(hours=1)
    for tokens in (web, Tokens.open(path, time)):
        with pytest.raises(TokenInvalidError):
            tokens.person(stolen.issue("ada").text)
    assert web.person(web.issue("rae").text) == "rae"


@pytest.mark.parametrize("size", [0, 31, 33, 65])
def test_a_secret_that_is_cut_short_is_not_used(tmp_path: Path, size: int) -> None:
    path = tmp_path / "token-secret"
    path.write_bytes(bytes(size))
    with pytest.raises(BadDocumentError):
        Tokens.open(path)


def test_somebody_who_left_the_trust_root_is_out_at_once(office: Office) -> None:
    answer = office.get("/v1/projects", "nobody-any-more")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "login-invalid")


def test_a_challenge_is_good_once_and_for_two_minutes() -> None:
    time = FakeClock()
    challenges = Challenges(time)
    text, _ = challenges.give()
    assert challenges.take(text)
    assert not challenges.take(text)
    text, _ = challenges.give()
    time.at = NOON + timedelta(minutes=2)
    assert not challenges.take(text)


def test_a_flood_of_challenges_costs_the_oldest_not_memory() -> None:
    challenges = Challenges()
    first, _ = challenges.give()
    for _ in range(5000):
        last, _ = challenges.give()
    assert not challenges.take(first)
    assert challenges.take(last)
