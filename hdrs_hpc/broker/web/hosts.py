"""Which names this broker answers to.

A page on another site can have a browser send requests to an address of the inner network under a name of its own
(DNS rebinding); the ``Host`` header then carries that name.  So a request under a name that the operator did not give
is refused before any route sees it.
"""

from __future__ import annotations

import ipaddress

from hdrs_hpc.broker.home import BrokerSettings
from hdrs_hpc.core.errors import UsageError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class HostUnknownError(UsageError):
    http_status = 421
    code = "host-unknown"
    meaning = "The request names a host that this broker does not answer to."
    remedy = "Use the broker's own address; its operator lists further names under `hosts` in broker.toml."


class HostsMissingError(UsageError):
    code = "hosts-missing"
    meaning = "The broker listens on every address of the machine, and nothing says under which names it is reached."
    remedy = 'List them in broker.toml, for example: hosts = ["broker.north.example"].'


def answered(settings: BrokerSettings) -> frozenset[str]:
    """The names, lower case and without a port; raises HostsMissingError where there would be none."""
    named = frozenset(host.lower().rstrip(".") for host in settings.hosts)
    if _is_wildcard(settings.host):
        if not named:
            raise HostsMissingError(where="broker.toml")
        return named | _LOOPBACK
    own = settings.host.lower()
    return (
        named
        | {f"[{own}]" if ":" in own and own[0] != "[" else own}
        | (_LOOPBACK if own in _LOOPBACK else set())
    )


def check(names: frozenset[str], headers: list[str]) -> None:
    """Raises HostUnknownError unless there is exactly one ``Host`` header and it names this broker."""
    if len(headers) != 1 or _without_port(headers[0].lower()) not in names:
        raise HostUnknownError()


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name.rstrip(".") if colon and port.isdecimal() else host.rstrip(".")


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False
