"""Every number and text that a route takes is bounded, and only the broker's own names are answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hdrs_hpc.broker.web import hosts
from hdrs_hpc.broker.web.app import routes
from hdrs_hpc.broker.web.hosts import HostsMissingError, HostUnknownError
from tests.support.office import Office


def parameters() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in routes().openapi()["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                for schema in parameter["schema"].get("anyOf", [parameter["schema"]]):
                    yield f"{method} {path} {parameter['name']}", schema


def test_every_number_and_every_text_of_every_route_is_bounded() -> None:
    seen = list(parameters())
    assert len(seen) > 20
    for where, schema in seen:
        if schema["type"] == "integer":
            assert schema["maximum"] <= 2**53 - 1, where
            assert schema["minimum"] >= 0, where
        elif schema["type"] != "null":
            assert (schema["type"], schema["maxLength"] <= 100) == ("string", True), where


@pytest.mark.parametrize(
    "number", ["9" * 19, "9" * 22, "9" * 5000, "-1", "1e3", "0x1", "1.5", "١", "%20", "%00"]
)
@pytest.mark.parametrize(
    "address",
    [
        "/v1/trust-root/{}",
        "/v1/audit/consistency?old={}&new=5",
        "/v1/audit/consistency?old=0&new={}",
        "/v1/audit/inclusion?entry={}&size=5",
        "/v1/audit/inclusion?entry=1&size={}",
        "/v1/audit/entries?since={}",
        "/v1/audit/entries?limit={}",
    ],
)
def test_a_number_that_no_log_has_is_a_usage_error(office: Office, address: str, number: str) -> None:
    answer = office.http.get(address.format(number), headers=office.header("ada"))
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["kind"] in ("usage", "not-found")


def test_an_empty_inclusion_is_not_found(office: Office) -> None:
    assert office.get("/v1/audit/inclusion", entry=0, size=0).status_code == 404


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8443", "LOCALHOST:1", "[::1]:8443", "localhost.", "localhost"]
)
def test_the_own_address_is_answered_on_any_port(office: Office, host: str) -> None:
    assert office.http.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost:80:80",
        "",
        "127.0.0.1@evil.example",
        "::1",
        "testserver",
    ],
)
@pytest.mark.parametrize("address", ["/healthz", "/v1/broker", "/v1/openapi.json", "/no/such"])
def test_another_name_is_refused_before_any_route(office: Office, host: str, address: str) -> None:
    answer = office.http.get(address, headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host-unknown")


def test_names_of_the_operator_are_answered_beside_the_own(office: Office) -> None:
    settings = replace(office.web.settings, host="10.1.2.3", hosts=("Broker.North.Example",))
    names = hosts.answered(settings)
    for host in ("broker.north.example:443", "10.1.2.3", "BROKER.north.example"):
        hosts.check(names, [host])
    for refused in (["127.0.0.1"], ["north.example"], [], ["10.1.2.3", "10.1.2.3"]):
        with pytest.raises(HostUnknownError):
            hosts.check(names, refused)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]"])
def test_listening_on_every_address_needs_names(office: Office, host: str) -> None:
    with pytest.raises(HostsMissingError):
        hosts.answered(replace(office.web.settings, host=host))
    names = hosts.answered(replace(office.web.settings, host=host, hosts=("broker.north.example",)))
    assert "broker.north.example" in names
